"""When and how the client connects again."""

import asyncio

import pytest

import syncline
from syncline import (
    ConnectionForbidden,
    ConnectionState,
)
from syncline_protocol import CloseCode
from syncline_protocol import server as requested
from tests.client.fake_clock import FakeClock
from tests.client.fake_server import FakeConnection, FakeServer
from tests.client.waiting import come_back, soon, state, take


async def test_a_server_that_closes_right_after_accept_is_not_hammered(server: FakeServer) -> None:
    clock = FakeClock(chance=1.0)

    async def close(connection: FakeConnection) -> bool:
        await connection.socket.close(1001)
        return False

    async with syncline.connect(server.url, clock=clock) as client:
        server.greet = close
        await server.connections[0].drop()
        waits = []
        for attempt in range(1, 101):
            status = await state(client, ConnectionState.OFFLINE)
            assert status.retry_at is not None
            assert status.attempt == attempt
            waits.append(status.retry_at - clock.time())
            clock.advance(waits[-1])
            await state(client, ConnectionState.CONNECTING)
        assert waits[:6] == pytest.approx([1, 2, 4, 8, 16, 30])
        assert waits[6:] == [pytest.approx(30)] * 94


async def test_a_server_that_says_welcome_and_bye_and_closes_is_not_hammered(server: FakeServer) -> None:
    clock = FakeClock(chance=1.0)

    async def turn_away(connection: FakeConnection) -> bool:
        connection.session.receive(await connection.socket.recv(), 0.0)
        connection.session.bye("overloaded", 5000, 0)
        connection.session.close(CloseCode.OVERLOADED)
        await connection.flush()
        return False

    async with syncline.connect(server.url, clock=clock) as client:
        server.greet = turn_away
        await server.connections[0].drop()
        waits: list[float] = []
        async for status in client.statuses():
            if status.retry_at is not None:
                waits.append(status.retry_at - clock.time())
                clock.advance(waits[-1])
                if len(waits) == 100:
                    break
        assert waits == pytest.approx([1, 5, 5, 8, 16] + [30] * 95)
        assert client.status.close_code == CloseCode.OVERLOADED


@pytest.mark.parametrize(("lasts_s", "attempt"), [(29, 4), (30, 1)])
async def test_a_connection_that_lasted_is_progress_even_if_nothing_happened_on_it(
    server: FakeServer, clock: FakeClock, lasts_s: int, attempt: int
) -> None:
    async with syncline.connect(server.url, clock=clock) as client:
        for expected in (1, 2, 3):
            await server.connections[0].drop()
            assert (await state(client, ConnectionState.OFFLINE)).attempt == expected
            await come_back(client, clock)
        clock.advance(lasts_s)
        await server.connections[0].drop()
        assert (await state(client, ConnectionState.OFFLINE)).attempt == attempt


async def test_welcome_alone_is_no_progress_and_a_batch_is(server: FakeServer, clock: FakeClock) -> None:
    async def refuse_to_serve(connection: FakeConnection, event: requested.ServerEvent) -> bool:
        if isinstance(event, requested.SubscribeRequested):
            await connection.drop()
        return False

    server.notes.commit("a", b"1")
    server.intercept = refuse_to_serve
    async with syncline.connect(server.url, clock=clock) as client:
        subscription = client.subscribe("notes")
        for attempt in (1, 2, 3):
            assert (await state(client, ConnectionState.OFFLINE)).attempt == attempt
            if attempt == 3:
                server.intercept = None
            await come_back(client, clock)
        await take(subscription, 1)
        await server.connections[0].drop()
        assert (await state(client, ConnectionState.OFFLINE)).attempt == 1


async def test_what_bye_says_is_obeyed(server: FakeServer, clock: FakeClock) -> None:
    async with syncline.connect(server.url, clock=clock) as client:
        connection = server.connections[0]
        connection.session.bye("drain", 7000, 10_000)
        connection.session.close(CloseCode.DRAIN)
        await connection.flush()
        status = await state(client, ConnectionState.OFFLINE)
        assert status.retry_at is not None
        assert status.retry_at - clock.time() == pytest.approx(12.0)
        assert status.close_code == CloseCode.DRAIN
        await come_back(client, clock)


async def test_a_close_code_that_forbids_to_come_back_ends_the_client_for_everybody_who_waits(
    server: FakeServer, clock: FakeClock
) -> None:
    async def swallow(connection: FakeConnection, event: requested.ServerEvent) -> bool:
        return isinstance(event, requested.WriteRequested)

    server.intercept = swallow
    async with syncline.connect(server.url, clock=clock) as client:
        subscription = client.subscribe("notes")
        adding = asyncio.ensure_future(client.add("notes", 1))
        await soon(subscription.wait_caught_up())
        await server.connections[0].socket.close(4501, "you are too loud")
        status = await state(client, ConnectionState.CLOSED)
        assert (status.close_code, "too loud" in status.reason) == (4501, True)
        for waiting in (adding, anext(subscription), client.add("notes", 2), subscription.wait_caught_up()):
            with pytest.raises(ConnectionForbidden, match="too loud") as raised:
                await soon(waiting)
            assert raised.value.close_code == 4501
        with pytest.raises(ConnectionForbidden):
            client.subscribe("notes")
    assert server.connections_made == 1


async def test_a_server_that_falls_silent_is_left(server: FakeServer, clock: FakeClock) -> None:
    async with syncline.connect(server.url, clock=clock) as client:
        connection = server.connections[0]
        for _ in range(4):
            await soon(clock.sleeper(lambda left: left > 0))
            clock.advance(15)
        status = await state(client, ConnectionState.OFFLINE)
        assert status.close_code == CloseCode.NO_HEARTBEAT
        await soon(connection.socket.wait_closed())
    assert any(b"HEARTBEAT" in frame for frame in server.requests)


async def test_a_token_function_that_fails_is_asked_again_later(server: FakeServer, clock: FakeClock) -> None:
    answers = iter(["t1", "", "t2"])

    async def token() -> str:
        answer = next(answers)
        if not answer:
            raise OSError("the login is away")
        return answer

    async with syncline.connect(server.url, clock=clock, token=token) as client:
        await server.connections[0].drop()
        first = await state(client, ConnectionState.OFFLINE)
        clock.advance(60)
        async for status in client.statuses():
            if status.state is ConnectionState.OFFLINE and status is not first:
                assert "the login is away" in status.reason
                break
        await come_back(client, clock)


async def test_a_message_that_is_none_ends_the_client_as_it_cannot_get_better(
    server: FakeServer, clock: FakeClock
) -> None:
    async with syncline.connect(server.url, clock=clock) as client:
        await server.connections[0].socket.send("hello?")
        assert (await state(client, ConnectionState.CLOSED)).close_code == CloseCode.MISUSE
