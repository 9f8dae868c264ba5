"""Clean-up of one file: values of dead records, tombstones, tables of what was dropped, free pages; in bounded steps.

A step is one transaction in the writer's thread, so that an append waits for one step at most. It goes along the
DELETEs in the order of the log, from where the floor says that the last step ended: first the values that they deleted
go, then the DELETEs themselves. Live rows, the record of used keys and the row at the head never do.
"""

import sqlite3
import time
from dataclasses import replace

import msgspec

from syncline_protocol.cursor import Seq

from .base import Compacted, Floors, Horizon, StoreInfo

__all__ = ["compact_step", "estimate", "reclaim_step"]

#: DELETEs that are taken before the clock is looked at.
_ROWS_AT_ONCE = 256

#: Rows of a dropped table that are taken at once, and pages that are given back.
_GARBAGE_ROWS = 2000
_PAGES_AT_ONCE = 256

#: What `PRAGMA auto_vacuum` says of a file that can give pages back.
_INCREMENTAL = 2

#: DELETEs of whole transactions, found by the index that has nothing but DELETEs.
_DELETES = """SELECT seq, last_seq, partner FROM log_{store} INDEXED BY deletes_{store}
              WHERE partner < seq AND seq > ? AND seq <= ? AND last_seq <= ? ORDER BY seq"""
_FREED = "RETURNING length(CAST(change AS BLOB))"


def compact_step(
    connection: sqlite3.Connection, store: int, info: StoreInfo, horizon: Horizon, budget_s: float
) -> tuple[Compacted, StoreInfo]:
    """Carry out `Storage.compact`, inside the caller's transaction. Returns what was done, and the store after it."""
    until = time.monotonic() + budget_s
    history, tombstone = info.floors.history, info.floors.tombstones
    sizes = info.sizes
    values = tombstones = size = 0
    is_done = False
    while not is_done:
        found = _next_deletes(connection, store, history, horizon.values)
        if found:
            freed = _delete_rows(connection, store, [partner for _, _, partner in found])
            history = found[-1][1]
            values, size = values + len(freed), size + sum(freed)
            sizes = msgspec.structs.replace(
                sizes, dead_values=sizes.dead_values - len(freed), dead_bytes=sizes.dead_bytes - sum(freed)
            )
        else:
            found = _next_deletes(connection, store, tombstone, _tombstones_upto(info, history, horizon))
            if found:
                freed = _delete_rows(connection, store, [seq for seq, _, _ in found])
                tombstone = found[-1][1]
                tombstones, size = tombstones + len(freed), size + sum(freed)
                sizes = msgspec.structs.replace(sizes, tombstones=sizes.tombstones - len(freed))
        is_done = not found
        if time.monotonic() >= until:
            break
    floors = Floors(history, tombstone)
    connection.execute(
        """UPDATE stores SET history_floor = ?, tombstone_floor = ?, dead_values = ?, dead_bytes = ?, tombstones = ?
           WHERE id = ?""",
        (history, tombstone, sizes.dead_values, sizes.dead_bytes, sizes.tombstones, store),
    )
    return Compacted(values, tombstones, size, is_done, floors), replace(info, floors=floors, sizes=sizes)


def _tombstones_upto(info: StoreInfo, history: Seq, horizon: Horizon) -> Seq:
    """Return how far tombstones may go: their values have gone, and the newest row of the log stays."""
    return Seq(min(horizon.tombstones, history, info.head.seq - 1))


def _next_deletes(connection: sqlite3.Connection, store: int, after: Seq, upto: Seq) -> list[tuple[Seq, Seq, Seq]]:
    """Return seq, last seq and partner of the next DELETEs, up to the end of a transaction."""
    if after >= upto:
        return []
    sql = _DELETES.format(store=store)
    found = connection.execute(f"{sql} LIMIT {_ROWS_AT_ONCE}", (after, upto, upto)).fetchall()
    if len(found) == _ROWS_AT_ONCE:
        seq, last_seq, _ = found[-1]
        found += connection.execute(sql, (seq, last_seq, last_seq)).fetchall()
    return found


def _delete_rows(connection: sqlite3.Connection, store: int, seqs: list[Seq]) -> list[int]:
    """Delete rows of the log. Returns the bytes of each that was still there."""
    sql = f"DELETE FROM log_{store} WHERE seq IN (SELECT value FROM json_each(?)) {_FREED}"
    return [size for (size,) in connection.execute(sql, (msgspec.json.encode(seqs).decode(),)).fetchall()]


def estimate(connection: sqlite3.Connection, store: int, info: StoreInfo, horizon: Horizon) -> Compacted:
    """Carry out `Storage.estimate`."""
    floors = info.floors
    deletes = f"log_{store} AS deletes INDEXED BY deletes_{store}"
    values, of_values, history = connection.execute(
        f"""SELECT count(*), sum(length(CAST(added.change AS BLOB))), max(deletes.last_seq)
            FROM {deletes} CROSS JOIN log_{store} AS added ON added.seq = deletes.partner
            WHERE deletes.partner < deletes.seq AND deletes.seq > ?1 AND deletes.seq <= ?2
              AND deletes.last_seq <= ?2""",
        (floors.history, horizon.values),
    ).fetchone()
    history = Seq(history or floors.history)
    upto = _tombstones_upto(info, history, horizon)
    tombstones, of_tombstones, tombstone = connection.execute(
        f"""SELECT count(*), sum(length(CAST(change AS BLOB))), max(last_seq) FROM {deletes}
            WHERE partner < seq AND seq > ?1 AND seq <= ?2 AND last_seq <= ?2""",
        (floors.tombstones, upto),
    ).fetchone()
    after = Floors(history, Seq(tombstone or floors.tombstones))
    return Compacted(values, tombstones, (of_values or 0) + (of_tombstones or 0), values + tombstones == 0, after)


# --- space ---


def reclaim_step(connection: sqlite3.Connection, budget_s: float) -> int:
    """Carry out `Storage.reclaim`, inside the caller's transaction."""
    until = time.monotonic() + budget_s
    freed = 0
    while True:
        step = _empty_garbage(connection) or _give_back(connection)
        freed += step
        if not step or time.monotonic() >= until:
            return freed


def _empty_garbage(connection: sqlite3.Connection) -> int:
    """Take rows from a table that was dropped, or the table itself once it is empty. Returns bytes, about."""
    row = connection.execute("SELECT min(name) FROM garbage").fetchone()
    if row[0] is None:
        return 0
    name: str = row[0]
    keys = {"index": "term, seq", "keys": "key", "usage": "author"}.get(name.partition("_")[0], "rowid")
    sql = f"DELETE FROM {name} WHERE ({keys}) IN (SELECT {keys} FROM {name} LIMIT {_GARBAGE_ROWS})"
    count = connection.execute(sql).rowcount
    if count < _GARBAGE_ROWS:
        connection.execute(f"DROP TABLE {name}")
        connection.execute("DELETE FROM garbage WHERE name = ?", (name,))
    return max(1, count)


def _give_back(connection: sqlite3.Connection) -> int:
    """Cut free pages off the end of the file. Returns the bytes; 0 also in a file that does not have them in order."""
    before = _pragma(connection, "freelist_count")
    if not before or _pragma(connection, "auto_vacuum") != _INCREMENTAL:
        return 0
    connection.execute(f"PRAGMA incremental_vacuum({_PAGES_AT_ONCE})").fetchall()
    return (before - _pragma(connection, "freelist_count")) * _pragma(connection, "page_size")


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    (value,) = connection.execute(f"PRAGMA {name}").fetchone()
    return int(value)
