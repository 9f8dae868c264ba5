"""What is read from the log, each as one function that a reader's thread carries out.

A reader steps through rows one by one. Bundling them in SQL (`group_concat`) to spare the steps was measured and
is half as fast; `fetchmany` gained nothing that could be told from noise. Each function leaves no statement open,
as an open one would hold back the checkpoint.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import starmap

import msgspec

from syncline_protocol.cursor import Seq
from syncline_protocol.digest import digest_term
from syncline_protocol.limits import BATCH_BYTES_TARGET

from .base import Chunk, Record, Row, Summary, Usage
from .selection import key_ranges, seq_ranges
from .staging import SCAN_SEQS_MAX

__all__ = ["fetch_rows", "find_record", "find_usage", "live_ranges", "read_chunk", "summarise"]

#: Rows that are taken over at once; only in the piece in which a chunk becomes full each is looked at.
_ROWS_AT_ONCE = 64


def read_chunk(connection: sqlite3.Connection, store: int, after: Seq, upto: Seq, deletes_to: Seq) -> Chunk:
    """Carry out `Storage.read`; DELETEs of ADDs above `deletes_to` are left out."""
    end = upto
    if upto - after > SCAN_SEQS_MAX:
        sql = f"SELECT last_seq FROM log_{store} WHERE seq = ?"
        (end,) = connection.execute(sql, (after + SCAN_SEQS_MAX,)).fetchone()
    rows: list[Row] = []
    size = 0
    # The condition is `staging.is_walked`.
    sql = f"""SELECT seq, last_seq, change FROM log_{store} WHERE seq > ? AND seq <= ?
              AND (partner IS NULL OR partner > ? OR partner <= ?) ORDER BY seq"""
    with closing(connection.execute(sql, (after, end, upto, deletes_to))) as found:
        while part := found.fetchmany(_ROWS_AT_ONCE):
            part_size = sum([len(text) for _, _, text in part])
            if size + part_size < BATCH_BYTES_TARGET:
                rows += starmap(Row, part)
                size += part_size
                continue
            for seq, last_seq, text in part:
                if seq > end:
                    return Chunk(after, end, tuple(rows))
                rows.append(Row(seq, last_seq, text))
                size += len(text)
                if size >= BATCH_BYTES_TARGET:
                    end = min(end, last_seq)
    return Chunk(after, end, tuple(rows))


def fetch_rows(
    connection: sqlite3.Connection, store: int, ranges: Sequence[tuple[Seq, Seq]], upto: Seq
) -> tuple[Row, ...]:
    """Carry out `Storage.fetch`."""
    rows: list[Row] = []
    size = 0
    # CROSS JOIN keeps SQLite from turning the loops round: the ranges come first, in their order.
    sql = f"""SELECT seq, last_seq, change FROM json_each(?) AS asked CROSS JOIN log_{store}
              ON seq BETWEEN json_extract(asked.value, '$[0]') AND min(json_extract(asked.value, '$[1]'), ?)
              WHERE partner IS NULL OR partner > ?"""
    with closing(connection.execute(sql, (msgspec.json.encode(ranges).decode(), upto, upto))) as found:
        for seq, last_seq, text in found:
            rows.append(Row(seq, last_seq, text))
            size += len(text)
            if size >= BATCH_BYTES_TARGET:
                break
    return tuple(rows)


def live_ranges(
    connection: sqlite3.Connection, store: int, upto: Seq, prefixes: Sequence[str]
) -> list[tuple[Seq, Seq]]:
    """Carry out `Storage.live_ranges`."""
    if prefixes:
        return seq_ranges(sorted(seq for part in _living(connection, store, prefixes, upto) for seq, _ in part))
    # Neighbours in seq order share the difference between seq and rank, so it names their range.
    sql = f"""SELECT min(seq), max(seq) FROM (
                  SELECT seq, seq - row_number() OVER (ORDER BY seq) AS island FROM log_{store}
                  WHERE seq <= ?1 AND (partner IS NULL OR partner > ?1))
              GROUP BY island ORDER BY island"""
    return connection.execute(sql, (upto,)).fetchall()


def summarise(connection: sqlite3.Connection, store: int, prefixes: Sequence[str], upto: Seq) -> Summary:
    """Carry out `Storage.summary`."""
    count = total = 0
    for part in _living(connection, store, prefixes, upto):
        count += len(part)
        total += sum([digest_term(seq, key.decode()) for seq, key in part])
    return Summary(count, total % 2**32)


def _living(
    connection: sqlite3.Connection, store: int, prefixes: Sequence[str], upto: Seq
) -> Iterator[list[tuple[Seq, bytes]]]:
    """Yield, piece by piece, seq and key of the records that live at `upto` and begin with one of the prefixes."""
    # Each range has a statement of its own: with a condition on several, SQLite scans all keys. They agree with each
    # other, as later commits do not change what lived at `upto`.
    for first, end in key_ranges(prefixes):
        below, bounds = ("", (first,)) if end is None else ("AND key < ?3", (first, end))
        sql = f"""SELECT add_seq, key FROM keys_{store} WHERE key >= ?2 {below}
                  AND add_seq <= ?1 AND (delete_seq IS NULL OR delete_seq > ?1)"""
        with closing(connection.execute(sql, (upto, *bounds))) as found:
            while part := found.fetchmany(_ROWS_AT_ONCE):
                yield part


def find_usage(connection: sqlite3.Connection, store: int, author: str) -> Usage:
    """Carry out `Storage.usage`."""
    row = connection.execute(f"SELECT records, bytes FROM usage_{store} WHERE author = ?", (author,)).fetchone()
    return Usage() if row is None else Usage(*row)


def find_record(connection: sqlite3.Connection, store: int, key: str) -> Record | None:
    """Carry out `Storage.get`."""
    sql = f"""SELECT seq, change FROM keys_{store} JOIN log_{store} ON seq = add_seq
              WHERE key = ? AND delete_seq IS NULL"""
    row = connection.execute(sql, (key,)).fetchone()
    return None if row is None else Record(*row)
