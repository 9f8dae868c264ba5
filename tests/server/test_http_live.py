"""The HTTP routes over a socket: what only a real server and real signals can show."""

import re
import signal
import socket
import time
from collections.abc import Iterator

import httpx2
import msgspec
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
from websockets.typing import Origin, Subprotocol

from syncline_protocol import SUBPROTOCOL
from tests.support.live_server import LiveServer

CHANGES = "/v1/stores/notes/changes"
SSE = {"Accept": "text/event-stream"}


@pytest.fixture
def client(live_server: LiveServer) -> Iterator[httpx2.Client]:
    live_server.create("notes")
    with live_server.client() as client:
        yield client


def _events(response: httpx2.Response) -> Iterator[tuple[str, str]]:
    """Yield id and data of each event that has both."""
    fields: dict[str, str] = {}
    for line in response.iter_lines():
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
            continue
        if "id" in fields and "data" in fields:
            yield fields["id"], fields["data"]
        fields = {}


def _ask(server: LiveServer, request: bytes, timeout_s: float = 10.0) -> bytes:
    """Send bytes and return everything that comes until the server closes."""
    with socket.create_connection(("127.0.0.1", server.port), timeout_s) as peer:
        peer.sendall(request)
        answer = b""
        while piece := peer.recv(65536):
            answer += piece
        return answer


def test_a_server_that_was_killed_goes_on_where_it_was(live_server: LiveServer, client: httpx2.Client) -> None:
    value = b'{"x": 9007199254740993}'
    assert client.put("/v1/stores/notes/records/a%2Fb", content=value).status_code == 201
    live_server.restart(kill=True)
    assert value in client.get("/v1/stores/notes/records/a%2Fb").content
    assert client.put("/v1/stores/notes/records/a%2Fb", content=value).status_code == 200
    assert live_server.terminate() == 0


def test_an_event_source_goes_on_over_a_restart(live_server: LiveServer, client: httpx2.Client) -> None:
    seqs: list[int] = []
    last = ""
    for round_number in range(3):
        client.put(f"/v1/stores/notes/records/k{round_number}", content=b"1")
        headers = {**SSE, **({"Last-Event-ID": last} if last else {})}
        with client.stream("GET", CHANGES, headers=headers) as response:
            for cursor, data in _events(response):
                last = cursor
                batch = msgspec.json.decode(data)
                if "changes" not in batch:
                    break
                seqs += [change["seq"] for change in batch["changes"]]
        live_server.restart(kill=round_number == 1)
    assert seqs == [1, 2, 3]


def test_a_cursor_of_changes_that_a_restored_server_never_had_is_lost(
    live_server: LiveServer, client: httpx2.Client
) -> None:
    head = client.put("/v1/stores/notes/records/k", content=b"1").json()["at"]
    future = head.replace(":1", ":9")
    problem = client.get(CHANGES, params={"after": future}).json()
    assert (problem["code"], problem["how"], problem["keep_to"]) == ("cursor_lost", "rewind", 1)
    # The next change has a name that the lost history cannot have had.
    assert (
        client.put("/v1/stores/notes/records/k2", content=b"1").json()["at"].partition(":")[0] != head.partition(":")[0]
    )


def test_streams_end_whole_on_sigterm_and_the_server_is_gone_in_time(
    live_server: LiveServer, client: httpx2.Client
) -> None:
    client.put("/v1/stores/notes/records/k", content=b"1")
    with client.stream("GET", CHANGES, headers={"Accept": "application/x-ndjson"}) as response:
        lines = response.iter_lines()
        while "caught_up" not in next(lines):
            pass
        began = time.monotonic()
        live_server.send_signal(signal.SIGTERM)
        # The end of a chunked answer: it would raise if it were cut off.
        assert list(lines) == []
    assert live_server.wait() == 0
    assert time.monotonic() - began < 10


def test_a_stream_that_nobody_reads_does_not_hold_up_the_end(live_server: LiveServer, client: httpx2.Client) -> None:
    value = b'"' + b"x" * 500_000 + b'"'
    for number in range(20):
        client.put(f"/v1/stores/notes/records/k{number}", content=value)
    with socket.create_connection(("127.0.0.1", live_server.port)) as peer:
        peer.sendall(f"GET {CHANGES} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n".encode())
        peer.recv(1000)
        began = time.monotonic()
        assert live_server.terminate() == 0
        assert time.monotonic() - began < 10
    assert "Traceback" not in live_server.log()


def test_a_record_of_any_size_up_to_the_limit_makes_the_way(live_server: LiveServer, client: httpx2.Client) -> None:
    value = b'"' + b"x" * (512 * 1024 - 2) + b'"'
    assert client.put("/v1/stores/notes/records/k", content=value).status_code == 201
    assert value in client.get("/v1/stores/notes/records/k").content
    assert client.put("/v1/stores/notes/records/k2", content=value + b" " * 600_000).status_code == 413
    assert client.get("/health/ready").status_code == 200


def test_bytes_that_are_no_request_are_refused_without_a_traceback(live_server: LiveServer) -> None:
    for request in (
        b"\x00\x01\x02\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/9.9\r\nHost: localhost\r\n\r\n",
        b"PUT /v1/stores/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"PUT /v1/stores/a HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET /v1/stores/%ZZ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    ):
        answer = _ask(live_server, request)
        assert re.match(rb"HTTP/1\.1 4\d\d ", answer), (request, answer)
        assert b"Traceback" not in answer
    with live_server.client() as client:
        assert client.get("/health/ready").status_code == 200
    assert "Traceback" not in live_server.log()


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.com"},
        {"Origin": "null"},
        {"Origin": "http://evil.com:7171", "Host": "evil.com:7171"},
    ],
)
def test_a_page_of_another_origin_gets_no_socket(live_server: LiveServer, headers: dict[str, str]) -> None:
    subprotocols = [Subprotocol(SUBPROTOCOL)]
    with connect(live_server.socket_url, subprotocols=subprotocols, additional_headers=headers, proxy=None) as peer:
        with pytest.raises(ConnectionClosed) as closed:
            peer.recv(timeout=5)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1008


def test_the_servers_own_page_gets_a_socket(live_server: LiveServer) -> None:
    subprotocols, origin = [Subprotocol(SUBPROTOCOL)], Origin(live_server.url)
    with connect(live_server.socket_url, subprotocols=subprotocols, origin=origin, proxy=None) as peer:
        peer.send('{"type":"HELLO"}')
        assert "WELCOME" in str(peer.recv(timeout=5))


def test_keys_and_values_do_not_get_into_the_log(live_server: LiveServer, client: httpx2.Client) -> None:
    client.put("/v1/stores/notes/records/secret-key", content=b'"secret-value"')
    client.put("/v1/stores/notes/records/secret-key", content=b'{"secret-value')
    client.get("/v1/stores/notes/records/secret-other-key")
    client.get("/v1/stores/notes/changes?after=secret-cursor")
    live_server.terminate()
    assert "secret" not in live_server.log()
