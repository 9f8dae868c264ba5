"""Clients that misbehave, against a real server: each gets a named end, and nobody else notices."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.live_server import LiveServer
from tests.support.raw_socket import RawSocket, text_frame


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """One server for all: whoever disturbs it disturbs the next test."""
    with LiveServer(tmp_path_factory.mktemp("hostile"), arguments=("--stall-timeout-s", "2")) as server:
        server.create("notes")
        yield server
        assert "Traceback" not in server.log()
        assert server.terminate() == 0


def check_service(server: LiveServer, key: str) -> None:
    """A well-behaved client gets its change committed and delivered."""
    with RawSocket(server.port) as client:
        client.send({"type": "SUBSCRIBE", "id": 1, "store": "notes", "after": "now"})
        client.receive_until("CAUGHT_UP")
        client.send({"type": "ADD", "id": 2, "store": "notes", "key": key, "value": 1})
        kinds = {client.receive()["type"], client.receive()["type"]}
        assert kinds == {"WROTE", "BATCH"}


def test_half_a_frame_and_then_nothing_costs_nobody_anything(server: LiveServer) -> None:
    with RawSocket(server.port) as half:
        half.send_bytes(text_frame(b'{"type":"HEARTBEAT"}')[:9])
        check_service(server, "half")
        half.send_bytes(text_frame(b'{"type":"HEARTBEAT"}')[9:] + text_frame(b'{"type":"NOPE"}'))
        assert half.receive()["code"] == "unknown_message"


def test_a_frame_over_the_limit_is_closed_with_1009(server: LiveServer) -> None:
    with RawSocket(server.port) as client:
        client.send_bytes(text_frame(b"x" * (1024 * 1024 + 1))[:4096])
        assert client.close_code() == 1009


def test_a_header_that_announces_a_terabyte_is_closed_with_1009(server: LiveServer) -> None:
    with RawSocket(server.port) as client:
        client.send_bytes(b"\x81\xff" + (1 << 40).to_bytes(8, "big") + b"\0\0\0\0")
        assert client.close_code() == 1009


def test_text_that_is_not_utf8_is_closed_with_1007(server: LiveServer) -> None:
    with RawSocket(server.port) as client:
        client.send_bytes(text_frame(b'{"type":"HEARTBEAT","x":"\xff\xfe"}'))
        assert client.close_code() == 1007


def test_binary_frames_are_closed_with_1003(server: LiveServer) -> None:
    with RawSocket(server.port) as client:
        client.send_bytes(text_frame(b"{}", opcode=2))
        assert client.close_code() == 1003


def test_an_unmasked_frame_is_closed_with_1002(server: LiveServer) -> None:
    with RawSocket(server.port) as client:
        client.send_bytes(b"\x81\x02{}")
        assert client.close_code() == 1002


def test_nesting_of_a_million_is_named_and_the_connection_goes_on(server: LiveServer) -> None:
    deep = b"[" * 400_000 + b"]" * 400_000
    with RawSocket(server.port) as client:
        client.send_bytes(text_frame(b'{"type":"ADD","id":1,"store":"notes","key":"deep","value":%b}' % deep))
        answer = client.receive()
        assert answer["code"] == "bad_json"
        client.send_bytes(text_frame(b'{"type":"NOPE"}'))
        assert client.receive()["code"] == "unknown_message"


def test_a_thousand_connections_that_never_say_hello_are_closed_and_others_are_served(server: LiveServer) -> None:
    with ExitStack() as stack:
        silent = [stack.enter_context(RawSocket(server.port, greet=False)) for _ in range(1000)]
        check_service(server, "among-silent")
        assert {client.close_code() for client in silent} == {4004}


def test_a_request_head_that_never_ends_is_cut_off(server: LiveServer) -> None:
    with socket.create_connection(("127.0.0.1", server.port)) as slow:
        slow.settimeout(15)
        slow.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: ")
        check_service(server, "beside-slowloris")
        assert slow.recv(1000) == b""


def test_a_client_that_never_reads_is_closed_and_slows_nobody(server: LiveServer) -> None:
    value = "x" * 100_000
    with RawSocket(server.port, receive_buffer=4096) as lazy, RawSocket(server.port) as writer:
        lazy.send({"type": "SUBSCRIBE", "id": 1, "store": "notes", "after": "now"})
        lazy.receive_until("CAUGHT_UP")
        for number in range(60):
            writer.send({"type": "ADD", "id": number, "store": "notes", "key": f"big{number}", "value": value})
            assert writer.receive()["results"][0]["status"] == "ok"
        check_service(server, "beside-lazy")
        with server.client() as http:
            while 'syncline_connections_closed_total{code="4002"} 1.0' not in http.get("/metrics").text:
                pass
        assert lazy.close_code() in (4002, None)


def test_garbage_instead_of_http_gets_400_and_no_traceback(server: LiveServer) -> None:
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        client.settimeout(15)
        client.sendall(b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n")
        assert client.recv(1000).startswith(b"HTTP/1.1 400")


def test_another_subprotocol_is_accepted_and_then_closed_with_4500(server: LiveServer) -> None:
    with RawSocket(server.port, upgrade=False) as client:
        client.send_bytes(
            b"GET /v1/ws HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        assert client._until(b"\r\n\r\n").startswith(b"HTTP/1.1 101")
        assert client.close_code() == 4500


def test_sigterm_answers_says_goodbye_and_ends_in_time_with_clients_that_are_stuck(tmp_path: Path) -> None:
    with LiveServer(tmp_path, arguments=("--drain-timeout-s", "4")) as server, ExitStack() as stack:
        server.create("notes")
        stuck = [stack.enter_context(RawSocket(server.port, receive_buffer=4096)) for _ in range(5)]
        healthy = stack.enter_context(RawSocket(server.port))
        for client in [*stuck, healthy]:
            client.send({"type": "SUBSCRIBE", "id": 1, "store": "notes", "after": "now"})
            client.receive_until("CAUGHT_UP")
        writer = stack.enter_context(RawSocket(server.port))
        for number in range(30):
            writer.send({"type": "ADD", "id": number, "store": "notes", "key": f"k{number}", "value": "x" * 100_000})
            writer.receive()
        received = 0
        while received < 30:
            received += len(healthy.receive()["changes"])
        assert server.terminate() == 0
        seen = [message["type"] for message in healthy.receive_until("BYE")]
        assert seen[-1] == "BYE"
        assert healthy.close_code() == 4000
        assert writer.close_code() == 4000
