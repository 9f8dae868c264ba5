"""Opening and closing a client."""

import asyncio
import gc

import msgspec
import pytest

import syncline
from syncline import (
    ClientClosed,
    ConnectionFailed,
    ConnectionState,
    Misuse,
    Subscription,
)
from syncline_protocol import server as requested
from tests.client.fake_clock import FakeClock
from tests.client.fake_server import FakeConnection, FakeServer
from tests.client.waiting import come_back, soon, state


async def test_a_server_that_is_not_there_is_named_with_a_hint(clock: FakeClock) -> None:
    with pytest.raises(ConnectionFailed, match="nothing listens there; start the server") as raised:
        async with syncline.connect("http://127.0.0.1:1", clock=clock):
            pass
    assert raised.value.url == "http://127.0.0.1:1"


async def test_a_server_that_says_nothing_is_given_up_after_the_timeout(server: FakeServer, clock: FakeClock) -> None:
    async def say_nothing(connection: FakeConnection) -> bool:
        await connection.socket.wait_closed()
        return False

    server.greet = say_nothing
    with pytest.raises(ConnectionFailed, match="no WELCOME within 0 s"):
        async with syncline.connect(server.url, clock=clock, timeout=0):
            pass


async def test_without_waiting_the_client_opens_at_once_and_writes_when_the_server_comes(
    server: FakeServer, clock: FakeClock
) -> None:
    await server.stop()
    async with syncline.connect(server.url, clock=clock, wait=False) as client:
        adding = asyncio.ensure_future(client.add("notes", 1, "k"))
        await state(client, ConnectionState.OFFLINE)
        await server.start()
        await come_back(client, clock)
        assert (await soon(adding)).status == "ok"


async def test_the_url_comes_from_the_environment(
    server: FakeServer, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SYNCLINE_URL", server.url)
    async with syncline.connect(clock=clock) as client:
        assert client.url == server.url
        assert client.welcome is not None
        assert client.welcome.server == "fake/1"


async def test_the_token_is_asked_for_before_every_attempt(server: FakeServer, clock: FakeClock) -> None:
    asked = 0

    async def token() -> str:
        nonlocal asked
        asked += 1
        return f"t{asked}"

    async with syncline.connect(server.url, clock=clock, token=token) as client:
        await server.connections[0].drop()
        await come_back(client, clock)
    hellos = [msgspec.json.decode(frame) for frame in server.requests if b"HELLO" in frame]
    assert [hello["token"] for hello in hellos] == ["t1", "t2"]
    assert {hello["client"]["name"] for hello in hellos} == {"syncline-py"}


async def test_closing_leaves_no_task_and_tells_those_who_wait(server: FakeServer, clock: FakeClock) -> None:
    reached = asyncio.Event()

    async def swallow(connection: FakeConnection, event: requested.ServerEvent) -> bool:
        if isinstance(event, requested.WriteRequested):
            reached.set()
        return reached.is_set()

    server.intercept = swallow
    async with syncline.connect(server.url, clock=clock) as client:
        subscription = client.subscribe("notes")
        await soon(subscription.wait_caught_up())
        waiting = [asyncio.ensure_future(client.add("notes", 1)), asyncio.ensure_future(_next_key(subscription))]
        await soon(reached.wait())
        assert client.unanswered_writes == 1
    for each in waiting:
        with pytest.raises(ClientClosed):
            await soon(each)
    for late in (client.add("notes", 1), anext(subscription)):
        with pytest.raises(ClientClosed):
            await soon(late)
    assert client.state is ConnectionState.CLOSED
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("syncline")]
    gc.collect()


async def _next_key(subscription: Subscription) -> str:
    return (await anext(subscription)).key


async def test_closing_while_offline_does_not_wait_for_the_next_attempt(server: FakeServer, clock: FakeClock) -> None:
    async with syncline.connect(server.url, clock=clock) as client:
        await server.connections[0].drop()
        await state(client, ConnectionState.OFFLINE)
    assert client.state is ConnectionState.CLOSED


async def test_a_client_is_opened_once(server: FakeServer, clock: FakeClock) -> None:
    client = syncline.connect(server.url, clock=clock)
    with pytest.raises(Misuse, match="not open"):
        client.subscribe("notes")
    async with client:
        with pytest.raises(Misuse, match="opened once"):
            await client.__aenter__()
    with pytest.raises(Misuse, match="opened once"):
        await client.__aenter__()


@pytest.mark.parametrize("turns", range(12))
async def test_a_client_that_is_closed_while_its_connection_is_being_lost_ends(server: FakeServer, turns: int) -> None:
    async with syncline.connect(server.url, clock=FakeClock(chance=0.0)) as client:
        server.connections[0].socket.transport.abort()
        while client.state is not ConnectionState.LIVE or server.connections:
            await asyncio.sleep(0)
        for _ in range(turns):
            await asyncio.sleep(0)
        await soon(client.aclose())
