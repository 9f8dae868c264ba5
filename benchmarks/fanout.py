"""Fan-out: what a delivery costs, and how late it comes.

The floor is the bare broadcaster: the same bytes to the same number of sockets from the same core.
"""

from collections.abc import Iterator

from .bare_broadcaster import Bare
from .bench import Bench, Stretch
from .load import Load
from .report import Histogram, Line, at_most
from .subscriber import Swarm
from .wire import adds, writes
from .writer import Writer, acknowledged, paced, stop

__all__ = ["fanout", "latency", "lockstep"]


def fanout(bench: Bench) -> Iterator[Line]:
    """One change a commit, and as many as there is time for."""
    for subscribers, rounds in bench.pick([(100, 1000), (1000, 200), (5000, 40)], [(20, 5)]):
        yield _one_change(bench, subscribers, rounds)
    subscribers = bench.pick(1000, 20)
    yield _full_speed(bench, subscribers, in_flight=64, ops=1)
    yield _full_speed(bench, subscribers, in_flight=2, ops=100)


def _one_change(bench: Bench, subscribers: int, rounds: int) -> Line:
    """In lockstep: the next change is written when everybody has the last one."""
    with bench.server() as (server, load):
        swarm = _swarm(server.address, load, subscribers)
        writer = Writer(load, server.address, adds())
        load.open([writer])
        lockstep(load, swarm, writer, max(1, rounds // 10))
        bytes_before = swarm.bytes
        stretch = Stretch(server)
        lockstep(load, swarm, writer, rounds)
        stretch.end()
        message_bytes = (swarm.bytes - bytes_before) // (subscribers * rounds)
    with Load() as load, Bare(load, bench.directory, subscribers) as bare:
        bare.broadcast(message_bytes, 1)
        floor = Stretch(bare)
        for _ in range(rounds):
            bare.broadcast(message_bytes, 1)
        floor.end()
    deliveries = subscribers * rounds
    return Line(
        f"fan-out: one change a commit, {subscribers:,} subscribers",
        1e6 * stretch.cpu_s / deliveries,
        "µs CPU a delivery",
        1e6 * floor.cpu_s / deliveries,
        at_most(ratio=1.25) if subscribers in (20, 1000) else None,
        f"{message_bytes} bytes; {stretch.busy}",
    )


def lockstep(load: Load, swarm: Swarm, writer: Writer, rounds: int) -> None:
    """Write so many changes, each when everybody has the last one."""
    for _ in range(rounds):
        expected = swarm.changes + len(swarm.subscribers)
        writer.write()
        swarm.wait_for(load, expected)


def _full_speed(bench: Bench, subscribers: int, *, in_flight: int, ops: int) -> Line:
    """Eight writers as fast as they are acknowledged; it ends when everybody has everything."""
    with bench.server() as (server, load):
        swarm = _swarm(server.address, load, subscribers)
        makers = [adds() if ops == 1 else writes(ops) for _ in range(8)]
        writers = [Writer(load, server.address, make, in_flight=in_flight) for make in makers]
        load.open(writers)
        stretch = Stretch(server)
        for writer in writers:
            writer.go()
        load.run_for(bench.pick(5.0, 0.3))
        stop(load, writers)
        changes = acknowledged(writers) * ops
        swarm.wait_for(load, changes * subscribers)
        stretch.end()
        frame_bytes = swarm.bytes // swarm.frames
        frames_each = swarm.frames // subscribers
    rounds = bench.pick(20, 2)
    with Load() as load, Bare(load, bench.directory, subscribers) as bare:
        floor = Stretch(bare)
        for _ in range(rounds):
            bare.broadcast(frame_bytes, 1)
        floor.end()
    deliveries = changes * subscribers
    changes_a_frame = changes / frames_each
    return Line(
        f"fan-out: full speed, {subscribers:,} subscribers, " + ("single ADDs" if ops == 1 else f"WRITEs of {ops}"),
        1e6 * stretch.cpu_s / deliveries,
        "s CPU a million",
        floor.cpu_s / (rounds * subscribers * changes_a_frame) * 1e6,
        at_most(figure=0.5),
        f"{deliveries / stretch.wall_s:,.0f} deliveries/s; {changes / stretch.wall_s:,.0f} changes/s; "
        f"{changes_a_frame:.0f} changes a frame; {stretch.busy}",
    )


def latency(bench: Bench) -> Iterator[Line]:
    """From the moment an ADD is sent to the moment a subscriber has it, over all subscribers."""
    subscribers, per_second, seconds = bench.pick(1000, 20), bench.pick(200, 50), bench.pick(8.0, 0.3)
    with bench.server() as (server, load):
        swarm = _swarm(server.address, load, subscribers)
        writer = Writer(load, server.address, adds())
        load.open([writer])
        load.pace(paced(writer, per_second))
        load.run_for(bench.pick(1.0, 0.1))
        before = swarm.frames
        swarm.ages = ages = Histogram()
        stretch = Stretch(server)
        load.run_for(seconds)
        stretch.end()
        load.pace(None)
        swarm.wait_for(load, writer.acknowledged * subscribers)
        deliveries_a_frame = ages.count / (swarm.frames - before)
        message_bytes = swarm.bytes // swarm.changes
    with Load() as load, Bare(load, bench.directory, subscribers) as bare:
        floor_ages = bare.record_ages(message_bytes)
        load.pace(bare.paced(per_second))
        floor = Stretch(bare)
        load.run_for(bench.pick(4.0, 0.2))
        floor.end()
        load.pace(None)
        load.run_for(0.5)
    note = f"{deliveries_a_frame:.2f} changes a frame; {stretch.busy}; floor {floor.busy}"
    for percent, bound in ((50, 10), (99, 25)):
        yield Line(
            f"latency: {per_second} changes/s, {subscribers:,} subscribers, p{percent}",
            ages.percentile_ms(percent),
            "ms",
            floor_ages.percentile_ms(percent),
            at_most(figure=bound),
            note,
        )


def _swarm(address: tuple[str, int], load: Load, subscribers: int) -> Swarm:
    swarm = Swarm().join(load, address, subscribers)
    swarm.subscribe(load)
    swarm.bytes = swarm.frames = 0
    return swarm
