"""A WebSocket without a server: one ASGI scope on the endpoint, with a guarded engine behind it."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from starlette.websockets import WebSocket

from syncline_protocol import SUBPROTOCOL
from syncline_protocol.codec import decode_server_message, encode
from syncline_protocol.messages import ClientMessage, Hello, ServerMessage
from syncline_server.limits.meter import Meter
from syncline_server.websocket import serve_websocket

from .guarded import Guarded, turns

__all__ = ["AsgiSocket"]

_HOST = "127.0.0.1:7171"


class AsgiSocket:
    """The client's end. `closed` is the code and the reason with which the server closed.

    Args:
        loses_accept: the client is gone before the server can accept.
    """

    def __init__(
        self,
        world: Guarded,
        *,
        headers: Mapping[str, str] | None = None,
        query: str = "",
        origins: frozenset[str] = frozenset(),
        address: str = "127.0.0.1",
        meter: Callable[[], Meter | None] = lambda: None,
        loses_accept: bool = False,
    ) -> None:
        named = {"host": _HOST, **(headers or {})}
        scope: dict[str, Any] = {
            "type": "websocket",
            "path": "/v1/ws",
            "raw_path": b"/v1/ws",
            "root_path": "",
            "scheme": "ws",
            "query_string": query.encode(),
            "headers": [(name.lower().encode(), value.encode()) for name, value in named.items()],
            "server": ("127.0.0.1", 7171),
            "client": (address, 50_000),
            "subprotocols": [SUBPROTOCOL],
            "extensions": {},
        }
        self.messages: list[ServerMessage] = []
        self.closed: tuple[int, str] | None = None
        self._loses_accept = loses_accept
        self._inbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._inbox.put_nowait({"type": "websocket.connect"})
        socket = WebSocket(scope, self._receive, self._send)
        self.task = asyncio.get_running_loop().create_task(
            serve_websocket(socket, world.hub, server="syncline/test", origins=origins, meter=meter)
        )

    async def _receive(self) -> dict[str, Any]:
        return await self._inbox.get()

    async def _send(self, message: Mapping[str, Any]) -> None:
        if message["type"] == "websocket.accept" and self._loses_accept:
            raise OSError("the client is gone")
        if message["type"] == "websocket.send":
            self.messages.append(decode_server_message(message["text"].encode()))
        elif message["type"] == "websocket.close":
            self.closed = (message["code"], message.get("reason", ""))
            self._inbox.put_nowait({"type": "websocket.disconnect", "code": message["code"]})

    async def ask(self, message: ClientMessage) -> list[ServerMessage]:
        """Send a message, and return all that came since."""
        before = len(self.messages)
        self._inbox.put_nowait({"type": "websocket.receive", "text": encode(message).decode()})
        await turns(20)
        return self.messages[before:]

    async def hello(self, token: str | None = None) -> list[ServerMessage]:
        """Say hello."""
        return await self.ask(Hello(token=token))

    async def leave(self) -> None:
        """Go away."""
        self._inbox.put_nowait({"type": "websocket.disconnect", "code": 1001})
        await asyncio.wait([self.task])
