"""A WebSocket client that does what no library lets one do: half frames, silence, bytes of any kind.

Blocking and small. It frames with a zero mask, which is legal.
"""

import json
import socket
from types import TracebackType
from typing import Any, Self

__all__ = ["RawSocket", "text_frame"]

_UPGRADE = (
    "GET /v1/ws HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Protocol: syncline.v1.json\r\n\r\n"
)


def text_frame(payload: bytes, *, opcode: int = 1) -> bytes:
    """Frame a client's message."""
    size = len(payload)
    head = bytes([0x80 | opcode])
    if size < 126:
        head += bytes([0x80 | size])
    elif size < 65536:
        head += b"\xfe" + size.to_bytes(2, "big")
    else:
        head += b"\xff" + size.to_bytes(8, "big")
    return head + b"\0\0\0\0" + payload


class RawSocket:
    """One connection to a server on loopback.

    Args:
        greet: whether to upgrade and say HELLO.
        receive_buffer: bytes that the kernel may hold for us, to make a slow reader of this.
    """

    def __init__(
        self, port: int, *, upgrade: bool = True, greet: bool = True, receive_buffer: int | None = None
    ) -> None:
        self._socket = socket.socket()
        if receive_buffer is not None:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self._socket.settimeout(15.0)
        self._socket.connect(("127.0.0.1", port))
        self._received = b""
        self._port = port
        if upgrade:
            self.upgrade()
        if upgrade and greet:
            self.send({"type": "HELLO"})
            assert self.receive()["type"] == "WELCOME"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._socket.close()

    def upgrade(self, behind: bytes = b"", *, wait: bool = True) -> None:
        """Ask for the upgrade, with further bytes right behind, and wait until it is granted."""
        self.send_bytes(_UPGRADE.format(port=self._port).encode() + behind)
        if wait:
            head = self._until(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 101"), head

    def send(self, message: dict[str, Any]) -> None:
        """Send one message."""
        self.send_bytes(text_frame(json.dumps(message).encode()))

    def send_bytes(self, data: bytes) -> None:
        """Send bytes as they are."""
        self._socket.sendall(data)

    def receive(self) -> dict[str, Any]:
        """Return the next message.

        Raises:
            EOFError: the server closed; its arguments are the close code, or None without one.
        """
        opcode, payload = self.receive_frame()
        if opcode == 8:
            raise EOFError(int.from_bytes(payload[:2], "big") if payload else 1005)
        message: dict[str, Any] = json.loads(payload)
        return message

    def receive_until(self, kind: str) -> list[dict[str, Any]]:
        """Return the next messages up to the first of this type."""
        messages = [self.receive()]
        while messages[-1]["type"] != kind:
            messages.append(self.receive())
        return messages

    def receive_frame(self) -> tuple[int, bytes]:
        """Return opcode and payload of the next frame."""
        first, size = self._exactly(2)
        if size == 126:
            size = int.from_bytes(self._exactly(2), "big")
        elif size == 127:
            size = int.from_bytes(self._exactly(8), "big")
        return first & 15, self._exactly(size)

    def close_code(self) -> int | None:
        """Read to the end and return the close code; None if the connection was cut without one."""
        try:
            while True:
                self.receive()
        except EOFError as end:
            code: int | None = end.args[0]
            return code
        except ConnectionError:
            return None

    def _exactly(self, size: int) -> bytes:
        while len(self._received) < size:
            self._read()
        data, self._received = self._received[:size], self._received[size:]
        return data

    def _until(self, mark: bytes) -> bytes:
        while mark not in self._received:
            self._read()
        data, _, self._received = self._received.partition(mark)
        return data

    def _read(self) -> None:
        data = self._socket.recv(65536)
        if not data:
            raise EOFError(None)
        self._received += data
