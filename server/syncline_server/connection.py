"""One connection: a pure session, a transport, and the way between them and the engine.

Takes text frames from the transport to the session, carries out the events that come of them, and writes what the
session has to say. It belongs to no ASGI server and to no socket: tests join it to a client in memory. Back-pressure:
a peer that does not take its answers, or has too much open, is not read from. One that is only slow to take its
batches is: its heartbeats, acks and UNSUBSCRIBE must not wait for the end of a long catch-up.
"""

import asyncio
from collections import deque
from collections.abc import Coroutine
from typing import TYPE_CHECKING

from syncline_protocol.cursor import Cursor
from syncline_protocol.errors import CloseCode, RemoteProtocolError
from syncline_protocol.messages import EndReason, Fetch, Subscribe, WriteResult
from syncline_protocol.server import (
    AuthRequested,
    FetchRequested,
    Opened,
    ServerEvent,
    ServerSession,
    SubscribeRequested,
    UnsubscribeRequested,
    WriteRequested,
)
from syncline_protocol.transaction import Transaction

from .committer import Answer
from .feed import Subscription
from .storage.base import Outcome, StorageError, StorageFull, StorageUnavailable, StoreMismatch, StoreUnknown
from .transport import Transport

if TYPE_CHECKING:
    from .hub import Hub, Opening

__all__ = ["Connection", "error_code_of"]

#: A client whose write got no certain answer is asked to wait this long.
_RETRY_AFTER_MS = 1000

#: What a full transport takes of answers on top, before nothing more is read. Far more than a heartbeat and a few acks.
_ANSWERS_BYTES_MAX = 64 * 1024

#: Writes of so many bytes may wait for an answer: four of the largest, or a full window of small ones.
_WRITES_BYTES_MAX = 4 * 1024 * 1024

#: FETCHes that wait for their turn; each is one line of text.
_FETCHES_MAX = 16


class Connection:
    """One WebSocket, from accept to close. The transport is set once it is accepted."""

    __slots__ = (
        "_answers_bytes",
        "_closed",
        "_fetches",
        "_has_room",
        "_paused",
        "_stalled_since",
        "_subscriptions",
        "_unsent_before",
        "_writes_bytes",
        "hub",
        "session",
        "transport",
    )

    transport: Transport

    def __init__(self, session: ServerSession, hub: "Hub") -> None:
        self.session = session
        self.hub = hub
        self._subscriptions: dict[int, Subscription] = {}
        self._fetches: deque[Fetch] = deque()
        self._has_room: asyncio.Future[None] | None = None
        self._answers_bytes = 0
        self._writes_bytes = 0
        self._closed = False
        self._paused = False
        self._stalled_since: float | None = None
        self._unsent_before = 0

    def opened(self, transport: Transport) -> None:
        """The socket was accepted; from here on frames come."""
        self.transport = transport
        self.hub.joined(self)

    def lost(self) -> None:
        """The socket is gone. Writes under way are committed all the same; their acks go nowhere."""
        self.hub.left(self)
        self.session.close(1006)
        self._closed = True
        self._leave_feeds()

    def _leave_feeds(self) -> None:
        for subscription in self._subscriptions.values():
            subscription.feed.remove(subscription)
        self._subscriptions.clear()
        self._note_room()

    @property
    def subscriptions(self) -> tuple[Subscription, ...]:
        """The subscriptions that are open."""
        return tuple(self._subscriptions.values())

    # --- from the transport ---

    def receive(self, payload: bytes) -> None:
        """Take one text message."""
        self.hub.counts.frames_received += 1
        if not payload.isascii() and not _is_utf8(payload):
            self.session.close(1007, "a text frame is UTF-8")
            self.flush()
            return
        event = self.session.receive(payload, self.hub.now())
        if event is None:
            self.flush()
        elif type(event) is WriteRequested:
            self.hub.submit(event.transaction, self, event.id)
            self._writes_bytes += len(payload)
            if not self._may_read:
                self._pause()
        else:
            self._carry_out(event)

    def receive_binary(self) -> None:
        """Take a binary message: there is none in this subprotocol (PROTOCOL 2)."""
        self.session.close(1003, "this subprotocol has text frames only")
        self.flush()

    def on_full(self) -> None:
        """The peer reads slower than we write: its subscriptions lag."""
        for subscription in self._subscriptions.values():
            subscription.feed.fall_behind(subscription)

    def on_drained(self) -> None:
        """There is room again."""
        self._stalled_since = None
        self._answers_bytes = 0
        if self._has_room is not None:
            # A FETCH goes first, as its subscription would fill the transport again before its turn; see `_fetch`.
            self._note_room()
        else:
            self._advance()
        self._resume_if_possible()

    def _advance(self) -> None:
        for subscription in self.subscriptions:
            subscription.advance()

    def _note_room(self) -> None:
        if self._has_room is not None and not self._has_room.done():
            self._has_room.set_result(None)

    @property
    def _may_read(self) -> bool:
        return (
            self.session.in_flight < self.session.limits.in_flight_max
            and self._writes_bytes < _WRITES_BYTES_MAX
            and self._answers_bytes < _ANSWERS_BYTES_MAX
            and len(self._fetches) < _FETCHES_MAX
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
            case Opened():
                self.session.welcome()
                self.flush()
            case AuthRequested():
                self.session.authenticated(None, None)
                self.flush()
            case SubscribeRequested(request):
                opening = self.hub.resume_at_hand(request)
                if opening is not None:
                    self._open(request.id, opening)
                else:
                    self.hub.spawn(self._answer_later(self._subscribe(request)))
            case UnsubscribeRequested(request_id):
                self._unsubscribe(request_id)
            case FetchRequested(request):
                self._queue_fetch(request)
            case WriteRequested():
                raise AssertionError("writes do not come this way")

    async def _answer_later(self, work: Coroutine[object, object, None]) -> None:
        try:
            await work
        except Exception:
            # The request would stay without an answer, and its client would wait for one.
            self.close(CloseCode.FAILED, "the server failed")
            raise

    async def _subscribe(self, request: Subscribe) -> None:
        try:
            opening = await self.hub.open_subscription(request)
        except StorageError as error:
            self.refuse(request.id, error_code_of(error), str(error))
            return
        except RemoteProtocolError as error:
            self.refuse(request.id, error.code, str(error))
            return
        if self.session.close_code is None:
            self._open(request.id, opening)

    def _open(self, request_id: int, opening: "Opening") -> None:
        feed = opening.feed
        opened = self.session.subscribed(
            request_id,
            feed=feed.id,
            how=opening.how,
            at=feed.published.lineage.cursor(opening.at),
            head=feed.published.cursor,
            store_id=feed.store_id,
            lineage=feed.published.lineage,
            keep_to=opening.keep_to,
        )
        self.flush()
        if not opened:
            return
        self.hub.counts.subscribes[opening.how] += 1
        subscription = Subscription(self, request_id, feed, opening.at)
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
        at: Cursor = subscription.feed.published.lineage.cursor(subscription.position)
        self.session.ended(subscription.id, reason, at)
        self.flush()

    def _queue_fetch(self, request: Fetch) -> None:
        # One after the other: FILLs do not say which FETCH they answer, and only their order does.
        self._fetches.append(request)
        if len(self._fetches) == 1:
            self.hub.spawn(self._answer_later(self._fetch_all()))
        if not self._may_read:
            self._pause()

    async def _fetch_all(self) -> None:
        while self._fetches:
            await self._fetch(self._fetches[0])
            self._fetches.popleft()
            self._advance()
            self._resume_if_possible()

    async def _fetch(self, request: Fetch) -> None:
        subscription = self._subscriptions.get(request.id)
        if subscription is None:
            return
        try:
            async for payload in self.hub.fill(subscription.feed, request.seqs):
                await self._wait_for_room()
                if self._subscriptions.get(request.id) is not subscription:
                    return
                self.transport.write(payload)
                self._advance()
        except StorageError as error:
            self.refuse(request.id, error_code_of(error), str(error))
        except RemoteProtocolError as error:
            self.refuse(request.id, error.code, error.message)

    async def _wait_for_room(self) -> None:
        while self.transport.full and not self._closed:
            self._has_room = asyncio.get_running_loop().create_future()
            await self._has_room
            self._has_room = None

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
                results.append(_result(request_id, transaction, answer))
        for result in results:
            self.hub.counts.writes[result.status] += 1
        if results:
            self.session.wrote(results)
        if not self.session.in_flight:
            self._writes_bytes = 0
        self.flush()
        self._resume_if_possible()

    def refuse(self, request_id: int, code: str, message: str) -> None:
        """Answer a request with an ERROR."""
        if self.session.close_code is None:
            self.hub.counts.errors_sent[code] += 1
            self.session.refuse(request_id, code, message)
            self.flush()

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
            self.session.heartbeat({s.feed.store: s.feed.tail.head.cursor for s in self._subscriptions.values()})
        self.flush()
        self._check_progress(now)

    def _check_progress(self, now: float) -> None:
        """A full transport that has not moved a byte for too long is closed; its client resumes later."""
        if not self.transport.full:
            self._stalled_since = None
            return
        unsent = self.transport.unsent_bytes()
        if self._stalled_since is None or unsent < self._unsent_before:
            self._stalled_since = now
        self._unsent_before = unsent
        if now - self._stalled_since >= self.hub.stall_timeout_s:
            self.session.close(CloseCode.STALLED, "nothing was read for too long")
            self.flush()


def _is_utf8(payload: bytes) -> bool:
    try:
        payload.decode()
    except UnicodeDecodeError:
        return False
    return True


def error_code_of(error: StorageError) -> str:
    """Return the wire code for what a storage raised."""
    match error:
        case StoreUnknown():
            return "store_unknown"
        case StoreMismatch():
            return "store_mismatch"
        case StorageFull():
            return "storage_full"
        case _:
            return "storage_unavailable"


def _result(request_id: int, transaction: Transaction, answer: Answer) -> WriteResult:
    if isinstance(answer, StorageUnavailable):
        return WriteResult(
            request_id, "retry", code=error_code_of(answer), message=answer.message, after_ms=_RETRY_AFTER_MS
        )
    assert isinstance(answer, Outcome), answer
    if transaction.single:
        op = answer.ops[0]
        return WriteResult(
            request_id, op.status, op.seq, answer.at, op.deleted, code=op.code, message=op.message, head=answer.head
        )
    return WriteResult(request_id, answer.status, at=answer.at, ops=answer.ops, head=answer.head)
