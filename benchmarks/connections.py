"""Connections: the memory that one takes, idle and lagging, and what it takes to get a thousand back."""

import time
from collections.abc import Iterator

from .bare_broadcaster import Bare
from .bench import Bench, Stretch
from .load import Load
from .report import Histogram, Line, at_most
from .server import Server
from .subscriber import Swarm
from .wire import adds, writes
from .writer import Writer, paced, write

__all__ = ["memory", "storm"]


def memory(bench: Bench) -> Iterator[Line]:
    """Resident memory for each connection with its subscription."""
    for connections in bench.pick([1000, 5000], [20]):
        yield _idle(bench, connections)
    yield from _lagging(bench)


def _idle(bench: Bench, connections: int) -> Line:
    with bench.server() as (server, load):
        # The first connections also pay for what is imported and allocated once.
        _subscribed(load, server, 20)
        before = server.rss_bytes()
        _subscribed(load, server, connections)
        grown = server.rss_bytes() - before
    with Load() as load, Bare(load, bench.directory, connections) as bare:
        floor = bare.rss_bytes() - bare.idle_rss_bytes
    return Line(
        f"memory: {connections:,} idle connections",
        grown / connections / 1000,
        "kB a connection",
        floor / connections / 1000,
        at_most(figure=28) if not bench.quick else None,
        "floor: a bare uvloop connection",
    )


def _lagging(bench: Bench) -> Iterator[Line]:
    """Readers that stop reading, while much more is written than the server keeps for anybody."""
    connections, some = bench.pick(1000, 20), bench.pick(700, 10)
    with bench.server() as (server, load):
        writer = Writer(load, server.address, writes(100))
        load.open([writer])
        # Fills what the server keeps anyhow: the tail, and the pools of the allocator.
        write(load, writer, some)
        swarm = _subscribed(load, server, connections)
        write(load, writer, 10)
        swarm.wait_for(load, 10 * 100 * connections)
        reading = server.rss_bytes()
        for subscriber in swarm.subscribers:
            subscriber.stop_reading()
        write(load, writer, 2 * some)
        lagging = server.rss_bytes()
        write(load, writer, 2 * some)
        lagging_more = server.rss_bytes()
    megabytes = 2 * some * 100 * 300 / 1e6
    for name, grown, target in (
        (f"by the first {megabytes:.0f} MB of lag", lagging - reading, None),
        (f"by {megabytes:.0f} MB more", lagging_more - lagging, None if bench.quick else at_most(figure=4)),
    ):
        yield Line(
            f"memory: {connections:,} stalled, growth {name}",
            grown / connections / 1000,
            "kB a connection",
            None,
            target,
            f"resident: {reading / 1e6:.0f} MB reading, {lagging / 1e6:.0f}, then {lagging_more / 1e6:.0f} MB lagging",
        )


def _subscribed(load: Load, server: Server, connections: int) -> Swarm:
    swarm = Swarm().join(load, server.address, connections)
    swarm.subscribe(load)
    return swarm


def storm(bench: Bench) -> Iterator[Line]:
    """All connections drop and come back with their cursors, while a writer goes on."""
    connections, per_second = bench.pick(1000, 20), 100
    with bench.server() as (server, load):
        swarm = _subscribed(load, server, connections)
        writer = Writer(load, server.address, adds())
        load.open([writer])
        load.pace(paced(writer, per_second))
        calm = _ack_times(load, writer, bench.pick(2.0, 0.2))
        writer.ack_times = busy = Histogram()
        stretch = Stretch(server)
        for subscriber in swarm.subscribers:
            subscriber.close()
        load.open(swarm.subscribers)
        opened_s = time.perf_counter() - stretch.began
        swarm.subscribe(load, lambda subscriber: subscriber.cursor.decode())
        stretch.end()
        load.pace(None)
        load.run_for(0.2)
    yield Line(
        f"storm: {connections:,} connections back and caught up",
        stretch.wall_s,
        "s",
        note=f"{connections / opened_s:,.0f} handshakes/s; "
        f"{1e6 * stretch.cpu_s / connections:.0f} µs CPU a connection; {stretch.busy}",
    )
    yield Line(
        f"storm: commits meanwhile at {per_second}/s, p99",
        busy.percentile_ms(99),
        "ms",
        calm.percentile_ms(99),
        note="floor: the same without the storm, subscribers reading",
    )


def _ack_times(load: Load, writer: Writer, seconds: float) -> Histogram:
    writer.ack_times = times = Histogram()
    load.run_for(seconds)
    return times
