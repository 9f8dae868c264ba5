"""The application: the one place where the object graph is built.

`create_app` makes storage, hub, routes and console from settings and returns a Starlette application. Its lifespan
opens the storage and keeps the second hand moving; mounted in another application, the outer lifespan has to run it
(see the how-to), which `lifespan_of` does in one line.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from importlib.metadata import version
from typing import cast

from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from .demo import keep_demo_filling
from .hub import Clock, Hub
from .log import Log, get_log
from .metrics import ServerCollector
from .origin import parse_origins
from .routes import exception_handlers, http_routes
from .settings import Settings
from .storage import open_storage
from .storage.base import Storage
from .websocket import serve_websocket

__all__ = ["create_app", "hub_of", "lifespan_of"]

_TICK_S = 1.0


def create_app(
    settings: Settings | None = None, *, storage: Storage | None = None, log: Log | None = None
) -> Starlette:
    """Make the application.

    Args:
        settings: as for `syncline serve`; host, port and logging are the caller's business here.
        storage: a storage of the caller's own, instead of the one that `settings.store` names.
        log: where events go, instead of to what structlog is configured for in this process.
    """
    settings = settings or Settings()
    hub = Hub(
        storage or open_storage(settings.store),
        Clock(now=time.monotonic, now_ms=lambda: time.time_ns() // 1_000_000),
        log or get_log(),
        tail_bytes_max=settings.tail_bytes,
        stall_timeout_s=settings.stall_timeout_s,
    )
    server = f"syncline/{version('syncline')}"
    registry = CollectorRegistry()
    registry.register(ServerCollector(hub.counts, hub.gauges))

    origins = parse_origins(settings.origins)

    async def websocket(socket: WebSocket) -> None:
        await serve_websocket(socket, hub, server=server, connections_max=settings.connections_max, origins=origins)

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        await hub.start()
        hub.spawn(_keep_ticking(hub))
        if settings.demo:
            hub.spawn(keep_demo_filling(hub))
        try:
            yield
        finally:
            await hub.stop()

    routes: list[Route | WebSocketRoute] = [
        WebSocketRoute("/v1/ws", websocket),
        *http_routes(hub, registry, server=server, settings=settings),
    ]
    app = Starlette(routes=routes, lifespan=lifespan, exception_handlers=exception_handlers(hub, settings))
    # A path has one spelling; a redirect would send a body twice.
    app.router.redirect_slashes = False
    app.state.hub = hub
    return app


async def _keep_ticking(hub: Hub) -> None:
    while True:
        await asyncio.sleep(_TICK_S)
        hub.tick()


def hub_of(app: Starlette) -> Hub:
    """Return the engine of an application that `create_app` made."""
    hub: Hub = app.state.hub
    return hub


def lifespan_of(app: Starlette) -> contextlib.AbstractAsyncContextManager[None]:
    """Return the lifespan of a mounted application, for the outer application to enter.

    Starlette runs only the outermost lifespan: `async with lifespan_of(syncline_app): yield`.
    """
    return cast(contextlib.AbstractAsyncContextManager[None], app.router.lifespan_context(app))
