"""Indexes have exactly the live records by their terms: kept by every append, built behind it, dropped again."""

import random
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from syncline_protocol import Seq, Transaction
from syncline_protocol.codec import decode_change
from syncline_protocol.filter import Filter
from syncline_protocol.index import IndexKind, IndexSpec, encode_term, terms_of
from syncline_server.storage.base import (
    Commit,
    Found,
    Horizon,
    IndexBuilding,
    IndexInfo,
    IndexTaken,
    IndexUnknown,
    Place,
    StorageUnavailable,
    StoreUnknown,
    Terms,
)
from syncline_server.storage.selection import Condition, Selector

from .backends import check
from .conftest import Bench, add, delete, single, write

ROOT = Path(__file__).parents[2]

ROOM = IndexSpec("room", "/room")
PRICE = IndexSpec("price", "/price", "range")
TAGS = IndexSpec("tags", "/tags", "multi")


async def declared(bench: Bench, *specs: IndexSpec) -> list[IndexInfo]:
    """Declare indexes; return what they are."""
    return [(await bench.storage.create_index("notes", spec, bench.now_ms))[0] for spec in specs]


async def built(bench: Bench, name: str, budget_s: float = 0.01) -> int:
    """Build an index to its end. Returns the steps that this took."""
    for step in range(1, 10_000):
        if (await bench.storage.build_index("notes", name, budget_s)).state == "ready":
            return step
    raise AssertionError("it comes to no end")


async def found(bench: Bench, wanted: Filter, limit: int = 100) -> list[str]:
    """Return the keys of what is found, over all its pieces."""
    keys: list[str] = []
    after: Place | None = None
    while True:
        piece: Found = await bench.storage.find("notes", wanted.index, wanted.term_range(), after=after, limit=limit)
        keys += [decode_change(row.text).key for row in piece.rows]
        if piece.is_last:
            return keys
        after = Place(piece.rows[-1].term, piece.rows[-1].seq)


async def committed(bench: Bench, *transactions: Transaction) -> Commit:
    """Append to the store; return what was committed."""
    (commit,) = (await bench.append(*transactions)).commits
    return commit


# --- declaring ---


async def test_an_index_that_is_declared_is_there_also_after_a_restart(bench: Bench) -> None:
    info, is_new = await bench.storage.create_index("notes", ROOM, 77)
    assert (info.spec, info.created_ms, is_new) == (ROOM, 77, True)
    await bench.reopen()
    assert (await bench.storage.info("notes")).index("room") == info
    assert await bench.storage.create_index("notes", ROOM, 78) == (info, False)


async def test_the_indexes_of_a_store_are_told_in_the_order_of_their_declaration(bench: Bench) -> None:
    specs = [TAGS, ROOM, PRICE]
    await declared(bench, *specs)
    assert [index.spec for index in (await bench.storage.info("notes")).indexes] == specs
    ((head_of_all),) = await bench.storage.stores()
    assert [index.spec for index in head_of_all.indexes] == specs


@pytest.mark.parametrize("spec", [IndexSpec("room", "/other"), IndexSpec("room", "/room", "range")])
async def test_another_index_of_the_same_name_is_refused(bench: Bench, spec: IndexSpec) -> None:
    (info,) = await declared(bench, ROOM)
    with pytest.raises(IndexTaken, match="'room'"):
        await bench.storage.create_index("notes", spec, 1)
    assert (await bench.storage.info("notes")).indexes == (info,)
    # Nothing of the refusal is left behind: the store takes writes.
    assert (await bench.result(add("k", {"room": "r"}))).status == "ok"


async def test_two_indexes_on_one_path_have_each_its_own(bench: Bench) -> None:
    one, other = await declared(bench, ROOM, IndexSpec("room2", "/room", "range"))
    assert one.uid != other.uid
    await bench.answer(single(add("k", {"room": "r"})))
    assert await found(bench, Filter("room", eq="r")) == await found(bench, Filter("room2", prefix="r")) == ["k"]


async def test_what_is_asked_of_no_store_or_no_index_is_refused_by_name(bench: Bench) -> None:
    with pytest.raises(StoreUnknown):
        await bench.storage.create_index("other", ROOM, 1)
    for ask in (bench.storage.drop_index, lambda store, name: bench.storage.build_index(store, name, 1.0)):
        with pytest.raises(StoreUnknown):
            await ask("other", "room")
        with pytest.raises(IndexUnknown, match="'room'"):
            await ask("notes", "room")
    with pytest.raises(IndexUnknown):
        await found(bench, Filter("room", eq=1))
    assert (await bench.result(add("k"))).status == "ok"


# --- with the appends ---


async def test_records_are_found_by_their_terms_from_the_append_on(bench: Bench) -> None:
    await declared(bench, ROOM, PRICE, TAGS)
    await bench.answers(
        single(add("k1", {"room": "r1", "price": 5, "tags": ["a", "b"]})),
        single(add("k2", {"room": "r2", "price": 1.5, "tags": ["b", "b"]})),
        single(add("k3", {"room": "r1", "tags": "a"})),
        single(add("k4", "nothing of it")),
    )
    assert await found(bench, Filter("room", eq="r1")) == ["k1", "k3"]
    assert await found(bench, Filter("price")) == ["k2", "k1"]
    assert await found(bench, Filter("price", gt=1.5)) == ["k1"]
    assert await found(bench, Filter("tags", eq="b")) == ["k1", "k2"]
    assert await found(bench, Filter("tags", eq="a")) == ["k1", "k3"]
    assert await found(bench, Filter("room", eq="none")) == []
    assert await bench.storage.count("notes", "tags", Filter("tags").term_range()) == 3


async def test_what_is_deleted_is_found_no_more(bench: Bench) -> None:
    await declared(bench, ROOM, TAGS)
    value = {"room": "r1", "tags": ["a", "b"]}
    await bench.answers(single(add("k1", value)), single(add("k2", value)))
    await bench.answer(single(delete("k1")))
    assert await found(bench, Filter("room", eq="r1")) == ["k2"]
    # A record that is replaced, and one that dies in the very append that adds it.
    await bench.answers(write(delete("k2"), add("k3", value)), single(add("k4", value)), single(delete("k4")))
    assert await found(bench, Filter("tags", eq="b")) == ["k3"]


async def test_what_is_refused_leaves_nothing_in_an_index(bench: Bench) -> None:
    await declared(bench, ROOM)
    await bench.answer(single(add("k1", {"room": "r"})))
    outcomes = await bench.answers(
        write(add("k2", {"room": "r"}), delete("nobody")),
        single(add("k1", {"room": "other"})),
        single(add("k1", {"room": "r"})),
    )
    assert [outcome.status for outcome in outcomes if not isinstance(outcome, Exception)] == [
        "refused",
        "conflict",
        "dup",
    ]
    assert await found(bench, Filter("room")) == ["k1"]


async def test_numbers_and_long_strings_are_found_exactly(bench: Bench) -> None:
    await declared(bench, IndexSpec("v", "", "range"))
    values = [2**53, 2**53 + 1, float(2**53), -0.0, 0, 10**40, "x" * 300, "x" * 300 + "y", "x" * 256, None, True]
    await bench.answers(*[single(add(f"k{number}", value)) for number, value in enumerate(values)])
    assert await found(bench, Filter("v", eq=2**53)) == ["k0", "k2"]
    assert await found(bench, Filter("v", eq=2**53 + 1)) == ["k1"]
    assert await found(bench, Filter("v", eq=0)) == ["k3", "k4"]
    assert await found(bench, Filter("v", gt=10**39)) == ["k5"]
    assert await found(bench, Filter("v", eq="x" * 300)) == ["k6"]
    assert set(await found(bench, Filter("v", prefix="x" * 256))) == {"k6", "k7", "k8"}
    assert await found(bench, Filter("v", eq=None)) == ["k9"]
    assert await found(bench, Filter("v", ge=False)) == ["k10"]


async def test_a_commit_tells_the_terms_of_each_row_and_of_a_delete_those_of_what_died(bench: Bench) -> None:
    room, tags = await declared(bench, ROOM, TAGS)
    old = await committed(bench, single(add("k1", {"room": "r1", "tags": [1, 2]})), single(add("k2", 7)))
    of_k1: Terms = {room.uid: (encode_term("r1"),), tags.uid: (encode_term(1), encode_term(2))}
    assert old.terms == (of_k1, {})
    new = await committed(
        bench,
        write(delete("k1"), add("k3", {"room": "r3"})),
        single(delete("k2")),
        single(delete("k3")),
    )
    of_k3: Terms = {room.uid: (encode_term("r3"),)}
    assert [decode_change(row.text).key for row in new.rows] == ["k1", "k3", "k2", "k3"]
    assert new.terms == (of_k1, of_k3, {}, of_k3)


async def test_a_commit_to_a_store_without_indexes_has_no_terms(bench: Bench) -> None:
    assert (await committed(bench, single(add("k1", {"room": "r1"})))).terms == ()
    await declared(bench, ROOM)
    await bench.storage.drop_index("notes", "room")
    assert (await committed(bench, single(delete("k1")))).terms == ()


async def test_a_delete_is_read_by_the_terms_of_what_it_deleted_also_after_its_value_has_gone(bench: Bench) -> None:
    (room,) = await declared(bench, ROOM)
    await bench.answers(single(add("k1", {"room": "r1"})), single(add("k2", {"room": "r2"})))
    await bench.answers(single(delete("k1")), single(delete("k2")), single(add("k3", {"room": "r1"})))
    assert (await bench.storage.compact("notes", Horizon(Seq(4)), 1.0)).values == 2
    of_r1 = (Selector("", (Condition(room.uid, Filter("room", eq="r1").term_range()),)),)
    chunk = await bench.storage.read("notes", Seq(2), Seq(5), selectors=of_r1)
    assert [(change.op, change.key) for change in map(decode_change, [row.text for row in chunk.rows])] == [
        ("DELETE", "k1"),
        ("ADD", "k3"),
    ]


# --- building ---


async def fill(bench: Bench, count: int, first: int = 0) -> None:
    """Add records to two rooms in turn."""
    await bench.answers(*[single(add(f"k{n}", {"room": f"r{n % 2}"})) for n in range(first, first + count)])


async def test_an_index_of_a_store_that_has_records_is_built(bench: Bench) -> None:
    await fill(bench, 1000)
    await bench.answers(*[single(delete(f"k{n}")) for n in range(0, 1000, 3)])
    await declared(bench, ROOM)
    await built(bench, "room")
    assert await found(bench, Filter("room", eq="r1")) == [f"k{n}" for n in range(1000) if n % 2 == 1 and n % 3]
    assert (await bench.storage.info("notes")).index("room").state == "ready"
    assert await built(bench, "room") == 1, "what is ready stays it"


async def test_an_index_of_an_empty_store_is_ready_at_once(bench: Bench) -> None:
    (info,) = await declared(bench, ROOM)
    assert info.state == "ready"
    assert await found(bench, Filter("room")) == []


async def test_an_index_that_is_being_built_says_how_far_it_is_and_finds_nothing(failing: Bench) -> None:
    await fill(failing, 5)
    (info,) = await declared(failing, ROOM)
    assert (info.state, info.done) == ("building", 0)
    # A step without time still takes one record, so that a build always ends.
    assert (await failing.storage.build_index("notes", "room", 0.0)).done == 1
    for ask in (failing.storage.find, failing.storage.count):
        with pytest.raises(IndexBuilding) as caught:
            await ask("notes", "room", Filter("room").term_range())
        assert (caught.value.done, caught.value.total) == (1, 5)
    assert await built(failing, "room", 0.0) == 4
    assert await found(failing, Filter("room")) == ["k0", "k2", "k4", "k1", "k3"]


async def test_what_is_added_while_an_index_is_built_is_in_it_once(failing: Bench) -> None:
    await fill(failing, 4)
    await declared(failing, ROOM)
    await fill(failing, 4, first=4)
    await failing.storage.build_index("notes", "room", 0.0)
    await fill(failing, 4, first=8)
    await built(failing, "room", 0.0)
    assert await found(failing, Filter("room", eq="r0")) == [f"k{n}" for n in range(0, 12, 2)]


async def test_what_dies_while_an_index_is_built_is_not_in_it_whether_the_build_has_been_there_or_not(
    failing: Bench,
) -> None:
    await fill(failing, 6)
    (room,) = await declared(failing, ROOM)
    for _ in range(3):
        await failing.storage.build_index("notes", "room", 0.0)
    # The build has taken in k0 to k2, and k6 came with an append.
    await fill(failing, 1, first=6)
    commit = await committed(failing, *[single(delete(f"k{n}")) for n in (0, 2, 4, 5, 6)])
    assert [terms[room.uid] for terms in commit.terms] == [(encode_term(f"r{n % 2}"),) for n in (0, 2, 4, 5, 6)]
    await built(failing, "room", 0.0)
    assert await found(failing, Filter("room")) == ["k1", "k3"]


async def test_what_clean_up_takes_away_while_an_index_is_built_is_no_hole_in_it(failing: Bench) -> None:
    await fill(failing, 6)
    await declared(failing, ROOM)
    await failing.storage.build_index("notes", "room", 0.0)
    await failing.answers(*[single(delete(f"k{n}")) for n in (0, 1, 4, 5)])
    assert (await failing.storage.compact("notes", Horizon(Seq(10), Seq(9)), 1.0)).values == 4
    await built(failing, "room", 0.0)
    assert await found(failing, Filter("room")) == ["k2", "k3"]


async def test_a_build_ends_however_fast_the_log_grows(failing: Bench) -> None:
    await fill(failing, 5)
    await declared(failing, ROOM)
    for step in range(1, 6):
        await fill(failing, 3, first=step * 100)
        info = await failing.storage.build_index("notes", "room", 0.0)
        assert info.done == step
    assert info.state == "ready"
    assert len(await found(failing, Filter("room"))) == 20


async def test_a_build_goes_on_after_a_restart_from_where_it_was(failing: Bench) -> None:
    await fill(failing, 6)
    await declared(failing, ROOM)
    for done in (1, 2):
        assert (await failing.storage.build_index("notes", "room", 0.0)).done == done
    await failing.reopen()
    await fill(failing, 2, first=6)
    assert (await failing.storage.info("notes")).index("room").done == 2
    assert (await failing.storage.build_index("notes", "room", 0.0)).done == 3
    await built(failing, "room", 0.0)
    assert await found(failing, Filter("room", eq="r0")) == ["k0", "k2", "k4", "k6"]


def progress_until_killed(path: Path, steps: int) -> list[int]:
    """Let a process build, and kill it. Returns how far it said that it was after each of so many steps."""
    command = [sys.executable, "-m", "tests.storage.index_builder", str(path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = [int(process.stdout.readline()) for _ in range(steps)]
        process.kill()
    return lines


async def test_a_build_whose_process_is_killed_again_and_again_is_never_wrong(failing: Bench) -> None:
    await fill(failing, 3000)
    await failing.storage.close()
    done = 0
    for kill in range(3):
        lines = progress_until_killed(failing.path, 10 + 7 * kill)
        assert lines == [*range(lines[0], lines[0] + len(lines))]
        assert lines[0] > done
        done = lines[-1]
        check(failing.storage, failing.path)
    await failing.storage.open()
    info = (await failing.storage.info("notes")).index("room")
    assert info.state == "building"
    assert info.done >= done
    await built(failing, "room")
    count = await failing.storage.count("notes", "room", Filter("room").term_range())
    assert count == (await failing.head()).count


@pytest.mark.parametrize("point", ["before_commit", "after_commit"])
async def test_a_step_of_a_build_that_fails_is_done_wholly_or_not_at_all(failing: Bench, point: str) -> None:
    await fill(failing, 6)
    await declared(failing, ROOM)
    await failing.storage.build_index("notes", "room", 0.0)
    failing.fault.at(point)
    with pytest.raises(StorageUnavailable):
        await failing.storage.build_index("notes", "room", 0.0)
    assert failing.fault.has_fired
    await failing.storage.open()
    assert (await failing.storage.info("notes")).index("room").done == (1 if point == "before_commit" else 2)
    await built(failing, "room", 0.0)
    assert await found(failing, Filter("room")) == ["k0", "k2", "k4", "k1", "k3", "k5"]


@pytest.mark.parametrize("point", ["before_commit", "after_commit"])
async def test_an_append_that_fails_is_in_the_log_and_in_the_indexes_or_in_neither(failing: Bench, point: str) -> None:
    await declared(failing, ROOM, TAGS)
    await failing.answer(single(add("k1", {"room": "r", "tags": [1, 2]})))
    failing.fault.at(point)
    with pytest.raises(StorageUnavailable):
        await failing.append(write(delete("k1"), add("k2", {"room": "r", "tags": [2, 3]})))
    await failing.storage.open()
    expected = ["k1"] if point == "before_commit" else ["k2"]
    assert await found(failing, Filter("room", eq="r")) == await found(failing, Filter("tags", eq=2)) == expected


# --- dropping ---


async def test_an_index_that_was_dropped_is_unknown_and_the_others_stay(bench: Bench) -> None:
    room, price = await declared(bench, ROOM, PRICE)
    await bench.answer(single(add("k1", {"room": "r", "price": 3})))
    assert await bench.storage.drop_index("notes", "room") == room
    assert (await bench.storage.info("notes")).indexes == (price,)
    with pytest.raises(IndexUnknown):
        await found(bench, Filter("room", eq="r"))
    commit = await committed(bench, single(delete("k1")), single(add("k2", {"room": "r", "price": 4})))
    assert [set(terms) for terms in commit.terms] == [{price.uid}, {price.uid}]
    assert await found(bench, Filter("price")) == ["k2"]


async def test_an_index_that_is_declared_anew_is_another_one_and_has_everything(bench: Bench) -> None:
    (first,) = await declared(bench, ROOM)
    await fill(bench, 4)
    await bench.storage.drop_index("notes", "room")
    await bench.answer(single(delete("k1")))
    # Of the same name, but on another path: nothing of the old one may be seen through it.
    (second,) = await declared(bench, IndexSpec("room", "/room", "range"))
    assert second.uid != first.uid
    await built(bench, "room")
    assert await found(bench, Filter("room", prefix="r")) == ["k0", "k2", "k3"]


async def test_an_index_can_be_dropped_while_it_is_built(bench: Bench) -> None:
    await fill(bench, 4)
    await declared(bench, ROOM)
    await bench.storage.build_index("notes", "room", 0.0)
    await bench.storage.drop_index("notes", "room")
    await declared(bench, ROOM)
    await built(bench, "room", 0.0)
    assert await found(bench, Filter("room")) == ["k0", "k2", "k1", "k3"]


def tables_of(bench: Bench) -> tuple[set[str], set[str]]:
    """Return the tables of indexes that the file has, and those that are garbage."""
    with closing(sqlite3.connect(bench.path)) as connection:
        names = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE name GLOB 'index_*'")}
        return names, {name for (name,) in connection.execute("SELECT name FROM garbage")}


async def test_the_table_of_a_dropped_index_goes_in_steps(failing: Bench) -> None:
    await declared(failing, ROOM)
    await fill(failing, 4500)
    await failing.storage.drop_index("notes", "room")
    assert tables_of(failing) == ({"index_1"}, {"index_1"})
    steps = 0
    while await failing.storage.reclaim(0.0):
        steps += 1
    assert steps > 2, "one step takes a part of the table"
    assert tables_of(failing) == (set(), set())
    await declared(failing, ROOM)
    assert tables_of(failing) == ({"index_2"}, set()), "a number is never used again"
    await built(failing, "room")


async def test_a_store_that_is_dropped_takes_its_indexes_with_it(failing: Bench) -> None:
    await declared(failing, ROOM, PRICE)
    await fill(failing, 10)
    await failing.storage.drop("notes")
    assert {"index_1", "index_2"} <= tables_of(failing)[1]
    while await failing.storage.reclaim(1.0):
        pass
    assert tables_of(failing) == (set(), set())
    info, is_new = await failing.storage.create("notes", 1)
    assert is_new
    assert info.indexes == ()


# --- against a model ---

_SPECS = [ROOM, PRICE, TAGS, IndexSpec("any", "", "range"), IndexSpec("nested", "/a/0", "equality")]


def _value(chance: random.Random) -> Any:
    scalars: list[Any] = [None, True, 0, 1, 1.0, -2.5, 2**60, "", "a", "ab", "é"]
    kinds: list[IndexKind] = ["equality", "range", "multi"]
    return chance.choice(
        [
            chance.choice(scalars),
            {"room": chance.choice(scalars), "price": chance.choice(scalars)},
            {"tags": chance.choices(scalars, k=chance.randrange(4)), "a": [chance.choice(scalars)]},
            {"a": chance.choice(kinds)},
        ]
    )


@pytest.mark.parametrize("seed", range(6))
async def test_whatever_happens_an_index_finds_what_a_look_at_every_live_record_finds(bench: Bench, seed: int) -> None:
    chance = random.Random(seed)
    living: dict[str, Any] = {}
    for step in range(120):
        names = {index.spec.name for index in (await bench.storage.info("notes")).indexes}
        match chance.randrange(8):
            case 0:
                await bench.storage.create_index("notes", chance.choice(_SPECS), 1)
            case 1 if names:
                await bench.storage.build_index("notes", chance.choice(sorted(names)), 0.0)
            case 2 if names and chance.random() < 0.3:
                await bench.storage.drop_index("notes", chance.choice(sorted(names)))
            case 3:
                await bench.reopen()
            case 4:
                head = (await bench.head()).seq
                await bench.storage.compact("notes", Horizon(head, Seq(head // 2)), 1.0)
            case _:
                ops = []
                for number in range(chance.randrange(1, 8)):
                    if living and chance.random() < 0.4:
                        key = chance.choice(sorted(living))
                        del living[key]
                        ops.append(single(delete(key)))
                    else:
                        living[f"k{step}-{number}"] = value = _value(chance)
                        ops.append(single(add(f"k{step}-{number}", value)))
                await bench.append(*ops)
    for index in (await bench.storage.info("notes")).indexes:
        await built(bench, index.spec.name, 0.0)
        wanted = [(term, key) for key, value in living.items() for term in terms_of(index.spec, _as_read(value))]
        seen = await bench.storage.find("notes", index.spec.name, Filter(index.spec.name).term_range(), limit=10_000)
        assert sorted([(row.term, decode_change(row.text).key) for row in seen.rows]) == sorted(wanted)


def _as_read(value: Any) -> Any:
    return msgspec.json.decode(msgspec.json.encode(value))
