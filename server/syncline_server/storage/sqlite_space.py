"""Space of one file that is given back: tables of what was dropped, and free pages; in bounded steps.

To empty a large table takes long, so what is dropped becomes garbage at once and goes by slices. A file that was made
before `auto_vacuum` was chosen for new ones keeps its free pages, and uses them for what comes.
"""

import sqlite3
import time

__all__ = ["reclaim_step"]

#: Rows of a dropped table that are taken at once: as many as take about so long, as one may have a megabyte.
_ROWS_MIN, _ROWS_MAX = 16, 2048
_SLICE_S = 0.002

#: Pages that are given back before the clock is looked at.
_PAGES_AT_ONCE = 32

#: What `PRAGMA auto_vacuum` says of a file that can give pages back.
_INCREMENTAL = 2


def reclaim_step(connection: sqlite3.Connection, budget_s: float) -> int:
    """Carry out `Storage.reclaim`, inside the caller's transaction."""
    until = time.monotonic() + budget_s
    freed, rows = 0, _ROWS_MIN
    while True:
        began = time.monotonic()
        step = _empty_garbage(connection, rows) or _give_back(connection)
        freed += step
        now = time.monotonic()
        if not step or now >= until:
            return freed
        rows = min(_ROWS_MAX, rows * 2) if now - began < _SLICE_S else max(_ROWS_MIN, rows // 2)


def _empty_garbage(connection: sqlite3.Connection, rows: int) -> int:
    """Take rows from a table that was dropped, or the table itself once it is empty. Returns bytes, about."""
    row = connection.execute("SELECT min(name) FROM garbage").fetchone()
    if row[0] is None:
        return 0
    name: str = row[0]
    keys = {"index": "term, seq", "keys": "key", "usage": "author"}.get(name.partition("_")[0], "rowid")
    sql = f"DELETE FROM {name} WHERE ({keys}) IN (SELECT {keys} FROM {name} LIMIT {rows})"
    count = connection.execute(sql).rowcount
    if count < rows:
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
