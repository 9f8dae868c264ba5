"""A replica on paper: the real keeper, link and session over a database in memory and a wire that is a list of frames.

The test is the server. Nothing here waits for time or for another thread, so after a step it is enough to let the
event loop turn until nothing more happens, and the replica has done all that it does by itself.
"""

import asyncio
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

import msgspec
from websockets.exceptions import ConnectionClosedError

from syncline.credentials import Credentials
from syncline.link import Link, LinkObserver
from syncline.replica.database import Database
from syncline.replica.draft import Draft
from syncline.replica.entry import Edit, Entry, EntryId, EntryOp, Refusal, SyncState
from syncline.replica.keeper import Keeper
from syncline.replica.listener import Listener
from syncline.replica.meaning import Base, Conflict, Leftovers, Postponed, Remade, Remaking
from syncline.replica.record import LocalRecord, look_all
from syncline.replica.report import Report
from syncline.replica.schema import Identity
from syncline.testing import VirtualClock
from syncline.wire import Wire
from syncline.write import WriteQueue
from syncline_protocol import DEFAULT_LIMITS, ClientSession
from syncline_protocol.codec import encode
from syncline_protocol.cursor import Seq
from syncline_protocol.digest import digest_term, digest_text
from syncline_protocol.messages import Hello, Welcome

__all__ = ["Message", "Paper", "entry_ops", "raw_changes"]

Message = dict[str, Any]

#: More turns of the loop than any step takes: each hands over from one task to the next.
_TURNS = 40

_EDIT = Edit("document", "attribute", "key")


class _Transport:
    """What a link aborts when it is through with a wire."""

    def abort(self) -> None:
        pass


class PaperWire:
    """One connection: what the client sends is kept, what it receives is put in."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.transport = _Transport()
        self._frames: asyncio.Queue[bytes | None] = asyncio.Queue()

    def put(self, frame: bytes | None) -> None:
        """Give the client a frame; None loses the connection."""
        self._frames.put_nowait(frame)

    async def recv(self, decode: bool = False) -> bytes:
        frame = await self._frames.get()
        if frame is None:
            raise ConnectionClosedError(None, None)
        return frame

    async def send_frames(self, frames: Iterable[bytes]) -> None:
        self.sent += frames

    async def close(self, code: int = 1000, reason: str = "") -> None:
        pass

    def accept_frames(self, bytes_max: int) -> None:
        pass


class PaperMeaning:
    """Makes entries anew as the test says; without its word it is postponed.

    Attributes:
        ops: what becomes of each write; None: the application has to decide.
        asked: which writes it was asked for, in order.
    """

    def __init__(self) -> None:
        self.ops: dict[EntryId, tuple[EntryOp, ...] | None] = {}
        self.asked: list[EntryId] = []

    def remake(self, entry: Entry, base: Base, new_key: Callable[[], str]) -> Remaking:
        self.asked.append(entry.id)
        if entry.id not in self.ops:
            return Postponed()
        ops = self.ops[entry.id]
        return Conflict(Refusal("conflict")) if ops is None else Remade(ops, entry.edits)

    def follow(self, entry: Entry, before: Remade) -> Remade | Conflict:
        return Remade(entry.ops, entry.edits)

    def leftovers(self, entry: Entry, base: Base) -> Leftovers:
        return Leftovers()


class _Paper(Database):
    """A database in memory that outlives the keeper which closes it, as a file does."""

    async def close(self) -> None:
        pass

    async def burn(self) -> None:
        """Close it in earnest."""
        await super().close()


class _Ears(Listener):
    def __init__(self) -> None:
        self.reports: list[Report] = []
        self.moved_to: list[tuple[EntryId, SyncState]] = []
        self.touches: list[frozenset[str] | None] = []

    def reported(self, report: Report) -> None:
        self.reports.append(report)

    def moved(self, entry: Entry) -> None:
        self.moved_to.append((entry.id, entry.state))

    def touched(self, keys: frozenset[str] | None) -> None:
        self.touches.append(keys)


class Paper:
    """The replica of the store `notes`, and its connection.

    Attributes:
        keeper: of the present run of the program.
        sent: the messages of the present connection, without HELLO and HEARTBEAT.
        frames: the same, as they were sent.
        ears: what the keeper told.
        meaning: what becomes of edits that a rival forestalled.
    """

    def __init__(self, database: _Paper, prefix: str, *, restores_all: bool) -> None:
        self.clock = VirtualClock()
        self.database = database
        self.meaning = PaperMeaning()
        self.ears = _Ears()
        self.sent: list[Message] = []
        self.frames: list[bytes] = []
        self.session: ClientSession | None = None
        self._prefix = prefix
        self._restores_all = restores_all
        self._wire: PaperWire | None = None
        self._link: Link | None = None
        self._running: asyncio.Task[object] | None = None
        self._start()

    @classmethod
    async def open(cls, prefix: str = "", *, restores_all: bool = True) -> "Paper":
        """Open an empty one."""
        database = await _Paper.open(None, Identity("notes", prefix))
        assert isinstance(database, _Paper)
        return cls(database, prefix, restores_all=restores_all)

    def _start(self) -> None:
        self._writes = WriteQueue()
        self.keeper = Keeper(
            "notes",
            self._prefix,
            self.database,
            self.clock,
            self.meaning,
            self.ears,
            send=self._writes.put,
            wake=self._wake,
            restores_all=self._restores_all,
        )
        self.keeper.feed.settled()

    def _wake(self) -> None:
        if self._link is not None:
            self._link.wake()

    async def close(self) -> None:
        """End everything."""
        await self.cut()
        await self.keeper.stop()
        await self.database.burn()

    async def turn(self) -> None:
        """Let everything happen that happens by itself."""
        for _ in range(_TURNS):
            await asyncio.sleep(0)
        if self._wire is not None:
            for frame in self._wire.sent:
                message = json.loads(frame)
                if message["type"] not in ("HELLO", "HEARTBEAT"):
                    self.frames.append(frame)
                    self.sent.append(message)
            self._wire.sent.clear()

    # --- the connection ---

    async def connect(self) -> None:
        """Make a connection, and welcome the client."""
        assert self._running is None, "it is connected"
        self.sent.clear()
        self.frames.clear()
        self._wire = PaperWire()
        self.session = ClientSession(Hello(), now=self.clock.now())
        observer = LinkObserver(lambda _: None, lambda _: None, lambda: None, lambda after_ms, jitter_ms: None)
        wire, nobody = cast(Wire, self._wire), Credentials("paper", None)
        self._link = Link(wire, self.session, self.clock, self._writes, [self.keeper.feed], observer, None, nobody)
        self._running = asyncio.create_task(self._link.run())
        self._wire.put(encode(Welcome("s1", "paper/1", DEFAULT_LIMITS, 15000, ())))
        await self.turn()

    async def cut(self) -> None:
        """Lose the connection, if there is one."""
        if self._running is None or self._wire is None:
            return
        self._wire.put(None)
        await self._running
        self._running = self._wire = self._link = None
        await self.turn()

    async def receive(self, *messages: Message) -> None:
        """Give the client messages, and let it do what it makes of them."""
        assert self._wire is not None, "it is not connected"
        for message in messages:
            self._wire.put(json.dumps(message).encode())
        await self.turn()

    async def restart(self) -> None:
        """End the program and start it again, with what it stored."""
        await self.cut()
        await self.keeper.stop()
        self._start()
        await self.turn()

    async def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.clock.advance(seconds)
        await self.turn()

    # --- the application ---

    async def write(self, *ops: EntryOp, edited: bool = False, atomic: bool = True) -> EntryId:
        """Make a write."""
        edits = (_EDIT,) if edited else ()
        entry = await self.keeper.order(lambda: self.keeper.write(Draft(ops, atomic, edits)))
        assert entry is not None
        await self.turn()
        return entry.id

    async def order(self, work: Callable[[Keeper], Entry | None]) -> Entry | None:
        """Do something with the outbox."""
        done = await self.keeper.order(lambda: work(self.keeper))
        await self.turn()
        return done

    def records(self) -> list[LocalRecord]:
        """Return what can be seen."""
        rows = self.database.page(Seq(0), 1_000_000)
        records = look_all(rows, self.keeper.outbox.shadows())
        return [record for record in records if record is not None]

    def shown(self) -> dict[str, Any]:
        """Return the values that can be seen, by key."""
        return {record.key: record.value for record in self.records()}

    def state_of(self, entry_id: EntryId) -> SyncState | None:
        """Return how far a write has come; None if it is not known any more."""
        entry = self.keeper.outbox.get(entry_id)
        if entry is not None:
            return entry.state
        # What was told to be synced may be noted in the file with the next local transaction only.
        kept = [*self.database.synced_entries(), *self.database.load().entries]
        return SyncState.SYNCED if entry_id in {entry.id for entry in kept} else None


# --- making messages ---


def raw_changes(changes: Iterable[Mapping[str, Any]]) -> list[Message]:
    """Return changes as a BATCH carries them, with a time if they have none."""
    return [{"time": 0, **change} for change in changes]


def caught_up(at: str, holding: Iterable[tuple[str, int]], *, is_right: bool = True) -> Message:
    """Return a CAUGHT_UP of a server that holds these keys at these seqs."""
    held = list(holding)
    digest = sum([digest_term(Seq(seq), key) for key, seq in held]) + (0 if is_right else 1)
    return {"type": "CAUGHT_UP", "feed": "f1", "at": at, "count": len(held), "digest": digest_text(digest)}


def entry_ops(ops: Iterable[Mapping[str, Any]]) -> tuple[EntryOp, ...]:
    """Return ops that are written as in a WRITE; a value that is `{$text: T}` is the JSON text T itself."""
    return tuple([EntryOp(op["key"], _text_of(op["value"]) if op["op"] == "ADD" else None) for op in ops])


def _text_of(value: Any) -> str:
    if isinstance(value, dict) and "$text" in value:
        return str(value["$text"])
    return msgspec.json.encode(value).decode()
