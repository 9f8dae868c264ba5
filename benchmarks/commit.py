"""Durable writes: how many are committed and acknowledged each second.

The floor is bare SQLite with the batch that fits the load, measured right before and right after, and averaged, since
what an fsync costs drifts.
"""

from collections.abc import Callable, Iterator

from .bare_sqlite import append_rate
from .bench import Bench, Stretch
from .report import Line, Target, at_least
from .wire import adds, writes
from .writer import Writer, acknowledged, stop

__all__ = ["commit"]

_MakerOfMakers = Callable[[], Callable[[int, int], bytes]]


def commit(bench: Bench) -> Iterator[Line]:
    """Serial, concurrent, pipelined, and in transactions of 100."""
    yield _line(bench, "1 writer, each waits for its ack", 1, 1, adds, lambda _: at_least(ratio=0.35))
    yield _line(bench, "8 writers, each waits for its ack", 8, 1, adds, lambda _: at_least(figure=10_000), batch=8)
    yield _line(
        bench,
        "8 writers x 64 ADDs in flight",
        8,
        64,
        adds,
        lambda floor: at_least(figure=min(35_000, 0.55 * floor)),
        batch=64,
    )
    yield _line(
        bench,
        "8 writers x 4 WRITEs of 100 ops",
        8,
        4,
        lambda: writes(100),
        lambda _: at_least(ratio=0.7),
        batch=100,
        ops=100,
    )


def _line(
    bench: Bench,
    name: str,
    writers: int,
    in_flight: int,
    make: _MakerOfMakers,
    target: Callable[[float], Target],
    *,
    batch: int = 1,
    ops: int = 1,
) -> Line:
    floor_s = bench.pick(1.5, 0.1)
    before = append_rate(bench.directory, batch=batch, seconds=floor_s)
    rate, stretch = _measure(bench, [make() for _ in range(writers)], in_flight)
    floor = (before + append_rate(bench.directory, batch=batch, seconds=floor_s)) / 2
    cpu_us = 1e6 * stretch.cpu_s / (rate * stretch.wall_s * ops)
    note = f"floor: {batch} a transaction; {cpu_us:.1f} µs CPU a change; {stretch.busy}"
    return Line(f"commit: {name}", rate * ops, "changes/s", floor, target(floor), note)


def _measure(bench: Bench, makers: list[Callable[[int, int], bytes]], in_flight: int) -> tuple[float, Stretch]:
    with bench.server() as (server, load):
        writers = [Writer(load, server.address, make, in_flight=in_flight) for make in makers]
        load.open(writers)
        for writer in writers:
            writer.go()
        load.run_for(bench.pick(0.5, 0.1))
        before = acknowledged(writers)
        stretch = Stretch(server)
        load.run_for(bench.pick(4.0, 0.2))
        stretch.end()
        rate = (acknowledged(writers) - before) / stretch.wall_s
        stop(load, writers)
        return rate, stretch
