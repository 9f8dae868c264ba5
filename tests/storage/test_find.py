"""Finding on every backend: by an index and by key, in both directions and in pieces, against a naive search."""

import json
import random
import sqlite3
from functools import partial
from pathlib import Path

import pytest

from syncline_protocol import Seq
from syncline_protocol.filter import Filter
from syncline_protocol.index import IndexKind, IndexSpec, TermRange, encode_term, terms_of
from syncline_protocol.limits import BATCH_BYTES_TARGET
from syncline_server.storage.base import (
    Horizon,
    IndexBuilding,
    IndexUnknown,
    Place,
    Storage,
    StoreUnknown,
)
from syncline_server.storage.selection import Condition, Selector
from syncline_server.storage.sqlite import SqliteStorage

from .conftest import Bench, add, delete, single, write

SPECS = [
    IndexSpec("room", "/room"),
    IndexSpec("price", "/price", "range"),
    IndexSpec("tags", "/tags", "multi"),
]

#: What lives, by key: seq and value.
_Live = dict[str, tuple[int, dict[str, object]]]


async def _make_records(bench: Bench, chance: random.Random, count: int) -> _Live:
    """Add records and delete some of them again, one after the other."""
    live: _Live = {}
    for spec in SPECS:
        await bench.storage.create_index("notes", spec, 1)
    seq = 0
    for number in range(count):
        key = f"{chance.choice(['a', 'a/é', 'b', '~'])}{number}"
        value: dict[str, object] = {
            "room": chance.choice(["r1", "r2", None, True, 7]),
            "price": chance.choice([chance.randrange(10), chance.random(), "much"]),
            "tags": chance.sample(["x", "y", "z"], chance.randrange(4)),
        }
        assert (await bench.result(add(key, value))).seq == seq + 1
        seq += 1
        live[key] = (seq, value)
        if chance.random() < 0.3:
            gone = chance.choice(sorted(live))
            await bench.answer(single(delete(gone)))
            seq += 1
            del live[gone]
    return live


def _naive(live: _Live, spec: IndexSpec | None, terms: TermRange) -> list[tuple[bytes, int]]:
    found = []
    for key, (seq, value) in live.items():
        of_record = (key.encode(),) if spec is None else terms_of(spec, value)
        found += [(term, seq) for term in of_record if terms.has(term)]
    return sorted(found)


async def _find_all(
    storage: Storage, index: str | None, terms: TermRange, *, descending: bool, limit: int
) -> list[tuple[bytes, int]]:
    found: list[tuple[bytes, int]] = []
    after = None
    while True:
        piece = await storage.find("notes", index, terms, after=after, descending=descending, limit=limit)
        assert piece.head == (await storage.info("notes")).head
        assert len(piece.rows) == limit or piece.is_last
        for row in piece.rows:
            assert json.loads(row.text)["seq"] == row.seq
        found += [(row.term, row.seq) for row in piece.rows]
        if piece.is_last:
            return found
        after = Place(piece.rows[-1].term, piece.rows[-1].seq)


_PRICES = [Filter(index="price"), Filter(index="price", ge=2, lt=5), Filter(index="price", prefix="mu")]
_ROOMS = [Filter(index="room", eq=value) for value in ("r1", None, True, 7, "nowhere")]
_TAGS = [Filter(index="tags"), Filter(index="tags", eq="y")]


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("seed", range(3))
async def test_pieces_of_a_find_are_together_what_a_naive_search_finds(
    bench: Bench, seed: int, descending: bool
) -> None:
    chance = random.Random(seed)
    live = await _make_records(bench, chance, 60)
    asked: list[tuple[IndexSpec | None, TermRange]] = [
        (next(spec for spec in SPECS if spec.name == wanted.index), wanted.term_range())
        for wanted in _PRICES + _ROOMS + _TAGS
    ]
    asked += [(None, TermRange(first, end)) for first, end in [(b"", None), (b"a/", b"a0"), (b"~", b"\x80")]]
    for spec, terms in asked:
        expected = _naive(live, spec, terms)
        name = None if spec is None else spec.name
        for limit in (1, 7, 1000):
            found = await _find_all(bench.storage, name, terms, descending=descending, limit=limit)
            assert found == (expected[::-1] if descending else expected)
        assert await bench.storage.count("notes", name, terms) == len({seq for _, seq in expected})


async def test_what_is_found_by_key_may_be_bounded_by_bytes_that_are_no_text(bench: Bench) -> None:
    await bench.answer(write(add("é"), add("ê"), add("e")))
    found = await bench.storage.find("notes", None, TermRange("é".encode(), b"\xc3\xaa"))
    assert [row.term.decode() for row in found.rows] == ["é"]
    found = await bench.storage.find("notes", None, TermRange(b"\x80", b"\xff"), descending=True)
    assert [row.term.decode() for row in found.rows] == ["ê", "é"]


async def test_a_place_outside_of_the_range_does_not_widen_it(bench: Bench) -> None:
    await bench.storage.create_index("notes", SPECS[1], 1)
    await bench.answer(write(*(add(f"k{price}", {"price": price}) for price in range(6))))
    terms = TermRange(encode_term(2), encode_term(4))
    for after, descending, prices in [(1, False, [2, 3]), (5, True, [3, 2]), (5, False, []), (1, True, [])]:
        place = Place(encode_term(after), Seq(1))
        found = await bench.storage.find("notes", "price", terms, after=place, descending=descending)
        assert [json.loads(row.text)["value"]["price"] for row in found.rows] == prices
    for key, descending, keys in [("k1", False, ["k2", "k3"]), ("k5", True, ["k3", "k2"]), ("k9", False, [])]:
        place = Place(key.encode(), Seq(1))
        found = await bench.storage.find("notes", None, TermRange(b"k2", b"k4"), after=place, descending=descending)
        assert [row.term.decode() for row in found.rows] == keys


async def test_a_find_brings_about_as_much_as_fits_into_a_frame(bench: Bench) -> None:
    await bench.answers(*(single(add(f"k{number:03}", "y" * 5000)) for number in range(40)))
    found = await bench.storage.find("notes", None, TermRange(), limit=1000)
    size = sum(len(row.text) for row in found.rows)
    assert not found.is_last
    assert BATCH_BYTES_TARGET <= size < BATCH_BYTES_TARGET + 6000


async def test_an_index_that_is_not_there_or_not_complete_does_not_answer(bench: Bench) -> None:
    storage = bench.storage
    await bench.answer(write(*(add(f"k{number}", {"room": number}) for number in range(5))))
    for asked in (storage.find("notes", "room", TermRange()), storage.count("notes", "room", TermRange())):
        with pytest.raises(IndexUnknown, match="room"):
            await asked
    info, _ = await storage.create_index("notes", SPECS[0], 1)
    selectors = [Selector("", (Condition(info.uid, TermRange()),))]
    if info.state == "building":
        for asked in (storage.find("notes", "room", TermRange()), storage.count("notes", "room", TermRange())):
            with pytest.raises(IndexBuilding, match="0 of 5"):
                await asked
        with pytest.raises(IndexBuilding):
            await storage.live_set("notes", Seq(5), selectors)
    while info.state == "building":
        info = await storage.build_index("notes", "room", 1.0)
    assert await storage.count("notes", "room", TermRange()) == 5
    await storage.drop_index("notes", "room")
    for reading in (
        storage.read("notes", Seq(0), Seq(5), selectors=selectors),
        storage.live_set("notes", Seq(5), selectors),
        storage.summary("notes", selectors, Seq(5)),
    ):
        with pytest.raises(IndexUnknown):
            await reading


async def test_finding_in_a_store_that_is_not_there_says_so(bench: Bench) -> None:
    for asked in (
        bench.storage.find("nowhere", None, TermRange()),
        bench.storage.count("nowhere", None, TermRange()),
        bench.storage.position_at("nowhere", 1),
    ):
        with pytest.raises(StoreUnknown, match="nowhere"):
            await asked


async def test_the_position_at_a_time_is_the_end_of_the_last_transaction_up_to_it(bench: Bench) -> None:
    assert await bench.storage.position_at("notes", 10_000) == 0
    await bench.answer(write(add("a"), add("b")))
    await bench.answer(single(delete("a")))
    await bench.answer(write(add("c"), add("d"), add("e")))
    times = [(1_000, 0), (1_001, 2), (1_002, 3), (1_003, 6), (9_999, 6)]
    for time_ms, seq in times:
        assert await bench.storage.position_at("notes", time_ms) == seq
    await bench.storage.compact("notes", Horizon(Seq(6), Seq(6)), 1.0)
    # Of the DELETE nothing is left, so what it left of the second is no position of its own.
    times[2] = (1_002, 2)
    for time_ms, seq in times:
        assert await bench.storage.position_at("notes", time_ms) == seq


# --- how SQLite goes about it ---


async def _plans(storage: SqliteStorage) -> tuple[list[str], list[tuple[str, str]]]:
    """Return the plan of every statement that the readers carried out since they are traced, with its text."""
    (reader, *_) = storage._readers

    def plan(sql: str, connection: sqlite3.Connection) -> list[str]:
        connection.set_trace_callback(None)
        return [row[3].decode() for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}").fetchall()]

    statements = sorted({sql for sql in _traced if "SELECT" in sql and not sql.startswith("--")})
    return statements, [(sql, step) for sql in statements for step in await reader.run(partial(plan, sql))]


_traced: list[str] = []


@pytest.mark.parametrize("kind", ["equality", "range", "multi"])
async def test_sqlite_goes_through_no_table_and_sorts_nothing(tmp_path: Path, kind: IndexKind) -> None:
    storage = SqliteStorage(tmp_path / "test.db")
    await storage.open()
    await storage.create("notes", 1)
    info, _ = await storage.create_index("notes", IndexSpec("i", "/i", kind), 1)
    _traced.clear()
    for reader in storage._readers:
        await reader.run(lambda connection: connection.set_trace_callback(_traced.append))
    spans = [TermRange(encode_term(1), encode_term(2)), TermRange(), Filter(index="i", eq=1).term_range()]
    for index, terms in [(name, span) for name in ("i", None) for span in spans]:
        for descending in (False, True):
            for after in (None, Place(encode_term(1), Seq(1))):
                await storage.find("notes", index, terms, after=after, descending=descending)
        await storage.count("notes", index, terms)
    for terms in spans:
        for prefix in ("", "a"):
            selectors = [Selector(prefix, (Condition(info.uid, terms),))]
            for start, upto in [(0, 5), (0, 5000), (7, 5000)]:
                await storage.read("notes", Seq(start), Seq(upto), selectors=selectors)
            await storage.summary("notes", selectors, Seq(5))
            await storage.live_set("notes", Seq(5), selectors)
    await storage.live_set("notes", Seq(5))
    await storage.get("notes", "k", Seq(5))
    await storage.fetch("notes", [(Seq(1), Seq(2))], Seq(2))
    await storage.position_at("notes", 1)
    statements, steps = await _plans(storage)
    assert len(statements) > 10
    for sql, step in steps:
        # A list that was given, and what a subquery brings, are gone through; the list of indexes is short.
        is_given = step.startswith(("SCAN asked", "SCAN (subquery", "SCAN found"))
        is_short = "FROM indexes" in sql or "count(DISTINCT seq)" in sql
        assert is_given or is_short or not step.startswith(("SCAN", "USE TEMP")), (sql, step)
    await storage.close()
