"""A store that several read in views of their own, and the plainest model of what each of them may hold.

The model is the list of everything that was committed. A `Reader` folds what he is sent as a client does, and compares:
batches tile, nothing that he may not see is ever written to him, what he holds at each consistent point is what the
list says, and count and digest are of exactly that. A grant can be changed at any moment; he then goes on with the
cursor that he has.
"""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import msgspec

from syncline_protocol import DEFAULT_LIMITS
from syncline_protocol.codec import decode_server_message
from syncline_protocol.cursor import Seq, parse_cursor
from syncline_protocol.digest import digest_term, digest_text
from syncline_protocol.index import IndexSpec
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
from syncline_protocol.ranges import format_ranges, parse_ranges
from syncline_protocol.transaction import Transaction, make_op
from syncline_server.access.authority import Authority
from syncline_server.access.gate import Visitor
from syncline_server.access.grant import Grant, GrantLimits, ReadWhere
from syncline_server.access.principal import Principal
from syncline_server.frame import Frame
from syncline_server.hub import Hub
from syncline_server.storage.base import Outcome
from tests.support.engine import Peer, TestClock, engine, settle

__all__ = ["Library", "Reader", "Shelf", "library"]

STORE = "notes"


class Shelf(msgspec.Struct, frozen=True):
    """What a reader may see: keys with one of these prefixes, what an index has in one of these rooms, and who made it.

    Each record is in the room that is named by the first letter of its key. No prefixes and no rooms: nothing.
    """

    prefixes: tuple[str, ...]
    authors: bool = True
    rooms: tuple[str, ...] = ()

    @property
    def limits(self) -> tuple[GrantLimits, ...]:
        """The limits of the grants that give it."""
        by_key = [GrantLimits(read_prefix=prefix or None) for prefix in self.prefixes]
        return (*by_key, *[GrantLimits(read_where=ReadWhere("room", room)) for room in self.rooms])

    def shows(self, key: str) -> bool:
        """Return whether a key is seen."""
        return key[0] in self.rooms or any(key[: len(prefix)] == prefix for prefix in self.prefixes)


class Library:
    """The server, and everything that was committed: seq, key, whether it was an ADD, author."""

    def __init__(self, hub: Hub, clock: TestClock) -> None:
        self.hub = hub
        self.clock = clock
        self.log: list[tuple[int, str, bool, str]] = []
        self.alive: dict[str, int] = {}
        self.has_index = False
        self._shelves: dict[str, Shelf] = {}
        self.views_of_frames: dict[int, tuple[Frame, Shelf]] = {}
        hub.gate = _NamedGate()
        hub.authority = Authority(self._grants)

    def _grants(self, principal: Principal, store: str) -> list[Grant]:
        shelf = self._shelves[principal.name or ""]
        return [Grant("g_1", "user:x", STORE, "reader", None, 1, limits, shelf.authors) for limits in shelf.limits]

    def shelf(self, name: str) -> Shelf:
        """Return what somebody sees: by an index that is not there, nothing."""
        shelf = self._shelves[name]
        return shelf if self.has_index else msgspec.structs.replace(shelf, rooms=())

    def has_grant(self, name: str) -> bool:
        """Return whether somebody is let in, be it to see nothing."""
        return bool(self._shelves[name].limits)

    async def set_index(self, there: bool) -> None:
        """Declare the index of the rooms, or drop it."""
        if there:
            await self.hub.builder.declare(STORE, IndexSpec("room", "/room"))
        else:
            await self.hub.drop_index(STORE, "room")
        self.has_index = there

    async def write(self, *ops: tuple[str, bool], by: str = "ann") -> None:
        """Commit a transaction of ADDs (True) and DELETEs."""
        made = tuple(
            make_op(key, b'{"room":"%b"}' % key[:1].encode() if added else None, DEFAULT_LIMITS) for key, added in ops
        )
        outcome = await self.hub.write(Transaction(STORE, made, single=len(made) == 1, by=by))
        assert isinstance(outcome, Outcome)
        for (key, added), result in zip(ops, outcome.ops, strict=True):
            assert result.status == "ok"
            assert result.seq is not None
            self.log.append((result.seq, key, added, by))
            if added:
                self.alive[key] = result.seq
            else:
                del self.alive[key]

    def seen_at(self, seq: int, shelf: Shelf) -> dict[str, int]:
        """Return the records that a shelf holds at a position, each with its seq."""
        held: dict[str, int] = {}
        for at, key, added, _ in self.log:
            if at > seq or not shelf.shows(key):
                continue
            if added:
                held[key] = at
            else:
                del held[key]
        return held

    def put(self, name: str, shelf: Shelf) -> None:
        """Say what somebody may see who has not come yet."""
        self._shelves[name] = shelf

    def allow(self, name: str, shelf: Shelf) -> None:
        """Change what somebody may see. Returns when nothing else is written to him any more."""
        self.put(name, shelf)
        self.hub.rights_changed()

    async def pass_time(self, seconds: float, readers: Iterable["Reader"] = ()) -> None:
        """Let time pass, and the second hand move."""
        self.clock.seconds += seconds
        for reader in readers:
            reader.stay()
        self.hub.tick()
        await settle()


class _NamedGate:
    """Whoever comes is who his token says."""

    def admit(self, token: str | None, visitor: Visitor) -> Principal | None:
        return Principal(token, "user")

    async def prove(self, token: str, visitor: Visitor) -> Principal:
        raise AssertionError

    def current(self, principal: Principal) -> Principal | None:
        return principal


class _Socket(Peer):
    """A connection that looks at everything that is written to it, at the moment when it is written."""

    def __init__(self, library: Library, name: str) -> None:
        self._library = library
        self._name = name
        super().__init__(library.hub, greet=False)
        self.send(Hello(token=name))

    def write(self, payload: bytes) -> None:
        shelf = self._library.shelf(self._name)
        message = decode_server_message(payload)
        if isinstance(message, Batch | Fill):
            for change in message.changes:
                assert shelf.shows(change.key), f"{change.key} was written to {self._name}, who sees {shelf}"
                assert (change.by is not None) == shelf.authors
        super().write(payload)

    def write_frame(self, frame: Frame) -> None:
        shelf = self._library.shelf(self._name)
        _, first = self._library.views_of_frames.setdefault(id(frame), (frame, shelf))
        assert first == shelf, "a frame went to two views"
        self.write(frame.payload)


class Reader:
    """Somebody who follows the store. What he holds is in `held`, each key with its seq; `how` he went on last."""

    def __init__(self, library: Library, name: str, shelf: Shelf) -> None:
        self.library = library
        self.name = name
        library.put(name, shelf)
        self.held: dict[str, int] = {}
        self.cursor = "start"
        self.how: str | None = None
        self.ends: list[str] = []
        self.refusals: list[str] = []
        self.caught_up = False
        self.open = False
        #: Seqs that a reconcile has listed and that have not come yet, and keys that were deleted meanwhile.
        self.missing: set[int] = set()
        self._gone: set[str] = set()
        self._listed: list[int] = []
        self._shelf = shelf
        self._connect()

    def _connect(self) -> None:
        self.socket = _Socket(self.library, self.name)
        self.open = self.caught_up = False
        self._listed = []

    def stay(self) -> None:
        """Send a heartbeat."""
        if self.socket.closed_with is None and not self.socket.aborted:
            self.socket.send(Heartbeat())

    def leave(self) -> None:
        """Lose the connection with everything that was not read, and come back."""
        self.socket.connection.lost()
        self._connect()

    async def subscribe(self) -> None:
        """Follow the store, from where he is, unless he does."""
        if self.socket.aborted or self.socket.closed_with is not None:
            self._connect()
        if not self.open:
            self.socket.send(Subscribe(1, STORE, self.cursor))
            self.open = True
            await self.read()

    async def read(self) -> None:
        """Take in everything that has come, and ask for what is missing."""
        await settle()
        if self.socket.aborted:
            # What waited never arrives.
            self._connect()
            return
        while messages := self.socket.take():
            for message in messages:
                self._take(message)
            await settle()

    def _take(self, message: ServerMessage) -> None:
        match message:
            case Subscribed(how=how, at=at):
                self._begin(how, at)
            case Live(upto=upto, seqs=seqs, last=last):
                self._list(upto, seqs, last=last)
            case Fill(changes=changes, last=last):
                self._fill(changes, last=last)
            case Batch(from_=start, to=to, changes=changes):
                self._follow(start, to, changes)
            case CaughtUp(at=at, count=count, digest=digest):
                seen = self.library.seen_at(parse_cursor(at).seq, self._shelf)
                assert (count, digest) == (len(seen), digest_of(seen))
                assert at == self.cursor
                self.caught_up = True
                self._compare()
            case Behind():
                self.caught_up = False
            case Ended(reason=reason, at=at):
                self.ends.append(reason)
                assert at is not None
                self.open = self.caught_up = False
                self._listed = []
            case Error(code=code):
                self.refusals.append(code)
                self.open = False
            case Welcome() | Heads():
                pass
            case _:
                raise AssertionError(message)

    def _begin(self, how: str, at: str) -> None:
        self.how, self._shelf = how, self.library.shelf(self.name)
        assert how in ("resume", "reconcile"), how
        if how == "reconcile":
            # The position is only reached when it is known what lives there.
            self.missing.clear()
            return
        if self.cursor == "start":
            self.held.clear()
        self.cursor = at
        self._fetch()

    def _follow(self, start: str, to: str, changes: tuple[Change, ...]) -> None:
        assert start == self.cursor, "batches tile"
        last, end = parse_cursor(start).seq, parse_cursor(to).seq
        for change in changes:
            assert last < change.seq <= end
            last = change.seq
            if change.op == "ADD":
                self.held[change.key] = change.seq
            else:
                # In a catch-up of several pieces its ADD may have been left out.
                assert change.key in self.held or self.missing or not self.caught_up
                self.held.pop(change.key, None)
                self._gone.add(change.key)
        self.cursor = to
        self._compare()

    def _compare(self) -> None:
        """Compare what he holds, if that is to be consistent now."""
        if self.caught_up and not self.missing:
            assert self.held == self.library.seen_at(parse_cursor(self.cursor).seq, self._shelf)

    # --- reconcile ---

    def _list(self, upto: str, seqs: str, *, last: bool) -> None:
        ranges = parse_ranges(seqs, ranges_max=10_000)
        self._listed += [seq for first, end in ranges for seq in range(first, end + 1)]
        if not last:
            return
        position, listed = parse_cursor(upto).seq, set(self._listed)
        wanted = self.library.seen_at(position, self._shelf)
        if self._shelf.rooms:
            # What has died since may be missing.
            alive = {seq for key, seq in wanted.items() if self.library.alive.get(key) == seq}
            assert alive <= listed <= set(wanted.values())
        else:
            assert self._listed == sorted(wanted.values()), "exactly the records that he may see now"
        self.held = {key: seq for key, seq in self.held.items() if seq in listed}
        self.missing = listed - set(self.held.values())
        self._listed, self.cursor = [], upto
        self._fetch()

    def _fetch(self) -> None:
        self._gone.clear()
        if self.missing:
            seqs = [(Seq(seq), Seq(seq)) for seq in sorted(self.missing)]
            self.socket.send(Fetch(1, format_ranges(seqs)))

    def _fill(self, changes: tuple[Change, ...], *, last: bool) -> None:
        for change in changes:
            assert change.seq in self.missing
            if change.key not in self._gone:
                self.held[change.key] = change.seq
        if last:
            self.missing.clear()
            self._compare()


def digest_of(held: dict[str, int]) -> str:
    """Return the digest of these records."""
    return digest_text(sum(digest_term(Seq(seq), key) for key, seq in held.items()))


@asynccontextmanager
async def library(*, tail_bytes_max: int = 1024 * 1024) -> AsyncIterator[Library]:
    """Run the engine with one store."""
    clock = TestClock()
    async with engine(clock=clock, tail_bytes_max=tail_bytes_max) as hub:
        yield Library(hub, clock)
