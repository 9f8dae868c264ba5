"""The floor of fan-out: a bare uvloop server that writes bytes to sockets when it is told, and nothing else.

Runs as a process of its own on the server's core: `python -m benchmarks.bare_broadcaster PORT`. Whoever connects is
written to; whoever sends a line `SIZE COUNT` commands it, and makes it write COUNT times the same SIZE bytes to every
other connection. Equal lines that wait for it become one larger write, as any broadcaster must do that is asked for
more than it can write one by one. `Bare` drives it, with connections that count bytes.
"""

import asyncio
import sys
import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import cast

import uvloop

from .load import Connection, Load, LoadError
from .process import Process
from .report import Histogram
from .server import free_port

__all__ = ["Bare"]


#: Connections that are made at once; a listen backlog takes that without dropping any.
_CONNECTING = 500


class Bare(Process):
    """The broadcaster with so many connections."""

    def __init__(self, load: Load, directory: Path, connections: int) -> None:
        self.address = ("127.0.0.1", free_port())
        command = [sys.executable, "-m", "benchmarks.bare_broadcaster", str(self.address[1])]
        super().__init__(command, log=directory / "bare_broadcaster.log")
        self.load = load
        self.received_bytes = 0
        self.ages: Histogram | None = None
        self.sent_at: list[int] = []
        self.message_bytes = 1
        self.idle_rss_bytes = 0
        self.sinks: list[_Sink] = []
        self._commander = _Sink(load, self)
        try:
            self._wait_listening()
            self.command(1, 1)
            self.idle_rss_bytes = self.rss_bytes()
            for first in range(0, connections, _CONNECTING):
                self._connect(min(_CONNECTING, connections - first))
        except BaseException:
            self.kill()
            raise

    def __enter__(self) -> "Bare":
        return self

    def __exit__(self, *_: object) -> None:
        for sink in [self._commander, *self.sinks]:
            sink.close()
        self.stop()

    def _wait_listening(self) -> None:
        for _ in range(500):
            try:
                self._commander.connect()
            except ConnectionRefusedError:
                time.sleep(0.02)
            else:
                return
        raise LoadError(self.failure())

    def _connect(self, count: int) -> None:
        added = [_Sink(self.load, self) for _ in range(count)]
        for sink in added:
            sink.connect()
        self.sinks += added
        # A connection that is made may still wait to be accepted, and then misses what is broadcast.
        for _ in range(100):
            if all(sink.bytes for sink in added):
                self.load.run_for(0.02)
                return
            self.command(1, 1)
            self.load.run_for(0.1)
        raise LoadError(f"connections were not accepted; {self.failure()}")

    def broadcast(self, size: int, count: int) -> None:
        """Have it write `size` bytes to each, `count` times; return when all has come."""
        expected = self.received_bytes + size * count * len(self.sinks)
        self.command(size, count)
        self.load.run_until(lambda: self.received_bytes >= expected, timeout_s=60, what="the broadcast is incomplete")

    def command(self, size: int, count: int) -> None:
        """Have it write, and do not wait."""
        self._commander.send(b"%d %d\n" % (size, count))

    def record_ages(self, size: int) -> Histogram:
        """From now on, record how long after its command each message of this size has come."""
        self.message_bytes, self.sent_at, self.ages = size, [], Histogram()
        for sink in self.sinks:
            sink.bytes = 0
        return self.ages

    def paced(self, per_second: int) -> Callable[[int], int]:
        """Return a pacer for `Load.pace` that commands one message at a steady rate."""
        step_ns = 1_000_000_000 // per_second
        due = time.perf_counter_ns()

        def pacer(now_ns: int) -> int:
            nonlocal due
            if now_ns >= due:
                self.sent_at.append(time.perf_counter_ns())
                self.command(self.message_bytes, 1)
                due += step_ns
            return due

        return pacer


class _Sink(Connection):
    """Counts what comes."""

    def __init__(self, load: Load, bare: Bare) -> None:
        super().__init__(load, bare.address)
        self.bare = bare
        self.bytes = 0

    def on_data(self, data: bytes) -> None:
        size = len(data)
        bare = self.bare
        bare.received_bytes += size
        before = self.bytes
        self.bytes = before + size
        if bare.ages is not None:
            now = time.perf_counter_ns()
            for message in range(before // bare.message_bytes, self.bytes // bare.message_bytes):
                bare.ages.add(now - bare.sent_at[message])


@lru_cache
def _message(size: int) -> bytes:
    return b"x" * size


class _Peer(asyncio.Protocol):
    """A connection, seen from the broadcaster."""

    def __init__(self, peers: dict["_Peer", asyncio.Transport]) -> None:
        self._peers = peers
        self._line = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._peers[self] = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._peers.pop(self, None)

    def data_received(self, data: bytes) -> None:
        self._peers.pop(self, None)
        *lines, self._line = (self._line + data).split(b"\n")
        if not lines:
            return
        size, count = map(int, lines[0].split())
        message = _message(size * len(lines))
        for transport in self._peers.values():
            for _ in range(count):
                transport.write(message)


async def _serve(port: int) -> None:
    peers: dict[_Peer, asyncio.Transport] = {}
    server = await asyncio.get_running_loop().create_server(lambda: _Peer(peers), "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(int(sys.argv[1])))
