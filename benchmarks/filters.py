"""What a thousand filters on one store cost a change, against one filter.

Every subscriber follows one room of the store, each another. What is measured is the processor time of a real server
for each ADD: of documents that no filter shows, which is the cost of finding that out; and of documents of which each
is shown by one of the filters, where the rest is one frame and one write to a socket for each change.
"""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

from syncline_protocol.index import IndexSpec
from syncline_server.storage.sqlite import SqliteStorage

from .bench import Bench, Stretch
from .load import Load
from .report import Line, at_most
from .server import Server
from .subscriber import Swarm
from .wire import FIRST_ID, KEY_MASK, KEY_STEP, STORE, masked
from .writer import Writer, acknowledged, stop

__all__ = ["filters"]

_ADD = b'{"type":"ADD","id":%d,"store":"' + STORE.encode() + b'","key":"%032x","value":{"room":"room-%05d","x":"%b"}}'
_PAD = b"x" * 160
_SUBSCRIBE = (
    b'{"type":"SUBSCRIBE","id":%d,"store":"' + STORE.encode() + b'","filter":{"index":"room","eq":"room-%05d"}}'
)

#: Rooms from here on are followed by nobody.
_QUIET = 50_000


def filters(bench: Bench) -> Iterator[Line]:
    """The cost of a change that no filter shows, then of one that one of them shows."""
    many = bench.pick(1000, 20)
    one = (_cost(bench, 1, quiet=True) + _cost(bench, 1, quiet=True)) / 2
    yield Line(
        f"filters: a change that none of {many:,} shows",
        _cost(bench, many, quiet=True),
        "µs CPU a change",
        one,
        at_most(ratio=1.1),
        "floor: one filter, which does not show it either",
    )
    yield Line(
        f"filters: a change that one of {many:,} shows",
        _cost(bench, many, quiet=False),
        "µs CPU a change",
        one,
        None,
        "each change is a frame of its own to one subscriber; floor: one filter, which shows nothing",
    )


def _cost(bench: Bench, count: int, *, quiet: bool) -> float:
    """Return the processor time of one ADD in µs while so many rooms are followed."""
    file = bench.new_file()
    asyncio.run(_make(file))
    with Server(file) as server, Load() as load:
        swarm = Swarm().join(load, server.address, count)
        for number, subscriber in enumerate(swarm.subscribers):
            subscriber.send(masked(_SUBSCRIBE % (FIRST_ID, number)))
            if number % 100 == 99:
                load.run_for(0)
        load.run_until(lambda: swarm.caught_up >= count, timeout_s=120, what="not all filters have caught up")
        writers = [
            Writer(load, server.address, _documents(number, count, quiet=quiet), in_flight=64) for number in range(8)
        ]
        load.open(writers)
        for writer in writers:
            writer.go()
        load.run_for(bench.pick(1.0, 0.1))
        before, stretch = acknowledged(writers), Stretch(server)
        load.run_for(bench.pick(5.0, 0.2))
        changes = acknowledged(writers) - before
        stretch.end()
        stop(load, writers)
        return 1e6 * stretch.cpu_s / changes


async def _make(file: Path) -> None:
    storage = SqliteStorage(file)
    await storage.open()
    try:
        await storage.create(STORE, 1)
        await storage.create_index(STORE, IndexSpec("room", "/room"), 1)
    finally:
        await storage.close()


def _documents(seed: int, rooms: int, *, quiet: bool) -> Callable[[int, int], bytes]:
    """Return a maker of framed ADDs, one room after the other: (id, now_ns) → bytes."""
    base = (seed + 1) * (KEY_STEP >> 3)

    def make(request_id: int, now_ns: int) -> bytes:
        key = (base + request_id * KEY_STEP) & KEY_MASK
        room = _QUIET + request_id % 1000 if quiet else request_id % rooms
        return masked(_ADD % (request_id, key, room, _PAD))

    return make
