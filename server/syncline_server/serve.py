"""`syncline serve`: the application under a uvicorn that can stand on a real network.

What uvicorn lacks is added here: a deadline for request heads and a direct way to sockets (`direct`), a bounded send
buffer on the listening socket, and a drain before uvicorn closes anything. The order of the
end: ready turns 503, BYE to everybody, writes under way are answered, sockets close, the storage closes.
"""

import asyncio
import socket
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import uvicorn
from starlette.applications import Starlette

from syncline_protocol.limits import DEFAULT_LIMITS

from .app import create_app, hub_of, setup_code_of, start
from .direct import DirectWebSocket, HeadDeadline
from .hub import Hub
from .settings import Settings

__all__ = ["config_of", "listen", "run"]

#: What the kernel keeps unsent for one connection: about one batch. Half of it makes a catch-up cost a third more CPU,
#: because each batch takes more rounds; more would be memory that nobody can count or take back.
_SEND_BUFFER_BYTES = 128 * 1024

#: The kernel's own patience with a peer that takes nothing, as a backstop only: heartbeats and the stall timeout come
#: first. Linux counts it on while a slow reader's window opens by less than a segment at a time, so that 30 s would
#: cut one that reads 1 kB a second.
_TCP_USER_TIMEOUT_MS = 120_000

_BACKLOG = 4096

#: Uvicorn's own patience after our drain, for HTTP requests under way.
_GRACEFUL_S = 1.0


class _Server(uvicorn.Server):
    """A uvicorn server that drains before it closes."""

    def __init__(self, config: uvicorn.Config, hub: Hub, settings: Settings, on_started: Callable[[], None]) -> None:
        super().__init__(config)
        self._hub = hub
        self._settings = settings
        self._on_started = on_started

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # Uvicorn notes the signal and raises it again at the end; an orderly end has the exit code 0 here.
        self.force_exit = self.should_exit
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._on_started()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        await self._hub.drain(
            after_ms=self._settings.drain_after_ms,
            jitter_ms=self._settings.drain_jitter_ms,
            patience_s=self._settings.drain_timeout_s,
        )
        await super().shutdown(sockets)


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket whose connections inherit our bounds. Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
        if sys.platform == "linux":
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _TCP_USER_TIMEOUT_MS)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listener.bind((host, port))
        listener.listen(_BACKLOG)
    except OSError:
        listener.close()
        raise
    listener.set_inheritable(False)
    return listener


def config_of(
    app: Starlette, *, http: Any = HeadDeadline, ws: Any = DirectWebSocket, proxies: str = ""
) -> uvicorn.Config:
    """Return what uvicorn has to know to serve the application.

    Args:
        http: the protocol class of a connection, or its name.
        ws: that of an upgraded one.
        proxies: the addresses whose X-Forwarded headers count.
    """
    return uvicorn.Config(
        app,
        loop="uvloop",
        http=http,
        ws=ws,
        ws_max_size=DEFAULT_LIMITS.frame_bytes_max,
        ws_ping_interval=None,
        ws_per_message_deflate=False,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=bool(proxies),
        forwarded_allow_ips=proxies or "",
        backlog=_BACKLOG,
        timeout_graceful_shutdown=int(_GRACEFUL_S),
        timeout_keep_alive=30,
        lifespan="on",
    )


def run(settings: Settings, listener: socket.socket, on_started: Callable[[str | None], None]) -> None:
    """Serve until SIGTERM or SIGINT; returns after the drain. Raises StorageError if the storage cannot be opened.

    Args:
        settings: what to serve.
        listener: from `listen`.
        on_started: called once requests are taken, with the code that makes the first administrator, if one is needed.
    """
    app = create_app(settings)
    config = config_of(app, proxies=settings.proxies)
    server = _Server(config, hub_of(app), settings, lambda: on_started(setup_code_of(app)))

    async def serve() -> None:
        # Before uvicorn, which would bury the reason in a traceback; the application's lifespan finds it open.
        await start(app)
        await server.serve(sockets=[listener])

    with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
        runner.run(serve())
