"""Parts of a store by key prefix: the ranges of keys, and what every backend finds in them, against a naive model."""

import asyncio
import sqlite3
import tempfile
from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syncline_protocol import Seq, Transaction
from syncline_protocol.digest import digest_term
from syncline_protocol.transaction import Op, hash_value
from syncline_server.storage.base import Storage, StoreUnknown, Summary
from syncline_server.storage.memory import MemoryStorage
from syncline_server.storage.selection import Selector, key_ranges, seq_ranges
from syncline_server.storage.sqlite import SqliteStorage

from .conftest import Bench, add, delete, single, write

#: Neighbours of every seam of UTF-8 and UTF-16, so that generated texts often begin alike.
_LETTERS = "aAb\x7f\x80\u07ff\u0800\ud7ff\ue000\uffff\U00010000\U0010fffe\U0010ffff%_"
_texts = st.text(st.sampled_from(_LETTERS), min_size=1, max_size=4)
_any_text = st.text(st.characters(codec="utf-8"), min_size=1, max_size=6)


def naive(ranges: Sequence[tuple[str, str | None]], key: str) -> int:
    """In how many of the ranges the key is."""
    return sum(first <= key and (end is None or key < end) for first, end in ranges)


@given(st.lists(_texts | _any_text, min_size=1, max_size=5), _texts | _any_text)
def test_a_key_is_in_one_range_if_it_begins_with_a_prefix_and_else_in_none(prefixes: list[str], key: str) -> None:
    ranges = key_ranges(prefixes)
    for candidate in (key, *(prefix + key for prefix in prefixes), *prefixes):
        assert naive(ranges, candidate) == candidate.startswith(tuple(prefixes))
    assert all(end is not None and end <= first for (_, end), (first, _) in pairwise(ranges))
    for _, end in ranges:
        # What bounds a range goes into a statement, and SQLite takes no surrogates.
        assert end is None or end.encode()


def test_no_prefixes_and_the_empty_one_are_every_key() -> None:
    assert key_ranges([]) == key_ranges([""]) == key_ranges(["a", ""]) == [("", None)]


@pytest.mark.parametrize(
    ("prefix", "end"),
    [
        ("a", "b"),
        ("a\x7f", "a\x80"),
        ("a\ud7ff", "a\ue000"),
        ("a\uffff", "a\U00010000"),
        ("a\U0010ffff", "b"),
        ("\U0010ffff\U0010ffff", None),
    ],
)
def test_a_prefix_ends_before_the_next_character(prefix: str, end: str | None) -> None:
    assert key_ranges([prefix]) == [(prefix, end)]


@given(st.sets(st.integers(1, 40)))
def test_ranges_of_seqs_are_the_seqs_and_no_two_of_them_touch(seqs: set[int]) -> None:
    ranges = seq_ranges(Seq(seq) for seq in sorted(seqs))
    assert [seq for first, last in ranges for seq in range(first, last + 1)] == sorted(seqs)
    assert all(last + 1 < first for (_, last), (first, _) in pairwise(ranges))


# --- on every backend ---


async def test_the_summary_of_prefixes_counts_what_begins_so_and_lives_at_the_position(bench: Bench) -> None:
    await bench.answer(write(add("a/1"), add("b/1"), add("a/2"), add("ab")))
    await bench.answers(single(delete("a/1")), single(add("a/3")))

    async def ask(store: str, prefixes: Sequence[str], upto: int) -> Summary:
        return await bench.storage.summary(store, _selectors(prefixes), Seq(upto))

    assert await ask("notes", ["a/"], 4) == _summary([(1, "a/1"), (3, "a/2")])
    assert await ask("notes", ["a/"], 5) == _summary([(3, "a/2")])
    assert await ask("notes", ["a/", "b", "a/3"], 6) == _summary([(2, "b/1"), (3, "a/2"), (6, "a/3")])
    assert await ask("notes", ["A"], 6) == Summary(0, 0)
    head = await bench.head()
    assert await ask("notes", [], head.seq) == await ask("notes", [""], head.seq) == Summary(head.count, head.digest)
    with pytest.raises(StoreUnknown):
        await ask("nowhere", ["a"], 0)


async def test_the_live_set_of_prefixes_has_only_what_begins_so(bench: Bench) -> None:
    await bench.answer(write(add("a/1"), add("a/2"), add("b/1"), add("a/3")))
    await bench.answer(single(delete("a/2")))

    async def ask(upto: int, prefixes: Sequence[str]) -> list[tuple[Seq, Seq]]:
        return list((await bench.storage.live_set("notes", Seq(upto), _selectors(prefixes))).ranges())

    assert await ask(4, ["a"]) == [(1, 2), (4, 4)]
    assert await ask(5, ["a"]) == [(1, 1), (4, 4)]
    assert await ask(5, ["b", "a/", "a/3"]) == [(1, 1), (3, 4)]
    assert await ask(5, ["c"]) == []
    assert await ask(5, []) == [(1, 1), (3, 4)]


def _selectors(prefixes: Sequence[str]) -> list[Selector]:
    return [Selector(prefix) for prefix in prefixes]


def _summary(records: list[tuple[int, str]]) -> Summary:
    return Summary(len(records), sum(digest_term(Seq(seq), key) for seq, key in records) % 2**32)


def _op(key: str, value: bytes | None) -> Op:
    return Op(key, value, None if value is None else hash_value(value))


async def _compare(storage: Storage, keys: list[str], dead: list[int], asked: list[list[str]]) -> None:
    """Add the keys, delete those at the places `dead`, and ask for prefixes at every position."""
    await storage.open()
    await storage.create("notes", 1)
    deletes = [key for place, key in enumerate(keys) if place in dead]
    ops = [_op(key, b"1") for key in keys] + [_op(key, None) for key in deletes]
    await storage.append([Transaction("notes", (op,), False, None, True) for op in ops], 1)
    for upto in range(len(ops) + 1):
        gone = set(deletes[: max(0, upto - len(keys))])
        live = [(seq, key) for seq, key in enumerate(keys, 1) if seq <= upto and key not in gone]
        for prefixes in asked:
            found = [(seq, key) for seq, key in live if any(key.startswith(prefix) for prefix in prefixes)]
            assert await storage.summary("notes", _selectors(prefixes), Seq(upto)) == _summary(found)
            ranges = (await storage.live_set("notes", Seq(upto), _selectors(prefixes))).ranges()
            assert [seq for first, last in ranges for seq in range(first, last + 1)] == [seq for seq, _ in found]
    await storage.close()


@settings(max_examples=40, deadline=None)
@given(
    st.lists(_texts, unique=True, max_size=12),
    st.lists(st.integers(0, 11), max_size=6),
    st.lists(st.lists(_texts | st.just(""), min_size=1, max_size=3), min_size=1, max_size=3),
)
def test_every_backend_finds_what_a_naive_search_finds(
    keys: list[str], dead: list[int], asked: list[list[str]]
) -> None:
    asyncio.run(_compare(MemoryStorage(), keys, dead, asked))
    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(_compare(SqliteStorage(Path(directory) / "test.db"), keys, dead, asked))


def _plan(sql: str, connection: sqlite3.Connection) -> list[tuple[object, ...]]:
    return connection.execute(f"EXPLAIN QUERY PLAN {sql}").fetchall()


async def test_sqlite_searches_for_prefixes_in_the_index_of_keys(tmp_path: Path) -> None:
    storage = SqliteStorage(tmp_path / "test.db")
    await storage.open()
    await storage.create("notes", 1)
    plans: list[str] = []
    for reader in storage._readers:
        await reader.run(lambda connection: connection.set_trace_callback(plans.append))
    await storage.summary("notes", _selectors(["a", "b"]), Seq(0))
    statements = [sql for sql in plans if "keys_1" in sql]
    assert len(statements) == 2
    for sql in statements:
        ((*_, detail),) = await storage._readers[0].run(partial(_plan, sql))
        assert detail == b"SEARCH keys_1 USING PRIMARY KEY (key>? AND key<?)"
    await storage.close()
