"""Clean-up drops what nobody can need any more, in steps, and changes nothing of what anybody learns."""

import asyncio
import random
import sqlite3
import tempfile
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from syncline_protocol import Seq
from syncline_protocol.codec import decode_change
from syncline_protocol.index import IndexSpec
from syncline_protocol.messages import OpResult
from syncline_protocol.seq_set import SeqSet
from syncline_protocol.transaction import Op
from syncline_server.storage.base import (
    Compacted,
    Floors,
    HistoryGone,
    Horizon,
    Sizes,
    Storage,
    StorageUnavailable,
    StoreUnknown,
)
from syncline_server.storage.memory import MemoryStorage
from syncline_server.storage.sqlite import SqliteStorage

from .backends import Fault, Mint, check
from .conftest import Bench, add, delete, single, write

EVERYTHING = Horizon(Seq(2**40), Seq(2**40))


async def compact(storage: Storage, horizon: Horizon = EVERYTHING, budget_s: float = 1.0) -> Compacted:
    """Carry out all steps up to the head; return their sum."""
    head = (await storage.info("notes")).head.seq
    upto = Horizon(Seq(min(horizon.values, head)), Seq(min(horizon.tombstones, head)))
    values = tombstones = size = 0
    while True:
        step = await storage.compact("notes", upto, budget_s)
        values, tombstones, size = values + step.values, tombstones + step.tombstones, size + step.bytes
        if step.is_done:
            return Compacted(values, tombstones, size, is_done=True, floors=step.floors)


@pytest.fixture
async def lived(bench: Bench) -> Bench:
    """A log of `+a +b +c -a +d -c`, in which the last two are one transaction."""
    await bench.answers(single(add("a")), single(add("b")), single(add("c")), single(delete("a")))
    await bench.answers(write(add("d"), delete("c")))
    return bench


async def test_values_of_dead_records_go_and_their_deletes_stay(lived: Bench) -> None:
    done = await compact(lived.storage, Horizon(Seq(6)))
    assert (done.values, done.tombstones, done.floors) == (2, 0, Floors(Seq(6), Seq(0)))
    assert await lived.walk() == ["+b", "+d"]
    assert await lived.walk(3) == ["-a", "+d", "-c"]
    info = await lived.storage.info("notes")
    assert info.sizes == Sizes(info.sizes.live_bytes, 0, 0, 2)


async def test_only_what_was_deleted_up_to_the_horizon_goes(lived: Bench) -> None:
    done = await compact(lived.storage, Horizon(Seq(4)))
    assert (done.values, done.floors) == (1, Floors(Seq(4), Seq(0)))
    assert [*(await lived.storage.live_set("notes", Seq(4))).ranges()] == [(2, 3)]
    assert await lived.storage.get("notes", "c", Seq(4)) is not None


async def test_a_transaction_that_ends_above_the_horizon_stays_whole(bench: Bench) -> None:
    await bench.answers(single(add("a")), single(add("b")), write(delete("a"), delete("b"), add("c")))
    assert (await compact(bench.storage, Horizon(Seq(4), Seq(4)))).floors == Floors()
    assert (await compact(bench.storage)).floors == Floors(Seq(5), Seq(0)), "a floor is the end of a transaction"


async def test_tombstones_go_once_their_values_have(lived: Bench) -> None:
    done = await compact(lived.storage, Horizon(Seq(4), Seq(6)))
    assert (done.values, done.tombstones, done.floors) == (1, 1, Floors(Seq(4), Seq(4)))
    await lived.answers(single(add("e")))
    done = await compact(lived.storage)
    assert (done.values, done.tombstones, done.floors) == (1, 1, Floors(Seq(6), Seq(6)))
    assert await lived.walk() == ["+b", "+d", "+e"]
    assert (await lived.storage.read("notes", Seq(0), Seq(7))).floor == 6


async def test_the_newest_row_of_the_log_stays_although_it_is_a_delete(bench: Bench) -> None:
    await bench.answers(single(add("a")), single(delete("a")))
    assert (await compact(bench.storage)).floors == Floors(Seq(2), Seq(0))
    await bench.reopen()
    assert (await bench.head()).seq == 2
    assert (await bench.result(add("b"))).seq == 3
    assert (await compact(bench.storage)).floors == Floors(Seq(2), Seq(2))


async def test_a_key_is_never_used_again_although_nothing_else_is_left_of_it(lived: Bench) -> None:
    await lived.answers(single(add("e")))
    await compact(lived.storage)
    await lived.reopen()
    assert await lived.result(add("a")) == OpResult("dup", Seq(1), Seq(4))
    assert (await lived.result(add("a", "other"))).status == "gone"
    assert await lived.result(delete("a")) == OpResult("dup", Seq(4))


async def test_the_past_below_the_history_floor_is_gone(lived: Bench) -> None:
    await compact(lived.storage, Horizon(Seq(4)))
    with pytest.raises(HistoryGone):
        await lived.storage.get("notes", "a", Seq(3))
    assert await lived.storage.get("notes", "a", Seq(4)) is None
    assert await lived.storage.get("notes", "b", Seq(4)) is not None


async def test_an_estimate_says_what_is_done_then_and_does_nothing(lived: Bench) -> None:
    for horizon in (Horizon(Seq(4)), Horizon(Seq(6), Seq(4)), Horizon(Seq(6), Seq(6))):
        before = await lived.storage.info("notes")
        expected = await lived.storage.estimate("notes", horizon)
        assert await lived.storage.info("notes") == before
        done = await compact(lived.storage, horizon)
        assert (done.values, done.tombstones, done.bytes) == (expected.values, expected.tombstones, expected.bytes)
        assert done.floors == expected.floors
        assert await lived.storage.estimate("notes", horizon) == Compacted(0, 0, 0, True, done.floors)


async def test_an_unknown_store_is_not_cleaned_up(bench: Bench) -> None:
    with pytest.raises(StoreUnknown):
        await bench.storage.compact("nothing", EVERYTHING, 1)
    with pytest.raises(StoreUnknown):
        await bench.storage.estimate("nothing", EVERYTHING)


async def test_a_reader_who_stands_below_the_tombstone_floor_can_see_it_in_every_chunk(lived: Bench) -> None:
    await lived.answers(single(add("e")))
    await compact(lived.storage)
    chunk = await lived.storage.read("notes", Seq(3), Seq(7))
    assert (chunk.floor, [row.seq for row in chunk.rows]) == (6, [5, 7])


async def fill(storage: Storage, records: int, chance: random.Random) -> None:
    """Add so many records, delete nine in ten in random order, and add one more."""
    keys = [f"k{number}" for number in range(records)]
    await storage.append([single(add(key, {"room": key[-1], "x": "x" * 50})) for key in keys], 5)
    chance.shuffle(keys)
    await storage.append([single(delete(key)) for key in keys[records // 10 :]], 6)
    await storage.append([single(add("last"))], 7)


async def test_a_budget_of_nothing_makes_little_steps_that_come_to_the_same(bench: Bench) -> None:
    await fill(bench.storage, 3000, random.Random(7))
    await bench.storage.create_index("notes", IndexSpec("room", "/room", "equality"), 1)
    before, live = await bench.head(), await bench.storage.live_set("notes", Seq(5701))
    done = await compact(bench.storage, budget_s=0)
    assert (done.values, done.tombstones, done.floors) == (2700, 2700, Floors(Seq(5700), Seq(5700)))
    assert (await bench.head(), await bench.storage.live_set("notes", Seq(5701))) == (before, live)
    assert len(await bench.walk()) == 301


async def test_appends_go_on_between_the_steps(bench: Bench) -> None:
    await fill(bench.storage, 1000, random.Random(8))
    living = "last"
    for number in range(200):
        step = await bench.storage.compact("notes", Horizon(Seq(1901), Seq(1900)), 0)
        await bench.answers(single(delete(living)), single(add(f"new{number}")))
        living = f"new{number}"
    assert step.is_done
    assert (await bench.storage.info("notes")).floors == Floors(Seq(1900), Seq(1900))


async def test_a_horizon_that_comes_down_again_holds_for_what_has_not_begun(bench: Bench) -> None:
    await fill(bench.storage, 3000, random.Random(9))
    await bench.storage.compact("notes", Horizon(Seq(5700)), 0)
    for _ in range(200):
        await bench.storage.compact("notes", Horizon(Seq(3010)), 0)
    # Memory does everything in the first step.
    expected = 5700 if bench.backend.name == "memory" else 3010
    assert (await bench.storage.info("notes")).floors.history == expected


@pytest.fixture
async def large(failing: Bench) -> Bench:
    """A storage on a medium that can fail, with 2700 dead records."""
    await fill(failing.storage, 3000, random.Random(10))
    return failing


@pytest.mark.parametrize("point", ["before_commit", "after_commit"])
@pytest.mark.parametrize("steps", [0, 3, 6, 7, 8, 9, 12, 20, 40])
async def test_a_step_that_fails_is_gone_on_with_from_what_the_file_says(large: Bench, point: str, steps: int) -> None:
    for _ in range(steps):
        await large.storage.compact("notes", EVERYTHING_OF_LARGE, 0)
    large.fault.at(point)
    with pytest.raises(StorageUnavailable):
        await large.storage.compact("notes", EVERYTHING_OF_LARGE, 0)
    assert large.fault.has_fired
    await large.reopen()
    check(large.storage, large.path)
    await compact(large.storage, budget_s=0)
    info = await large.storage.info("notes")
    assert (info.floors, info.sizes.dead_values, info.sizes.tombstones) == (Floors(Seq(5700), Seq(5700)), 0, 0)
    with closing(sqlite3.connect(large.path)) as connection:
        assert connection.execute("SELECT count(*) FROM log_1").fetchone() == (301,)
        assert connection.execute("SELECT * FROM meta").fetchall() == [("format", 3)]


EVERYTHING_OF_LARGE = Horizon(Seq(5701), Seq(5701))


async def test_appends_are_flushed_again_after_a_step(large: Bench) -> None:
    storage = large.storage
    assert isinstance(storage, SqliteStorage)
    paces = []

    async def note_pace() -> None:
        pragmas = ("synchronous", "wal_autocheckpoint")
        paces.append(
            await storage._write(lambda writer: [writer.connection.execute(f"PRAGMA {p}").fetchone() for p in pragmas])
        )

    await note_pace()
    await storage.compact("notes", EVERYTHING_OF_LARGE, 0)
    await note_pace()
    await storage.reclaim(0)
    await note_pace()
    assert paces == [[(2,), (4000,)]] * 3


async def test_space_is_given_back_in_steps(large: Bench) -> None:
    await compact(large.storage)
    assert await large.storage.reclaim(0) > 0
    while await large.storage.reclaim(0.01):
        pass
    with closing(sqlite3.connect(large.path)) as connection:
        assert connection.execute("PRAGMA auto_vacuum").fetchone() == (2,)
        assert connection.execute("PRAGMA freelist_count").fetchone() == (0,)
    assert len(await large.walk()) == 301


async def test_a_store_that_was_dropped_is_emptied_in_steps_and_its_name_is_free_at_once(large: Bench) -> None:
    await large.storage.create_index("notes", IndexSpec("room", "/room", "equality"), 1)
    while (await large.storage.build_index("notes", "room", 1)).state != "ready":
        pass
    await large.storage.compact("notes", Horizon(Seq(5700)), 1)
    await large.storage.drop("notes")
    check(large.storage, large.path)
    await large.storage.create("notes", 2)
    await large.answers(single(add("k1")))
    steps = 0
    while await large.storage.reclaim(0):
        steps += 1
    assert steps > 10
    with closing(sqlite3.connect(large.path)) as connection:
        assert connection.execute("SELECT * FROM garbage").fetchall() == []
        names = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE name GLOB '*_[0-9]*'")}
    assert all(name.endswith("_2") for name in names if not name.startswith("sqlite_"))


# --- whoever reads, whenever clean-up comes ---

#: A letter, and how many steps before the record of this letter was added that is to be deleted; 0: one is added.
_ops = st.tuples(st.sampled_from("abcdefgh"), st.sampled_from([0, 0, 0, 1, 1, 2, 5]))
_transactions = st.tuples(st.lists(_ops, min_size=1, max_size=3), st.booleans())
_steps = st.one_of(
    st.lists(_transactions, min_size=1, max_size=4),
    st.tuples(st.floats(0, 1), st.floats(0, 1)),
    st.just("open"),
)


class Reader:
    """Somebody who holds what he read and goes on from there, as a replica does."""

    def __init__(self) -> None:
        self.at = Seq(0)
        self.held: dict[str, int] = {}

    async def read_on(self, storage: Storage, upto: Seq) -> None:
        """Take everything up to `upto`. Below the tombstone floor he learns what lives instead."""
        while self.at < upto:
            chunk = await storage.read("notes", self.at, upto)
            if self.held and chunk.floor > self.at:
                live = await storage.live_set("notes", upto)
                self.held = {key: seq for key, seq in self.held.items() if Seq(seq) in live}
                missing = [span for span in live.ranges() if span[1] > self.at]
                self._take(row.text for row in await storage.fetch("notes", missing, upto))
                self.at = upto
                return
            self._take(row.text for row in chunk.rows)
            self.at = chunk.to

    def _take(self, texts: Iterable[bytes]) -> None:
        for text in texts:
            change = decode_change(text)
            if change.op == "ADD":
                self.held[change.key] = change.seq
            else:
                self.held.pop(change.key, None)


def _op(letter: str, number: int, back: int) -> Op:
    return delete(f"{letter}{number - back}") if back else add(f"{letter}{number}")


async def _live_through(steps: list[object], storage: Storage, path: Path) -> None:
    await storage.open()
    await storage.create("notes", 1)
    readers: list[Reader] = []
    truth: dict[str, int] = {}
    for number, step in enumerate(steps):
        if step == "open":
            await storage.close()
            await storage.open()
        elif isinstance(step, tuple):
            head = (await storage.info("notes")).head.seq
            await storage.compact("notes", Horizon(Seq(int(head * step[0])), Seq(int(head * step[1]))), 0)
        elif isinstance(step, list):
            writes = [write(*[_op(key, number, back) for key, back in ops], atomic=atomic) for ops, atomic in step]
            for commit in (await storage.append(writes, number)).commits:
                for row in commit.rows:
                    change = decode_change(row.text)
                    if change.op == "ADD":
                        truth[change.key] = change.seq
                    else:
                        del truth[change.key]
        info = await storage.info("notes")
        readers.append(Reader())
        # Some read at once, others come back much later.
        for reader in readers[number % 3 :: 3]:
            await reader.read_on(storage, info.head.seq)
            assert reader.held == truth
        assert seqs_of(await storage.live_set("notes", info.head.seq)) == sorted(truth.values())
        assert info.head.count == len(truth)
    for reader in readers:
        await reader.read_on(storage, (await storage.info("notes")).head.seq)
        assert reader.held == truth
    await storage.close()
    check(storage, path)


def seqs_of(found: SeqSet) -> list[int]:
    """Return the seqs of a set, one by one."""
    return [seq for first, last in found.ranges() for seq in range(first, last + 1)]


@pytest.mark.parametrize("backend_name", ["memory", "sqlite"])
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps=st.lists(_steps, min_size=3, max_size=20))
def test_clean_up_at_any_moment_changes_nothing_of_what_a_reader_ends_with(
    backend_name: str, steps: list[object]
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "test.db"
        storage: Storage = (
            MemoryStorage(Mint()) if backend_name == "memory" else SqliteStorage(path, mint=Mint(), fault=Fault())
        )
        asyncio.run(_live_through(steps, storage, path))
