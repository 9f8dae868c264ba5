"""Backups: how long one takes, what a writer feels of it, and how long the complete check of a store file takes.

A store of a million records with an index is backed up by a server that is asked to, while a writer waits for each of
its acks: first the file is copied, then the copy is checked in a process of its own. The floor of the copy is the plain
copy of the file by the system, flushed, with nobody writing.
"""

import asyncio
import os
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from syncline_protocol import DEFAULT_LIMITS
from syncline_protocol.index import IndexSpec
from syncline_protocol.transaction import Transaction, make_op
from syncline_server.checkup import examine
from syncline_server.storage.sqlite import SqliteStorage

from .bench import Bench
from .load import Load, LoadError
from .report import Histogram, Line, at_most
from .server import Server
from .wire import STORE, adds
from .writer import Writer, stop

__all__ = ["backup"]

_OPS = 1000


def backup(bench: Bench) -> Iterator[Line]:
    """A store is made, backed up under a writer, and its file is checked."""
    records = bench.pick(1_000_000, 3_000)
    file = bench.directory / "store.sqlite"
    asyncio.run(_make(file, records))
    floor_s = _plain_copy(file, bench.directory / "plain.sqlite")
    quiet, busy, copied_s, checked_s = _back_up(file, bench.pick(3.0, 0.2))
    size = file.stat().st_size / 1e6
    yield Line(
        f"backup: {records:,} records, {size:.0f} MB",
        copied_s,
        "s",
        floor_s,
        note=f"until it is copied and flushed, under a writer; then checked in {checked_s:.1f} s. Floor: a plain copy",
    )
    yield Line(
        "backup: a writer's ack meanwhile, p99",
        busy.percentile_ms(99),
        "ms",
        quiet.percentile_ms(99),
        at_most(figure=100),
        f"floor: before; p50 {busy.percentile_ms(50):.1f} ms, longest {busy.percentile_ms(100):.1f} ms; "
        f"{busy.count:,} acks",
    )
    began = time.perf_counter()
    if any(finding.level == "fail" for finding in examine(str(file))):
        raise LoadError("the file is not sound")
    taken_s = time.perf_counter() - began
    yield Line("backup: complete check of the file", taken_s, "s", note=f"{records / taken_s:,.0f} records/s")


async def _make(file: Path, records: int) -> None:
    storage = SqliteStorage(file)
    await storage.open()
    try:
        await storage.create(STORE, 1)
        await storage.create_index(STORE, IndexSpec("room", "/room"), 1)
        for start in range(0, records, _OPS):
            ops = [
                make_op(f"k{n}", b'{"room":%d,"text":"%b"}' % (n % 1000, b"x" * 80), DEFAULT_LIMITS)
                for n in range(start, start + _OPS)
            ]
            await storage.append([Transaction(STORE, tuple(ops), False)], start + 1)
    finally:
        await storage.close()


def _plain_copy(file: Path, target: Path) -> float:
    began = time.perf_counter()
    shutil.copyfile(file, target)
    with target.open("rb") as copied:
        os.fsync(copied.fileno())
    taken_s = time.perf_counter() - began
    target.unlink()
    return taken_s


def _back_up(file: Path, quiet_s: float) -> tuple[Histogram, Histogram, float, float]:
    """Return the times of acks before and during the backup, and the seconds of the copy and of the check."""
    with Server(file) as server, Load() as load, ThreadPoolExecutor(1) as pool:
        writer = Writer(load, server.address, adds())
        load.open([writer])
        writer.ack_times = quiet = Histogram()
        writer.go()
        load.run_for(quiet_s)
        writer.ack_times = busy = Histogram()
        making = pool.submit(_make_backup, server)
        load.run_until(making.done, timeout_s=600, what="the backup has not ended")
        copied_s, checked_s = making.result()
        stop(load, [writer])
        return quiet, busy, copied_s, checked_s


def _make_backup(server: Server) -> tuple[float, float]:
    """Let the server make a backup; called in a thread, as the load must not wait for it."""
    began = time.perf_counter()
    name = server.request("POST", "/v1/backups")["name"]
    copied = None
    while (made := server.request("GET", f"/v1/backups/{name}"))["state"] in ("copying", "checking"):
        if copied is None and made["state"] == "checking":
            copied = time.perf_counter()
        time.sleep(0.02)
    ended = time.perf_counter()
    if made["state"] != "ready":
        raise LoadError(f"the backup did not succeed: {made}")
    copied = ended if copied is None else copied
    return copied - began, ended - copied
