"""The floor of commits and of cold reads: bare SQLite with the two tables that a log needs, and nothing else.

Runs as a process of its own on the server's core: `python -m benchmarks.bare_sqlite append|read FILE BATCH SECONDS`
prints rows per second. Same size of record, same durability and same distribution of keys as the server has. Nothing is
decided, encoded or answered, and no thread is crossed.
"""

import sqlite3
import subprocess
import sys
import time
from pathlib import Path

from .process import Process
from .wire import FIRST_ID, adds

__all__ = ["append_rate", "read_rate"]

#: As the server sets them, so that the floor is not higher for want of cache.
_SETTINGS = """
    PRAGMA journal_mode=WAL;
    PRAGMA synchronous=FULL;
    PRAGMA wal_autocheckpoint=4000;
    PRAGMA cache_size=-32768;
"""

_TABLES = """
    CREATE TABLE IF NOT EXISTS log (
        seq INTEGER PRIMARY KEY, last_seq INTEGER, partner INTEGER, op INTEGER, change TEXT
    );
    CREATE TABLE IF NOT EXISTS keys (
        key TEXT PRIMARY KEY, add_seq INTEGER, delete_seq INTEGER, hash INTEGER
    ) WITHOUT ROWID;
"""


def append_rate(directory: Path, *, batch: int, seconds: float) -> float:
    """Measure rows per second with so many rows in a transaction, on a new file."""
    return _measure(directory, "append", batch, seconds)


def read_rate(directory: Path, *, rows: int) -> float:
    """Measure rows per second of reading so many rows in pieces of 500, from a file that was just opened."""
    return _measure(directory, "read", rows, 0)


def _measure(directory: Path, what: str, count: int, seconds: float) -> float:
    number = len(list(directory.glob("bare-*.sqlite")))
    file = directory / f"bare-{number}.sqlite"
    command = [sys.executable, "-m", "benchmarks.bare_sqlite", what, str(file), str(count), str(seconds)]
    with Process(command, log=directory / "bare_sqlite.log", stdout=subprocess.PIPE) as process:
        output, _ = process.child.communicate(timeout=120)
        if process.child.returncode != 0:
            raise RuntimeError(process.failure())
    return float(output)


def _open(file: str) -> sqlite3.Connection:
    database = sqlite3.connect(file, isolation_level=None)
    database.executescript(_SETTINGS + _TABLES)
    return database


def _append(database: sqlite3.Connection, batch: int, *, seconds: float = 0, rows: int = 0) -> float:
    make = adds()
    began = time.perf_counter()
    appended = 0
    while appended < rows or time.perf_counter() - began < seconds:
        log, keys = [], []
        for seq in range(appended + 1, appended + batch + 1):
            request = make(FIRST_ID + seq, 0)
            at = request.index(b'"key":"') + 7
            # What BATCH carries of an ADD is about as long as the request.
            log.append((seq, seq, None, 1, request[8:].decode()))
            keys.append((request[at : at + 32].decode(), seq, None, seq))
        appended += batch
        database.execute("BEGIN IMMEDIATE")
        database.executemany("INSERT INTO log VALUES (?, ?, ?, ?, ?)", log)
        database.executemany("INSERT INTO keys VALUES (?, ?, ?, ?)", keys)
        database.execute("COMMIT")
    return appended / (time.perf_counter() - began)


def _read(file: str, rows: int) -> float:
    writing = _open(file)
    _append(writing, 1000, rows=rows)
    writing.close()
    database = _open(file)
    began = time.perf_counter()
    after = seen = 0
    while piece := database.execute(
        "SELECT seq, last_seq, change FROM log WHERE seq > ? ORDER BY seq LIMIT 500", (after,)
    ).fetchall():
        after = piece[-1][0]
        seen += len(piece)
    return seen / (time.perf_counter() - began)


def _main(what: str, file: str, count: str, seconds: str) -> None:
    if what == "append":
        print(_append(_open(file), int(count), seconds=float(seconds)))
    else:
        print(_read(file, int(count)))


if __name__ == "__main__":
    _main(*sys.argv[1:])
