"""Losses on real sockets: a client in another process is told, and a slow one is cut off from what waits for it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.support.live_server import LiveServer
from tests.support.raw_socket import RawSocket

_PASSWORD = "correct horse battery"


class _Office:
    """The administrator of a server, by HTTP."""

    def __init__(self, server: LiveServer) -> None:
        self.server = server
        body = {"code": server.setup_code(), "user": "root", "password": _PASSWORD}
        with server.client() as client:
            token = client.post("/v1/setup", json=body).raise_for_status().json()["token"]
        self.client: httpx2.Client = server.client(headers={"Authorization": f"Bearer {token}"})
        self.ask("PUT", "stores/notes")
        self.ask("PUT", "users/sam", {"password": _PASSWORD})
        made = self.ask("POST", "tokens", {"title": "t", "user": "sam"})
        self.token, self.token_id = made["secret"], made["token"]["id"]
        self.grant = self.ask("POST", "grants", {"to": "user:sam", "store": "notes", "role": "writer"})["id"]

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """Send a request that succeeds, and return the answer."""
        response = self.client.request(method, f"/v1/{path}", json=body)
        assert response.is_success, response.text
        return response.json()

    def write(self, count: int, size: int) -> None:
        """Write many records of this size."""
        for number in range(count):
            ops = [{"op": "ADD", "key": f"k{number}-{part}", "value": "x" * size} for part in range(10)]
            self.ask("POST", "stores/notes/writes", {"ops": ops})

    def connect(self, *, receive_buffer: int | None = None) -> RawSocket:
        """Connect as `sam`."""
        socket = RawSocket(self.server.port, greet=False, receive_buffer=receive_buffer)
        socket.send({"type": "HELLO", "token": self.token})
        assert socket.receive()["user"] == "sam"
        return socket


@pytest.fixture
def office(tmp_path: Path) -> Iterator[_Office]:
    """A server on which one has to log in."""
    with LiveServer(tmp_path, auth="accounts") as server:
        made = _Office(server)
        yield made
        made.client.close()
        log = server.log()
        assert made.token not in log
        assert "Traceback" not in log


def _follow(socket: RawSocket) -> None:
    socket.send({"type": "SUBSCRIBE", "id": 1, "store": "notes", "after": "start"})
    assert socket.receive()["type"] == "SUBSCRIBED"


def test_a_grant_that_is_taken_back_ends_the_subscription_before_the_call_returns(office: _Office) -> None:
    with office.connect() as socket:
        _follow(socket)
        socket.receive_until("CAUGHT_UP")
        office.ask("DELETE", f"grants/{office.grant}")
        office.write(1, 10)
        ended = socket.receive()
        assert (ended["type"], ended["reason"]) == ("ENDED", "forbidden")
        socket.send({"type": "ADD", "id": 2, "store": "notes", "key": "late", "value": 1})
        assert socket.receive()["code"] == "store_unknown"


def test_a_token_that_is_revoked_closes_the_connection(office: _Office) -> None:
    with office.connect() as socket:
        _follow(socket)
        socket.receive_until("CAUGHT_UP")
        office.ask("DELETE", f"tokens/{office.token_id}")
        assert socket.close_code() == 4503


def test_a_slow_client_does_not_get_what_waited_for_it(office: _Office) -> None:
    with office.connect(receive_buffer=4096) as socket:
        _follow(socket)
        office.write(40, 50_000)
        office.ask("DELETE", f"grants/{office.grant}")
        # What the kernel had taken is on its way, the rest is not.
        assert _bytes_until_cut(socket) < 40 * 10 * 50_000 / 2


def _bytes_until_cut(socket: RawSocket) -> int:
    received = 0
    try:
        while True:
            received += len(socket.receive_frame()[1])
    except (EOFError, ConnectionError):
        return received


def test_a_stream_is_broken_off(office: _Office) -> None:
    headers = {"Authorization": f"Bearer {office.token}", "Accept": "application/x-ndjson"}
    with (
        office.server.client(headers=headers) as client,
        client.stream("GET", "/v1/stores/notes/changes") as response,
    ):
        lines = response.iter_lines()
        assert "to" in json.loads(next(lines))
        office.ask("PUT", "users/sam", {"disabled": True})
        with pytest.raises(httpx2.RemoteProtocolError):
            for _ in lines:
                pass
