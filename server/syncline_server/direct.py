"""The fast way to a socket under uvicorn: whole messages in and shared frames out, without a task or queue a message.

`DirectWebSocket` is uvicorn's sans-I/O WebSocket protocol with three additions: it offers itself to the application in
`scope["extensions"]["syncline.direct"]`; once `attach` was called it hands messages over by a plain call; and it lets
frames that are already framed be written to the transport. Handshake, ping, fragments, close and every error of the
framing stay with uvicorn and websockets. `HeadDeadline` is uvicorn's HTTP protocol with a deadline for the head of a
request, which uvicorn lacks.
"""

import asyncio
import fcntl
import socket
import sys
import termios
from typing import Any, cast

from uvicorn._types import ASGIReceiveEvent
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame
from websockets.http11 import Request

from . import frame as shared
from .transport import CLOSE_TIMEOUT_S, HIGH_WATER_BYTES, Receiver

__all__ = ["ABORT_EXTENSION", "EXTENSION", "DirectWebSocket", "HeadDeadline"]

#: The key of the scope's extensions under which the direct way is offered.
EXTENSION = "syncline.direct"

#: The same for HTTP: a function that drops the socket of a request at once.
ABORT_EXTENSION = "syncline.abort"

#: The head of a request has to be there this long after the connection was made; a whole slowloris costs no more.
_HEAD_TIMEOUT_S = 5.0


class DirectWebSocket(WebSocketsSansIOProtocol):
    """One socket; also the `Transport` of its connection."""

    close_timeout_s = CLOSE_TIMEOUT_S
    receiver: Receiver | None = None
    full = False
    _held = False
    _pong = b""

    def handle_connect(self, event: Request) -> None:
        super().handle_connect(event)
        if hasattr(self, "scope"):
            cast(dict[str, Any], self.scope["extensions"])[EXTENSION] = self

    # --- the application's side ---

    def attach(self, receiver: Receiver) -> None:
        """From now on, hand messages to `receiver`. Call it right after `accept`, before anything is awaited."""
        self.receiver = receiver
        # The handshake is over; what it was made of would stay as long as the connection, 4 kB each.
        del self.request, self.response
        self.scope["headers"] = []
        self.transport.set_write_buffer_limits(high=HIGH_WATER_BYTES, low=HIGH_WATER_BYTES // 4)

    def write(self, payload: bytes) -> None:
        self.transport.write(shared.text_frame(payload))

    def write_frame(self, frame: shared.Frame) -> None:
        self.transport.write(frame.wire)

    def unsent_bytes(self) -> int:
        return self.transport.get_write_buffer_size() + _unacknowledged_bytes(self.transport.get_extra_info("socket"))

    @property
    def holds_back(self) -> bool:
        return bool(self.transport.get_write_buffer_size())

    def pause_reading(self) -> None:
        self._held = True
        if not self.read_paused and not self.transport.is_closing():
            self.read_paused = True
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        self._held = False
        if self.read_paused and not self.transport.is_closing():
            self.read_paused = False
            self.transport.resume_reading()

    def close(self, code: int, reason: str) -> None:
        if self.close_sent or self.disconnected or self.transport.is_closing():
            return
        self.conn.send_close(code, reason)
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        self.resume_reading()
        self._drop_soon()

    def _drop_soon(self) -> None:
        # A socket that is being closed is no longer counted, and must not stay for a peer that does not read.
        if self.close_timer is None and not self.disconnected:
            self.close_timer = self.loop.call_later(self.close_timeout_s, self.abort)

    def abort(self) -> None:
        self.transport.abort()

    async def receive(self) -> ASGIReceiveEvent:
        """Return what was read before `attach`, then the end. It leaves a pause of the receiver alone."""
        message = await self.queue.get()
        if self.queue.empty() and not self._held:
            self.resume_reading()
        return message

    # --- the socket's side ---

    def handle_cont(self, event: Frame) -> None:
        # In one piece: the limit is on bytes, and a list would grow by each of a million empty fragments.
        whole = self.frames[0] if isinstance(self.frames[0], bytearray) else bytearray(self.frames[0])
        whole += event.data
        self.frames = [cast(bytes, whole)]
        if event.fin:
            self.frames = [bytes(whole)]
            self.send_receive_event_to_app()

    def handle_ping(self) -> None:
        # Pongs are the one thing that a peer can have us write without limit. While it does not read, the newest one
        # is answered once it does (RFC 6455, 5.5.3); after our close frame none is.
        if self.close_sent or (self.full and self.conn.close_rcvd is None):
            self._pong = b"".join(self.conn.data_to_send()[-1:]) or self._pong
        else:
            super().handle_ping()

    def handle_close(self, event: Frame) -> None:
        super().handle_close(event)
        self._drop_soon()

    def handle_parser_exception(self) -> None:
        super().handle_parser_exception()
        self._drop_soon()

    def send_receive_event_to_app(self) -> None:
        if self.receiver is None:
            super().send_receive_event_to_app()
            return
        payload = self.frames[0] if len(self.frames) == 1 else b"".join(self.frames)
        self.frames = []
        if self.close_sent:
            return
        if self.curr_msg_data_type == "text":
            self.receiver.receive(payload)
        else:
            self.receiver.receive_binary()

    def pause_writing(self) -> None:
        super().pause_writing()
        self.full = True
        if self.receiver is not None:
            self.receiver.on_full()

    def resume_writing(self) -> None:
        super().resume_writing()
        self.full = False
        if self._pong and not self.close_sent:
            self.transport.write(self._pong)
            self._pong = b""
        if self.receiver is not None:
            self.receiver.on_drained()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self.receiver is not None:
            self.receiver.lost()
            self.receiver = None


def _unacknowledged_bytes(tcp: socket.socket) -> int:
    """Return what the kernel holds for the peer. It takes more from us by tens of kilobytes, which a slow peer needs
    a minute for; only this shows meanwhile that it reads.
    """
    if sys.platform != "linux":
        return 0
    try:
        return int.from_bytes(fcntl.ioctl(tcp.fileno(), termios.TIOCOUTQ, bytes(4)), sys.byteorder)
    except OSError:
        return 0


class HeadDeadline(HttpToolsProtocol):
    """HTTP with a deadline for the head of the first request of a connection."""

    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._head_timer = self.loop.call_later(_HEAD_TIMEOUT_S, self._drop)

    def on_headers_complete(self) -> None:
        # Streams have to get rid of a peer that reads nothing, for which ASGI has no word.
        cast(dict[str, Any], self.scope)["extensions"] = {ABORT_EXTENSION: self.transport.abort}
        self._stop_head_timer()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_head_timer()
        super().connection_lost(exc)

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _drop(self) -> None:
        # An upgraded socket has another protocol by now and is no longer ours to drop.
        if self.transport.get_protocol() is self:
            self.transport.abort()
