"""One connection, from WELCOME to its end: the shell around the protocol's `ClientSession`.

Three tasks: one reads frames and applies what comes of them, one writes what is due, one keeps the deadlines of the
session. They share no more than the session, the queue of writes and the followers, all of which are pure. What has
to outlive the connection is in the queue and the followers, so a link is thrown away when its connection ends.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass

import msgspec
from websockets.exceptions import ConnectionClosed

from syncline_protocol import ClientSession, CloseCode, messages
from syncline_protocol import client as received
from syncline_protocol.messages import WriteResult
from syncline_protocol.states import SessionState

from .clock import Clock
from .credentials import Credentials
from .follower import Follower, Phase
from .renewal import Renewal
from .wire import Wire, close_code_of
from .write import PendingWrite, WriteQueue, Written

__all__ = ["Ending", "Link", "LinkObserver"]

#: So much is handed to the socket at once. More would only wait in memory.
_SEND_BYTES_MAX = 256 * 1024

#: A peer that does not read cannot hold up the end for longer.
_HANG_UP_TIMEOUT_S = 2.0

#: When the server asks to try again later and does not say when.
_RETRY_AFTER_MS = 1000


@dataclass(frozen=True, slots=True)
class Ending:
    """With what a connection ended."""

    close_code: int
    reason: str


@dataclass(frozen=True, slots=True)
class LinkObserver:
    """Whom the link tells what happens.

    Attributes:
        welcomed: WELCOME came.
        authenticated: AUTHENTICATED came.
        progressed: the server did something useful.
        asked_to_wait: BYE came, with these `after_ms` and `jitter_ms`.
    """

    welcomed: Callable[[messages.Welcome], None]
    authenticated: Callable[[messages.Authenticated], None]
    progressed: Callable[[], None]
    asked_to_wait: Callable[[int, int], None]


#: Where requests may be sent.
_READY = (SessionState.READY, SessionState.DRAINING)


class _Over(Exception):
    """Ends the tasks of the link."""


class Link:
    """One connection in use.

    Args:
        wire: a fresh connection.
        session: a fresh session.
        writes: the writes to send; settled as answers come.
        followers: the subscriptions to keep open; the list may change while the link runs.
        token: what the session shows in its HELLO.
        credentials: asked for another one when that expires.
    """

    def __init__(
        self,
        wire: Wire,
        session: ClientSession,
        clock: Clock,
        writes: WriteQueue,
        followers: Sequence[Follower],
        observer: LinkObserver,
        token: str | None,
        credentials: Credentials,
    ) -> None:
        self._wire = wire
        self._session = session
        self._clock = clock
        self._writes = writes
        self._followers = followers
        self._observer = observer
        self._by_id: dict[int, Follower] = {}
        self._retries: list[WriteResult | messages.Error] = []
        self._due = asyncio.Event()
        self._tasks: asyncio.TaskGroup | None = None
        self._renewal = Renewal(token, credentials, clock, self._send_auth, self._leave_for_another)

    def renew(self) -> None:
        """There are other credentials: show them to the server, if it knows us already."""
        if self._tasks is not None and self._session.state in _READY:
            self._spawn(self._renew())

    def wake(self) -> None:
        """Something may be due to be sent."""
        self._due.set()

    async def run(self) -> Ending:
        """Use the connection until it ends; writes and followers are ready for the next one then."""
        self._due.set()
        closed: ConnectionClosed | None = None
        try:
            async with asyncio.TaskGroup() as self._tasks:
                self._tasks.create_task(self._keep_time())
                self._tasks.create_task(self._send())
                await self._read()
        except* _Over:
            pass
        except* ConnectionClosed as group:
            closed = next(error for error in group.exceptions if isinstance(error, ConnectionClosed))
        finally:
            self._writes.connection_lost()
            for follower in self._followers:
                follower.connection_lost()
            await self._hang_up()
        return self._ending(closed)

    async def _hang_up(self) -> None:
        """Close the socket, politely if the peer takes part, and in any case."""
        try:
            async with asyncio.timeout(_HANG_UP_TIMEOUT_S):
                await self._wire.close()
        except TimeoutError:
            pass
        finally:
            self._wire.transport.abort()

    def _ending(self, closed: ConnectionClosed | None) -> Ending:
        if self._session.close_code is not None or closed is None:
            return Ending(self._session.close_code or CloseCode.FAILED, self._session.close_reason)
        return Ending(*close_code_of(closed))

    # --- reading ---

    async def _read(self) -> None:
        while True:
            frame = await self._wire.recv(decode=False)
            for event in self._session.receive(frame, self._clock.now()):
                self._apply(event, len(frame))
            self._schedule_retries()
            self._due.set()
            for crowded in [follower for follower in self._by_id.values() if follower.is_crowded]:
                await crowded.room()

    def _apply(self, event: received.ClientEvent, frame_bytes: int) -> None:
        match event:
            case received.Answered(result):
                self._answer(result)
            case received.FeedBatch(id, message):
                self._observer.progressed()
                self._by_id[id].batch(message, frame_bytes)
            case received.FeedCaughtUp(id, message):
                self._observer.progressed()
                self._by_id[id].came_up(message)
            case received.FeedBehind(id, message):
                self._by_id[id].fell_behind(message)
            case received.FeedOpened(id, message):
                fault = self._by_id[id].opened(message)
                if fault is not None:
                    self._session.close(CloseCode.DESYNC, fault)
            case received.FeedEnded(id, message):
                follower = self._by_id.pop(id)
                follower.ended(message)
                self._let_rest(follower)
            case received.Refused(message):
                self._refuse(message)
            case received.GoodbyeSaid(message):
                self._observer.asked_to_wait(message.after_ms, message.jitter_ms)
            case received.Welcomed(welcome):
                self._wire.accept_frames(welcome.limits.batch_bytes_max)
                self._observer.welcomed(welcome)
            case received.CredentialsExpiring(message):
                self._spawn(self._renewal.before(message.expires_ms))
            case received.CredentialsTaken(message):
                self._renewal.taken()
                self._observer.authenticated(message)
            case received.FeedLive(id, message):
                self._by_id[id].listed(message, frame_bytes)
            case received.FeedFill(id, message):
                self._observer.progressed()
                self._by_id[id].filled(message, frame_bytes)

    def _answer(self, result: WriteResult) -> None:
        if result.status == "retry":
            self._retries.append(result)
            return
        self._observer.progressed()
        write = self._writes.answered(result.id)
        if write is None:
            return
        write.settle(
            Written(
                status=result.status,
                key=write.key,
                seq=result.seq,
                at=result.at,
                deleted=result.deleted,
                ops=result.ops or (),
                code=result.code,
                message=result.message,
                head=result.head,
            )
        )

    def _refuse(self, error: messages.Error) -> None:
        """Take an ERROR. One without an id is that of an AUTH, or cannot be attributed: the session goes on."""
        if error.id is None:
            self._renewal.refused(error)
            return
        follower = self._by_id.get(error.id)
        if follower is not None and follower.phase is not Phase.ASKED:
            # A FETCH was refused; or an UNSUBSCRIBE, which crossed an ENDED that says all there is to say.
            if follower.phase is Phase.OPEN:
                follower.fetch_refused(error)
            return
        if error.retry:
            self._retries.append(error)
        elif follower is not None:
            del self._by_id[error.id]
            follower.refused(error)
            self._let_rest(follower)
        elif (write := self._writes.answered(error.id)) is not None:
            write.settle(Written("refused", key=write.key, code=error.code, message=error.message))

    # --- again later ---

    def _schedule_retries(self) -> None:
        """Put off what the last frame said to try again, all of it by the longest time that it asked for."""
        answers, self._retries = self._retries, []
        if not answers:
            return
        after_ms = max(_RETRY_AFTER_MS if answer.after_ms is None else answer.after_ms for answer in answers)
        writes: list[PendingWrite] = []
        for answer in answers:
            assert answer.id is not None
            if (write := self._writes.put_off(answer.id)) is not None:
                writes.append(write)
            elif (follower := self._by_id.pop(answer.id, None)) is not None:
                follower.put_off()
                self._spawn(self._ask_again(follower, after_ms / 1000))
        if writes:
            self._spawn(self._send_again(writes, after_ms / 1000))

    def _let_rest(self, follower: Follower) -> None:
        if follower.phase is Phase.RESTING:
            self._spawn(self._ask_again(follower, self._clock.random() * follower.rest_bound_s))

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        assert self._tasks is not None
        self._tasks.create_task(work)

    async def _send_again(self, writes: list[PendingWrite], after_s: float) -> None:
        await self._clock.sleep(after_s)
        self._writes.send_again(writes)
        self._due.set()

    async def _ask_again(self, follower: Follower, after_s: float) -> None:
        await self._clock.sleep(after_s)
        follower.rested()
        self._due.set()

    # --- credentials ---

    async def _renew(self) -> None:
        await self._renewal.now()

    def _send_auth(self, message: messages.Auth) -> None:
        if self._session.close_code is None:
            self._session.send(message)
            self._due.set()

    def _leave_for_another(self) -> None:
        self._session.close(1000, "another user has logged in")
        self._due.set()

    # --- sending ---

    async def _send(self) -> None:
        while True:
            await self._due.wait()
            self._due.clear()
            if self._session.state in _READY:
                self._fill()
            frames = self._session.data_to_send()
            if frames:
                await self._wire.send_frames(frames)
            if self._session.close_code is not None:
                await self._wire.close(self._session.close_code, self._session.close_reason[:100])
                raise _Over

    def _fill(self) -> None:
        """Hand what is due to the session, up to a bound; the rest is due again at once."""
        for follower in self._followers:
            if follower.wants_to_leave:
                self._leave(follower)
            elif follower.wants_to_ask and not self._is_taken(follower.store):
                request = follower.request(self._session.next_id())
                self._by_id[request.id] = follower
                self._session.subscribe(request)
        for request_id, follower in self._by_id.items():
            if follower.phase is Phase.OPEN and (seqs := follower.next_fetch()) is not None:
                self._session.send(messages.Fetch(request_id, seqs))
        size = 0
        while size < _SEND_BYTES_MAX:
            write = self._writes.next_to_send(self._session.limits.in_flight_max)
            if write is None:
                return
            request_id = self._session.next_id()
            self._session.send(msgspec.structs.replace(write.message, id=request_id))
            self._writes.sent(request_id, write)
            size += write.size
        self._due.set()

    def _leave(self, follower: Follower) -> None:
        request_id = next(id for id, taken in self._by_id.items() if taken is follower)
        self._session.send(messages.Unsubscribe(request_id))
        follower.leave()

    def _is_taken(self, store: str) -> bool:
        """Whether a feed of this store is on the wire: the server refuses a second one on the same connection."""
        return any(follower.store == store and follower.is_on_the_wire for follower in self._followers)

    # --- time ---

    async def _keep_time(self) -> None:
        while (deadline := self._session.next_deadline()) is not None:
            await self._clock.sleep(max(0.0, deadline - self._clock.now()))
            self._session.tick(self._clock.now())
            self._due.set()
