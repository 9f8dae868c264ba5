"""Catch-up: one client that reads everything, and a thousand that come back together."""

from collections.abc import Iterator

from .bare_broadcaster import Bare
from .bare_sqlite import read_rate
from .bench import Bench, Stretch
from .load import Load
from .report import Line, at_least, at_most
from .server import Server
from .subscriber import Swarm
from .writer import fill

__all__ = ["catchup"]


def catchup(bench: Bench) -> Iterator[Line]:
    """Cold from storage, and shared."""
    yield _alone(bench)
    for cold in (True, False):
        yield _together(bench, cold=cold)


def _alone(bench: Bench) -> Line:
    records = bench.pick(100_000, 2_000)
    file = bench.directory / "alone.sqlite"
    with Server(file) as server, Load() as load:
        fill(load, server.create_store(), records)
    with Server(file) as server, Load() as load:
        swarm = Swarm().join(load, server.address, 1)
        stretch = Stretch(server)
        swarm.subscribe(load, lambda _: "start")
        stretch.end()
        assert swarm.changes == records, f"{swarm.changes} of {records} records have come"
    return Line(
        f"catch-up: {records:,} records, 1 client, cold",
        records / stretch.wall_s,
        "records/s",
        read_rate(bench.directory, rows=records),
        at_least(figure=500_000),
        f"floor: bare SQLite reads them; {stretch.busy}",
    )


def _together(bench: Bench, *, cold: bool) -> Line:
    """The handshakes are made before, and not counted: the storm reports them."""
    clients, behind = bench.pick(1000, 20), bench.pick(1000, 200)
    file = bench.directory / f"together-{cold}.sqlite"
    with Server(file) as server, Load() as load:
        server.create_store()
        fill(load, server, behind)
        after = _head(load, server)
        fill(load, server, behind)
        if not cold:
            swarm, stretch = _come_back(load, server, clients, after)
    if cold:
        with Server(file) as server, Load() as load:
            swarm, stretch = _come_back(load, server, clients, after)
    assert swarm.changes == clients * behind, f"{swarm.changes} of {clients * behind} changes have come"
    frames = max(1, round(swarm.frames / clients))
    frame_bytes = swarm.bytes // clients // frames
    with Load() as load, Bare(load, bench.directory, clients) as bare:
        floor = Stretch(bare)
        bare.broadcast(frame_bytes, frames)
        floor.end()
    return Line(
        f"catch-up: {clients:,} clients together, {behind:,} behind, {'cold' if cold else 'warm'}",
        1e3 * stretch.cpu_s,
        "ms CPU",
        1e3 * floor.cpu_s,
        at_most(ratio=3),
        f"done in {stretch.wall_s:.2f} s; {frames} frames of {frame_bytes / 1000:.0f} kB each; {stretch.busy}",
    )


def _come_back(load: Load, server: Server, clients: int, after: str) -> tuple[Swarm, Stretch]:
    swarm = Swarm().join(load, server.address, clients)
    swarm.bytes = 0
    stretch = Stretch(server)
    swarm.subscribe(load, lambda _: after)
    return swarm, stretch.end()


def _head(load: Load, server: Server) -> str:
    """Return the cursor of the newest position."""
    swarm = Swarm().join(load, server.address, 1)
    swarm.subscribe(load)
    swarm.subscribers[0].close()
    return swarm.subscribers[0].cursor.decode()
