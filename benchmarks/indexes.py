"""What indexes cost an append, what they give a find, and what a writer may feel while one is built.

The rate of ADDs is that of a real server, on a file that was made with the indexes and on one without, the other before
and after. A find and a build are measured at the storage, where the rest of the server does not blur them. Documents
have the fields that people index: a room among 1,000, an author among 100,000, a price.
"""

import asyncio
import random
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

from syncline_protocol import DEFAULT_LIMITS
from syncline_protocol.filter import Filter
from syncline_protocol.index import IndexSpec
from syncline_protocol.transaction import Transaction, make_op
from syncline_server.storage.sqlite import SqliteStorage

from .bench import Bench
from .load import Load, LoadError
from .report import Histogram, Line, at_least, at_most
from .server import Server
from .wire import KEY_MASK, KEY_STEP, STORE, VALUE_BYTES, masked
from .writer import Writer, acknowledged, stop

__all__ = ["indexes"]

_SPECS = (
    IndexSpec("room", "/room", "equality"),
    IndexSpec("author", "/author/name", "equality"),
    IndexSpec("price", "/price", "range"),
)
_ROOMS = 1_000

_FIELDS = b'{"room":"room-%04d","author":{"name":"user-%05d"},"price":1%05d.25,"x":"%b"}'
_VALUE = _FIELDS % (0, 0, 0, b"")
_PAD = b"x" * (VALUE_BYTES - len(_VALUE))
_ADD = b'{"type":"ADD","id":%d,"store":"' + STORE.encode() + b'","key":"%032x","value":%b}'

#: What the server gives one step of a build, and what an append may wait for it.
_STEP_S = 0.005
_STEP_MS_MAX = 50

#: Ops of one append while a file is filled, and as many finds as are measured.
_OPS = 1000
_FINDS = 2000


def indexes(bench: Bench) -> Iterator[Line]:
    """The rate of ADDs, then a store of many records: a build, and finds in it."""
    yield _rate(bench)
    yield from asyncio.run(_large(bench))


# --- appends ---


def _rate(bench: Bench) -> Line:
    before = _adds_per_second(bench, ())
    figure = _adds_per_second(bench, _SPECS)
    floor = (before + _adds_per_second(bench, ())) / 2
    return Line(
        "indexes: 8 writers x 64 ADDs in flight, three indexes",
        figure,
        "changes/s",
        floor,
        at_least(ratio=0.5),
        "floor: the same documents into a store without indexes",
    )


def _adds_per_second(bench: Bench, specs: tuple[IndexSpec, ...]) -> float:
    file = bench.new_file()
    asyncio.run(_make(file, specs))
    with Server(file) as server, Load() as load:
        writers = [Writer(load, server.address, _documents(number), in_flight=64) for number in range(8)]
        load.open(writers)
        for writer in writers:
            writer.go()
        load.run_for(bench.pick(0.5, 0.1))
        before, began = acknowledged(writers), time.perf_counter()
        load.run_for(bench.pick(4.0, 0.2))
        rate = (acknowledged(writers) - before) / (time.perf_counter() - began)
        stop(load, writers)
        return rate


async def _make(file: Path, specs: tuple[IndexSpec, ...]) -> None:
    storage = SqliteStorage(file)
    await storage.open()
    try:
        await storage.create(STORE, 1)
        for spec in specs:
            await storage.create_index(STORE, spec, 1)
    finally:
        await storage.close()


def _documents(seed: int) -> Callable[[int, int], bytes]:
    """Return a maker of framed ADDs of documents: (id, now_ns) → bytes."""
    base = random.Random(seed).getrandbits(128)

    def make(request_id: int, now_ns: int) -> bytes:
        key = (base + request_id * KEY_STEP) & KEY_MASK
        return masked(_ADD % (request_id, key, _document(key)))

    return make


def _document(key: int) -> bytes:
    """Return the value of the document with this key."""
    return _FIELDS % (key % _ROOMS, (key >> 40) % 100_000, (key >> 80) % 100_000, _PAD)


# --- a large store ---


async def _large(bench: Bench) -> list[Line]:
    records = bench.pick(1_000_000, 20_000)
    file = bench.new_file()
    await _make(file, ())
    storage = SqliteStorage(file)
    await storage.open()
    try:
        await _fill(storage, records)
        lines = [await _build(storage, records)]
        times = await _find(storage)
    finally:
        await storage.close()
    floor = _bare_find(file)
    lines.append(
        Line(
            f"indexes: find by equality among {records:,} records, one of {_ROOMS} rooms, 20 records, p50",
            times.percentile_ms(50),
            "ms",
            floor.percentile_ms(50),
            at_most(figure=1.0),
            f"p99 {times.percentile_ms(99):.2f} ms; floor: bare SQLite, one SELECT",
        )
    )
    return lines


async def _fill(storage: SqliteStorage, records: int) -> None:
    make = random.Random(0)
    for _ in range(records // _OPS):
        keys = [make.getrandbits(128) for _ in range(_OPS)]
        ops = [make_op(f"{key:032x}", _document(key), DEFAULT_LIMITS) for key in keys]
        await storage.append([Transaction(STORE, (op,), False, None, True) for op in ops], 1)


async def _build(storage: SqliteStorage, records: int) -> Line:
    """Build every index, and measure what an append that comes at the worst moment waits for."""
    steps, began = Histogram(), time.perf_counter()
    for spec in _SPECS:
        info, _ = await storage.create_index(STORE, spec, 1)
        while info.state == "building":
            step_began = time.perf_counter_ns()
            info = await storage.build_index(STORE, spec.name, _STEP_S)
            steps.add(time.perf_counter_ns() - step_began)
    rate = records * len(_SPECS) / (time.perf_counter() - began)
    return Line(
        f"indexes: a step of {1000 * _STEP_S:.0f} ms of building one over {records:,} records, p99",
        steps.percentile_ms(99),
        "ms",
        1000 * _STEP_S,
        at_most(figure=_STEP_MS_MAX),
        f"longest {steps.percentile_ms(100):.1f} ms; {rate:,.0f} records/s and index, one step after the other",
    )


async def _find(storage: SqliteStorage) -> Histogram:
    times, chance = Histogram(), random.Random(1)
    for _ in range(_FINDS):
        wanted = Filter("room", eq=f"room-{chance.randrange(_ROOMS):04d}").term_range()
        began = time.perf_counter_ns()
        found = await storage.find(STORE, "room", wanted, limit=20)
        times.add(time.perf_counter_ns() - began)
        if not found.rows:
            raise LoadError("a room is empty")
    return times


def _bare_find(file: Path) -> Histogram:
    """Measure the least that finds as much: the table of the index, joined with the log."""
    times, chance = Histogram(), random.Random(1)
    with closing(sqlite3.connect(file)) as database:
        sql = """SELECT term, log_1.seq, change FROM index_1 CROSS JOIN log_1 ON log_1.seq = index_1.seq
                 WHERE term >= ? AND term < ? ORDER BY term, index_1.seq LIMIT 20"""
        for _ in range(_FINDS):
            wanted = Filter("room", eq=f"room-{chance.randrange(_ROOMS):04d}").term_range()
            began = time.perf_counter_ns()
            database.execute(sql, (wanted.first, wanted.end)).fetchall()
            times.add(time.perf_counter_ns() - began)
    return times
