"""A Syncline server as its own process, for tests that need one that can be stopped and started again."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx2

__all__ = ["ServerProcess", "free_port"]

_START_S = 20.0
_STOP_S = 15.0

#: A server inside another application, under a path of its own.
_MOUNTED = """
import contextlib, sys
import uvicorn
from starlette.applications import Starlette
from starlette.routing import Mount
from syncline_server.app import create_app, lifespan_of
from syncline_server.settings import Settings

inner = create_app(Settings(store=sys.argv[2], auth="none"))

@contextlib.asynccontextmanager
async def lifespan(app):
    async with lifespan_of(inner):
        yield

outer = Starlette(routes=[Mount(sys.argv[3], inner)], lifespan=lifespan)
uvicorn.run(outer, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning", ws="websockets-sansio")
"""


class ServerProcess:
    """A server on a free port of loopback that stays its own over restarts. Use it in a `with`.

    Args:
        folder: where the process runs.
        store: the setting `store`.
        prefix: mount the server at this path of another application.
        settings: further settings, which are not for a server that is mounted; nobody has to log in by default.
    """

    def __init__(self, folder: Path, store: str, *, prefix: str = "", **settings: str) -> None:
        self._folder = folder
        self._port = free_port()
        if prefix:
            self._command = [sys.executable, "-c", _MOUNTED, str(self._port), store, prefix]
        else:
            known = {"port": str(self._port), "store": store, "auth": "none", **settings}
            options = [part for name, value in known.items() for part in (f"--{name.replace('_', '-')}", value)]
            self._command = [sys.executable, "-m", "syncline_server", *options]
        self.url = f"http://127.0.0.1:{self._port}{prefix}"
        self._http = httpx2.Client(trust_env=False, timeout=10)
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "ServerProcess":
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._http.close()

    def start(self) -> None:
        """Start the process and wait until it takes requests."""
        # An unknown variable of our prefix stops a server's start, and the tests have some of their own.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("SYNCLINE_")}
        with (self._folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(self._command, cwd=self._folder, env=environment, stdout=log, stderr=log)
        deadline = time.monotonic() + _START_S
        while not self._is_ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the server has not started:\n{(self._folder / 'server.log').read_text()}")
            time.sleep(0.05)

    def _is_ready(self) -> bool:
        try:
            return self.get("/health/ready").status_code == 200
        except httpx2.TransportError:
            return False

    def stop(self) -> None:
        """End the process as an operator would, and wait for it."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def setup_link(self) -> str:
        """Return the link that the server has printed for the first administrator."""
        found = re.search(r"http\S+#setup=\S+", (self._folder / "server.log").read_text())
        assert found
        return found[0]

    def get(self, path: str) -> httpx2.Response:
        """Ask for a path below the server's address."""
        return self._http.get(self.url + path)

    def request(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        cookies: dict[str, str] | None = None,
        token: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> httpx2.Response:
        """Send a request as a browser of this server's own page does, or with a token."""
        sent = {"Origin": self.url, **(headers or {})}
        if cookies:
            sent["Cookie"] = "; ".join(f"{name}={value}" for name, value in cookies.items())
        if token:
            sent["Authorization"] = f"Bearer {token}"
        return self._http.request(method, self.url + path, json=body, headers=sent)

    def create(self, store: str) -> None:
        """Create a store."""
        self._http.put(f"{self.url}/v1/stores/{store}").raise_for_status()

    def drop(self, store: str) -> None:
        """Drop a store."""
        self._http.delete(f"{self.url}/v1/stores/{store}").raise_for_status()

    def add(self, store: str, key: str, value: str) -> None:
        """Add a record; `value` is JSON text."""
        self._http.put(self._record(store, key), content=value.encode(), headers=_JSON).raise_for_status()

    def delete(self, store: str, key: str) -> None:
        """Delete a record."""
        self._http.delete(self._record(store, key)).raise_for_status()

    def write(self, store: str, ops: list[dict[str, Any]]) -> None:
        """Commit several changes at once."""
        self._http.post(f"{self.url}/v1/stores/{store}/writes", json={"ops": ops}).raise_for_status()

    def _record(self, store: str, key: str) -> str:
        return f"{self.url}/v1/stores/{store}/records/{quote(key, safe='')}"


_JSON = {"Content-Type": "application/json"}


def free_port() -> int:
    """Return a port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
