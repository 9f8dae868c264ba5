"""Clean-up: how long it takes, what a writer feels of it, and how large the file is afterwards.

A store of a million changes, of which nine in ten are dead, is cleaned up by a server that is told to, while a writer
waits for each of its acks. Of the dead nothing is kept but what has to be for ever, the record of used keys. The sizes
to compare with are those of files into which the records that live were loaded anew, without and with such records,
and of the file after VACUUM.
"""

import asyncio
import random
import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

from syncline_protocol import DEFAULT_LIMITS
from syncline_protocol.transaction import Op, Transaction, make_op
from syncline_server.storage.sqlite import SqliteStorage

from .bench import Bench
from .load import Load, LoadError
from .report import Histogram, Line, at_most
from .server import Server
from .wire import STORE, VALUE_BYTES, adds
from .writer import Writer, stop

__all__ = ["compaction"]

#: Ops of one append while the file is made.
_OPS = 1000

#: Of ten changes so many live on; of the others half are ADDs and half the DELETEs of these.
_LIVE_IN_TEN = 1

_MEGABYTE = 1e6


def compaction(bench: Bench) -> Iterator[Line]:
    """A store is made, cleaned up under a writer, and compared with fresh ones."""
    changes = bench.pick(1_000_000, 5_000)
    file = bench.directory / "store.sqlite"
    asyncio.run(_make(file, changes))
    before = file.stat().st_size
    quiet, busy, taken_s = _clean_up(file, bench.pick(3.0, 0.2))
    yield Line(
        f"compaction: {changes:,} changes, 90 % of them dead",
        taken_s,
        "s",
        target=at_most(figure=20),
        note="until the space is given back, under a writer that waits for each ack",
    )
    yield Line(
        "compaction: a writer's ack meanwhile, p99",
        busy.percentile_ms(99),
        "ms",
        quiet.percentile_ms(99),
        at_most(figure=100),
        f"floor: before; p50 {busy.percentile_ms(50):.1f} ms, longest {busy.percentile_ms(100):.1f} ms (before: "
        f"{quiet.percentile_ms(100):.1f} ms); {busy.count:,} acks",
    )
    yield _sizes(bench, file, before)


# --- the store ---


async def _make(file: Path, changes: int) -> None:
    """Fill a new file: records come and go, in random order."""
    storage = SqliteStorage(file)
    await storage.open()
    try:
        await storage.create(STORE, 1)
        chance, living = random.Random(1), list[str]()
        adds = changes * (10 + _LIVE_IN_TEN) // 20
        live_max = changes * _LIVE_IN_TEN // 10
        for start in range(0, adds, _OPS):
            ops = [_add(chance.randbytes(16).hex()) for _ in range(min(_OPS, adds - start))]
            living += [op.key for op in ops]
            for _ in range(len(living) - live_max):
                place = chance.randrange(len(living))
                living[place], living[-1] = living[-1], living[place]
                ops.append(make_op(living.pop(), None, DEFAULT_LIMITS))
            await storage.append([Transaction(STORE, (op,), False, None, True) for op in ops], start + 1)
    finally:
        await storage.close()


def _add(key: str) -> Op:
    return make_op(key, b'"%b"' % (b"x" * (VALUE_BYTES - 2)), DEFAULT_LIMITS)


# --- the run ---


def _clean_up(file: Path, quiet_s: float) -> tuple[Histogram, Histogram, float]:
    """Return the times of acks before and during the run, and the seconds that it took."""
    with Server(file) as server, Load() as load, ThreadPoolExecutor(1) as pool:
        server.request("PUT", f"/v1/stores/{STORE}/settings", {"history_s": 0, "tombstones_s": 0})
        writer = Writer(load, server.address, adds())
        load.open([writer])
        writer.ack_times = quiet = Histogram()
        writer.go()
        load.run_for(quiet_s)
        writer.ack_times = busy = Histogram()
        began = time.perf_counter()
        running = pool.submit(_compact, server)
        load.run_until(running.done, timeout_s=600, what="the run has not ended")
        taken_s = running.result() - began
        stop(load, [writer])
        return quiet, busy, taken_s


def _compact(server: Server) -> float:
    """Let the server clean up. Returns when that was done; called in a thread, as the load must not wait for it."""
    path = f"/v1/stores/{STORE}"
    server.request("POST", f"{path}/compact")
    while (upkeep := server.request("GET", f"{path}/stats")["upkeep"])["state"] != "idle":  # type: ignore[index]
        time.sleep(0.2)
    ended = time.perf_counter()
    if "last" not in upkeep or "error" in upkeep["last"]:  # type: ignore[operator,index]
        raise LoadError(f"the run did not succeed: {upkeep}")
    return ended


# --- the sizes ---


def _sizes(bench: Bench, file: Path, before: int) -> Line:
    after = file.stat().st_size
    alone, with_keys = (bench.directory / name for name in ("alone.sqlite", "keys.sqlite"))
    asyncio.run(_load(file, alone))
    asyncio.run(_load(file, with_keys))
    _copy_dead_keys(file, with_keys)
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("VACUUM")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    return Line(
        "compaction: the file afterwards",
        after / _MEGABYTE,
        "MB",
        with_keys.stat().st_size / _MEGABYTE,
        at_most(ratio=1.3),
        f"floor: loaded anew, with the records of used keys; without them {alone.stat().st_size / _MEGABYTE:.1f} MB; "
        f"after VACUUM {file.stat().st_size / _MEGABYTE:.1f} MB; before {before / _MEGABYTE:.1f} MB",
    )


async def _load(file: Path, target: Path) -> None:
    """Load the records that live in a file into a new one."""
    storage = SqliteStorage(target)
    await storage.open()
    try:
        await storage.create(STORE, 1)
        with closing(sqlite3.connect(file)) as connection:
            keys = connection.execute(
                f"SELECT key FROM {_table(connection, 'keys')} WHERE delete_seq IS NULL ORDER BY add_seq"
            )
            while rows := keys.fetchmany(_OPS):
                await storage.append([Transaction(STORE, (_add(key),), False, None, True) for (key,) in rows], 1)
    finally:
        await storage.close()


def _copy_dead_keys(file: Path, target: Path) -> None:
    """Put the records of used keys whose record is dead into a file, in the order in which they came."""
    with closing(sqlite3.connect(target)) as connection:
        connection.execute("ATTACH ? AS other", (str(file),))
        (store,) = connection.execute("SELECT id FROM other.stores WHERE name = ?", (STORE,)).fetchone()
        with connection:
            connection.execute(
                f"INSERT INTO {_table(connection, 'keys')}"
                f" SELECT * FROM other.keys_{store} WHERE delete_seq IS NOT NULL ORDER BY add_seq"
            )


def _table(connection: sqlite3.Connection, kind: str) -> str:
    """Return the name of a table of the store of the benchmarks."""
    (store,) = connection.execute("SELECT id FROM main.stores WHERE name = ?", (STORE,)).fetchone()
    return f"{kind}_{store}"
