"""One connection: a pure session, a transport, and the way between them and the engine.

Takes text frames from the transport to the session, carries out the events that come of them, and writes what the
session has to say. It belongs to no ASGI server and to no socket: tests join it to a client in memory. Back-pressure:
a peer that does not take its answers, or has too much open, is not read from. One that is only slow to take its
batches is: its heartbeats, acks and UNSUBSCRIBE must not wait for the end of a long catch-up.
"""

import asyncio
from collections.abc import Coroutine
from typing import TYPE_CHECKING

from syncline_protocol.codec import is_utf8
from syncline_protocol.errors import CloseCode, RemoteProtocolError
from syncline_protocol.filter import Filter
from syncline_protocol.messages import EndReason, Subscribe, WriteResult
from syncline_protocol.server import (
    AuthRequested,
    FetchRequested,
    FindRequested,
    Opened,
    ServerEvent,
    ServerSession,
    SubscribeRequested,
    UnsubscribeRequested,
    WriteRequested,
)
from syncline_protocol.states import SessionState
from syncline_protocol.transaction import Transaction

from .access.concern import EVERYTHING, Concern
from .access.gate import Visitor
from .access.principal import Principal
from .access.view import View
from .answers import error_code_of, result_of
from .committer import Answer
from .feed import Subscription
from .fetches import Fetches
from .finds import Finds
from .limits.admission import Seat
from .limits.meter import Meter
from .login import Credentials, Login, Standing
from .stall import Stall
from .storage.base import StorageError, StoreMismatch, StoreUnknown
from .transport import Transport

if TYPE_CHECKING:
    from .feeds import Opening
    from .hub import Hub

__all__ = ["Connection"]

#: What a full transport takes of answers on top, before nothing more is read. Far more than a heartbeat and a few acks.
_ANSWERS_BYTES_MAX = 64 * 1024

#: Writes of so many bytes may wait for an answer: four of the largest, or a full window of small ones.
_WRITES_BYTES_MAX = 4 * 1024 * 1024

#: Nothing came with the upgrade.
_NO_VISITOR = Visitor()


class Connection:
    """One WebSocket, from accept to close. The transport is set once it is accepted.

    Args:
        visitor: what came with the upgrade.
        meter: how often this client may ask; none: as often as it can.
    """

    __slots__ = (
        "_answers_bytes",
        "_closed",
        "_fetches",
        "_finds",
        "_login",
        "_meter",
        "_paused",
        "_seat",
        "_stall",
        "_subscriptions",
        "_writes_bytes",
        "hub",
        "session",
        "standing",
        "transport",
    )

    transport: Transport

    def __init__(
        self,
        session: ServerSession,
        hub: "Hub",
        visitor: Visitor = _NO_VISITOR,
        *,
        seat: Seat | None = None,
        meter: Meter | None = None,
    ) -> None:
        self.session = session
        self.hub = hub
        self.standing = Standing(hub.authority)
        self._seat = seat
        self._meter = meter
        self._login = Login(session, hub, self.standing, visitor, seat, done=self._logged_in, later=self._spawn)
        self._subscriptions: dict[int, Subscription] = {}
        self._fetches = Fetches(self, hub.feeds.fill)
        self._finds = Finds(self, hub.storage)
        self._answers_bytes = 0
        self._writes_bytes = 0
        self._closed = False
        self._paused = False
        self._stall = Stall()

    def opened(self, transport: Transport) -> None:
        """The socket was accepted; from here on frames come."""
        self.transport = transport
        self.hub.joined(self)

    def lost(self) -> None:
        """The socket is gone. Writes under way are committed all the same; their acks go nowhere."""
        self.hub.left(self)
        self.session.close(1006)
        self._closed = True
        if self._seat is not None:
            self._seat.leave()
        self._leave_feeds()

    def _leave_feeds(self) -> None:
        for subscription in self._subscriptions.values():
            subscription.feed.remove(subscription)
        self._subscriptions.clear()
        self._fetches.end()
        self._finds.end()

    @property
    def subscriptions(self) -> tuple[Subscription, ...]:
        """The subscriptions that are open."""
        return tuple(self._subscriptions.values())

    # --- from the transport ---

    def receive(self, payload: bytes) -> None:
        """Take one text message."""
        self.hub.counts.frames_received += 1
        if not is_utf8(payload):
            self.session.close(1007, "a text frame is UTF-8")
            self.flush()
            return
        event = self.session.receive(payload, self.hub.now())
        if not self._is_within_rate(event, len(payload)) or event is None:
            self.flush()
        elif type(event) is WriteRequested:
            self._write(event, len(payload))
        else:
            self._carry_out(event)

    def receive_binary(self) -> None:
        """Take a binary message: there is none in this subprotocol (PROTOCOL 2)."""
        self.session.close(1003, "this subprotocol has text frames only")
        self.flush()

    def _write(self, event: WriteRequested, size: int) -> None:
        transaction = event.transaction
        rights = self.standing.rights(transaction.store)
        if rights.view is None:
            self._refuse_access(event.id, transaction.store)
            return
        if rights.writes_per_s is not None:
            wait_s = self.hub.writes_wait_s(self.principal, transaction, rights.writes_per_s)
            if wait_s:
                self._put_off(event.id, wait_s, "the grant allows fewer writes a second")
                return
        self.hub.submit(rights.guard(transaction), self, event.id)
        self._writes_bytes += size
        if not self._may_read:
            self._pause()

    def _put_off(self, request_id: int, wait_s: float, message: str) -> None:
        """Answer a write that came too early."""
        self.hub.counts.refused["rate"] += 1
        after_ms = int(wait_s * 1000) + 1
        self.session.wrote([WriteResult(request_id, "retry", code="rate_limited", message=message, after_ms=after_ms)])
        self.flush()

    def _is_within_rate(self, event: ServerEvent | None, size: int) -> bool:
        """Take note of a message; answer it, if there were too many."""
        if self._meter is None:
            return True
        wait_s = self._meter.take(size, self.hub.now())
        if not wait_s:
            return True
        message = "too many messages in a short time"
        if self._meter.is_flooded:
            self.session.close(CloseCode.RATE_LIMITED, message)
            return False
        match event:
            case WriteRequested(request_id):
                self._put_off(request_id, wait_s, message)
            case SubscribeRequested(request) | FetchRequested(request) | FindRequested(request):
                self.refuse(request.id, "rate_limited", message, after_ms=int(wait_s * 1000) + 1)
            case _:
                # What ends something, or keeps the connection, costs little and is never put off.
                return True
        return False

    def on_full(self) -> None:
        """The peer reads slower than we write: its subscriptions lag."""
        for subscription in self._subscriptions.values():
            subscription.feed.fall_behind(subscription)

    def on_drained(self) -> None:
        """There is room again."""
        self._stall.over()
        self._answers_bytes = 0
        self._finds.drained()
        if not self._fetches.drained():
            self.advance()
        self._resume_if_possible()

    def advance(self) -> None:
        """Let the subscriptions write what they have."""
        for subscription in self.subscriptions:
            subscription.advance()

    @property
    def _may_read(self) -> bool:
        return (
            self.session.in_flight < self.session.limits.in_flight_max
            and self._writes_bytes < _WRITES_BYTES_MAX
            and self._answers_bytes < _ANSWERS_BYTES_MAX
            and self._fetches.are_few
            and self._finds.are_few
        )

    def _pause(self) -> None:
        if not self._paused:
            self._paused = True
            self.transport.pause_reading()

    def _resume_if_possible(self) -> None:
        if self._paused and self._may_read:
            self._paused = False
            self.session.heard(self.hub.now())
            self.transport.resume_reading()

    # --- events of the session ---

    def _carry_out(self, event: ServerEvent) -> None:
        match event:
            case Opened(_, token):
                self._login.greet(token)
            case AuthRequested(token):
                self._login.authenticate(token)
            case SubscribeRequested(request, wanted):
                view = self.standing.rights(request.store).view
                opening = None if view is None else self.hub.feeds.resume_at_hand(request, view, wanted)
                if view is not None and opening is not None:
                    self._open(request.id, opening, view)
                else:
                    self._spawn(self._subscribe(request, wanted))
            case UnsubscribeRequested(request_id):
                self._unsubscribe(request_id)
            case FetchRequested(request):
                self._look_up(self._fetches, is_first=self._fetches.add(request))
            case FindRequested():
                self._look_up(self._finds, is_first=self._finds.add(event))
            case WriteRequested():
                raise AssertionError("writes do not come this way")

    def _spawn(self, work: Coroutine[object, object, None]) -> None:
        self.hub.spawn(self._answer_later(work))

    async def _answer_later(self, work: Coroutine[object, object, None]) -> None:
        try:
            await work
        except Exception:
            # The request would stay without an answer, and its client would wait for one.
            self.close(CloseCode.FAILED, "the server failed")
            raise

    async def _subscribe(self, request: Subscribe, wanted: Filter | None) -> None:
        try:
            opening, granted = await self._opening(request, wanted)
        except (StorageError, RemoteProtocolError) as error:
            self.refuse_for(request.id, error)
            return
        if self.session.close_code is None:
            self._open(request.id, opening, granted)

    async def _opening(self, request: Subscribe, wanted: Filter | None) -> "tuple[Opening, View]":
        """Find out how a subscription begins, and by which rights; anew if they changed while the storage was asked."""
        bitmaps = self.session.has("bitmaps")
        while True:
            view = self.standing.view(request.store)
            opening = await self.hub.feeds.open_subscription(request, view, wanted, bitmaps=bitmaps)
            if self.standing.view(request.store) == view:
                return opening, view

    def _open(self, request_id: int, opening: "Opening", granted: View) -> None:
        feed = opening.feed
        opened = self.session.subscribed(
            request_id,
            feed=feed.id,
            how=opening.how,
            at=feed.cursor(opening.at),
            head=feed.cursor(feed.published.seq),
            store_id=feed.store_id,
            lineage=feed.published.lineage,
            keep_to=opening.keep_to,
        )
        self.flush()
        if not opened:
            return
        self.hub.counts.subscribes[opening.how] += 1
        subscription = Subscription(self, request_id, feed, opening.at, granted, opening.since)
        self._subscriptions[request_id] = subscription
        feed.add(subscription)
        if feed.ended:
            feed.end(subscription, feed.end_reason)
            return
        for frame in opening.live_frames:
            self._write_answer(frame)
        subscription.advance()

    def _unsubscribe(self, request_id: int) -> None:
        subscription = self._subscriptions[request_id]
        subscription.feed.remove(subscription)
        self.feed_ended(subscription, "unsubscribed")

    def feed_ended(self, subscription: Subscription, reason: EndReason) -> None:
        """Nothing of this subscription follows: say so."""
        del self._subscriptions[subscription.id]
        at = subscription.feed.cursor(subscription.position)
        self.session.ended(subscription.id, reason, at)
        self.flush()

    def _look_up(self, waiting: Fetches | Finds, *, is_first: bool) -> None:
        if is_first:
            self._spawn(waiting.run())
        if not self._may_read:
            self._pause()

    def subscription(self, request_id: int) -> Subscription | None:
        """Return the subscription that was opened with this id, while it is open."""
        return self._subscriptions.get(request_id)

    def fetched(self) -> None:
        """A FETCH or FIND was answered; more may be read."""
        self._resume_if_possible()

    # --- who, and what he may do ---

    @property
    def principal(self) -> Principal:
        """Who the client is."""
        return self.standing.principal

    def _refuse_access(self, request_id: int, store: str) -> None:
        try:
            self.standing.view(store)
        except (StorageError, RemoteProtocolError) as error:
            self.refuse_for(request_id, error)

    def _logged_in(self, rights_changed: bool) -> None:
        if rights_changed:
            self.recheck()
        self.flush()

    def recheck(self, concern: Concern = EVERYTHING) -> None:
        """Rights or accounts have changed as `concern` says: end what may not be seen any more, before this returns."""
        if self._closed or self.session.state in (SessionState.OPENING, SessionState.GREETED):
            return
        standing = self.standing
        if concern.changes_identity(standing.principal):
            principal = self.hub.gate.current(standing.principal)
            if principal is None:
                self._close_unauthenticated()
                return
            if principal != standing.principal:
                standing.become(principal, self.hub.now_ms())
        for subscription in self.subscriptions:
            feed = subscription.feed
            if not concern.is_in(feed.store):
                continue
            view = standing.rights(feed.store).view
            if view != subscription.granted:
                feed.remove(subscription)
                self.feed_ended(subscription, "forbidden" if view is None else "view_changed")
                self.drop_what_waits()

    def _close_unauthenticated(self) -> None:
        if self.standing.credentials(self.hub.now_ms()) is Credentials.OVER:
            self.close(CloseCode.TOKEN_EXPIRED, "the token has expired")
        else:
            self.close(CloseCode.UNAUTHENTICATED, "the credentials were taken back")
        self.drop_what_waits()

    def drop_what_waits(self) -> None:
        """Break the connection if the peer does not take what was written before: some of that would still go out.

        What the event loop only gathers for one write is on its way when this looks. The client comes back for what
        it may have.
        """
        asyncio.get_running_loop().call_soon(lambda: self.transport.abort() if self.transport.holds_back else None)

    def _check_expiry(self) -> None:
        expires_ms = self.standing.principal.expires_ms
        if expires_ms is None or self._closed:
            return
        match self.standing.credentials(self.hub.now_ms()):
            case Credentials.OVER:
                self._close_unauthenticated()
            case Credentials.EXPIRING:
                self.session.expiring(expires_ms)
            case Credentials.GOOD:
                pass

    # --- answers ---

    def answered(self, answers: list[tuple[int, Transaction, Answer]]) -> None:
        """Acknowledge the writes of one commit in one frame."""
        if self.session.close_code is not None:
            return
        results: list[WriteResult] = []
        for request_id, transaction, answer in answers:
            if isinstance(answer, (StoreUnknown, StoreMismatch)):
                self.refuse(request_id, error_code_of(answer), str(answer))
            else:
                results.append(result_of(request_id, transaction, answer))
        for result in results:
            self.hub.counts.writes[result.status] += 1
        if results:
            self.session.wrote(results)
        if not self.session.in_flight:
            self._writes_bytes = 0
        self.flush()
        self._resume_if_possible()

    def refuse(self, request_id: int, code: str, message: str, *, after_ms: int | None = None) -> None:
        """Answer a request with an ERROR."""
        if self.session.close_code is None:
            self.hub.counts.errors_sent[code] += 1
            self.session.refuse(request_id, code, message, after_ms=after_ms)
            self.flush()

    def refuse_for(self, request_id: int, error: StorageError | RemoteProtocolError) -> None:
        """Answer a request with the ERROR that says what was raised."""
        if isinstance(error, StorageError):
            self.refuse(request_id, error_code_of(error), str(error))
        else:
            self.refuse(request_id, error.code, error.text)

    def flush(self) -> None:
        """Write what the session has to say, and close if it says so."""
        if self._closed:
            return
        for payload in self.session.data_to_send():
            self._write_answer(payload)
        if self.session.close_code is not None:
            self._closed = True
            self.hub.counts.connections_closed[str(self.session.close_code)] += 1
            self._leave_feeds()
            self.transport.close(self.session.close_code, self.session.close_reason[:100])

    def _write_answer(self, payload: bytes) -> None:
        self.transport.write(payload)
        if self.transport.full:
            self._answers_bytes += len(payload)
            if not self._may_read:
                self._pause()

    def say_goodbye(self, after_ms: int, jitter_ms: int) -> None:
        """Announce that the server goes away; requests under way are still answered."""
        self.session.bye("drain", after_ms, jitter_ms)
        self.flush()

    def close(self, code: CloseCode, reason: str) -> None:
        """Close the connection from this side."""
        self.session.close(code, reason)
        self.flush()

    # --- time ---

    def tick(self, now: float) -> None:
        """Act on deadlines; the hub calls it about once a second."""
        if self._paused:
            self.session.heard(now)
        if self.session.tick(now):
            self.session.heartbeat({s.feed.store: s.feed.head_cursor for s in self._subscriptions.values()})
        self._check_expiry()
        self.flush()
        if self._stall.has_lasted(self.transport, now, self.hub.stall_timeout_s):
            self.close(CloseCode.STALLED, "nothing was read for too long")
