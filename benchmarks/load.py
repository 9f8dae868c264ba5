"""The load: one epoll loop, and connections that cost less than the server they drive.

`Load` waits for sockets and calls them; a `Connection` is one of them. `Channel` is a connection that speaks Syncline
up to WELCOME and cuts the stream into frames; `subscriber` and `writer` build on it. Everything runs in one thread
without a task, future or callback object per event. A server that breaks the protocol ends the benchmark with
`LoadError`.
"""

import os
import select
import socket
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable

from .wire import HEARTBEAT, HELLO, UPGRADE

__all__ = ["Address", "Channel", "Connection", "Load", "LoadError", "own_cpu_s"]

Address = tuple[str, int]

#: What one `recv` takes. It is what the kernel's receive buffer holds at first, so more is rarely there.
_RECV_BYTES = 128 * 1024

#: Of a frame that is not put together, this is looked at.
_BEGINNING_BYTES = 512

#: Connections that are being opened at once; a listen backlog takes that without dropping any.
_OPENING_MAX = 256

_TEXT, _CLOSE, _PING = 1, 8, 9


class LoadError(Exception):
    """The server did what it must not do, or did not do in time what it must."""


class Load:
    """The loop. Timeouts are generous: they tell a hang from a slow machine."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._connections: dict[int, Connection] = {}
        self._pacer: Callable[[int], int] | None = None

    def __enter__(self) -> "Load":
        return self

    def __exit__(self, *_: object) -> None:
        for connection in list(self._connections.values()):
            connection.close()
        self._epoll.close()

    def add(self, connection: "Connection") -> None:
        self._connections[connection.fd] = connection
        self._epoll.register(connection.fd, select.EPOLLIN)

    def remove(self, connection: "Connection") -> None:
        del self._connections[connection.fd]
        self._epoll.unregister(connection.fd)

    def watch(self, connection: "Connection", *, readable: bool = True, writable: bool = False) -> None:
        """Choose what is waited for."""
        self._epoll.modify(connection.fd, (select.EPOLLIN if readable else 0) | (select.EPOLLOUT if writable else 0))

    def pace(self, pacer: Callable[[int], int] | None) -> None:
        """Call `pacer(now_ns)` when it is due; it returns when it is due next."""
        self._pacer = pacer

    def run_until(self, done: Callable[[], bool], *, timeout_s: float, what: str) -> None:
        """Serve the sockets until `done()`.

        Raises:
            LoadError: it took longer than `timeout_s`; the message says that `what` did not happen.
        """
        deadline = time.monotonic() + timeout_s
        while not done():
            self._turn(min(0.05, timeout_s))
            if time.monotonic() > deadline:
                raise LoadError(f"after {timeout_s:g} s: {what}")

    def run_for(self, seconds: float) -> None:
        """Serve the sockets for a time."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._turn(min(left, 0.05))

    def _turn(self, wait_s: float) -> None:
        if self._pacer is not None:
            now = time.perf_counter_ns()
            due = self._pacer(now)
            wait_s = max(0.0, min(wait_s, (due - now) / 1e9))
        connections = self._connections
        # Few events a turn, so that what is due is not kept waiting by a thousand sockets.
        for fd, events in self._epoll.poll(wait_s, 64):
            connection = connections.get(fd)
            if connection is None:
                continue
            if events & select.EPOLLOUT:
                connection.on_writable()
            if events & ~select.EPOLLOUT:
                connection.on_readable()

    def open(self, channels: Iterable["Channel"], *, timeout_s: float = 120) -> None:
        """Connect and greet; return when all have got WELCOME."""
        waiting: list[Channel] = []
        for channel in channels:
            channel.connect()
            waiting.append(channel)
            if len(waiting) >= _OPENING_MAX:
                self._until_welcome(waiting, _OPENING_MAX // 2, timeout_s)
        self._until_welcome(waiting, 0, timeout_s)

    def _until_welcome(self, waiting: "list[Channel]", left: int, timeout_s: float) -> None:
        def done() -> bool:
            waiting[:] = [channel for channel in waiting if not channel.welcomed]
            return len(waiting) <= left

        self.run_until(done, timeout_s=timeout_s, what=f"{len(waiting)} connections wait for WELCOME")


class Connection(ABC):
    """A socket of the loop. Override `on_data`, or `on_readable` where each call counts."""

    def __init__(self, load: Load, address: Address) -> None:
        self.load = load
        self.address = address
        self.is_open = False
        self._out = b""
        self._reading = True

    def connect(self) -> None:
        """Connect; on loopback that does not wait for the other process."""
        self.socket = socket.create_connection(self.address, timeout=30)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.recv = self.socket.recv
        self.fd = self.socket.fileno()
        self.is_open = True
        self.load.add(self)

    def send(self, data: bytes) -> None:
        """Send, now or when there is room."""
        if self._out:
            self._out += data
            return
        try:
            sent = self.socket.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self.lose()
            return
        if sent < len(data):
            self._out = data[sent:]
            self.load.watch(self, readable=self._reading, writable=True)

    def on_writable(self) -> None:
        data, self._out = self._out, b""
        self.send(data)
        if self.is_open and not self._out:
            self.load.watch(self, readable=self._reading)

    def on_readable(self) -> None:
        data = self.receive()
        if data:
            self.on_data(data)

    def receive(self) -> bytes:
        """Return what has come; nothing if the connection was lost."""
        try:
            data = self.recv(_RECV_BYTES)
        except BlockingIOError:
            return b""
        except OSError:
            data = b""
        if not data:
            self.lose()
        return data

    @abstractmethod
    def on_data(self, data: bytes) -> None:
        """Take what was received."""

    def lose(self) -> None:
        """The other side has closed."""
        self.close()
        self.on_lost()

    def on_lost(self) -> None:
        raise LoadError("the server closed a connection")

    def stop_reading(self) -> None:
        """Be a client that does not read."""
        self._reading = False
        self.load.watch(self, readable=False)

    def start_reading(self) -> None:
        self._reading = True
        self.load.watch(self)

    def close(self) -> None:
        if self.is_open:
            self.is_open = False
            self.load.remove(self)
            self.socket.close()


class Channel(Connection):
    """A WebSocket with HELLO and WELCOME. Override `on_text` and, for frames that are too long, `on_beginning`.

    Set `hello` before it is opened to be somebody.
    """

    hello = HELLO

    #: A frame that is longer and does not come at once is not put together; only its beginning is looked at.
    whole_bytes_max = 64 * 1024

    def connect(self) -> None:
        self.welcomed = False
        self._upgraded = False
        self._rest = b""
        self._skip = 0
        self._beginning = b""
        self._reading = True
        self._out = b""
        super().connect()
        self.send(UPGRADE)

    @property
    def between_frames(self) -> bool:
        """Whether the next byte to come begins a frame."""
        return not self._rest and not self._skip

    def on_data(self, data: bytes) -> None:
        if not self._upgraded:
            head, end, data = (self._rest + data).partition(b"\r\n\r\n")
            self._rest = b""
            if not end:
                self._rest = head
                return
            if not head.startswith(b"HTTP/1.1 101 "):
                raise LoadError(f"the upgrade was refused: {head[:200]!r}")
            self._upgraded = True
            self.send(self.hello)
        if data:
            self._cut(data)

    def _cut(self, data: bytes) -> None:
        if self._skip:
            if len(data) < self._skip:
                self._skip -= len(data)
                return
            data, self._skip = data[self._skip :], 0
            self.on_beginning(self._beginning)
        if self._rest:
            data, self._rest = self._rest + data, b""
        at, end = 0, len(data)
        while at < end and self.is_open:
            if end - at < 10 and end - at < 2 + _extended(data[at + 1 : at + 2]):
                break
            opcode, start, size = _read_header(data, at)
            if size > self.whole_bytes_max and _BEGINNING_BYTES <= end - start < size:
                self._beginning = data[start : start + _BEGINNING_BYTES]
                self._skip = size - (end - start)
                return
            if end - start < size:
                break
            at = start + size
            self._on_frame(opcode, data[start:at])
        self._rest = data[at:] if self.is_open else b""

    def _on_frame(self, opcode: int, payload: bytes) -> None:
        if opcode == _PING:
            self.send(b"\x8a" + bytes([0x80 | len(payload)]) + b"\0\0\0\0" + payload)
        elif opcode == _CLOSE:
            self.on_close_frame(int.from_bytes(payload[:2], "big"), payload[2:])
        elif opcode != _TEXT:
            raise LoadError(f"a frame with the opcode {opcode}")
        elif payload.startswith(b'{"type":"HEARTBEAT"'):
            self.send(HEARTBEAT)
        elif not self.welcomed and payload.startswith(b'{"type":"WELCOME"'):
            self.welcomed = True
        else:
            self.on_text(payload)

    def on_close_frame(self, code: int, reason: bytes) -> None:
        raise LoadError(f"the server closed a connection with {code} {reason.decode()!r}")

    @abstractmethod
    def on_text(self, payload: bytes) -> None:
        """Take the text of a frame that is neither WELCOME nor HEARTBEAT."""

    def on_beginning(self, beginning: bytes) -> None:
        """A long frame has been received; this is how it began."""
        raise LoadError(f"an unexpected long frame: {beginning!r}")


def _extended(second: bytes) -> int:
    """Return how many bytes of length follow the second byte of a header; 8 while that byte is missing."""
    return {126: 2, 127: 8}.get(second[0] & 0x7F, 0) if second else 8


def _read_header(data: bytes, at: int) -> tuple[int, int, int]:
    """Return opcode, where the payload begins, and its size."""
    size = data[at + 1] & 0x7F
    if size == 126:
        return data[at] & 0x0F, at + 4, int.from_bytes(data[at + 2 : at + 4], "big")
    if size == 127:
        return data[at] & 0x0F, at + 10, int.from_bytes(data[at + 2 : at + 10], "big")
    return data[at] & 0x0F, at + 2, size


def own_cpu_s() -> float:
    """Return the CPU time of the load so far."""
    times = os.times()
    return times.user + times.system
