"""The direct way to sockets: what it needs of uvicorn's protocol class, and that other servers do without it."""

import inspect
import json
import socket
from collections.abc import Iterator

import pytest
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from syncline_protocol.limits import DEFAULT_LIMITS
from syncline_server import transport
from syncline_server.direct import DirectWebSocket, HeadDeadline
from syncline_server.transport import HIGH_WATER_BYTES
from tests.support.raw_socket import RawSocket, text_frame
from tests.support.uvicorn_thread import UvicornThread, uvicorn_thread


@pytest.fixture(scope="module")
def direct() -> Iterator[UvicornThread]:
    """The way that `syncline serve` goes."""
    with uvicorn_thread(ws=DirectWebSocket, http=HeadDeadline) as server:
        server.create("notes")
        yield server


@pytest.fixture(scope="module")
def plain() -> Iterator[UvicornThread]:
    """Any ASGI server."""
    with uvicorn_thread(ws="websockets-sansio") as server:
        server.create("notes")
        yield server


@pytest.fixture(params=["direct", "plain"])
def server(request: pytest.FixtureRequest) -> UvicornThread:
    """Both ways."""
    chosen: UvicornThread = request.getfixturevalue(request.param)
    return chosen


def transport_of(server: UvicornThread) -> DirectWebSocket:
    """Return the server's end of the only connection."""
    server.until(lambda: len(server.hub.connections) == 1)
    found = server.call(lambda: next(iter(server.hub.connections)).transport)
    assert isinstance(found, DirectWebSocket)
    return found


@pytest.fixture(autouse=True)
def nobody_stays(request: pytest.FixtureRequest) -> Iterator[None]:
    """After each test nobody is left."""
    yield
    for name in ("direct", "plain"):
        if name in request.fixturenames or request.node.name.endswith(f"[{name}]"):
            server = request.getfixturevalue(name)
            server.until(lambda server=server: not server.hub.connections)


def fill(server: UvicornThread, client: RawSocket, mark: str, count: int = 40) -> None:
    """Store 20 MB under keys that begin with `mark`."""
    value = "x" * 500_000
    for number in range(count):
        client.send({"type": "ADD", "id": number, "store": "notes", "key": f"{mark}{number}", "value": value})
    done = 0
    while done < count:
        done += len(client.receive()["results"])


# --- what we need of uvicorn ---


def test_uvicorns_class_has_what_the_direct_way_is_built_on() -> None:
    for name, parameters in {
        "handle_connect": ["self", "event"],
        "handle_cont": ["self", "event"],
        "handle_ping": ["self"],
        "handle_close": ["self", "event"],
        "handle_parser_exception": ["self"],
        "send_receive_event_to_app": ["self"],
        "receive": ["self"],
        "pause_writing": ["self"],
        "resume_writing": ["self"],
        "connection_lost": ["self", "exc"],
    }.items():
        assert list(inspect.signature(getattr(WebSocketsSansIOProtocol, name)).parameters) == parameters, name


def test_uvicorns_class_has_the_attributes_that_the_direct_way_uses(direct: UvicornThread) -> None:
    with RawSocket(direct.port):
        protocol = transport_of(direct)
        assert protocol.receiver is not None
        assert (protocol.close_sent, protocol.disconnected, protocol.read_paused) == (False, False, False)
        assert protocol.close_timer is None
        assert protocol.frames == []
        assert protocol.queue.empty()
        assert protocol.conn.close_rcvd is None
        assert protocol.conn.data_to_send() == []


# --- both ways ---


def test_a_client_writes_follows_and_leaves(server: UvicornThread) -> None:
    with RawSocket(server.port) as client:
        client.send({"type": "SUBSCRIBE", "id": 1, "store": "notes", "after": "now"})
        client.receive_until("CAUGHT_UP")
        client.send({"type": "ADD", "id": 2, "store": "notes", "key": "both", "value": "ü"})
        messages = [client.receive(), client.receive()]
        assert {message["type"] for message in messages} == {"WROTE", "BATCH"}
        client.send({"type": "DELETE", "id": 3, "store": "notes", "key": "both"})
        assert {client.receive()["type"], client.receive()["type"]} == {"WROTE", "BATCH"}
        client.send_bytes(text_frame(b"\x03\xe8", opcode=8))
        assert client.close_code() == 1000


def test_what_comes_after_a_close_is_not_acted_upon(server: UvicornThread) -> None:
    with RawSocket(server.port) as client:
        late = {"type": "ADD", "id": 1, "store": "notes", "key": "late", "value": 1}
        client.send_bytes(text_frame(b"\x01", opcode=2) + text_frame(json.dumps(late).encode()))
        assert client.close_code() == 1003
    with RawSocket(server.port) as client:
        client.send({"type": "DELETE", "id": 1, "store": "notes", "key": "late"})
        assert client.receive()["results"][0]["status"] == "absent"


def test_a_message_in_a_million_pieces_is_one_message(server: UvicornThread) -> None:
    text = b'{"type":"UNSUBSCRIBE","id":5}'
    with RawSocket(server.port) as client:
        first = bytearray(text_frame(text[:1]))
        first[0] = 0x01
        empty = b"\x00\x80\0\0\0\0"
        ping = text_frame(b"hi", opcode=9)
        pieces = [b"\x00\x81\0\0\0\0" + text[n : n + 1] for n in range(1, len(text))]
        client.send_bytes(bytes(first) + empty * 20_000 + ping + empty.join(pieces) + b"\x80\x80\0\0\0\0")
        assert client.receive_frame() == (10, b"hi")
        assert client.receive()["code"] == "not_subscribed"


def test_a_client_that_reads_nothing_takes_no_memory_and_is_dropped(
    server: UvicornThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "CLOSE_TIMEOUT_S", 0.2)
    monkeypatch.setattr(server.hub, "stall_timeout_s", 0.5)
    with RawSocket(server.port) as writer, RawSocket(server.port, receive_buffer=4096) as stalled:
        fill(server, writer, "stalled")
        stalled.send({"type": "SUBSCRIBE", "id": 1, "store": "notes"})
        server.until(lambda: any(c.transport.full for c in server.hub.connections))
        assert server.call(lambda: server.hub.gauges().unsent_bytes) < HIGH_WATER_BYTES + 2_100_000
        server.until(lambda: len(server.hub.connections) == 1)


def test_a_slow_client_is_heard_while_it_catches_up(server: UvicornThread) -> None:
    with RawSocket(server.port) as writer:
        fill(server, writer, "slow")
    with RawSocket(server.port, receive_buffer=4096) as slow:
        slow.send({"type": "SUBSCRIBE", "id": 1, "store": "notes"})
        server.until(lambda: any(c.transport.full for c in server.hub.connections))
        slow.send({"type": "UNSUBSCRIBE", "id": 1})
        server.until(lambda: not any(c.subscriptions for c in server.hub.connections))
        ended = slow.receive_until("ENDED")
        assert sum(len(message.get("changes", ())) for message in ended) < 20


# --- the direct way alone ---


def test_reading_does_not_go_on_for_a_receiver_that_paused_before_the_queue_was_empty(direct: UvicornThread) -> None:
    with RawSocket(direct.port) as client:
        protocol = transport_of(direct)

        def hold() -> None:
            protocol.pause_reading()
            protocol.queue.put_nowait({"type": "websocket.receive", "text": '{"type":"HEARTBEAT"}'})

        direct.call(hold)
        direct.until(protocol.queue.empty)
        assert direct.call(lambda: protocol.read_paused)
        direct.call(protocol.resume_reading)
        client.send({"type": "UNSUBSCRIBE", "id": 5})
        assert client.receive()["code"] == "not_subscribed"


def test_pings_of_a_client_that_reads_nothing_cost_no_memory_and_the_newest_is_answered(direct: UvicornThread) -> None:
    with RawSocket(direct.port, receive_buffer=4096) as client:
        fill(direct, client, "ping", 4)
        client.send({"type": "SUBSCRIBE", "id": 1, "store": "notes"})
        protocol = transport_of(direct)
        direct.until(lambda: protocol.full)
        before = direct.call(protocol.unsent_bytes)
        for number in range(50):
            client.send_bytes(b"".join(text_frame(b"%0120d" % (number * 1000 + n), opcode=9) for n in range(1000)))
        assert direct.call(protocol.unsent_bytes) <= before + 1000
        direct.until(lambda: protocol._pong.endswith(b"49999"))
        while True:
            opcode, payload = client.receive_frame()
            if opcode == 10:
                break
        assert payload == b"%0120d" % 49_999


def test_pings_after_the_close_are_not_answered(direct: UvicornThread) -> None:
    with RawSocket(direct.port) as client:
        client.send_bytes(text_frame(b"", opcode=2))
        assert client.receive_frame()[0] == 8
        client.send_bytes(text_frame(b"hi", opcode=9) * 1000)
        client.send_bytes(text_frame(b"\x03\xeb", opcode=8))
        with pytest.raises(EOFError):
            client.receive_frame()


@pytest.mark.parametrize("last_words", [text_frame(b"\x03\xe8", opcode=8), b"\x81\x02{}"], ids=["close", "broken"])
def test_a_socket_whose_client_ends_it_and_does_not_read_is_not_kept(
    direct: UvicornThread, monkeypatch: pytest.MonkeyPatch, last_words: bytes
) -> None:
    monkeypatch.setattr(DirectWebSocket, "close_timeout_s", 0.2)
    with RawSocket(direct.port) as writer:
        fill(direct, writer, f"kept{len(last_words)}", 8)
    direct.until(lambda: not direct.hub.connections)
    with RawSocket(direct.port, receive_buffer=4096) as client:
        client.send({"type": "SUBSCRIBE", "id": 1, "store": "notes"})
        protocol = transport_of(direct)
        direct.until(lambda: protocol.full)
        client.send_bytes(last_words)
        direct.until(lambda: protocol.disconnected, timeout_s=5)


def test_a_connection_that_is_cut_before_it_is_accepted_leaves_nothing(direct: UvicornThread) -> None:
    for _ in range(20):
        client = RawSocket(direct.port, upgrade=False)
        client.upgrade(b"", wait=False)
        client._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client._socket.close()
    direct.until(lambda: not direct.hub.connections)


def test_limits_of_the_framing_are_those_of_the_protocol(direct: UvicornThread) -> None:
    with RawSocket(direct.port) as client:
        client.send_bytes(text_frame(b"x" * (DEFAULT_LIMITS.frame_bytes_max + 1))[:100])
        assert client.close_code() == 1009
