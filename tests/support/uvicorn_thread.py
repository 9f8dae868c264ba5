"""The application under uvicorn in a thread of this process, on a loopback port: any protocol class, small bounds.

For what a server in a process of its own hides: its objects can be looked at while it runs.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import uvicorn

from syncline_protocol.limits import DEFAULT_LIMITS
from syncline_server.app import create_app, hub_of
from syncline_server.hub import Hub
from syncline_server.serve import listen
from syncline_server.settings import Settings

__all__ = ["UvicornThread", "uvicorn_thread"]

T = TypeVar("T")

_TIMEOUT_S = 10.0


class UvicornThread:
    """A server that runs."""

    def __init__(self, port: int, hub: Hub, loop: asyncio.AbstractEventLoop) -> None:
        self.port = port
        self.hub = hub
        self._loop = loop

    def call(self, work: Callable[[], T]) -> T:
        """Carry out `work` in the server's event loop."""

        async def carry_out() -> T:
            return work()

        return asyncio.run_coroutine_threadsafe(carry_out(), self._loop).result(_TIMEOUT_S)

    def create(self, store: str) -> None:
        """Create a store."""
        asyncio.run_coroutine_threadsafe(self.hub.create(store), self._loop).result(_TIMEOUT_S)

    def until(self, condition: Callable[[], bool], timeout_s: float = _TIMEOUT_S) -> None:
        """Return when the condition holds in the server's event loop."""
        deadline = time.monotonic() + timeout_s
        while not self.call(condition):
            assert time.monotonic() < deadline, "it never came to pass"
            time.sleep(0.01)


@contextmanager
def uvicorn_thread(*, ws: Any, http: Any = "auto", **settings: Any) -> Iterator[UvicornThread]:
    """Run the application on memory storage; `ws` and `http` are protocol classes or names that uvicorn knows."""
    app = create_app(Settings(store="memory:", **settings))
    with listen("127.0.0.1", 0) as listener:
        config = uvicorn.Config(
            app,
            ws=ws,
            http=http,
            ws_max_size=DEFAULT_LIMITS.frame_bytes_max,
            ws_ping_interval=None,
            ws_per_message_deflate=False,
            log_config=None,
            timeout_graceful_shutdown=1,
        )
        server = uvicorn.Server(config)
        running: dict[str, asyncio.AbstractEventLoop] = {}

        async def serve() -> None:
            running["loop"] = asyncio.get_running_loop()
            await server.serve(sockets=[listener])

        def run() -> None:
            with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
                runner.run(serve())

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        deadline = time.monotonic() + _TIMEOUT_S
        while not server.started:
            assert time.monotonic() < deadline, "the server did not start"
            time.sleep(0.005)
        try:
            yield UvicornThread(listener.getsockname()[1], hub_of(app), running["loop"])
        finally:
            server.should_exit = True
            thread.join(_TIMEOUT_S)
            assert not thread.is_alive(), "the server did not stop"
