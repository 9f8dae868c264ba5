"""A real server in a process of its own, for tests that need a socket, a signal or a crash.

`LiveServer` starts `python -m syncline_server` on a free loopback port, waits until it says that it is ready, and can
kill it, end it in order, and start it again at the same port on the same storage. Processes are ended by their id,
and none outlives its test.
"""

import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx2
import pytest

__all__ = ["LiveServer", "free_port", "live_server"]

_START_TIMEOUT_S = 20.0
_STOP_TIMEOUT_S = 15.0
_READY = "Syncline is ready at "


def free_port() -> int:
    """Return a loopback port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class LiveServer:
    """Args:
    directory: where it works and writes its log; the storage is in it too unless `store` says otherwise.
    store: a storage URL, as for `--store`.
    arguments: further flags of `syncline serve`.
    auth: `none`, or `accounts` for tests in which somebody logs in.
    port: 0 takes a free one, which stays that of this server over restarts.
    """

    def __init__(
        self,
        directory: Path,
        *,
        store: str = "sqlite:///syncline.db",
        arguments: tuple[str, ...] = (),
        auth: str = "none",
        port: int = 0,
    ) -> None:
        self.directory = directory
        self.store = store
        self.arguments = arguments
        self.auth = auth
        self.port = port
        self.log_path = directory / "server.log"
        self._process: subprocess.Popen[str] | None = None
        self._drain: threading.Thread | None = None
        self._printed: queue.SimpleQueue[str] = queue.SimpleQueue()

    # --- life ---

    def start(self) -> Self:
        """Start it and return when it takes requests.

        Raises:
            RuntimeError: it ended or was not ready in time; the text has its log.
        """
        assert self._process is None, "it runs already"
        port = self.port or free_port()
        command = [sys.executable, "-m", "syncline_server", "--host", "127.0.0.1", "--port", str(port)]
        command += ["--store", self.store, "--log-format", "json", "--auth", self.auth, *self.arguments]
        environ = {name: value for name, value in os.environ.items() if not name.startswith("SYNCLINE_")}
        with self.log_path.open("a") as log:
            self._process = subprocess.Popen(
                command, cwd=self.directory, env=environ, stdout=subprocess.PIPE, stderr=log, text=True
            )
        self.port = port
        self._wait_until_ready()
        return self

    def _wait_until_ready(self) -> None:
        process = self._process
        assert process is not None
        assert process.stdout is not None
        # A server that hangs is killed, which ends the reading below.
        killer = threading.Timer(_START_TIMEOUT_S, process.kill)
        killer.start()
        try:
            ready = any(line.startswith(_READY) for line in process.stdout)
        finally:
            killer.cancel()
        if not ready:
            self._reap()
            raise RuntimeError(f"the server did not start:\n{self.log()}")
        # What it prints later must not fill the pipe.
        self._printed = queue.SimpleQueue()
        self._drain = threading.Thread(target=self._keep, args=(process.stdout,), daemon=True)
        self._drain.start()

    def _keep(self, stdout: Iterable[str]) -> None:
        for line in stdout:
            self._printed.put(line)

    def setup_code(self) -> str:
        """Return the code that it prints for the first administrator; once after each start."""
        while True:
            _, found, code = self._printed.get(timeout=_START_TIMEOUT_S).strip().partition("/#setup=")
            if found:
                return code

    def kill(self) -> None:
        """End it at once, as a crash would: SIGKILL."""
        self._end(signal.SIGKILL)

    def terminate(self) -> int:
        """Ask it to end in order, wait until it has, and return its exit code: SIGTERM."""
        return self._end(signal.SIGTERM)

    def restart(self, *, kill: bool = False) -> Self:
        """End it and start it again, at the same port on the same storage."""
        self._end(signal.SIGKILL if kill else signal.SIGTERM)
        return self.start()

    def send_signal(self, number: signal.Signals) -> None:
        """Send it a signal without waiting for anything."""
        assert self._process is not None
        self._process.send_signal(number)

    def wait(self, timeout_s: float = _STOP_TIMEOUT_S) -> int:
        """Wait until it has ended, and return its exit code."""
        process = self._process
        assert process is not None
        try:
            return process.wait(timeout_s)
        finally:
            self._reap()

    def _end(self, number: signal.Signals) -> int:
        self.send_signal(number)
        return self.wait()

    def _reap(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            assert process.stdout is not None
            if self._drain is not None:
                self._drain.join()
                self._drain = None
            process.stdout.close()

    @property
    def running(self) -> bool:
        """Whether the process is there."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The id of its process."""
        assert self._process is not None
        return self._process.pid

    def log(self) -> str:
        """Return everything that it has logged."""
        return self.log_path.read_text()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._reap()

    # --- the way to it ---

    @property
    def url(self) -> str:
        """Its address, as for SYNCLINE_URL."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def socket_url(self) -> str:
        """The address of its WebSocket."""
        return f"ws://127.0.0.1:{self.port}/v1/ws"

    def client(self, **options: object) -> httpx2.Client:
        """Return an HTTP client whose paths are relative to the server."""
        return httpx2.Client(base_url=self.url, timeout=10.0, trust_env=False, **options)  # type: ignore[arg-type]

    def create(self, store: str) -> None:
        """Create a store."""
        with self.client() as client:
            client.put(f"/v1/stores/{store}").raise_for_status()

    def wait_ready(self, timeout_s: float = 5.0) -> None:
        """Return when `/health/ready` says 200."""
        deadline = time.monotonic() + timeout_s
        with self.client() as client:
            while client.get("/health/ready").status_code != httpx2.codes.OK:
                assert time.monotonic() < deadline, "the server is not ready"
                time.sleep(0.02)


@pytest.fixture
def live_server(tmp_path: Path) -> Iterator[LiveServer]:
    """A server on a SQLite file of its own."""
    with LiveServer(tmp_path) as server:
        yield server
