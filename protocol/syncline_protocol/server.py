"""The server's side of one connection, pure: frames in, events and frames out.

Calling order: `receive` each frame and act on the event it returns; then write what `data_to_send` returns and, if
`close_code` is set, close with it. Sleep until `next_deadline` at most, then call `tick`. What is sent in answer
to an event goes through `wrote`, `subscribed`, `ended`, `refuse`, which keep count of open requests.

The frames of feeds are shared by all subscribers, so the shell writes them itself, between `subscribed` and
`ended`; everything else of a connection goes through here. The session never raises on what the peer sends.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import msgspec

from .codec import decode_client_message, encode, found_frame
from .cursor import NOW, START, Cursor, Lineage, Seq, parse_cursor
from .errors import ERROR_CODES, CloseCode, FrameInvalid, RemoteProtocolError
from .filter import Filter, parse_filter
from .limits import DEFAULT_LIMITS, HEARTBEAT_S, HELLO_TIMEOUT_S, SILENCE_MAX_S, Limits
from .messages import (
    Add,
    Auth,
    Authenticated,
    Bye,
    ClientInfo,
    Delete,
    Ended,
    EndReason,
    Error,
    Expiring,
    Fetch,
    Find,
    Found,
    Heads,
    Heartbeat,
    Hello,
    ResumeHow,
    ServerMessage,
    Subscribe,
    Subscribed,
    Unsubscribe,
    Welcome,
    Write,
    WriteResult,
    Wrote,
)
from .states import SessionState, after_client_message, after_server_message
from .transaction import Transaction, transaction_of
from .values import check_store_name

__all__ = [
    "FEATURES",
    "FETCH_RANGES_MAX",
    "AuthRequested",
    "FetchRequested",
    "FindRequested",
    "Opened",
    "ServerEvent",
    "ServerSession",
    "SubscribeRequested",
    "UnsubscribeRequested",
    "WriteRequested",
]

#: So many frames in a row that are no messages end the connection: nobody mistypes that often.
_INVALID_FRAMES_MAX = 100

#: Answers of ops and writes that share one WROTE. Each is well below 300 bytes, so the frame stays below the size
#: of the largest batch.
_WROTE_RESULTS_MAX = 6000

_NOT_READY = (SessionState.OPENING, SessionState.GREETED)

#: Ranges that one FETCH may name.
FETCH_RANGES_MAX = 1000


@dataclass(frozen=True, slots=True)
class Opened:
    """HELLO came. Look at its credentials, then call `welcome`, or `refuse_hello`."""

    client: ClientInfo
    token: str | None


@dataclass(frozen=True, slots=True)
class AuthRequested:
    """New credentials came; answer them with `authenticated` or `refuse_auth`."""

    token: str


class WriteRequested(msgspec.Struct, frozen=True):
    """A write to commit; answer it with `wrote` or `refuse`."""

    id: int
    transaction: Transaction


@dataclass(frozen=True, slots=True)
class SubscribeRequested:
    """A subscription to open; answer it with `subscribed` or `refuse`. `wanted` is its filter."""

    request: Subscribe
    wanted: Filter | None = None


@dataclass(frozen=True, slots=True)
class UnsubscribeRequested:
    """A subscription to end; answer it with `ended`."""

    id: int


@dataclass(frozen=True, slots=True)
class FetchRequested:
    """Records to send as FILL on a subscription that is open."""

    request: Fetch


@dataclass(frozen=True, slots=True)
class FindRequested:
    """Records to look for; answer it with `found` or `refuse`. `filter` is what the request says, checked as far as
    that can be without the store.
    """

    request: Find
    filter: Filter | None


ServerEvent = (
    Opened | AuthRequested | WriteRequested | SubscribeRequested | UnsubscribeRequested | FetchRequested | FindRequested
)


class ServerSession:
    """One connection, seen from the server.

    Args:
        session_id: names the connection in logs and in WELCOME.
        server: product name and version, as in `syncline/0.1`.
        now: the monotonic time in seconds at which the connection was accepted; all `now` are of this clock.
    """

    __slots__ = (
        "_features",
        "_feeds",
        "_finds",
        "_heard_at",
        "_heartbeat_due_at",
        "_invalid_frames",
        "_out",
        "_writes",
        "close_code",
        "close_reason",
        "limits",
        "opened_at",
        "server",
        "session_id",
        "state",
    )

    def __init__(self, *, session_id: str, server: str, now: float, limits: Limits = DEFAULT_LIMITS) -> None:
        self.session_id = session_id
        self.server = server
        self.limits = limits
        self.state = SessionState.OPENING
        self.opened_at = now
        self.close_code: int | None = None
        self.close_reason = ""
        self._heard_at = now
        self._heartbeat_due_at = now + HEARTBEAT_S
        self._invalid_frames = 0
        self._features: tuple[str, ...] = ()
        self._writes: set[int] = set()
        self._feeds: dict[int, str | None] = {}
        self._finds: set[int] = set()
        self._out: list[bytes] = []

    @property
    def in_flight(self) -> int:
        """How many writes have not been answered yet."""
        return len(self._writes)

    def has(self, feature: str) -> bool:
        """Return whether the client uses this feature (PROTOCOL 13.3)."""
        return feature in self._features

    # --- receiving ---

    def receive(self, frame: bytes | str, now: float) -> ServerEvent | None:
        """Take one text frame and return what the shell has to do, if anything."""
        self._heard_at = now
        if self.close_code is not None:
            return None
        try:
            message = decode_client_message(frame)
            self.state = after_client_message(self.state, type(message))
            self._invalid_frames = 0
            return _HANDLERS[type(message)](self, message)
        except RemoteProtocolError as error:
            self._answer_error(error)
            return None

    def _answer_error(self, error: RemoteProtocolError) -> None:
        self._send(Error(error.code, error.text, ERROR_CODES[error.code].retry, error.request_id))
        if isinstance(error, FrameInvalid):
            self._invalid_frames += 1
            if self._invalid_frames >= _INVALID_FRAMES_MAX:
                self.close(CloseCode.FRAME_INVALID, "too many frames that are no messages")
        if self.state is SessionState.OPENING:
            self.close(CloseCode.MISUSE, error.message)
        elif error.close is not None:
            self.close(error.close, error.message)

    def _on_hello(self, hello: Hello) -> ServerEvent:
        self._features = tuple(name for name in hello.features if name in FEATURES)
        return Opened(hello.client, hello.token)

    def _on_auth(self, message: Auth) -> ServerEvent:
        return AuthRequested(message.token)

    def _on_write(self, message: Add | Delete | Write) -> ServerEvent:
        self._claim(message.id)
        try:
            transaction = transaction_of(message, self.limits)
        except RemoteProtocolError as error:
            error.request_id = message.id
            raise
        self._writes.add(message.id)
        return WriteRequested(message.id, transaction)

    def _on_subscribe(self, message: Subscribe) -> ServerEvent:
        self._claim(message.id)
        try:
            wanted = _check_subscribe(message)
        except RemoteProtocolError as error:
            error.request_id = message.id
            raise
        if len(self._feeds) >= self.limits.subscriptions_max:
            raise RemoteProtocolError(
                "too_many_subscriptions",
                f"the connection has {len(self._feeds)} subscriptions",
                hint="end one, or open another connection",
                request_id=message.id,
            )
        self._feeds[message.id] = None
        return SubscribeRequested(message, wanted)

    def _on_unsubscribe(self, message: Unsubscribe) -> ServerEvent:
        self._require_feed(message.id)
        return UnsubscribeRequested(message.id)

    def _on_fetch(self, message: Fetch) -> ServerEvent:
        self._require_feed(message.id)
        return FetchRequested(message)

    def _on_find(self, message: Find) -> ServerEvent:
        self._claim(message.id)
        try:
            check_store_name(message.store)
            wanted = None if message.filter is msgspec.UNSET else parse_filter(message.filter)
        except RemoteProtocolError as error:
            error.request_id = message.id
            raise
        self._finds.add(message.id)
        return FindRequested(message, wanted)

    def _on_heartbeat(self, message: Heartbeat) -> None:
        return None

    def _claim(self, request_id: int) -> None:
        if request_id in self._writes or request_id in self._feeds or request_id in self._finds:
            raise RemoteProtocolError("id_in_use", f"the request {request_id} is still open", request_id=request_id)

    def _require_feed(self, request_id: int) -> None:
        if self._feeds.get(request_id) is None:
            raise RemoteProtocolError(
                "not_subscribed", f"no open subscription has the id {request_id}", request_id=request_id
            )

    # --- sending ---

    def welcome(self, user: str | None = None, expires_ms: int | None = None) -> None:
        """Answer HELLO: requests are taken from here on."""
        self._send(
            Welcome(
                session=self.session_id,
                server=self.server,
                limits=self.limits,
                heartbeat_ms=int(HEARTBEAT_S * 1000),
                features=self._features,
                user=user,
                expires_ms=expires_ms,
            )
        )

    def refuse_hello(self, error: RemoteProtocolError) -> None:
        """Answer HELLO with a refusal, and close."""
        assert error.close is not None
        self._send(Error(error.code, error.text, ERROR_CODES[error.code].retry))
        self.close(error.close, error.message)

    def authenticated(self, user: str | None, expires_ms: int | None) -> None:
        """Answer AUTH: the connection goes on with the new credentials."""
        self._send(Authenticated(user, expires_ms))

    def refuse_auth(self, error: RemoteProtocolError) -> None:
        """Answer AUTH with a refusal; the connection goes on with the credentials that it has."""
        self._send(Error(error.code, error.text, ERROR_CODES[error.code].retry))

    def expiring(self, expires_ms: int) -> None:
        """Announce the end of the credentials."""
        self._send(Expiring(expires_ms))

    def wrote(self, results: Iterable[WriteResult]) -> None:
        """Answer writes, in as few frames as the size of a frame allows; their ids are free again."""
        answered: list[WriteResult] = []
        size = 0
        for result in results:
            self._writes.discard(result.id)
            size += 1 + len(result.ops or ())
            if answered and size > _WROTE_RESULTS_MAX:
                self._send(Wrote(tuple(answered)))
                answered, size = [], 1 + len(result.ops or ())
            answered.append(result)
        if answered:
            self._send(Wrote(tuple(answered)))

    def subscribed(
        self,
        request_id: int,
        *,
        feed: str,
        how: ResumeHow,
        at: Cursor,
        head: Cursor,
        store_id: str,
        lineage: Lineage,
        keep_to: Seq | None = None,
    ) -> bool:
        """Open a feed. Returns False, and refuses, if this connection has a subscription to it already."""
        if feed in self._feeds.values():
            self.refuse(request_id, "already_subscribed", "this connection already follows this feed")
            return False
        self._feeds[request_id] = feed
        self._send(
            Subscribed(
                id=request_id,
                feed=feed,
                how=how,
                at=at,
                head=head,
                store_id=store_id,
                lineage=lineage.to_text(),
                keep_to=keep_to,
            )
        )
        return True

    def found(
        self, request_id: int, at: Cursor, records: Iterable[bytes], *, following: str | None, count: int | None
    ) -> None:
        """Answer a FIND with encoded changes; its id is free again."""
        self._finds.discard(request_id)
        self.state = after_server_message(self.state, Found)
        self._out.append(found_frame(request_id, at, records, following=following, count=count))

    def ended(self, request_id: int, reason: EndReason, at: Cursor | None) -> None:
        """End a feed; nothing of it may be written after this."""
        feed = self._feeds.pop(request_id)
        assert feed is not None, "only an open subscription ends"
        self._send(Ended(request_id, feed, reason, at))

    def refuse(self, request_id: int, code: str, message: str, *, after_ms: int | None = None) -> None:
        """Answer a request with an ERROR; its id is free again, unless it is that of an open feed."""
        self._writes.discard(request_id)
        self._finds.discard(request_id)
        if self._feeds.get(request_id, "") is None:
            del self._feeds[request_id]
        self._send(Error(code, message, ERROR_CODES[code].retry, request_id, after_ms))

    def heartbeat(self, heads: dict[str, Cursor]) -> None:
        """Send a heartbeat with the heads of the stores that this connection follows."""
        self._send(Heads(heads))

    def bye(self, code: str, after_ms: int, jitter_ms: int) -> None:
        """Announce the end: requests are still answered, and the shell closes soon."""
        if self.state in (*_NOT_READY, SessionState.READY):
            self._send(Bye(code, after_ms, jitter_ms))

    def close(self, code: int, reason: str = "") -> None:
        """Decide that the connection ends with this code. The first decision stays."""
        if self.close_code is None:
            self.close_code = int(code)
            self.close_reason = reason

    def _send(self, message: ServerMessage) -> None:
        self.state = after_server_message(self.state, type(message))
        self._out.append(encode(message))

    def data_to_send(self) -> list[bytes]:
        """Return the frames to write now, in order, and forget them."""
        frames, self._out = self._out, []
        return frames

    # --- time ---

    def heard(self, now: float) -> None:
        """Begin to count silence anew: the shell did not listen until now, so it cannot call the peer silent."""
        self._heard_at = now

    def next_deadline(self) -> float | None:
        """Return when `tick` has something to do, or None after the end."""
        if self.close_code is not None:
            return None
        if self.state in _NOT_READY:
            return self.opened_at + HELLO_TIMEOUT_S
        return min(self._heartbeat_due_at, self._heard_at + SILENCE_MAX_S)

    def tick(self, now: float) -> bool:
        """Act on the deadlines that have passed. Returns True if a heartbeat is due."""
        deadline = self.next_deadline()
        if deadline is None or now < deadline:
            return False
        if self.state in _NOT_READY:
            what = "no HELLO" if self.state is SessionState.OPENING else "the credentials could not be checked"
            self.close(CloseCode.HELLO_TIMEOUT, f"{what} within {HELLO_TIMEOUT_S:g} s")
            return False
        if now >= self._heard_at + SILENCE_MAX_S:
            self.close(CloseCode.NO_HEARTBEAT, f"nothing heard for {SILENCE_MAX_S:g} s")
            return False
        self._heartbeat_due_at = now + HEARTBEAT_S
        return True


#: The features that this version knows; HELLO asks for them, WELCOME echoes them.
FEATURES: frozenset[str] = frozenset({"digest", "bitmaps"})

_HANDLERS: dict[type, Callable[[ServerSession, Any], ServerEvent | None]] = {
    Hello: ServerSession._on_hello,
    Auth: ServerSession._on_auth,
    Add: ServerSession._on_write,
    Delete: ServerSession._on_write,
    Write: ServerSession._on_write,
    Subscribe: ServerSession._on_subscribe,
    Unsubscribe: ServerSession._on_unsubscribe,
    Fetch: ServerSession._on_fetch,
    Find: ServerSession._on_find,
    Heartbeat: ServerSession._on_heartbeat,
}


def _check_subscribe(message: Subscribe) -> Filter | None:
    """Refuse what no log has to be asked about: whatever is of the wrong form. Returns the filter."""
    check_store_name(message.store)
    wanted = None if isinstance(message.filter, msgspec.UnsetType) else parse_filter(message.filter)
    if message.after not in (START, NOW):
        parse_cursor(message.after)
    if message.known is not None:
        Lineage.parse(message.known)
    return wanted
