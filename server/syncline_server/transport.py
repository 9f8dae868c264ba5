"""Where a connection's frames go: the contract, and its form for any ASGI server.

Owns the way out of one socket and knows when it is full; it leaves the protocol to `connection`. The contract asks
for no queue: who finds a transport full stops writing and goes on at `on_drained`. `direct` has the fast form, which
writes to the socket itself; `AsgiTransport` is the slower one, for servers that only offer ASGI's `send`.
"""

import asyncio
from collections import deque
from typing import Protocol

from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from .frame import Frame

__all__ = ["CLOSE_TIMEOUT_S", "HIGH_WATER_BYTES", "AsgiTransport", "Receiver", "Transport"]

#: A transport with more than this unsent is full. Twice a target batch: one being sent, one ready behind it.
HIGH_WATER_BYTES = 256 * 1024

#: A peer that does not take our last bytes and the close frame within this time is dropped.
CLOSE_TIMEOUT_S = 3.0


class Receiver(Protocol):
    """What a transport reports to; a `Connection` is one."""

    def receive(self, payload: bytes) -> None:
        """A text message came."""

    def receive_binary(self) -> None:
        """A binary message came, which this protocol does not have."""

    def on_full(self) -> None:
        """More than `HIGH_WATER_BYTES` wait; write nothing but small answers until `on_drained`."""

    def on_drained(self) -> None:
        """There is room again."""

    def lost(self) -> None:
        """The socket is gone."""


class Transport(Protocol):
    """The way out of one socket."""

    @property
    def full(self) -> bool:
        """Whether more than `HIGH_WATER_BYTES` wait to be sent."""

    def write(self, payload: bytes) -> None:
        """Send one text frame of this connection alone."""

    def write_frame(self, frame: Frame) -> None:
        """Send a shared frame."""

    def unsent_bytes(self) -> int:
        """Return how many bytes the peer has not taken yet, as far as that can be known."""

    @property
    def holds_back(self) -> bool:
        """Whether something waits in this process that the socket did not take."""

    def pause_reading(self) -> None:
        """Read nothing more for now."""

    def resume_reading(self) -> None:
        """Read again."""

    def close(self, code: int, reason: str) -> None:
        """Send what waits, then the close frame; give up on a peer that does not read after a few seconds."""

    def abort(self) -> None:
        """Drop the socket at once."""


class AsgiTransport:
    """The contract over ASGI's `send`: one task that flushes, alive only while something waits.

    Args:
        patience: ends the serving of a peer that does not take its end; ASGI has no other way to drop a socket.
    """

    def __init__(self, websocket: WebSocket, receiver: Receiver, patience: asyncio.Timeout) -> None:
        self._websocket = websocket
        self._receiver = receiver
        self._patience = patience
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._flusher: asyncio.Task[None] | None = None
        self._closing: tuple[int, str] | None = None
        self._readable = asyncio.Event()
        self._readable.set()
        self.full = False

    def write(self, payload: bytes) -> None:
        if self._closing is not None:
            return
        self._waiting.append(payload)
        self._waiting_bytes += len(payload)
        if not self.full and self._waiting_bytes > HIGH_WATER_BYTES:
            self.full = True
            self._receiver.on_full()
        self._start_flushing()

    def write_frame(self, frame: Frame) -> None:
        self.write(frame.payload)

    def unsent_bytes(self) -> int:
        return self._waiting_bytes

    @property
    def holds_back(self) -> bool:
        return bool(self._waiting_bytes)

    def pause_reading(self) -> None:
        self._readable.clear()

    def resume_reading(self) -> None:
        self._readable.set()

    async def wait_readable(self) -> None:
        """Return when reading is wanted."""
        await self._readable.wait()

    def close(self, code: int, reason: str) -> None:
        if self._closing is None:
            self._closing = (code, reason)
            self._readable.set()
            self._patience.reschedule(asyncio.get_running_loop().time() + CLOSE_TIMEOUT_S)
            self._start_flushing()

    def abort(self) -> None:
        self._waiting.clear()
        self._closing = self._closing or (1011, "")
        # One that has run out already cannot be moved any more.
        if not self._patience.expired():
            self._patience.reschedule(asyncio.get_running_loop().time())

    def stop(self) -> None:
        """The socket is gone: forget what waits."""
        self._waiting.clear()
        self._readable.set()
        if self._flusher is not None:
            self._flusher.cancel()

    def _start_flushing(self) -> None:
        if self._flusher is None:
            self._flusher = asyncio.get_running_loop().create_task(self._flush())

    async def _flush(self) -> None:
        try:
            while self._waiting:
                payload = self._waiting.popleft()
                await self._websocket.send_text(payload.decode())
                self._waiting_bytes -= len(payload)
                if self.full and self._waiting_bytes <= HIGH_WATER_BYTES // 4:
                    self.full = False
                    self._receiver.on_drained()
            if self._closing is not None and self._websocket.application_state is WebSocketState.CONNECTED:
                await self._websocket.close(*self._closing)
        except (WebSocketDisconnect, RuntimeError):
            # Gone, or closed by the server meanwhile, which Starlette and servers report as misuse.
            self._waiting.clear()
        finally:
            self._flusher = None
