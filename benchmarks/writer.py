"""Writers: each keeps a number of requests in flight, and sends one more for each that is acknowledged."""

import time
from collections import deque
from collections.abc import Callable

from .load import Address, Channel, Load, LoadError
from .report import Histogram
from .server import Server
from .wire import FIRST_ID, HELLO, writes

__all__ = ["Writer", "acknowledged", "fill", "paced", "stop", "write"]

#: A store is filled with transactions of so many records.
_FILL_OPS = 100


class Writer(Channel):
    """One writer.

    Args:
        in_flight: how many requests it keeps unacknowledged once `go` was called.
        make: makes a framed request, (id, now_ns) → bytes.
        hello: what it says first.
    """

    #: The answer to a WRITE names every op, and all of it is counted.
    whole_bytes_max = 1 << 30

    def __init__(
        self,
        load: Load,
        address: Address,
        make: Callable[[int, int], bytes],
        *,
        in_flight: int = 1,
        hello: bytes = HELLO,
    ) -> None:
        super().__init__(load, address)
        self.hello = hello
        self.acknowledged = 0
        self.ack_times: Histogram | None = None
        self._make = make
        self._in_flight = in_flight
        self._going = False
        self._next_id = FIRST_ID
        self._sent_at: deque[int] = deque()

    @property
    def unacknowledged(self) -> int:
        return self._next_id - FIRST_ID - self.acknowledged

    def go(self) -> None:
        """Write until `stop`."""
        self._going = True
        self.write(self._in_flight)

    def stop(self) -> None:
        """Send nothing new."""
        self._going = False

    def write(self, count: int = 1) -> None:
        """Send so many requests, with one `send`."""
        now = time.perf_counter_ns()
        first = self._next_id
        self._next_id += count
        make = self._make
        self.send(b"".join([make(request_id, now) for request_id in range(first, first + count)]))
        if self.ack_times is not None:
            self._sent_at.extend([now] * count)

    def on_text(self, payload: bytes) -> None:
        if not payload.startswith(b'{"type":"WROTE"') or payload.count(b'"status":') != payload.count(b'"status":"ok"'):
            raise LoadError(f"not acknowledged: {payload[:300]!r}")
        answered = payload.count(b'"id":')
        self.acknowledged += answered
        if self.ack_times is not None:
            now = time.perf_counter_ns()
            for _ in range(min(answered, len(self._sent_at))):
                self.ack_times.add(now - self._sent_at.popleft())
        if self._going:
            self.write(answered)


def acknowledged(writers: list[Writer]) -> int:
    """Return how many requests have been acknowledged to all of them."""
    return sum([writer.acknowledged for writer in writers])


def stop(load: Load, writers: list[Writer]) -> None:
    """Let them stop, and return when everything sent is acknowledged."""
    for writer in writers:
        writer.stop()
    load.run_until(
        lambda: not any(writer.unacknowledged for writer in writers), timeout_s=60, what="writes are unacknowledged"
    )


def write(load: Load, writer: Writer, count: int, *, in_flight: int = 64) -> None:
    """Write so many requests and return when all are acknowledged."""
    upto = writer.acknowledged + count
    unsent = count
    while unsent:
        some = min(unsent, in_flight - writer.unacknowledged)
        writer.write(some)
        unsent -= some
        room_at = writer.acknowledged + 1
        load.run_until(lambda at=room_at: writer.acknowledged >= at, timeout_s=60, what="a write is unacknowledged")  # type: ignore[misc]
    load.run_until(lambda: writer.acknowledged >= upto, timeout_s=60, what="writes are unacknowledged")


def fill(load: Load, server: Server, records: int) -> None:
    """Put so many records into the store of the benchmarks."""
    writer = Writer(load, server.address, writes(_FILL_OPS))
    load.open([writer])
    write(load, writer, records // _FILL_OPS, in_flight=8)
    writer.close()


def paced(writer: Writer, per_second: int) -> Callable[[int], int]:
    """Return a pacer for `Load.pace` that writes at a steady rate, whether acknowledged or not."""
    step_ns = 1_000_000_000 // per_second
    due = time.perf_counter_ns()

    def pacer(now_ns: int) -> int:
        nonlocal due
        if now_ns >= due:
            writer.write()
            due += step_ns
        return due

    return pacer
