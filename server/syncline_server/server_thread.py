"""A server in a thread of this process: one run of the application, from `start` to `stop` or `kill`.

It is carried as `syncline serve` carries it, with the same protocol classes and bounds. Owns the thread, its event loop
and the sockets; what outlives a run is `embedded`'s. Every method is for other threads than its own, and comes back
within milliseconds: nobody's patience is asked for, because who waits here may be the very peer that is waited for.
"""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

import uvicorn
from starlette.applications import Starlette

from .app import hub_of
from .direct import DirectWebSocket, HeadDeadline
from .hub import Hub
from .serve import config_of

__all__ = ["ServerThread"]

T = TypeVar("T")

#: Every wait for the thread; one that lasts so long is for ever.
_TIMEOUT_S = 30.0

#: How long the end waits for commits, for requests over HTTP, for a close frame to be answered.
_DRAIN_S = 8.0
_REQUESTS_S = 1.0

#: The date in the answers is renewed so often.
_DATE_S = 1.0


class ServerThread:
    """Args:
    app: the application, from `create_app`.
    listener: from `listen`; it is closed at the end.
    http: the protocol class of a connection, or a name that uvicorn knows.
    ws: that of an upgraded one.
    """

    def __init__(
        self, app: Starlette, listener: socket.socket, *, http: Any = HeadDeadline, ws: Any = DirectWebSocket
    ) -> None:
        self.hub = hub_of(app)
        self.port: int = listener.getsockname()[1]
        self._listener = listener
        self._started: Future[asyncio.AbstractEventLoop] = Future()
        self._server = _Server(config_of(app, http=http, ws=ws), self.hub, self._started)
        self._thread = threading.Thread(target=self._work, name="syncline-server", daemon=True)

    # --- life ---

    def start(self) -> None:
        """Return once requests are taken. Raises StorageError if the storage cannot be opened."""
        self._thread.start()
        try:
            self._started.result(_TIMEOUT_S)
        except BaseException:
            self._thread.join(_TIMEOUT_S)
            raise

    def stop(self) -> None:
        """End it in order: BYE to everybody, writes under way are answered, sockets close, the storage closes."""
        self._end(is_orderly=True)

    def kill(self) -> None:
        """Break every connection without a word, and end. A write under way may be committed, and is not answered."""
        self._end(is_orderly=False)

    def _end(self, *, is_orderly: bool) -> None:
        self.call(lambda: self._server.end(is_orderly=is_orderly))
        self._thread.join(_TIMEOUT_S)
        if self._thread.is_alive():
            raise RuntimeError(f"the server did not end within {_TIMEOUT_S:g} s")

    def _work(self) -> None:
        try:
            with self._listener, asyncio.Runner(loop_factory=self._server.config.get_loop_factory()) as runner:
                runner.run(self._serve())
        except BaseException as error:
            if self._started.done():
                raise
            self._started.set_exception(error)

    async def _serve(self) -> None:
        # Before uvicorn, which would bury the reason in a traceback; the application's lifespan finds it open.
        await self.hub.start()
        await self._server.serve(sockets=[self._listener])

    # --- while it runs ---

    def call(self, work: Callable[[], T]) -> T:
        """Carry out `work` in the server's event loop, and return what it returns."""

        async def carry_out() -> T:
            return work()

        return self.run(carry_out())

    def run(self, work: Coroutine[object, object, T]) -> T:
        """The same for work that has to wait for something."""
        loop = self._started.result(_TIMEOUT_S)
        return asyncio.run_coroutine_threadsafe(work, loop).result(_TIMEOUT_S)

    def cut(self) -> None:
        """Break every connection that is open, without a word. The server goes on."""
        self.run(self._server.cut())


class _Server(uvicorn.Server):
    """A uvicorn server that ends when it is told to, instead of some tenths of a second later."""

    def __init__(self, config: uvicorn.Config, hub: Hub, has_started: "Future[asyncio.AbstractEventLoop]") -> None:
        super().__init__(config)
        self._hub = hub
        self._has_started = has_started
        self._ending = asyncio.Event()
        self._is_orderly = True

    def end(self, *, is_orderly: bool) -> None:
        """Leave the main loop."""
        self._is_orderly = is_orderly
        self.should_exit = True
        self._ending.set()

    async def cut(self) -> None:
        """Break every connection, and return when all of them are gone."""
        connections = set(self.server_state.connections)
        for connection in connections:
            connection.transport.abort()
        # Each says so to uvicorn, which tells nobody, within a turn or two of the event loop.
        while connections & self.server_state.connections:  # noqa: ASYNC110
            await asyncio.sleep(0)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._has_started.set_result(asyncio.get_running_loop())

    async def main_loop(self) -> None:
        while not await self.on_tick(0):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ending.wait(), _DATE_S)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        if self._is_orderly:
            await self._hub.drain(after_ms=0, jitter_ms=0, patience_s=_DRAIN_S)
            for connection in list(self.server_state.connections):
                connection.shutdown()
            await self._requests_done()
        await self.cut()
        await self._requests_done()
        await self.lifespan.shutdown()

    async def _requests_done(self) -> None:
        if self.server_state.tasks:
            await asyncio.wait(list(self.server_state.tasks), timeout=_REQUESTS_S)
