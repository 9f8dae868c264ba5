"""What comes between the steps of clean-up, of a build, of giving back space: drops, long reads, retries, appends.

Clean-up, builds and drops take many steps, and whatever happens to a store may happen between two of them; then too
everybody is told the same as without.
"""

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from syncline_protocol import Seq
from syncline_protocol.codec import decode_change
from syncline_protocol.filter import Filter
from syncline_protocol.index import IndexSpec
from syncline_protocol.messages import OpResult
from syncline_server.storage.base import (
    Compacted,
    Floors,
    HistoryGone,
    Horizon,
    IndexBuilding,
    IndexUnknown,
    StoreUnknown,
)
from syncline_server.storage.sqlite import SqliteStorage
from syncline_server.storage.sqlite_reader import live_set, moment, read_chunk
from syncline_server.storage.sqlite_schema import open_reader

from .backends import check
from .conftest import Bench, add, delete, single, write

ROOM = IndexSpec("room", "/room")
TAGS = IndexSpec("tags", "/tags", "multi")


async def cleaned(bench: Bench, values: int, tombstones: int = 0) -> Compacted:
    """Clean up to this horizon; return what the last step said."""
    while True:
        step = await bench.storage.compact("notes", Horizon(Seq(values), Seq(tombstones)), 0)
        if step.is_done:
            return step


@pytest.fixture
async def path(tmp_path: Path) -> Path:
    """Where the file is."""
    return tmp_path / "test.db"


@pytest.fixture
async def storage(path: Path) -> AsyncIterator[SqliteStorage]:
    """A file with the store `notes`, in which 1500 records of 3000 are dead: `k0` to `k1499`."""
    storage = SqliteStorage(path)
    await storage.open()
    await storage.create("notes", 1)
    await storage.append([single(add(f"k{n}", {"room": f"r{n % 7}", "x": "x" * 100})) for n in range(3000)], 5)
    await storage.append([single(delete(f"k{n}")) for n in range(1500)], 6)
    await storage.append([single(add("last"))], 7)
    yield storage
    await storage.close()
    check(storage, path)


async def begun(storage: SqliteStorage) -> None:
    """Clean up until the history floor has moved, but not everything below it is dropped."""
    while not (await storage.info("notes")).floors.history:
        await storage.compact("notes", Horizon(Seq(4000)), 0)
    assert (await storage.info("notes")).sizes.dead_values == 1500


# --- clean-up that was broken off ---


async def test_an_estimate_counts_what_clean_up_that_was_broken_off_has_left(storage: SqliteStorage) -> None:
    await begun(storage)
    await storage.compact("notes", Horizon(Seq(4000)), 0)
    for _ in range(2):
        left = (
            (await storage.info("notes")).floors.history
            - 3000
            - (1500 - (await storage.info("notes")).sizes.dead_values)
        )
        for horizon in (Horizon(Seq(0)), Horizon(Seq(4000)), Horizon(Seq(4000), Seq(4000))):
            expected = await storage.estimate("notes", horizon)
            assert (expected.values, expected.is_done, expected.floors.history) == (left, False, 4000)
        await storage.close()
        await storage.open()
    total = await storage.estimate("notes", Horizon(Seq(4500), Seq(4500)))
    values = tombstones = size = 0
    while True:
        step = await storage.compact("notes", Horizon(Seq(4500), Seq(4500)), 0)
        values, tombstones, size = values + step.values, tombstones + step.tombstones, size + step.bytes
        if step.is_done:
            break
    assert total == Compacted(values, tombstones, size, False, step.floors)
    assert await storage.estimate("notes", Horizon(Seq(4500), Seq(4500))) == Compacted(0, 0, 0, True, step.floors)


async def test_a_store_that_is_dropped_in_the_middle_of_clean_up_leaves_nothing_to_its_successor(
    storage: SqliteStorage,
) -> None:
    await begun(storage)
    await storage.drop("notes")
    with pytest.raises(StoreUnknown):
        await storage.compact("notes", Horizon(Seq(4000)), 0)
    assert storage._writer is not None
    assert storage._writer.sweeps == {}, "up to a million seqs"
    await storage.create("notes", 2)
    await storage.append([single(add("k1")), single(delete("k1")), single(add("k2"))], 8)
    assert (await storage.compact("notes", Horizon(Seq(2)), 1)).values == 1
    assert (await storage.info("notes")).floors == Floors(Seq(2), Seq(0))


# --- drops ---


async def test_a_store_that_is_dropped_while_its_index_is_built_is_built_no_further(storage: SqliteStorage) -> None:
    await storage.create_index("notes", ROOM, 1)
    assert (await storage.build_index("notes", "room", 0)).state == "building"
    await storage.drop("notes")
    with pytest.raises(StoreUnknown):
        await storage.build_index("notes", "room", 0)
    await storage.create("notes", 2)
    with pytest.raises(IndexUnknown):
        await storage.build_index("notes", "room", 0)


@pytest.mark.parametrize("what", ["store", "index"])
async def test_whoever_reads_what_is_dropped_and_cleaned_up_sees_one_moment_to_its_end(
    storage: SqliteStorage, path: Path, what: str
) -> None:
    await storage.create_index("notes", ROOM, 1)
    while (await storage.build_index("notes", "room", 1)).state != "ready":
        pass
    with closing(open_reader(str(path))) as reader:
        with moment(reader, 1, "notes"):
            rows = read_chunk(reader, 1, Seq(0), Seq(3000), Seq(0)).rows
            found = reader.execute("SELECT count(*) FROM index_1").fetchall()
            while not (await storage.compact("notes", Horizon(Seq(4500), Seq(4500)), 0.01)).is_done:
                pass
            await (storage.drop("notes") if what == "store" else storage.drop_index("notes", "room"))
            while await storage.reclaim(0.01):
                pass
            # What is written to the WAL is copied into the file only as far as nobody reads the old pages.
            await storage.create("more", 1)
            await storage.append([single(add(f"m{n}", "y" * 1000), store="more") for n in range(2000)], 9)
            assert read_chunk(reader, 1, Seq(0), Seq(3000), Seq(0)).rows == rows
            assert len(live_set(reader, 1, Seq(3000))) == 3000
            assert reader.execute("SELECT count(*) FROM index_1").fetchall() == found
        if what == "store":
            with pytest.raises(StoreUnknown), moment(reader, 1, "notes"):
                pass
        else:
            with moment(reader, 1, "notes"):
                assert len(live_set(reader, 1, Seq(4501))) == 1501


async def test_large_garbage_goes_in_small_slices_and_appends_come_between_them(
    storage: SqliteStorage, path: Path
) -> None:
    await storage.create("large", 1)
    await storage.create_index("large", TAGS, 1)
    for part in range(10):
        keys = [f"k{part}-{n}" for n in range(1000)]
        await storage.append([single(add(key, {"tags": [*range(9), key]}), store="large") for key in keys], 5)
    await storage.drop("large")

    def rows() -> int:
        with closing(sqlite3.connect(path)) as connection:
            tables = [name for (name,) in connection.execute("SELECT name FROM garbage")]
            return sum(connection.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in tables)

    left = rows()
    assert left >= 120_000
    for number in range(20):
        assert await storage.reclaim(0) > 0
        assert 0 <= left - rows() <= 32, "it is a slice, however large the table"
        left = rows()
        assert (await storage.append([single(add(f"new{number}"))], 9)).commits
    number = 20
    while await storage.reclaim(0.02):
        assert (await storage.append([single(add(f"new{number}"))], 9)).commits
        number += 1
    assert rows() == 0


# --- retries ---


async def test_a_write_that_is_sent_again_is_a_dup_whatever_clean_up_has_left_of_it(bench: Bench) -> None:
    await bench.answers(single(add("v1")), write(delete("v1"), add("v2", "two"), add("w")), single(delete("v2")))
    await bench.answers(single(delete("w")), single(add("v3")))
    ok = [OpResult("dup", Seq(2)), OpResult("dup", Seq(3), Seq(5)), OpResult("dup", Seq(4), Seq(6))]
    for values, tombstones in ((4, 0), (6, 0), (6, 4), (7, 6)):
        await cleaned(bench, values, tombstones)
        await bench.reopen()
        again = await bench.answer(write(delete("v1"), add("v2", "two"), add("w")))
        assert (again.status, again.last_seq, list(again.ops)) == ("dup", 4, ok)
        # Another value, another order, or a part more is not what was written.
        for other in (
            write(delete("v1"), add("v2", "2"), add("w")),
            write(add("v2", "two"), delete("v1"), add("w")),
            write(delete("v1"), add("v2", "two"), add("w"), add("x")),
        ):
            assert (await bench.answer(other)).status == "refused"
    assert await bench.walk() == ["+v3"]


# --- positions ---


async def test_the_past_is_told_from_the_floor_on_and_not_below(bench: Bench) -> None:
    await bench.answers(single(add("a")), single(add("b")), write(add("c"), delete("a")), single(delete("c")))
    await bench.answers(single(add("d")))
    await cleaned(bench, 4)
    for at in range(4):
        with pytest.raises(HistoryGone):
            await bench.storage.get("notes", "b", Seq(at))
        with pytest.raises(HistoryGone):
            await bench.storage.get("notes", "unknown", Seq(at))
    seen = {at: [key for key in "abcd" if await bench.storage.get("notes", key, Seq(at))] for at in (4, 5, 6)}
    assert seen == {4: ["b", "c"], 5: ["b"], 6: ["b", "d"]}


async def test_a_position_at_a_time_ends_a_transaction_though_the_clock_went_back_and_the_log_has_holes(
    bench: Bench,
) -> None:
    number = 0
    for time_ms in (10, 20, 15, 30, 5, 40, 40, 50):
        keys = [f"k{number}", f"k{number + 1}"]
        transactions = [write(*[add(key) for key in keys]), write(delete(keys[0]), add(f"x{number}"))]
        await bench.storage.append(transactions, time_ms)
        number += 2
    ends = set(range(0, 33, 2))
    for floor in (0, 8, 20, 32):
        await cleaned(bench, floor, floor)
        before = Seq(0)
        for time_ms in range(60):
            at = await bench.storage.position_at("notes", time_ms)
            assert at in ends
            assert at >= before, "a later time is no earlier position"
            before = at
        assert await bench.storage.position_at("notes", 4) == 0
        assert before == 32


# --- terms ---


@pytest.mark.parametrize("built_later", [False, True])
async def test_records_with_no_term_with_64_and_with_long_ones_come_and_go_in_two_indexes(
    bench: Bench, *, built_later: bool
) -> None:
    specs = [TAGS, IndexSpec("first", "/tags/0", "range")]
    values = {
        "none": {"x": 1},
        "scalar": "text",
        "empty": {"tags": []},
        "null": {"tags": [None]},
        "many": {"tags": [*range(64)]},
        "more": {"tags": [*range(100, 200)]},
        "long": {"tags": ["y" * 300 + "1", "y" * 300 + "2", "y" * 256]},
        "twice": {"tags": [1, 1.0, True, 1, [], {}]},
    }
    if not built_later:
        for spec in specs:
            await bench.storage.create_index("notes", spec, 1)
    await bench.answers(*[single(add(key, value)) for key, value in values.items()])
    for spec in specs if built_later else ():
        await bench.storage.create_index("notes", spec, 1)
        try:
            await bench.storage.count("notes", spec.name, Filter(spec.name, eq=None).term_range())
        except IndexBuilding:
            while (await bench.storage.build_index("notes", spec.name, 0)).state != "ready":
                pass

    async def keys(index: str, value: object) -> list[str]:
        found = await bench.storage.find("notes", index, Filter(index, eq=value).term_range())  # type: ignore[arg-type]
        assert found.is_last
        assert await bench.storage.count("notes", index, Filter(index, eq=value).term_range()) == len(found.rows)  # type: ignore[arg-type]
        return [decode_change(row.text).key for row in found.rows]

    assert [await keys("tags", value) for value in (63, 163, 164, None)] == [["many"], ["more"], [], ["null"]]
    assert [await keys("tags", "y" * 300 + end) for end in ("1", "2", "3")] == [["long"], ["long"], []]
    assert (await keys("tags", "y" * 256), await keys("tags", 1)) == (["long"], ["many", "twice"])
    assert (await keys("first", None), await keys("first", "y" * 300 + "1")) == (["null"], ["long"])
    await bench.answers(*[single(delete(key)) for key in values])
    for spec in specs:
        assert await bench.storage.count("notes", spec.name, Filter(spec.name, ge=-1e300).term_range()) == 0
    # That the tables are empty is looked at when the test is over.
    assert (await bench.head()).count == 0
