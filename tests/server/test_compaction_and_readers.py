"""Clean-up that never pauses, and a hundred readers that come from everywhere: each ends with what the store has.

A reader is a client as PROTOCOL describes one: it keeps records and a cursor, drops and fetches what it is told to.
What it holds is compared with the store, and every count and digest on the way with what it holds then. Readers go away
and come back, are slow, and begin from the start, from positions long cleaned away, or at the tip.
"""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random

import pytest

from syncline_protocol.cursor import Seq, parse_cursor
from syncline_protocol.digest import digest_term, digest_text
from syncline_protocol.messages import (
    Batch,
    CaughtUp,
    Ended,
    Error,
    Fetch,
    Fill,
    Live,
    ServerMessage,
    Subscribe,
    Subscribed,
)
from syncline_protocol.seq_set import SeqSet
from syncline_protocol.transaction import Op, Transaction, hash_value
from syncline_server.hub import Hub
from syncline_server.maintenance import Policy
from syncline_server.storage.base import Storage
from syncline_server.storage.memory import MemoryStorage
from syncline_server.storage.sqlite import SqliteStorage
from tests.support.engine import Peer, engine

READERS = 100
ROUNDS = 40


@pytest.fixture(params=["memory", "sqlite"])
async def hub(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Hub]:
    """An engine that keeps nothing of the past, and little of the present in memory."""
    storage: Storage = MemoryStorage() if request.param == "memory" else SqliteStorage(tmp_path / "s.db")
    async with engine(storage, policy=Policy(history_s=0, tombstones_s=0), tail_bytes_max=2000) as hub:
        yield hub


class Reader:
    """One client. `state` is what survives its connection: cursor and records by seq."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._peer: Peer | None = None
        self._number = 0
        self.cursor = "start"
        self.known: str | None = None
        self.records: dict[int, str] = {}
        self.died: set[str] = set()
        self.resumed: list[str] = []
        self.checked = 0
        self._is_reconciling = False
        self._live: list[str] = []
        self._lacks = 0

    @property
    def is_away(self) -> bool:
        return self._peer is None

    def come(self) -> None:
        """Connect, and go on from the cursor."""
        self._peer = Peer(self._hub)
        self._subscribe()

    def leave(self) -> None:
        """Lose the connection, with everything that was not read yet."""
        assert self._peer is not None
        self._peer.connection.lost()
        self._peer = None
        self._forget_if_unproven()

    def _forget_if_unproven(self) -> None:
        """Begin anew if what was to be dropped and fetched is not done, as nothing proves what it holds then."""
        if self._is_reconciling:
            self.cursor, self.records, self.died, self._is_reconciling = "start", {}, set(), False

    def stall(self, full: bool) -> None:
        """Take nothing more, or take again."""
        if self._peer is not None:
            self._peer.set_full(full)

    def read(self) -> None:
        """Handle everything that has come."""
        for message in self._peer.take() if self._peer is not None else ():
            self._handle(message)

    def _subscribe(self) -> None:
        assert self._peer is not None
        self._number += 1
        self._peer.send(Subscribe(self._number, "notes", self.cursor, self.known))

    def _handle(self, message: ServerMessage) -> None:
        match message:
            case Subscribed():
                self._begin(message)
            case Live():
                self._live.append(message.seqs)
                if message.last:
                    self._reconcile(message)
            case Fill():
                self._fill(message)
            case Batch():
                self._batch(message)
            case CaughtUp():
                self._check(message)
            case Ended():
                assert message.reason == "resubscribe", message
                self._forget_if_unproven()
                self._subscribe()
            case Error(code="not_subscribed"):
                # The end of the subscription and a FETCH for it have crossed.
                pass
            case _:
                assert type(message).__name__ in ("Welcome", "Behind"), message

    def _begin(self, message: Subscribed) -> None:
        self.resumed.append(message.how)
        self.known, self._live = message.lineage, []
        if message.how == "snapshot":
            self.records, self.died = {}, set()
        self._is_reconciling = message.how == "reconcile"
        if self.cursor not in ("start", "now") and message.how == "resume":
            assert message.at == self.cursor
        self.cursor = message.at

    def _reconcile(self, message: Live) -> None:
        upto = parse_cursor(message.upto).seq
        live = SeqSet.parse(*self._live)
        self.records = {seq: key for seq, key in self.records.items() if seq > upto or Seq(seq) in live}
        lacks = live - SeqSet.of(sorted(Seq(seq) for seq in self.records))
        ranges = [f"{first}-{last}" if first != last else f"{first}" for first, last in lacks.ranges()]
        assert self._peer is not None
        starts = range(0, len(ranges), 100)
        self._lacks = len(starts)
        for start in starts:
            self._peer.send(Fetch(self._number, ",".join(ranges[start : start + 100])))
        self._is_reconciling = bool(starts)

    def _fill(self, message: Fill) -> None:
        for change in message.changes:
            if change.key not in self.died:
                self.records[change.seq] = change.key
        if message.last:
            self._lacks -= 1
            self._is_reconciling = self._lacks > 0

    def _batch(self, message: Batch) -> None:
        assert message.from_ == self.cursor or self.cursor == "start", "batches tile"
        for change in message.changes:
            if change.op == "ADD":
                assert change.key not in self.died, "nothing rises from the dead"
                self.records[change.seq] = change.key
            else:
                self.died.add(change.key)
                self.records = {seq: key for seq, key in self.records.items() if key != change.key}
        self.cursor = message.to

    def _check(self, message: CaughtUp) -> None:
        if self._is_reconciling:
            return
        self.checked += 1
        total = sum(digest_term(Seq(seq), key) for seq, key in self.records.items()) & 0xFFFFFFFF
        assert (len(self.records), digest_text(total)) == (message.count, message.digest), self.resumed


class Writer:
    """Adds, deletes and replaces records, and knows what should be there."""

    def __init__(self, hub: Hub, random: Random) -> None:
        self._hub = hub
        self._random = random
        self._made = 0
        self.live: list[str] = []

    async def write(self) -> None:
        """Make one transaction."""
        ops: list[Op] = []
        dying = min(self._random.randint(0, 4), len(self.live))
        ops += [Op(self.live.pop(self._random.randrange(len(self.live)))) for _ in range(dying)]
        for _ in range(self._random.randint(1, 4)):
            self._made += 1
            ops.append(Op(f"k{self._made}", b'"%d"' % self._made, hash_value(b'"%d"' % self._made)))
        answer = await self._hub.write(Transaction("notes", tuple(ops)))
        assert not isinstance(answer, Exception)
        assert answer.status == "ok"
        self.live += [op.key for op in ops if op.value is not None]


async def _turns(random: Random) -> None:
    for _ in range(random.randint(1, 10)):
        await asyncio.sleep(0)


async def _clean_up_for_ever(hub: Hub) -> None:
    while True:
        await hub.maintenance.compact("notes")
        await hub.maintenance.settled("notes")
        await asyncio.sleep(0)


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_everybody_ends_with_what_the_store_has_while_clean_up_never_pauses(hub: Hub, seed: int) -> None:
    random = Random(seed)
    writer = Writer(hub, random)
    readers = [Reader(hub) for _ in range(READERS)]
    cleaning = asyncio.create_task(_clean_up_for_ever(hub))
    for _ in range(ROUNDS):
        for _ in range(5):
            await writer.write()
        for reader in random.sample(readers, 30):
            if reader.is_away:
                reader.come()
            elif random.random() < 0.5:
                reader.leave()
            else:
                reader.stall(random.random() < 0.5)
        await _turns(random)
        for reader in random.sample(readers, 70):
            reader.read()
    cleaning.cancel()
    await asyncio.gather(cleaning, return_exceptions=True)
    await _all_caught_up(hub, readers)
    await _all_proven(readers)
    live = await hub.storage.live_set("notes", (await hub.storage.info("notes")).head.seq)
    for reader in readers:
        assert SeqSet.of(sorted(Seq(seq) for seq in reader.records)) == live, reader.resumed
        assert sorted(reader.records.values()) == sorted(writer.live), reader.resumed
    assert hub.counts.cleaned_up["tombstones"] > 100, "clean-up was really at work"
    ways = {how for reader in readers for how in reader.resumed}
    assert {"resume", "reconcile"} <= ways, "readers came from below the floor and from above"


async def _all_proven(readers: list[Reader]) -> None:
    """Let everybody come back once more, which is answered with the count and digest of what he should hold."""
    for reader in readers:
        reader.leave()
        reader.checked = 0
        reader.come()
    for _ in range(3000):
        for reader in readers:
            reader.read()
        if all(reader.checked for reader in readers):
            return
        await asyncio.sleep(0.001)
    raise AssertionError("not everybody was told that he has caught up")


async def _all_caught_up(hub: Hub, readers: list[Reader]) -> None:
    """Let everybody read to the end."""
    head = (await hub.storage.info("notes")).head.cursor
    for reader in readers:
        if reader.is_away:
            reader.come()
        reader.stall(False)
    for _ in range(3000):
        for reader in readers:
            reader.read()
        if all(reader.cursor == head and not reader._is_reconciling for reader in readers):
            return
        await asyncio.sleep(0.001)
    raise AssertionError([reader.cursor for reader in readers if reader.cursor != head][:3])
