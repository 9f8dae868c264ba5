"""A subscriber that follows the rules of the protocol and nothing else, and compares at every consistent point.

It knows the model only to compare: what it holds comes from frames. Batches have to tile; count and digest have to be
of exactly what is held; whatever it went through, after CAUGHT_UP it holds what the list of changes says.
"""

import json
from collections.abc import Callable
from typing import Any

import msgspec

from syncline_protocol.cursor import Cursor, Seq, lineage_with, parse_cursor
from syncline_protocol.messages import (
    Batch,
    Behind,
    CaughtUp,
    Change,
    Ended,
    Error,
    Fetch,
    Fill,
    Heads,
    Heartbeat,
    Hello,
    Live,
    ServerMessage,
    Subscribe,
    Subscribed,
    Welcome,
)
from syncline_protocol.ranges import format_ranges
from syncline_protocol.seq_set import SeqSet
from syncline_server.hub import Hub
from tests.support.engine import Peer

from .model import ModelStore, Wanted, digest_of

__all__ = ["Reader"]

STORE = "notes"

#: A FETCH names at most so many ranges.
_RANGES_MAX = 1000


class Reader:
    """Args:
    wanted: what it asks for.
    store: returns the store of an id as the model has it; one that was dropped as it was at its end.
    """

    def __init__(self, name: str, wanted: Wanted, store: Callable[[str], ModelStore]) -> None:
        self.name = name
        self.wanted = wanted
        self._store = store
        self.held: dict[str, int] = {}
        self.cursor = "start"
        self.known: str | None = None
        self.store_id: str | None = None
        self.how: list[str] = []
        self.refused: str | None = None
        self.caught_up = False
        self.is_open = False
        self.missing: set[int] = set()
        self._asked: set[int] = set()
        self._gone: set[str] = set()
        self._live: list[str] = []
        self.peer: Peer | None = None

    # --- its connection ---

    def connect(self, hub: Hub) -> None:
        """Come back, to a server that may be another process."""
        if self.peer is not None:
            self.peer.connection.lost()
        self.peer = Peer(hub, greet=False)
        self.peer.send(Hello(features=("bitmaps",)))
        self.disconnected()

    def disconnected(self) -> None:
        """Forget what belongs to a connection."""
        self.is_open = self.caught_up = False
        self._live, self._asked = [], set()

    def stay(self) -> None:
        """Send a heartbeat."""
        if self.peer is not None and self.peer.closed_with is None and not self.peer.aborted:
            self.peer.send(Heartbeat())

    def subscribe(self) -> None:
        """Ask to follow the store from where it stands."""
        assert self.peer is not None
        wanted = msgspec.UNSET if self.wanted.filter is None else msgspec.Raw(json.dumps(self.wanted.filter).encode())
        self.is_open, self.refused = True, None
        self.peer.send(Subscribe(1, STORE, self.cursor, known=self.known, filter=wanted))

    def take(self) -> bool:
        """Take in what has come. Returns whether there was something."""
        assert self.peer is not None
        messages = self.peer.take()
        for message in messages:
            self._take(message)
        return bool(messages)

    def _take(self, message: ServerMessage) -> None:
        match message:
            case Subscribed():
                self._begin(message)
            case Live(upto=upto, seqs=seqs, last=last):
                self._live.append(seqs)
                if last:
                    self._list(upto)
            case Fill(changes=changes, last=last):
                self._fill(changes, last=last)
            case Batch(from_=start, to=to, changes=changes):
                self._follow(start, to, changes)
            case CaughtUp(at=at, count=count, digest=digest):
                assert at == self.cursor
                seen = self._seen_at(at)
                assert (count, digest) == (len(seen), digest_of(seen)), (self.name, at)
                self.caught_up = True
                self._compare()
            case Behind():
                self.caught_up = False
            case Ended():
                self.disconnected()
            case Error(code=code):
                self.refused = code
                self.is_open = False
            case Welcome() | Heads():
                pass
            case _:
                raise AssertionError(message)

    # --- what it holds ---

    def _begin(self, message: Subscribed) -> None:
        self.how.append(message.how)
        if message.how == "snapshot" or (self.store_id is not None and self.store_id != message.store_id):
            assert message.how == "snapshot" or self.cursor == "start"
            self.held.clear()
        if message.how in ("resume", "snapshot"):
            if message.how == "resume" and self.cursor != "start" and parse_cursor(self.cursor).seq > 0:
                assert message.at == self.cursor
            else:
                self.missing.clear()
                self.held.clear()
            self.cursor = message.at
            self._fetch()
        if message.keep_to is not None:
            assert message.how == "rewind"
            self.held = {key: seq for key, seq in self.held.items() if seq <= message.keep_to}
        self.store_id, self.known = message.store_id, message.lineage

    def _follow(self, start: Cursor, to: Cursor, changes: tuple[Change, ...]) -> None:
        assert start == self.cursor, f"{self.name}: batches tile"
        assert self.known is not None
        last, end = parse_cursor(start).seq, parse_cursor(to).seq
        for change in changes:
            assert last < change.seq <= end
            last = change.seq
            if change.op == "ADD":
                assert change.key not in self.held, f"{self.name}: {change.key} came twice"
                self.held[change.key] = change.seq
            else:
                assert change.key in self.held or self.missing or not self.caught_up
                self.held.pop(change.key, None)
                self._gone.add(change.key)
        self.known = lineage_with(self.known, start, to)
        self.cursor = to
        self._compare()

    def _list(self, upto: Cursor) -> None:
        listed = {
            seq for text in self._live for first, last in SeqSet.parse(text).ranges() for seq in range(first, last + 1)
        }
        self._live = []
        seen = set(self._seen_at(upto).values())
        store = self._model
        # What has died since may be left out, where its value is gone.
        since = {seq for key, seq in self._seen_at(upto).items() if key not in store.living()}
        assert seen - since <= listed <= seen, f"{self.name}: LIVE names exactly what lives"
        self.held = {key: seq for key, seq in self.held.items() if seq in listed}
        self.missing = listed - set(self.held.values())
        self.cursor = upto
        self._fetch()

    def _fetch(self) -> None:
        self._gone.clear()
        if self.missing and not self._asked:
            assert self.peer is not None
            self._asked = set(sorted(self.missing)[:_RANGES_MAX])
            self.peer.send(Fetch(1, format_ranges([(Seq(seq), Seq(seq)) for seq in sorted(self._asked)])))

    def _fill(self, changes: tuple[Change, ...], *, last: bool) -> None:
        for change in changes:
            assert change.seq in self._asked
            if change.key not in self._gone:
                self.held[change.key] = change.seq
        if last:
            self.missing -= self._asked
            self._asked = set()
            self._fetch()
            self._compare()

    @property
    def _model(self) -> ModelStore:
        assert self.store_id is not None
        return self._store(self.store_id)

    def _seen_at(self, at: str) -> dict[str, int]:
        return self._model.seen(self.wanted, parse_cursor(at).seq)

    def _compare(self) -> None:
        """Compare what is held, if that is to be consistent now."""
        if self.caught_up and not self.missing:
            assert self.held == self._seen_at(self.cursor), self.name

    def has_everything(self, head: int) -> bool:
        """Return whether it has caught up with this head, with nothing missing."""
        return self.caught_up and not self.missing and parse_cursor(self.cursor).seq == head

    def __repr__(self) -> str:
        state: dict[str, Any] = {"cursor": self.cursor, "how": self.how[-3:], "missing": sorted(self.missing)[:5]}
        return f"Reader({self.name}, {state}, open={self.is_open}, caught_up={self.caught_up}, refused={self.refused})"
