"""The WebSocket endpoint: one ASGI scope to one `Connection`.

Accepts, chooses the subprotocol, and then hands messages to the connection: directly where the server offers it
(`direct`), through ASGI's `receive` elsewhere. Refusals come after the upgrade was accepted, because a browser is
shown nothing but 1006 of an earlier one (PROTOCOL 2).
"""

import asyncio
import secrets
from collections.abc import Callable
from typing import cast

from starlette.websockets import WebSocket, WebSocketDisconnect

from syncline_protocol import SUBPROTOCOL
from syncline_protocol.errors import CloseCode, RemoteProtocolError
from syncline_protocol.server import ServerSession

from .connection import Connection
from .direct import EXTENSION, DirectWebSocket
from .hub import Hub
from .limits.admission import Refusal
from .limits.meter import Meter
from .origin import host_allowed, origin_allowed
from .transport import AsgiTransport
from .visitor import visitor_of

__all__ = ["serve_websocket"]

#: "This client is refused" (RFC 6455).
_POLICY = 1008


async def serve_websocket(
    websocket: WebSocket,
    hub: Hub,
    *,
    server: str,
    origins: frozenset[str],
    meter: Callable[[], Meter | None],
) -> None:
    """Serve one socket until it is closed.

    Args:
        meter: makes what bounds how often one client may ask.
    """
    if not _may_connect(websocket, origins):
        # Browsers have no same-origin rule for sockets: a page of another site could write with nobody's consent.
        await _refuse(websocket, None, _POLICY, "pages of this origin may not use the server (setting: origins)")
        return
    if SUBPROTOCOL not in websocket.scope["subprotocols"]:
        await _refuse(websocket, None, CloseCode.VERSION_UNSUPPORTED, f"offer the subprotocol {SUBPROTOCOL}")
        return
    if hub.draining:
        await _refuse(websocket, SUBPROTOCOL, CloseCode.DRAIN, "the server shuts down")
        return
    try:
        visitor = visitor_of(websocket)
    except RemoteProtocolError as error:
        hub.counts.errors_sent[error.code] += 1
        await _refuse(websocket, SUBPROTOCOL, CloseCode.UNAUTHENTICATED, error.text[:120])
        return
    seat = hub.admission.enter(visitor.address)
    if isinstance(seat, Refusal):
        hub.counts.refused[seat.which] += 1
        await _refuse(websocket, SUBPROTOCOL, CloseCode.OVERLOADED, str(seat))
        return
    session = ServerSession(session_id=secrets.token_hex(8), server=server, now=hub.now())
    connection = Connection(session, hub, visitor, seat=seat, meter=meter())
    try:
        await websocket.accept(subprotocol=SUBPROTOCOL)
    except BaseException:
        # The client is gone already; from here on `Connection.lost` gives the place back.
        seat.leave()
        raise
    direct = cast(DirectWebSocket | None, websocket.scope.get("extensions", {}).get(EXTENSION))
    if direct is not None:
        await _serve_direct(websocket, connection, direct)
    else:
        await _serve_asgi(websocket, connection)


async def _refuse(websocket: WebSocket, subprotocol: str | None, code: int, reason: str) -> None:
    await websocket.accept(subprotocol=subprotocol)
    await websocket.close(code, reason)


def _may_connect(websocket: WebSocket, origins: frozenset[str]) -> bool:
    host, server = websocket.headers.get("host"), websocket.scope.get("server")
    named = host_allowed(host, server[0] if server else None, origins)
    return named and origin_allowed(websocket.headers.get("origin"), host, origins)


async def _serve_direct(websocket: WebSocket, connection: Connection, direct: DirectWebSocket) -> None:
    connection.opened(direct)
    direct.attach(connection)
    # Messages no longer come this way; what comes is what was read before `attach`, and the end.
    await _receive_all(websocket, connection)


async def _serve_asgi(websocket: WebSocket, connection: Connection) -> None:
    try:
        async with asyncio.timeout(None) as patience:
            transport = AsgiTransport(websocket, connection, patience)
            connection.opened(transport)
            await _receive_all(websocket, connection, transport)
    except TimeoutError:
        # It was closed from this side, and the peer did not take the close frame.
        return
    finally:
        transport.stop()


async def _receive_all(websocket: WebSocket, connection: Connection, transport: AsgiTransport | None = None) -> None:
    try:
        while True:
            if transport is not None:
                await transport.wait_readable()
            message = await websocket.receive()
            if message["type"] == "websocket.disconnect":
                return
            text = message.get("text")
            if text is None:
                connection.receive_binary()
            else:
                connection.receive(text.encode(errors="surrogatepass"))
    except WebSocketDisconnect:
        return
    finally:
        connection.lost()
