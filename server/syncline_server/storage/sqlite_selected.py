"""Parts of a store, read from one file: what some selectors select, at a position or along the log.

What a selector selects is found by its narrowest part, an index or the beginning of keys, so a narrow feed of a large
store costs what it shows. These have only what lives now; what has died above the position is found by the DELETEs
above it, and along the log the DELETEs of a piece are all looked at, with the terms that they carry. Where a selector
is not narrow, the log itself is looked at, row by row. All of this is called inside of `moment`.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import chain
from typing import Any

import msgspec

from syncline_protocol.codec import decode_change
from syncline_protocol.cursor import Seq
from syncline_protocol.digest import digest_term
from syncline_protocol.index import IndexSet
from syncline_protocol.limits import BATCH_BYTES_TARGET
from syncline_protocol.seq_set import SeqSet

from .base import Chunk, Row, Summary, Terms
from .selection import Selector, key_ranges
from .sqlite_find import read_indexes, within
from .sqlite_index import decode_terms, terms_of_text
from .sqlite_reader import chunk_end, died_since, read_floors
from .staging import SCAN_SEQS_MAX, is_walked

__all__ = ["Selection"]

#: Seqs whose rows are looked up by one statement.
_SEQS_AT_ONCE = 500

#: A piece of the log that selects this part of what it looked at is as good as one that an index would find.
_DENSE = 0.1

#: DELETEs, and records in the order of an index, that one piece looks at.
_LOOKED_MAX = 5000

#: An index in whose order seqs do not ascend is gone through for each piece anew; with more in it the log is faster.
_UNORDERED_MAX = 50_000

_NO_TERMS: Terms = {}

#: seq, last seq, partner, text, terms of a row of the log
_LogRow = tuple[Seq, Seq, Seq | None, bytes, bytes | None]


@dataclass(frozen=True, slots=True)
class _Source:
    """Where seqs of live records are found, among which are all that a selector selects.

    `is_ordered`: they come in ascending order.
    """

    column: str
    table: str
    where: str
    values: tuple[bytes, ...]
    is_ordered: bool = False


class Selection:
    """Args:
    connection: inside of a `moment` of the store, for as long as this is used.
    store, name: the store.
    selectors: at least one.

    Raises:
        IndexUnknown, IndexBuilding: an index of a selector cannot answer.
    """

    def __init__(self, connection: sqlite3.Connection, store: int, name: str, selectors: Sequence[Selector]) -> None:
        self._connection = connection
        self._store = store
        self._selectors = selectors
        self._prefixes = [selector.prefix for selector in selectors if not selector.conditions]
        self._conditional = [selector for selector in selectors if selector.conditions]
        uids = {condition.index for selector in selectors for condition in selector.conditions}
        self._tables, self._indexes = read_indexes(connection, store, name, uids) if uids else ({}, IndexSet({}))

    # --- along the log ---

    def read(self, after: Seq, upto: Seq, deletes_to: Seq) -> Chunk:
        """Carry out `Storage.read`."""
        floor = read_floors(self._connection, self._store).tombstones
        # Near the end of the log it is sooner read than anything is looked up.
        sources = [] if upto - after <= SCAN_SEQS_MAX else [self._narrowest(selector) for selector in self._selectors]
        chunk = None
        if not sources or not all(source.is_ordered for source in sources):
            end = chunk_end(self._connection, self._store, after, upto)
            chunk = self._piece(self._walked(after, end, upto, deletes_to), after, end, upto, floor)
            if not sources or chunk.to == upto or len(chunk.rows) >= _DENSE * SCAN_SEQS_MAX:
                return chunk
        found = self._candidates(sources, after, upto, deletes_to)
        if found is not None:
            seqs, end = found
            return self._piece(self._rows(seqs), after, end, upto, floor, deletes_to)
        end = chunk_end(self._connection, self._store, after, upto)
        return chunk or self._piece(self._walked(after, end, upto, deletes_to), after, end, upto, floor)

    def _piece(
        self,
        rows: Iterable[_LogRow],
        after: Seq,
        end: Seq,
        upto: Seq,
        floor: Seq,
        deletes_to: Seq | None = None,
    ) -> Chunk:
        """Take what is selected of these rows. With `deletes_to` it is also looked at whether a walk sends them."""
        chosen: list[Row] = []
        size = 0
        for row in rows:
            seq, last_seq, partner, text, _ = row
            if seq > end:
                break
            if (deletes_to is None or is_walked(partner, deletes_to, upto)) and self._selects(row):
                chosen.append(Row(seq, last_seq, text))
                size += len(text)
                if size >= BATCH_BYTES_TARGET:
                    end = min(end, last_seq)
        return Chunk(after, end, tuple(chosen), floor)

    def _walked(self, after: Seq, end: Seq, upto: Seq, deletes_to: Seq) -> Iterator[_LogRow]:
        sql = f"""SELECT seq, last_seq, partner, change, terms FROM log_{self._store} WHERE seq > ? AND seq <= ?
                  AND (partner IS NULL OR partner > ? OR partner <= ?) ORDER BY seq"""
        with closing(self._connection.execute(sql, (after, end, upto, deletes_to))) as found:
            yield from found

    def _candidates(
        self, sources: Sequence[_Source], after: Seq, upto: Seq, deletes_to: Seq
    ) -> tuple[list[Seq], Seq] | None:
        """Return the seqs among which are all that a piece sends, and its end; None if there are too many of them."""
        end = upto
        for source in sources:
            if source.is_ordered:
                end = self._end_of_many(source.column, source.table, source.where, source.values, after, end)
            elif self._size(source) > _UNORDERED_MAX:
                return None
        since = died_since(self._connection, self._store, upto, _UNORDERED_MAX + 1)
        if len(since) > _UNORDERED_MAX:
            return None
        deletes = f"log_{self._store} INDEXED BY deletes_{self._store}"
        seqs = {seq for seq in since if after < seq}
        if deletes_to > 0:
            end = self._end_of_many("seq", deletes, "partner < seq", (), after, end)
            sql = f"SELECT seq FROM {deletes} WHERE partner < seq AND seq > ? AND seq <= ? AND partner <= ?"
            seqs.update(seq for (seq,) in self._connection.execute(sql, (after, end, deletes_to)))
        for source in sources:
            seqs.update(self._seqs(source, after, end))
        return sorted(seqs), end

    def _end_of_many(self, column: str, table: str, where: str, values: tuple[bytes, ...], after: Seq, end: Seq) -> Seq:
        """Return `end`, or that of the transaction in which there are `_LOOKED_MAX` of these above `after`."""
        sql = f"""SELECT {column} FROM {table} WHERE {where} AND {column} > ? AND {column} <= ?
                  ORDER BY {column} LIMIT 1 OFFSET {_LOOKED_MAX - 1}"""
        row = self._connection.execute(sql, (*values, after, end)).fetchone()
        if row is None:
            return end
        (last_seq,) = self._connection.execute(f"SELECT last_seq FROM log_{self._store} WHERE seq = ?", row).fetchone()
        return Seq(min(end, last_seq))

    # --- at a position ---

    def live_set(self, upto: Seq) -> SeqSet:
        """Carry out `Storage.live_set`."""
        exact, others = self._living(upto)
        seqs = {seq for seq, _ in self._keyed(upto)}
        seqs.update(exact)
        seqs.update(row[0] for row in self._chosen(others, upto))
        return SeqSet.of(sorted(seqs))

    def summary(self, upto: Seq) -> Summary:
        """Carry out `Storage.summary`."""
        # What begins with a prefix is counted first; the others are those that do not, so no record is held or counted
        # twice, however many there are.
        count = digest = 0
        for seq, key in self._keyed(upto):
            count, digest = count + 1, digest + digest_term(seq, key)
        exact, others = self._living(upto)
        known = tuple(self._prefixes)
        for row in chain(self._rows(sorted(exact)), self._chosen(others, upto)):
            key = decode_change(row[3]).key
            if not key.startswith(known):
                count, digest = count + 1, digest + digest_term(row[0], key)
        return Summary(count, digest % 2**32)

    def _keyed(self, upto: Seq) -> Iterator[tuple[Seq, str]]:
        """Yield seq and key of what lives at `upto` and begins as a selector without conditions says."""
        # The record of used keys also knows the dead; of those whose value is gone nothing can be shown.
        died_above = max(upto, read_floors(self._connection, self._store).history)
        # Each range has a statement of its own: with a condition on several, SQLite scans all keys.
        for first, end in key_ranges(self._prefixes) if self._prefixes else ():
            below, bounds = ("", (first,)) if end is None else ("AND key < ?4", (first, end))
            sql = f"""SELECT add_seq, key FROM keys_{self._store} WHERE key >= ?3 {below}
                      AND add_seq <= ?1 AND (delete_seq IS NULL OR delete_seq > ?2)"""
            for seq, key in self._connection.execute(sql, (upto, died_above, *bounds)):
                yield seq, key.decode()

    def _living(self, upto: Seq) -> tuple[set[Seq], set[Seq]]:
        """Return seqs that selectors with conditions select and that live at `upto`, and others that have to be looked
        at.
        """
        exact: set[Seq] = set()
        others: set[Seq] = set()
        for selector in self._conditional:
            is_exact = len(selector.conditions) == 1 and not selector.prefix
            (exact if is_exact else others).update(self._seqs(self._narrowest(selector), Seq(0), upto))
        if self._conditional:
            others.update(died_since(self._connection, self._store, upto))
        return exact, others - exact

    def _chosen(self, seqs: set[Seq], upto: Seq) -> Iterator[_LogRow]:
        for row in self._rows(sorted(seqs)):
            if is_walked(row[2], Seq(0), upto) and self._selects(row):
                yield row

    # --- where it is found ---

    def _narrowest(self, selector: Selector) -> _Source:
        sources = [self._by_index(self._tables[each.index], each.terms) for each in selector.conditions]
        if selector.prefix or not sources:
            sources.append(self._by_key(selector.prefix))
        return sources[0] if len(sources) == 1 else min(sources, key=self._size)

    def _by_index(self, table: int, terms: Any) -> _Source:
        if terms.end == terms.first + b"\x00":
            return _Source("seq", f"index_{table}", "term = ?", (terms.first,), is_ordered=True)
        where, values = within("term", terms)
        return _Source("seq", f"index_{table}", where, values)

    def _by_key(self, prefix: str) -> _Source:
        ((first, end),) = key_ranges([prefix])
        below, bounds = ("", (first,)) if end is None else (" AND key < CAST(? AS TEXT)", (first, end))
        values = tuple([bound.encode() for bound in bounds])
        return _Source("add_seq", f"keys_{self._store}", f"key >= CAST(? AS TEXT){below}", values)

    def _size(self, source: _Source) -> int:
        """Return how much a source has, dead keys too, or a number above `_UNORDERED_MAX`."""
        sql = f"SELECT count(*) FROM (SELECT 1 FROM {source.table} WHERE {source.where} LIMIT {_UNORDERED_MAX + 1})"
        (count,) = self._connection.execute(sql, source.values).fetchone()
        return int(count)

    def _seqs(self, source: _Source, after: Seq, end: Seq) -> list[Seq]:
        sql = f"""SELECT {source.column} FROM {source.table}
                  WHERE {source.where} AND {source.column} > ? AND {source.column} <= ?"""
        return [seq for (seq,) in self._connection.execute(sql, (*source.values, after, end))]

    def _rows(self, seqs: Sequence[Seq]) -> Iterator[_LogRow]:
        sql = f"""SELECT seq, last_seq, partner, change, terms FROM json_each(?) AS asked
                  CROSS JOIN log_{self._store} ON seq = asked.value"""
        for start in range(0, len(seqs), _SEQS_AT_ONCE):
            part = msgspec.json.encode(seqs[start : start + _SEQS_AT_ONCE]).decode()
            yield from self._connection.execute(sql, (part,)).fetchall()

    # --- what is selected ---

    def _selects(self, row: _LogRow) -> bool:
        seq, _, partner, text, kept = row
        key = decode_change(text).key
        if key.startswith(tuple(self._prefixes)):
            return True
        if not any(key.startswith(selector.prefix) for selector in self._conditional):
            return False
        if partner is None or partner > seq:
            terms = terms_of_text(self._indexes, text)
        else:
            terms = _NO_TERMS if kept is None else decode_terms(kept)
        return any(selector.selects(key, terms) for selector in self._conditional)
