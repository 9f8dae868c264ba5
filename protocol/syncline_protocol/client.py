"""The client's side of one connection, pure: frames in, events and frames out.

Calling order: the constructor has HELLO ready in `data_to_send`; `receive` each frame and act on the events; call
`write`, `subscribe`, … once `Welcomed` has come; write what `data_to_send` returns and, if `close_code` is set, close
with it. Sleep until `next_deadline` at most, then call `tick`.

The session follows the cursor of every feed: a batch that does not begin where the last one ended closes the
connection with DESYNC, and so does a feed that stands still while the heartbeats show that its store moves on
(PROTOCOL 8.3). Acks never move a cursor. A session lives as long as one connection; what has to survive a
reconnect (cursor, lineage, unanswered writes) is in the events and belongs to the shell.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .codec import decode_server_message, encode
from .cursor import Cursor, Lineage, Seq, parse_cursor
from .errors import CloseCode, LocalProtocolError, RemoteProtocolError
from .feed_checks import check_changes, check_listing, check_records
from .limits import DEFAULT_LIMITS, HELLO_TIMEOUT_S, Limits
from .messages import (
    Add,
    Auth,
    Authenticated,
    Batch,
    Behind,
    Bye,
    CaughtUp,
    ClientMessage,
    Delete,
    Ended,
    Error,
    Expiring,
    Fetch,
    Fill,
    Find,
    Found,
    Heads,
    Heartbeat,
    Hello,
    Live,
    Subscribe,
    Subscribed,
    Unsubscribe,
    Welcome,
    Write,
    WriteResult,
    Wrote,
)
from .states import SessionState, after_server_message

__all__ = [
    "Answered",
    "ClientEvent",
    "ClientSession",
    "CredentialsExpiring",
    "CredentialsTaken",
    "FeedBatch",
    "FeedBehind",
    "FeedCaughtUp",
    "FeedEnded",
    "FeedFill",
    "FeedLive",
    "FeedOpened",
    "FoundRecords",
    "GoodbyeSaid",
    "Refused",
    "Welcomed",
]

#: A connection is dead after this many heartbeat periods without a frame, a feed after so many without a batch.
_SILENT_PERIODS_MAX = 3


@dataclass(frozen=True, slots=True)
class Welcomed:
    """The connection is ready for requests."""

    welcome: Welcome


@dataclass(frozen=True, slots=True)
class CredentialsTaken:
    """An AUTH was accepted; one that is not comes back as `Refused` without an id, and changes nothing."""

    message: Authenticated


@dataclass(frozen=True, slots=True)
class CredentialsExpiring:
    """The server closes the connection at `message.expires_ms` unless an AUTH comes before."""

    message: Expiring


@dataclass(frozen=True, slots=True)
class Answered:
    """One write was answered."""

    result: WriteResult


@dataclass(frozen=True, slots=True)
class FeedOpened:
    """A SUBSCRIBE was accepted; `message.how` says how it goes on."""

    id: int
    message: Subscribed


@dataclass(frozen=True, slots=True)
class FeedBatch:
    """The next changes of a feed."""

    id: int
    message: Batch


@dataclass(frozen=True, slots=True)
class FeedLive:
    """Seqs of live records, part of a reconcile."""

    id: int
    message: Live


@dataclass(frozen=True, slots=True)
class FeedFill:
    """Records that were asked for with `fetch`."""

    id: int
    message: Fill


@dataclass(frozen=True, slots=True)
class FoundRecords:
    """A FIND was answered."""

    message: Found


@dataclass(frozen=True, slots=True)
class FeedCaughtUp:
    """Everything up to `message.at` is there."""

    id: int
    message: CaughtUp


@dataclass(frozen=True, slots=True)
class FeedBehind:
    """A catch-up begins; it ends with `FeedCaughtUp`."""

    id: int
    message: Behind


@dataclass(frozen=True, slots=True)
class FeedEnded:
    """A subscription is over."""

    id: int
    message: Ended


@dataclass(frozen=True, slots=True)
class Refused:
    """The server refused a request, or a frame that it could not attribute to one (`message.id` is None)."""

    message: Error


@dataclass(frozen=True, slots=True)
class GoodbyeSaid:
    """The server is about to close and says when to come back."""

    message: Bye


ClientEvent = (
    Welcomed
    | CredentialsTaken
    | CredentialsExpiring
    | Answered
    | FeedOpened
    | FeedBatch
    | FeedLive
    | FeedFill
    | FoundRecords
    | FeedCaughtUp
    | FeedBehind
    | FeedEnded
    | Refused
    | GoodbyeSaid
)


@dataclass(slots=True)
class _Feed:
    """What the session knows of one open feed.

    Attributes:
        behind_since: since when its store has had another head.
        listed_upto: the last seq that LIVE has named, while what lives is being listed (PROTOCOL 5.5.2).
    """

    id: int
    store: str
    cursor: Cursor
    behind_since: float | None = None
    listed_upto: Seq | None = None


class ClientSession:
    """One connection, seen from the client.

    Args:
        hello: the HELLO to send.
        now: the monotonic time in seconds at which the connection was made; all `now` are of this clock.
    """

    def __init__(self, hello: Hello, *, now: float) -> None:
        self.state = SessionState.GREETED
        self.limits: Limits = DEFAULT_LIMITS
        self.heartbeat_s = 0.0
        self.close_code: int | None = None
        self.close_reason = ""
        self._opened_at = now
        self._heard_at = now
        self._heartbeat_due_at = now
        self._next_id = 1
        self._asked: dict[int, str] = {}
        self._finding: set[int] = set()
        self._feeds: dict[str, _Feed] = {}
        self._out: list[bytes] = [encode(hello)]

    # --- receiving ---

    def receive(self, frame: bytes | str, now: float) -> list[ClientEvent]:
        """Take one text frame and return what came of it.

        A frame that breaks the protocol sets `close_code` and yields nothing; frames after it are ignored.
        """
        self._heard_at = now
        if self.close_code is not None:
            return []
        try:
            message = decode_server_message(frame)
            self.state = after_server_message(self.state, type(message))
            return _HANDLERS[type(message)](self, message, now)
        except RemoteProtocolError as error:
            return self._give_up(error.close or CloseCode.MISUSE, error.message)
        except LocalProtocolError as error:
            return self._give_up(CloseCode.MISUSE, error.message)

    def _give_up(self, code: CloseCode, reason: str) -> list[ClientEvent]:
        self.close(code, reason)
        return []

    def _on_welcome(self, message: Welcome, now: float) -> list[ClientEvent]:
        self.limits = message.limits
        self.heartbeat_s = message.heartbeat_ms / 1000
        self._heartbeat_due_at = now + self.heartbeat_s
        return [Welcomed(message)]

    def _on_authenticated(self, message: Authenticated, now: float) -> list[ClientEvent]:
        return [CredentialsTaken(message)]

    def _on_expiring(self, message: Expiring, now: float) -> list[ClientEvent]:
        return [CredentialsExpiring(message)]

    def _on_wrote(self, message: Wrote, now: float) -> list[ClientEvent]:
        for result in message.results:
            if result.at is not None:
                parse_cursor(result.at)
            elif result.status in ("ok", "dup"):
                raise RemoteProtocolError("bad_message", f"WROTE: {result.status} without its position")
            if result.head is not None:
                parse_cursor(result.head)
        return [Answered(result) for result in message.results]

    def _on_subscribed(self, message: Subscribed, now: float) -> list[ClientEvent]:
        store = self._asked.pop(message.id, None)
        if store is None:
            raise RemoteProtocolError("not_subscribed", f"SUBSCRIBED for the unknown id {message.id}")
        if message.feed in self._feeds:
            raise RemoteProtocolError("already_subscribed", f"the feed {message.feed[:40]!r} is open already")
        if (message.how == "rewind") != (message.keep_to is not None):
            raise RemoteProtocolError("bad_message", "SUBSCRIBED: a rewind, and nothing else, has keep_to")
        # What the shell will take apart later is taken apart here, where a fault still has a sender.
        for cursor in (message.at, message.head):
            parse_cursor(cursor)
        Lineage.parse(message.lineage)
        feed = self._feeds[message.feed] = _Feed(message.id, store, message.at)
        if message.how in ("rewind", "reconcile"):
            feed.listed_upto = Seq(0)
        return [FeedOpened(message.id, message)]

    def _on_batch(self, message: Batch, now: float) -> list[ClientEvent]:
        feed = self._listed_feed(message.feed)
        if message.from_ != feed.cursor:
            return self._give_up(
                CloseCode.DESYNC,
                f"{feed.store}: a batch begins at {message.from_}, the last one ended at {feed.cursor}",
            )
        after, upto = parse_cursor(message.from_).seq, parse_cursor(message.to).seq
        if upto < after:
            raise RemoteProtocolError("bad_message", f"BATCH: the position goes back from {after} to {upto}")
        check_changes(message.changes, after, upto)
        feed.cursor = message.to
        feed.behind_since = None
        return [FeedBatch(feed.id, message)]

    def _on_live(self, message: Live, now: float) -> list[ClientEvent]:
        feed = self._feed(message.feed)
        if feed.listed_upto is not None:
            listed_upto = check_listing(message, feed.listed_upto, feed.cursor)
            feed.listed_upto = None if message.last else listed_upto
        feed.behind_since = None
        return [FeedLive(feed.id, message)]

    def _on_fill(self, message: Fill, now: float) -> list[ClientEvent]:
        feed = self._listed_feed(message.feed)
        check_changes(message.changes)
        check_records("FILL", message.changes)
        feed.behind_since = None
        return [FeedFill(feed.id, message)]

    def _on_found(self, message: Found, now: float) -> list[ClientEvent]:
        if message.id not in self._finding:
            raise RemoteProtocolError("bad_message", f"FOUND for the unknown id {message.id}")
        self._finding.discard(message.id)
        parse_cursor(message.at)
        check_records("FOUND", message.records)
        return [FoundRecords(message)]

    def _on_caught_up(self, message: CaughtUp, now: float) -> list[ClientEvent]:
        feed = self._listed_feed(message.feed)
        if message.at != feed.cursor:
            return self._give_up(CloseCode.DESYNC, f"{feed.store}: caught up at {message.at}, not at {feed.cursor}")
        return [FeedCaughtUp(feed.id, message)]

    def _on_behind(self, message: Behind, now: float) -> list[ClientEvent]:
        feed = self._listed_feed(message.feed)
        for cursor in (message.at, message.head):
            parse_cursor(cursor)
        return [FeedBehind(feed.id, message)]

    def _on_ended(self, message: Ended, now: float) -> list[ClientEvent]:
        feed = self._feed(message.feed)
        if feed.id != message.id:
            raise RemoteProtocolError("bad_message", f"ENDED: the feed is that of {feed.id}, not of {message.id}")
        del self._feeds[message.feed]
        return [FeedEnded(feed.id, message)]

    def _on_heads(self, message: Heads, now: float) -> list[ClientEvent]:
        for feed in self._feeds.values():
            head = message.heads.get(feed.store, feed.cursor)
            if head == feed.cursor:
                feed.behind_since = None
            elif feed.behind_since is None:
                feed.behind_since = now
            elif now - feed.behind_since >= self.heartbeat_s * (_SILENT_PERIODS_MAX - 1):
                return self._give_up(CloseCode.DESYNC, f"{feed.store}: the head is {head}, the feed stands still")
        return []

    def _on_error(self, message: Error, now: float) -> list[ClientEvent]:
        if message.id is not None:
            self._asked.pop(message.id, None)
            self._finding.discard(message.id)
        return [Refused(message)]

    def _on_bye(self, message: Bye, now: float) -> list[ClientEvent]:
        return [GoodbyeSaid(message)]

    def _feed(self, name: str) -> _Feed:
        feed = self._feeds.get(name)
        if feed is None:
            raise RemoteProtocolError("not_subscribed", f"a frame of the unknown feed {name[:40]!r}")
        return feed

    def _listed_feed(self, name: str) -> _Feed:
        """Return a feed on which more than LIVE may come."""
        feed = self._feed(name)
        if feed.listed_upto is not None:
            raise RemoteProtocolError("bad_message", f"{feed.store}: what lives was not listed to the end")
        return feed

    # --- sending ---

    def next_id(self) -> int:
        """Return an id that no request of this connection had before."""
        request_id, self._next_id = self._next_id, self._next_id + 1
        return request_id

    def send(self, message: Auth | Add | Delete | Write | Unsubscribe | Fetch | Find) -> None:
        """Send AUTH, or a request whose id came from `next_id`.

        Raises:
            LocalProtocolError: WELCOME has not come yet, the connection is over, or the subscription that is meant
                is not open: its ERROR could not be told from that of the SUBSCRIBE.
        """
        self._require_ready(message)
        if isinstance(message, (Unsubscribe, Fetch)) and all(feed.id != message.id for feed in self._feeds.values()):
            raise LocalProtocolError("not_subscribed", f"no open subscription has the id {message.id}")
        if isinstance(message, Find):
            self._finding.add(message.id)
        self._out.append(encode(message))

    def subscribe(self, request: Subscribe) -> None:
        """Send a SUBSCRIBE whose id came from `next_id`. Raises as `send`."""
        self._require_ready(request)
        if request.id in self._asked or any(feed.id == request.id for feed in self._feeds.values()):
            raise LocalProtocolError("id_in_use", f"a subscription with the id {request.id} is open or being opened")
        self._asked[request.id] = request.store
        self._out.append(encode(request))

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Decide that the connection ends with this code. The first decision stays."""
        if self.close_code is None:
            self.close_code = int(code)
            self.close_reason = reason
            self.state = SessionState.CLOSED

    def _require_ready(self, message: ClientMessage) -> None:
        if self.state not in (SessionState.READY, SessionState.DRAINING):
            name = type(message).__struct_config__.tag
            raise LocalProtocolError("hello_expected", f"{name} cannot be sent in the state {self.state.value}")

    def data_to_send(self) -> list[bytes]:
        """Return the frames to write now, in order, and forget them."""
        frames, self._out = self._out, []
        return frames

    # --- time ---

    def next_deadline(self) -> float | None:
        """Return when `tick` has something to do, or None after the end."""
        if self.state is SessionState.CLOSED:
            return None
        if self.state is SessionState.GREETED:
            return self._opened_at + HELLO_TIMEOUT_S
        return min(self._heartbeat_due_at, self._heard_at + self.heartbeat_s * _SILENT_PERIODS_MAX)

    def tick(self, now: float) -> None:
        """Act on the deadlines that have passed: send a heartbeat, or give the connection up."""
        deadline = self.next_deadline()
        if deadline is None or now < deadline:
            return
        if self.state is SessionState.GREETED:
            self.close(CloseCode.HELLO_TIMEOUT, f"no WELCOME within {HELLO_TIMEOUT_S:g} s")
        elif now >= self._heard_at + self.heartbeat_s * _SILENT_PERIODS_MAX:
            self.close(CloseCode.NO_HEARTBEAT, f"nothing heard for {now - self._heard_at:.0f} s")
        else:
            self._heartbeat_due_at = now + self.heartbeat_s
            self._out.append(encode(Heartbeat()))


_HANDLERS: dict[type, Callable[[ClientSession, Any, float], list[ClientEvent]]] = {
    Welcome: ClientSession._on_welcome,
    Authenticated: ClientSession._on_authenticated,
    Expiring: ClientSession._on_expiring,
    Wrote: ClientSession._on_wrote,
    Subscribed: ClientSession._on_subscribed,
    Batch: ClientSession._on_batch,
    Live: ClientSession._on_live,
    Fill: ClientSession._on_fill,
    Found: ClientSession._on_found,
    CaughtUp: ClientSession._on_caught_up,
    Behind: ClientSession._on_behind,
    Ended: ClientSession._on_ended,
    Heads: ClientSession._on_heads,
    Error: ClientSession._on_error,
    Bye: ClientSession._on_bye,
}
