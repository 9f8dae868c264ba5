"""The fast way to a socket under uvicorn: whole messages in and shared frames out, without a task or queue a message.

`DirectWebSocket` is uvicorn's sans-I/O WebSocket protocol with three additions: it offers itself to the application in
`scope["extensions"]["syncline.direct"]`; once `attach` was called it hands messages over by a plain call; and it lets
frames that are already framed be written to the transport. Handshake, ping, fragments, close and every error of the
framing stay with uvicorn and websockets. `HeadDeadline` is uvicorn's HTTP protocol with a deadline for the head of a
request, which uvicorn lacks.
"""

import asyncio
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import Request

from .frame import Frame, text_frame
from .transport import HIGH_WATER_BYTES, Receiver

__all__ = ["ABORT_EXTENSION", "EXTENSION", "DirectWebSocket", "HeadDeadline"]

#: The key of the scope's extensions under which the direct way is offered.
EXTENSION = "syncline.direct"

#: The same for HTTP: a function that drops the socket of a request at once.
ABORT_EXTENSION = "syncline.abort"

#: A peer that does not take our last bytes and the close frame within this time is dropped.
_CLOSE_TIMEOUT_S = 3.0

#: The head of a request has to be there this long after the connection was made; a whole slowloris costs no more.
_HEAD_TIMEOUT_S = 5.0


class DirectWebSocket(WebSocketsSansIOProtocol):
    """One socket; also the `Transport` of its connection."""

    receiver: Receiver | None = None
    full = False

    def handle_connect(self, event: Request) -> None:
        super().handle_connect(event)
        if hasattr(self, "scope"):
            cast(dict[str, Any], self.scope["extensions"])[EXTENSION] = self

    # --- the application's side ---

    def attach(self, receiver: Receiver) -> None:
        """From now on, hand messages to `receiver`. Call it right after `accept`, before anything is awaited."""
        self.receiver = receiver
        self.transport.set_write_buffer_limits(high=HIGH_WATER_BYTES, low=HIGH_WATER_BYTES // 4)

    def write(self, payload: bytes) -> None:
        self.transport.write(text_frame(payload))

    def write_frame(self, frame: Frame) -> None:
        self.transport.write(frame.wire)

    def unsent_bytes(self) -> int:
        return self.transport.get_write_buffer_size()

    def pause_reading(self) -> None:
        if not self.read_paused and not self.transport.is_closing():
            self.read_paused = True
            self.transport.pause_reading()

    def resume_reading(self) -> None:
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
        self.close_timer = self.loop.call_later(_CLOSE_TIMEOUT_S, self.abort)

    def abort(self) -> None:
        self.transport.abort()

    # --- the socket's side ---

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
        if self.receiver is not None:
            self.receiver.on_drained()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self.receiver is not None:
            self.receiver.lost()
            self.receiver = None


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
