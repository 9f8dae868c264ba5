"""What is measured of a replica, and its floor: one measurement in a process of its own, on the core of the load.

    python -m benchmarks.bare_replica catchup URL FILE      records/s from subscribing to caught up; `-` for memory
    python -m benchmarks.bare_replica rows FILE COUNT       the floor: as many rows into a bare table with such an index
    python -m benchmarks.bare_replica get FILE              µs for a look at one record, and the floor
    python -m benchmarks.bare_replica open FILE             s from nothing to the first look, and the floor
    python -m benchmarks.bare_replica watch FILE            ms for a first view of 100 documents, and the floor
    python -m benchmarks.bare_replica outbox URL FILE COUNT writes/s from `add` to acknowledged

Each prints its numbers in one line.
"""

import asyncio
import random
import sqlite3
import subprocess
import sys
import time

import syncline

from .wire import STORE

__all__ = ["measure"]

_ROW_BYTES = 200
_BATCH = 500

#: What the table of a replica has to have, and no more.
_TABLE = "CREATE TABLE r (seq INTEGER PRIMARY KEY, key TEXT NOT NULL, time INTEGER NOT NULL, value TEXT NOT NULL)"
_INDEX = "CREATE UNIQUE INDEX r_key ON r (key)"


def measure(*arguments: object) -> list[float]:
    """Take one measurement, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.bare_replica", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{command} failed:\n{done.stderr[-3000:]}")
    return [float(number) for number in done.stdout.split()]


# --- coming up ---


async def _catchup(url: str, file: str) -> float:
    async with syncline.connect(url) as client:
        began = time.perf_counter()
        replica = await client.replica(STORE, None if file == "-" else file)
        await replica.wait_caught_up(timeout=240)
        return len(replica) / (time.perf_counter() - began)


def _rows(file: str, count: int) -> float:
    """Put rows into a table with an index over random keys, as a replica has to have, in pieces of a BATCH."""
    db = sqlite3.connect(":memory:" if file == "-" else file, isolation_level=None)
    db.executescript("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA cache_size = -65536;")
    db.execute(_TABLE)
    value = '{"x":"' + "x" * (_ROW_BYTES - 8) + '"}'
    keys = [f"{random.getrandbits(128):032x}" for _ in range(count)]
    began = time.perf_counter()
    for first in range(0, count, _BATCH):
        db.execute("BEGIN")
        rows = [(seq, keys[seq - 1], 0, value) for seq in range(first + 1, min(first + _BATCH, count) + 1)]
        db.executemany("INSERT INTO r VALUES (?, ?, ?, ?)", rows)
        db.execute("COMMIT")
    db.execute(_INDEX)
    return count / (time.perf_counter() - began)


# --- looking ---


async def _offline(file: str) -> tuple[syncline.Client, syncline.Replica]:
    client = syncline.connect("http://127.0.0.1:1", wait=False)
    await client.__aenter__()
    return client, await client.replica(STORE, file)


async def _get(file: str) -> tuple[float, float]:
    client, replica = await _offline(file)
    keys = [record.key for record in replica][:20_000]
    random.shuffle(keys)
    for key in keys:
        replica.get(key)
    began = time.perf_counter()
    for key in keys:
        replica.get(key)
    took = time.perf_counter() - began
    await client.aclose()
    return 1e6 * took / len(keys), 1e6 * _bare_get(file, keys) / len(keys)


def _bare_get(file: str, keys: list[str]) -> float:
    db = sqlite3.connect(f"file:{file}?mode=ro", uri=True)
    query = f"SELECT seq, key, time, value FROM {_table_of(db)} WHERE key = ?"
    for _ in range(2):
        began = time.perf_counter()
        for key in keys:
            db.execute(query, (key,)).fetchone()
    return time.perf_counter() - began


def _table_of(db: sqlite3.Connection) -> str:
    query = "SELECT name FROM sqlite_schema WHERE name LIKE 'records!_%' ESCAPE '!' AND type = 'table'"
    return str(db.execute(query).fetchone()[0])


async def _open(file: str) -> tuple[float, float]:
    began = time.perf_counter()
    client, replica = await _offline(file)
    count = len(replica)
    took = time.perf_counter() - began
    await client.aclose()
    began = time.perf_counter()
    db = sqlite3.connect(f"file:{file}?mode=ro", uri=True)
    db.execute(f"SELECT max(seq) FROM {_table_of(db)}").fetchone()
    assert count
    return took, time.perf_counter() - began


async def _watch(file: str) -> tuple[float, float, float]:
    """Of a collection of 100 documents among all the records: the first view, what one change costs, the floor."""
    client, replica = await _offline(file)
    few = replica.collection("few")
    documents = [await few.create(title=f"t{number}", size=number) for number in range(100)]
    began = time.perf_counter()
    watch = few.watch(order_by="title")
    await anext(watch)
    first = time.perf_counter() - began
    began = time.perf_counter()
    for number in range(100):
        await documents[number].set(title=f"u{number}")
        await anext(watch)
    changes = (time.perf_counter() - began) / 100
    await client.aclose()
    db = sqlite3.connect(f"file:{file}?mode=ro", uri=True)
    began = time.perf_counter()
    db.execute(f"SELECT key, value FROM {_table_of(db)} WHERE key >= 'few:' AND key < 'few;'").fetchall()
    return 1e3 * first, 1e3 * changes, 1e3 * (time.perf_counter() - began)


# --- writing ---


async def _outbox(url: str, file: str, count: int) -> float:
    async with syncline.connect(url) as client:
        replica = await client.replica(STORE, file)
        await replica.wait_caught_up(timeout=60)
        value = {"x": "x" * (_ROW_BYTES - 8)}
        began = time.perf_counter()
        await asyncio.gather(*(replica.add(value) for _ in range(count)))
        await replica.flush(timeout=240)
        return count / (time.perf_counter() - began)


def _main(what: str, *rest: str) -> None:
    match what:
        case "catchup":
            print(asyncio.run(_catchup(*rest)))
        case "rows":
            print(_rows(rest[0], int(rest[1])))
        case "get":
            print(*asyncio.run(_get(*rest)))
        case "open":
            print(*asyncio.run(_open(*rest)))
        case "watch":
            print(*asyncio.run(_watch(*rest)))
        case "outbox":
            print(asyncio.run(_outbox(rest[0], rest[1], int(rest[2]))))
        case _:
            sys.exit(f"there is no measurement {what}")


if __name__ == "__main__":
    _main(*sys.argv[1:])
