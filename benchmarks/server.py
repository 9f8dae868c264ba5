"""The server under test, started as an operator starts it."""

import http.client
import json
import socket
import sys
import time
from collections.abc import Sequence
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
        flags: further ones; without any nobody has to log in.
    """

    #: Who asks in requests.
    token: str | None = None

    def __init__(self, file: Path, *, port: int | None = None, flags: Sequence[str] = ("--auth", "none")) -> None:
        self.address: Address = ("127.0.0.1", port or free_port())
        command = [
            *(sys.executable, "-m", "syncline_server", "--log-level", "warning", *flags),
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
        while self._ask("GET", "/health/ready")[0] != 200:
            if self.child.poll() is not None or time.monotonic() > self.started_at + _READY_TIMEOUT_S:
                raise LoadError(f"the server is not ready; {self.failure()}")
            time.sleep(0.01)

    def create_store(self) -> "Server":
        """Create the store of the benchmarks."""
        self.request("PUT", f"/v1/stores/{STORE}")
        return self

    def request(self, method: str, path: str, body: object = None) -> dict[str, object]:
        """Make a request and return what it is answered.

        Raises:
            LoadError: it did not succeed.
        """
        status, text = self._ask(method, path, body)
        if status not in (200, 201, 202, 204):
            raise LoadError(f"{method} {path}: HTTP {status} {text[:300]!r}")
        answer: dict[str, object] = json.loads(text or b"{}")
        return answer

    def _ask(self, method: str, path: str, body: object = None) -> tuple[int, bytes]:
        """Return the status, 0 if there is nobody who answers, and the text."""
        headers = {} if self.token is None else {"Authorization": f"Bearer {self.token}"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        connection = http.client.HTTPConnection(*self.address, timeout=30)
        try:
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            response = connection.getresponse()
            return response.status, response.read()
        except OSError:
            return 0, b""
        finally:
            connection.close()
