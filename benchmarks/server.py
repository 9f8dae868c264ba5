"""The server under test, started as an operator starts it."""

import http.client
import socket
import sys
import time
from pathlib import Path

from .load import Address, LoadError
from .process import Process
from .wire import STORE

__all__ = ["Server", "free_port"]

_READY_TIMEOUT_S = 20.0


def free_port() -> int:
    """Return a port on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


class Server(Process):
    """`syncline serve`, by its other name `python -m syncline_server`, on a SQLite file.

    It is ready when the constructor returns; `ready_s` says how long that took.

    Args:
        file: the SQLite file; it may be there already.
        port: where it listens; a free port if none is given.
    """

    def __init__(self, file: Path, *, port: int | None = None) -> None:
        self.address: Address = ("127.0.0.1", port or free_port())
        command = [
            *(sys.executable, "-m", "syncline_server", "--log-level", "warning", "--auth", "none"),
            *("--host", self.address[0], "--port", str(self.address[1]), "--store", f"sqlite:///{file.resolve()}"),
        ]
        super().__init__(command, log=file.with_suffix(".log"))
        try:
            self._wait_ready()
        except BaseException:
            self.kill()
            raise
        self.ready_s = time.monotonic() - self.started_at

    def __enter__(self) -> "Server":
        return self

    def _wait_ready(self) -> None:
        while self._status("GET", "/health/ready") != 200:
            if self.child.poll() is not None or time.monotonic() > self.started_at + _READY_TIMEOUT_S:
                raise LoadError(f"the server is not ready; {self.failure()}")
            time.sleep(0.01)

    def create_store(self) -> "Server":
        """Create the store of the benchmarks."""
        status = self._status("PUT", f"/v1/stores/{STORE}")
        if status not in (200, 201, 204):
            raise LoadError(f"the store was not created: HTTP {status}")
        return self

    def _status(self, method: str, path: str) -> int:
        connection = http.client.HTTPConnection(*self.address, timeout=5)
        try:
            connection.request(method, path)
            return connection.getresponse().status
        except OSError:
            return 0
        finally:
            connection.close()
