"""The HTTP routes over a socket: what only a real server can show."""

from tests.support.live_server import LiveServer


def test_a_server_that_was_killed_goes_on_where_it_was(live_server: LiveServer) -> None:
    live_server.create("notes")
    with live_server.client() as client:
        put = client.put("/v1/stores/notes/records/k1", content=b'{"x": 9007199254740993}')
        assert put.status_code == 201
        live_server.restart(kill=True)
        assert client.get("/v1/stores/notes/records/k1").json()["value"] == {"x": 9007199254740993}
        assert client.put("/v1/stores/notes/records/k1", content=b'{"x": 9007199254740993}').status_code == 200
        assert live_server.terminate() == 0
