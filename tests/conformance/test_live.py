"""The cases against a server in a process of its own, over real sockets, with its log in a file."""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import IO

import httpx2
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from .runner import Case, Closed, Link, cases, run

_RECEIVE_S = 5.0
_NO_MORE_S = 0.1
_START_S = 20.0


class LiveLink:
    """The client's end of a real WebSocket."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._closed: Closed | None = None

    async def send(self, data: bytes, *, binary: bool = False) -> None:
        # Below the API, so that a text frame may hold what is not UTF-8.
        async with self._socket.send_context():
            frame = self._socket.protocol.send_binary if binary else self._socket.protocol.send_text
            frame(data)

    async def receive(self, *, waiting: bool = True) -> bytes | Closed:
        if self._closed is not None:
            return self._closed
        try:
            async with asyncio.timeout(_RECEIVE_S if waiting else _NO_MORE_S):
                return await self._socket.recv(decode=False)
        except ConnectionClosed as error:
            self._closed = Closed(error.rcvd.code if error.rcvd is not None else 1006)
            return self._closed

    async def close(self) -> None:
        await self._socket.close()

    def set_slow(self, slow: bool) -> None:
        raise AssertionError("a live target cannot be slow")


class LiveTarget:
    """A server process, which is started anew when a case asks for it."""

    abilities = frozenset({"socket", "restart", "restore", "http", "indexes"})

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file = folder / "syncline.db"
        self._copies = 0
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._address = f"127.0.0.1:{probe.getsockname()[1]}"
        self._output: IO[bytes] = (folder / "server.log").open("ab")
        self._process = self._start()
        self._links: list[LiveLink] = []

    def _start(self) -> "subprocess.Popen[bytes]":
        host, port = self._address.split(":")
        environ = {name: value for name, value in os.environ.items() if not name.startswith("SYNCLINE_")}
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "syncline_server",
                *("--auth", "none"),
                "--host",
                host,
                "--port",
                port,
                "--store",
                f"sqlite:///{self._file}",
            ],
            stdout=self._output,
            stderr=self._output,
            cwd=self._folder,
            env=environ,
        )
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline:
            if process.poll() is not None:
                break
            with contextlib.suppress(httpx2.HTTPError):
                if httpx2.get(f"http://{self._address}/health/ready", trust_env=False, verify=False).status_code == 200:
                    return process
            time.sleep(0.05)
        process.kill()
        pytest.fail(f"the server did not start:\n{(self._folder / 'server.log').read_text()[-3000:]}")

    def stop(self) -> None:
        """End the process as an operator would."""
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def close(self) -> None:
        """Stop for good."""
        self.stop()
        self._output.close()

    # --- what a case asks for ---

    async def connect(self, subprotocol: str | None) -> Link:
        socket = await connect(
            f"ws://{self._address}/v1/ws",
            subprotocols=None if subprotocol is None else [Subprotocol(subprotocol)],
            compression=None,
            proxy=None,
            max_size=4 * 1024 * 1024,
            ping_interval=None,
        )
        link = LiveLink(socket)
        self._links.append(link)
        return link

    async def hang_up(self) -> None:
        """Close what the case has left open."""
        for link in self._links:
            await link.close()
        self._links.clear()

    async def create(self, store: str) -> None:
        status, _, body = await self.http("PUT", f"/v1/stores/{store}", {}, None)
        assert status in (200, 201), body

    async def drop(self, store: str) -> None:
        status, _, body = await self.http("DELETE", f"/v1/stores/{store}", {}, None)
        assert status in (200, 204), body

    async def declare(self, store: str, name: str, path: str, kind: str) -> None:
        where = f"/v1/stores/{store}/indexes/{name}"
        body = json.dumps({"path": path, "kind": kind}).encode()
        status, _, answer = await self.http("PUT", where, {"Content-Type": "application/json"}, body)
        assert status in (200, 201, 202), answer
        async with asyncio.timeout(_RECEIVE_S):
            while json.loads((await self.http("GET", where, {}, None))[2])["state"] != "ready":
                await asyncio.sleep(0.01)

    async def drop_index(self, store: str, name: str) -> None:
        status, _, answer = await self.http("DELETE", f"/v1/stores/{store}/indexes/{name}", {}, None)
        assert status in (200, 204), answer

    async def settle(self) -> None:
        await asyncio.sleep(0.05)

    async def restart(self) -> None:
        await self.hang_up()
        await asyncio.to_thread(self.stop)
        self._process = await asyncio.to_thread(self._start)

    async def copy(self) -> object:
        self._copies += 1
        kept = self._folder / f"copy-{self._copies}.db"
        with (
            contextlib.closing(sqlite3.connect(f"file:{self._file}?mode=ro", uri=True)) as source,
            contextlib.closing(sqlite3.connect(kept)) as copy,
        ):
            source.backup(copy)
        return kept

    async def restore(self, kept: object) -> None:
        assert isinstance(kept, Path)
        await self.hang_up()
        await asyncio.to_thread(self.stop)
        for suffix in ("-wal", "-shm"):
            self._file.with_name(self._file.name + suffix).unlink(missing_ok=True)
        shutil.copyfile(kept, self._file)
        self._process = await asyncio.to_thread(self._start)

    async def advance(self, seconds: float) -> None:
        raise AssertionError("a live target has no clock of its own")

    def fail_next_append(self, kind: str) -> None:
        raise AssertionError("a live target cannot be made to fail")

    async def drain(self) -> None:
        raise AssertionError("a live target is not drained in the middle of a case")

    async def http(
        self, method: str, path: str, headers: dict[str, str], body: bytes | None
    ) -> tuple[int, dict[str, str], bytes]:
        async with httpx2.AsyncClient(trust_env=False, verify=False) as client:
            url = f"http://{self._address}{path}"
            response = await client.request(method, url, headers=headers, content=body)
            return response.status_code, {name.lower(): v for name, v in response.headers.items()}, response.content


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveTarget]:
    target = LiveTarget(tmp_path_factory.mktemp("live"))
    yield target
    target.close()


@pytest.fixture
async def target(server: LiveTarget) -> AsyncIterator[LiveTarget]:
    yield server
    await server.hang_up()


@pytest.mark.parametrize("case", cases("server", LiveTarget.abilities), ids=lambda case: case.id)
async def test_the_live_server_conforms(case: Case, target: LiveTarget) -> None:
    await run(case, target, f"s-{case.id}"[:50])
