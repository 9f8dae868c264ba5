"""The application under uvicorn in a thread of this process, on a loopback port: any protocol class, small bounds.

For what a server in a process of its own hides: its objects can be looked at while it runs.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from syncline_server.app import create_app
from syncline_server.serve import listen
from syncline_server.server_thread import ServerThread
from syncline_server.settings import Settings

__all__ = ["UvicornThread", "uvicorn_thread"]

_TIMEOUT_S = 10.0


class UvicornThread(ServerThread):
    """A server that runs."""

    def create(self, store: str) -> None:
        """Create a store."""
        self.run(self.hub.create(store))

    def until(self, condition: Callable[[], bool], timeout_s: float = _TIMEOUT_S) -> None:
        """Return when the condition holds in the server's event loop."""
        deadline = time.monotonic() + timeout_s
        while not self.call(condition):
            assert time.monotonic() < deadline, "it never came to pass"
            time.sleep(0.01)


@contextmanager
def uvicorn_thread(*, ws: Any, http: Any = "auto", **settings: Any) -> Iterator[UvicornThread]:
    """Run the application on memory storage; `ws` and `http` are protocol classes or names that uvicorn knows."""
    app = create_app(Settings(**{"store": "memory:", "auth": "none", **settings}))
    server = UvicornThread(app, listen("127.0.0.1", 0), ws=ws, http=http)
    server.start()
    try:
        yield server
    finally:
        server.stop()
