"""Replicas of the Python client: coming up, looking, opening a large file, watching a small part of it, writing.

The server has one core, the replica the other. The floors do with bare SQLite what a replica has to do with its rows.
"""

from collections.abc import Iterator

from .bare_replica import measure
from .bare_sqlite import append_rate
from .bench import Bench
from .load import Load
from .report import Line, at_least, at_most
from .server import Server
from .writer import fill

__all__ = ["replica"]


def replica(bench: Bench) -> Iterator[Line]:
    """All of it."""
    yield from _catch_up(bench)
    yield from _large(bench)
    yield _outbox(bench)


def _catch_up(bench: Bench) -> Iterator[Line]:
    records = bench.pick(100_000, 2_000)
    file = str(bench.directory / "replica.db")
    with Server(bench.directory / "server.sqlite") as server, Load() as load:
        fill(load, server.create_store(), records)
        for place, target in ((file, 40_000), ("-", 120_000)):
            floor = measure("rows", "-" if place == "-" else f"{file}-bare", records)[0]
            yield Line(
                f"replica: catch-up of {records:,} records into {'memory' if place == '-' else 'a file'}",
                measure("catchup", _url(server), place)[0],
                "records/s",
                floor,
                at_least(figure=target),
                "floor: bare SQLite takes the rows, and has an index over their keys at the end",
            )
    figure, floor = measure("get", file)
    note = "floor: bare SQLite, one SELECT"
    yield Line("replica: a look at one record, warm", figure, "µs", floor, at_most(figure=20), note)


def _large(bench: Bench) -> Iterator[Line]:
    records = bench.pick(1_000_000, 5_000)
    file = str(bench.directory / "large.db")
    with Server(bench.directory / "large.sqlite") as server, Load() as load:
        fill(load, server.create_store(), records)
        rate = measure("catchup", _url(server), file)[0]
    figure, floor = measure("open", file)
    yield Line(
        f"replica: opens a file of {records:,} records",
        figure,
        "s",
        floor,
        at_most(figure=1),
        f"floor: bare SQLite opens it and finds the last row; it came up at {rate:,.0f} records/s",
    )
    first, change, floor = measure("watch", file)
    yield Line(
        f"replica: first view of a collection of 100 documents among {records:,} records",
        first,
        "ms",
        floor,
        at_most(figure=50),
        f"floor: bare SQLite, one SELECT of a range of keys; a change and its view take {change:.2f} ms",
    )


def _outbox(bench: Bench) -> Line:
    writes = bench.pick(10_000, 500)
    with Server(bench.directory / "outbox.sqlite") as server:
        server.create_store()
        figure = measure("outbox", _url(server), bench.directory / "outbox.db", writes)[0]
    floor = append_rate(bench.directory, batch=64, seconds=bench.pick(3.0, 0.2))
    return Line(
        f"replica: {writes:,} writes, from `add` to acknowledged",
        figure,
        "writes/s",
        floor,
        None,
        "saved here, sent, committed there, acknowledged, saved; floor: bare SQLite commits them once, 64 at a time",
    )


def _url(server: Server) -> str:
    host, port = server.address
    return f"http://{host}:{port}"
