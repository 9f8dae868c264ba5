"""Opening a socket: servers that speak otherwise, and proxies that are not asked."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from importlib.util import find_spec

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.typing import Subprotocol

import syncline
from syncline import ConnectionForbidden, ConnectionState
from syncline_protocol import CloseCode
from tests.client.fake_clock import FakeClock
from tests.client.fake_server import FakeServer
from tests.client.guarded_server import GuardedServer
from tests.client.waiting import come_back, soon, state

#: Nothing listens there.
DEAD = "http://127.0.0.1:1"

PROXY_VARIABLES = ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")


async def _echo(socket: ServerConnection) -> None:
    async for frame in socket:
        await socket.send(frame)


async def _refuse(socket: ServerConnection) -> None:
    await socket.close(CloseCode.VERSION_UNSUPPORTED, "this server speaks syncline.v9 only")


@asynccontextmanager
async def stranger(
    talk: Callable[[ServerConnection], Awaitable[None]], subprotocol: str | None
) -> AsyncIterator[tuple[str, list[ServerConnection]]]:
    """A server that chooses this subprotocol, whatever it is offered. Gives its URL, and who has come."""
    came: list[ServerConnection] = []

    async def count(socket: ServerConnection) -> None:
        came.append(socket)
        await talk(socket)

    def select(_: ServerConnection, offered: Sequence[Subprotocol]) -> Subprotocol | None:
        return None if subprotocol is None else Subprotocol(subprotocol)

    async with serve(count, "127.0.0.1", 0, select_subprotocol=select, close_timeout=1) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        yield f"http://127.0.0.1:{port}", came


STRANGERS = [(_echo, None), (_echo, "syncline.v9.json"), (_refuse, None), (_refuse, "syncline.v1.json")]


@pytest.mark.parametrize(("talk", "subprotocol"), STRANGERS)
async def test_a_server_that_speaks_otherwise_is_named_and_left_alone(
    clock: FakeClock, talk: Callable[[ServerConnection], Awaitable[None]], subprotocol: str | None
) -> None:
    async with stranger(talk, subprotocol) as (url, came):
        with pytest.raises(
            ConnectionForbidden, match=r"does not speak syncline.v1.json; update|syncline.v9 only"
        ) as no:
            async with syncline.connect(url, clock=clock):
                pass
        assert no.value.close_code == CloseCode.VERSION_UNSUPPORTED
        assert len(came) == 1


@pytest.mark.parametrize(("talk", "subprotocol"), STRANGERS)
async def test_a_replica_is_of_use_while_the_server_speaks_otherwise(
    clock: FakeClock, talk: Callable[[ServerConnection], Awaitable[None]], subprotocol: str | None
) -> None:
    async with stranger(talk, subprotocol) as (url, came), syncline.connect(url, clock=clock, wait=False) as client:
        replica = await client.replica("notes")
        await replica.add("before", "a")
        status = await state(client, ConnectionState.CLOSED)
        assert "syncline.v" in status.reason
        await replica.add("after", "b")
        assert [record.value for record in replica] == ["before", "after"]
        assert (replica.status.state, replica.status.pending) == (ConnectionState.CLOSED, 2)
        clock.advance(24 * 3600)
        assert len(came) == 1


async def test_a_server_that_is_replaced_by_one_of_another_version_is_left_alone(
    server: FakeServer, clock: FakeClock
) -> None:
    async with syncline.connect(server.url, clock=clock) as client:
        await server.connections[0].socket.close(CloseCode.VERSION_UNSUPPORTED, "this server speaks syncline.v9 only")
        status = await state(client, ConnectionState.CLOSED)
        assert "syncline.v9 only (version_unsupported, 4500)" in status.reason


@pytest.mark.parametrize("proxy", [DEAD, "socks5://127.0.0.1:1"])
async def test_a_proxy_of_the_environment_is_not_asked_for_what_is_on_this_machine(
    clock: FakeClock, monkeypatch: pytest.MonkeyPatch, proxy: str
) -> None:
    for variable in PROXY_VARIABLES:
        monkeypatch.setenv(variable, proxy)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    server = GuardedServer(None)
    await server.start()
    for url in (server.url, server.url.replace("127.0.0.1", "localhost")):
        async with syncline.connect(url, clock=clock) as client:
            assert await client.stores.list() == []
            await server.connections[0].drop()
            await come_back(client, clock)
    await server.stop()


async def test_a_proxy_of_the_environment_is_asked_for_another_machine(
    clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in PROXY_VARIABLES:
        monkeypatch.setenv(variable, DEAD)
    client = syncline.connect("http://sync.invalid", clock=clock, wait=False)
    async with client:
        status = await state(client, ConnectionState.OFFLINE)
        assert "nothing listens there" in status.reason
        with pytest.raises(syncline.ConnectionFailed):
            await soon(client.stores.list())


@pytest.mark.skipif(find_spec("python_socks") is not None, reason="SOCKS proxies can be used here")
@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:1", "nonsense://127.0.0.1:1"])
async def test_a_proxy_that_cannot_be_used_is_an_error_that_says_where_it_comes_from(
    clock: FakeClock, monkeypatch: pytest.MonkeyPatch, proxy: str
) -> None:
    for variable in PROXY_VARIABLES:
        monkeypatch.setenv(variable, proxy)
    with pytest.raises(ConnectionForbidden, match="check the proxy variables of the environment"):
        async with syncline.connect("http://sync.invalid", clock=clock):
            pass
    async with syncline.connect("http://sync.invalid", clock=clock, wait=False) as client:
        with pytest.raises(ConnectionForbidden, match="check the proxy variables of the environment"):
            await client.stores.list()
