"""What is read from the log, each as one function that a reader's thread carries out.

A reader steps through rows one by one. Bundling them in SQL (`group_concat`) to spare the steps was measured and
is half as fast; `fetchmany` gained nothing that could be told from noise. Each function leaves no statement open,
as an open one would hold back the checkpoint. All of them are called inside of `moment`, so that what several
statements see is of one moment. Clean-up leaves holes in the log, so the end of a piece is looked for at the next row
that is there.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import starmap

import msgspec

from syncline_protocol.codec import decode_change
from syncline_protocol.cursor import Seq
from syncline_protocol.limits import BATCH_BYTES_TARGET
from syncline_protocol.seq_set import SeqSet

from .base import Chunk, Floors, HistoryGone, Record, Row, StoreUnknown, Usage
from .sqlite_gone import read_gone
from .staging import SCAN_SEQS_MAX

__all__ = [
    "chunk_end",
    "died_since",
    "fetch_rows",
    "find_record",
    "find_usage",
    "live_set",
    "moment",
    "position_at",
    "read_chunk",
    "read_floors",
]

#: Rows that are taken over at once; only in the piece in which a chunk becomes full each is looked at.
_ROWS_AT_ONCE = 64


@contextmanager
def moment(connection: sqlite3.Connection, store: int, name: str) -> Iterator[None]:
    """Let all statements inside see the store as it is at one moment.

    Raises:
        StoreUnknown: it was dropped. Its tables are still there for a while, with ever less in them.
    """
    connection.execute("BEGIN")
    try:
        if connection.execute("SELECT 1 FROM stores WHERE id = ?", (store,)).fetchone() is None:
            raise StoreUnknown(name)
        yield
    finally:
        connection.execute("COMMIT")


def read_floors(connection: sqlite3.Connection, store: int) -> Floors:
    """Return what clean-up has left of a store."""
    sql = "SELECT history_floor, tombstone_floor FROM stores WHERE id = ?"
    return Floors(*connection.execute(sql, (store,)).fetchone())


def died_since(connection: sqlite3.Connection, store: int, upto: Seq, seqs_max: int = -1) -> list[Seq]:
    """Return the seqs of the ADDs up to `upto` that died above it and are still there, at most `seqs_max` of them."""
    # Values go in the order of their DELETEs, so those that are left died above the history floor.
    floor = max(upto, read_floors(connection, store).history)
    sql = f"""SELECT partner FROM log_{store} INDEXED BY deletes_{store}
              WHERE partner < seq AND seq > ? AND partner <= ? LIMIT ?"""
    return [seq for (seq,) in connection.execute(sql, (floor, upto, seqs_max))]


def chunk_end(connection: sqlite3.Connection, store: int, after: Seq, upto: Seq) -> Seq:
    """Return the end of a transaction at which a piece after `after` ends that looks at about `SCAN_SEQS_MAX` rows."""
    if upto - after <= SCAN_SEQS_MAX:
        return upto
    sql = f"SELECT last_seq FROM log_{store} WHERE seq > ? AND seq <= ? ORDER BY seq LIMIT 1 OFFSET {SCAN_SEQS_MAX - 1}"
    row = connection.execute(sql, (after, upto)).fetchone()
    return upto if row is None else row[0]


def read_chunk(connection: sqlite3.Connection, store: int, after: Seq, upto: Seq, deletes_to: Seq) -> Chunk:
    """Carry out `Storage.read` without selectors."""
    floor = read_floors(connection, store).tombstones
    end = chunk_end(connection, store, after, upto)
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
                    return Chunk(after, end, tuple(rows), floor)
                rows.append(Row(seq, last_seq, text))
                size += len(text)
                if size >= BATCH_BYTES_TARGET:
                    end = min(end, last_seq)
    return Chunk(after, end, tuple(rows), floor)


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


def live_set(connection: sqlite3.Connection, store: int, upto: Seq) -> SeqSet:
    """Carry out `Storage.live_set` without selectors."""
    gone = read_gone(connection, store, upto)
    for seq in died_since(connection, store, upto):
        gone[(seq - 1) >> 3] &= ~(1 << ((seq - 1) & 7))
    everything = (1 << upto) - 1
    live = everything & ~int.from_bytes(gone, "little")
    return SeqSet(live.to_bytes((upto + 7) // 8, "little"))


def find_usage(connection: sqlite3.Connection, store: int, author: str) -> Usage:
    """Carry out `Storage.usage`."""
    row = connection.execute(f"SELECT records, bytes FROM usage_{store} WHERE author = ?", (author,)).fetchone()
    return Usage() if row is None else Usage(*row)


def find_record(connection: sqlite3.Connection, store: int, key: str, at: Seq | None, name: str) -> Record | None:
    """Carry out `Storage.get`."""
    if at is None:
        sql = f"""SELECT seq, change FROM keys_{store} JOIN log_{store} ON seq = add_seq
                  WHERE key = ? AND delete_seq IS NULL"""
        row = connection.execute(sql, (key,)).fetchone()
        return None if row is None else Record(*row)
    sql = f"""SELECT history_floor, add_seq, change FROM stores
              LEFT JOIN keys_{store} ON key = ?1 AND add_seq <= ?2 AND (delete_seq IS NULL OR delete_seq > ?2)
              LEFT JOIN log_{store} ON seq = add_seq WHERE id = ?3"""
    row = connection.execute(sql, (key, at, store)).fetchone()
    if row is not None and at < row[0]:
        raise HistoryGone(name, at, row[0])
    return None if row is None or row[1] is None else Record(row[1], row[2])


def position_at(connection: sqlite3.Connection, store: int, time_ms: int) -> Seq:
    """Carry out `Storage.position_at`."""
    next_row = f"SELECT seq, last_seq, change FROM log_{store} WHERE seq >= ? ORDER BY seq LIMIT 1"
    (head,) = connection.execute("SELECT head_seq FROM stores WHERE id = ?", (store,)).fetchone()
    # All transactions up to `low` are of this time or before, the first one above `high` is not.
    low, high = 0, head
    while low < high:
        row = connection.execute(next_row, ((low + high) // 2 + 1,)).fetchone()
        _, last_seq, text = row
        if decode_change(text).time <= time_ms:
            low = last_seq
        else:
            high = (low + high) // 2
    return Seq(low)
