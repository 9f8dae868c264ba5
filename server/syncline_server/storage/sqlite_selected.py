"""Parts of a store, read from one file: what some selectors select, at a position or along the log.

What a selector selects among the live records is found by its narrowest part, an index or a beginning of keys. What
died above the position is found by the DELETEs above it. Along the log from its start no DELETE is sent, so there only
the live records have to be found, and a narrow feed of a large store begins at the cost of what it shows.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing

import msgspec

from syncline_protocol.codec import decode_change
from syncline_protocol.cursor import Seq
from syncline_protocol.digest import digest_term
from syncline_protocol.limits import BATCH_BYTES_TARGET
from syncline_protocol.seq_set import SeqSet

from .base import Chunk, Row, StorageUnavailable, Summary, Terms
from .selection import Selector, key_ranges
from .sqlite_find import seqs_by_term
from .sqlite_index import IndexTables, decode_terms, terms_of_text
from .sqlite_reader import chunk_end, moment, tombstone_floor
from .staging import is_walked

__all__ = ["read_selected", "selected_set", "summarise"]

#: Seqs whose rows are looked up by one statement.
_SEQS_AT_ONCE = 500

_NO_TERMS: Terms = {}


def read_selected(
    connection: sqlite3.Connection,
    store: int,
    own: IndexTables,
    after: Seq,
    upto: Seq,
    deletes_to: Seq,
    selectors: Sequence[Selector],
) -> Chunk:
    """Carry out `Storage.read` with selectors."""
    with moment(connection):
        floor = tombstone_floor(connection, store)
        if after == 0 and deletes_to == 0:
            return _from_the_start(connection, store, own, upto, selectors, floor)
        end = chunk_end(connection, store, after, upto)
        rows: list[Row] = []
        size = 0
        sql = f"""SELECT seq, last_seq, partner, change, terms FROM log_{store} WHERE seq > ? AND seq <= ?
                  AND (partner IS NULL OR partner > ? OR partner <= ?) ORDER BY seq"""
        with closing(connection.execute(sql, (after, end, upto, deletes_to))) as found:
            for seq, last_seq, partner, text, terms in found:
                if seq > end:
                    break
                if _selects(selectors, own, text, _kept(partner, seq, terms)):
                    rows.append(Row(seq, last_seq, text))
                    size += len(text)
                    if size >= BATCH_BYTES_TARGET:
                        end = min(end, last_seq)
        return Chunk(after, end, tuple(rows), floor)


def _kept(partner: Seq | None, seq: Seq, terms: bytes | None) -> Terms | None:
    """Return the terms that a DELETE carries, None for an ADD."""
    if partner is None or partner > seq:
        return None
    return _NO_TERMS if terms is None else decode_terms(terms)


def _selects(selectors: Sequence[Selector], own: IndexTables, text: bytes, kept: Terms | None) -> bool:
    key = decode_change(text).key
    if not any(key.startswith(selector.prefix) for selector in selectors):
        return False
    if kept is None:
        has_conditions = any(selector.conditions for selector in selectors)
        kept = terms_of_text(own.indexes, text) if has_conditions else _NO_TERMS
    return any(selector.selects(key, kept) for selector in selectors)


def _from_the_start(
    connection: sqlite3.Connection,
    store: int,
    own: IndexTables,
    upto: Seq,
    selectors: Sequence[Selector],
    floor: Seq,
) -> Chunk:
    rows: list[Row] = []
    size = 0
    for seq, last_seq, text in _living(connection, store, own, selectors, upto):
        if size >= BATCH_BYTES_TARGET and seq > rows[-1].last_seq:
            return Chunk(Seq(0), rows[-1].last_seq, tuple(rows), floor)
        rows.append(Row(seq, last_seq, text))
        size += len(text)
    return Chunk(Seq(0), upto, tuple(rows), floor)


def summarise(
    connection: sqlite3.Connection, store: int, own: IndexTables, selectors: Sequence[Selector], upto: Seq
) -> Summary:
    """Carry out `Storage.summary` with selectors."""
    count = total = 0
    with moment(connection):
        for seq, _, text in _living(connection, store, own, selectors, upto):
            count += 1
            total += digest_term(seq, decode_change(text).key)
    return Summary(count, total % 2**32)


def selected_set(
    connection: sqlite3.Connection, store: int, own: IndexTables, selectors: Sequence[Selector], upto: Seq
) -> SeqSet:
    """Carry out `Storage.live_set` with selectors."""
    with moment(connection):
        return SeqSet.of([seq for seq, _, _ in _living(connection, store, own, selectors, upto)])


# --- what lives at a position ---


def _living(
    connection: sqlite3.Connection, store: int, own: IndexTables, selectors: Sequence[Selector], upto: Seq
) -> Iterator[tuple[Seq, Seq, bytes]]:
    """Yield seq, last seq and text of what lives at `upto` and is selected, in the order of seqs."""
    seqs = {seq for selector in selectors for seq in _candidates(connection, store, own, selector, upto)}
    seqs.update(_died_since(connection, store, upto))
    for seq, last_seq, partner, text in _rows(connection, store, sorted(seqs)):
        if is_walked(partner, Seq(0), upto) and _selects(selectors, own, text, None):
            yield seq, last_seq, text


def _candidates(
    connection: sqlite3.Connection, store: int, own: IndexTables, selector: Selector, upto: Seq
) -> Iterable[Seq]:
    """Return the seqs of live records among which are all that the selector selects."""
    if selector.conditions:
        tables = [own.tables.get(condition.index) for condition in selector.conditions]
        if None in tables:
            raise StorageUnavailable("an index of the filter was dropped")
        found = [
            seqs_by_term(connection, table, condition.terms, upto)
            for table, condition in zip(tables, selector.conditions, strict=True)
            if table is not None
        ]
        return set(found[0]).intersection(*found[1:])
    ((first, end),) = key_ranges([selector.prefix])
    below, bounds = ("", (first,)) if end is None else ("AND key < ?3", (first, end))
    sql = f"SELECT add_seq FROM keys_{store} WHERE key >= ?2 {below} AND add_seq <= ?1 AND delete_seq IS NULL"
    return [seq for (seq,) in connection.execute(sql, (upto, *bounds))]


def _died_since(connection: sqlite3.Connection, store: int, upto: Seq) -> list[Seq]:
    sql = f"""SELECT partner FROM log_{store} INDEXED BY deletes_{store}
              WHERE partner < seq AND seq > ? AND partner <= ?"""
    return [seq for (seq,) in connection.execute(sql, (upto, upto))]


def _rows(
    connection: sqlite3.Connection, store: int, seqs: Sequence[Seq]
) -> Iterator[tuple[Seq, Seq, Seq | None, bytes]]:
    sql = f"""SELECT seq, last_seq, partner, change FROM json_each(?) AS asked CROSS JOIN log_{store}
              ON seq = asked.value"""
    for start in range(0, len(seqs), _SEQS_AT_ONCE):
        part = msgspec.json.encode(seqs[start : start + _SEQS_AT_ONCE]).decode()
        yield from connection.execute(sql, (part,)).fetchall()
