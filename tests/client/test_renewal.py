"""Credentials that are renewed while the connection is up, and what the client says of who it is."""

import asyncio
from collections.abc import AsyncIterator, Callable

import msgspec
import pytest

import syncline
from syncline import AuthRequired, ConnectionState
from syncline_protocol import CloseCode, RemoteProtocolError, messages
from syncline_protocol import server as requested
from tests.client.fake_clock import FakeClock
from tests.client.fake_server import FakeConnection, FakeServer
from tests.client.guarded_server import Login
from tests.client.waiting import soon, state


class Door(FakeServer):
    """A server that knows its users by their tokens.

    Attributes:
        users: by token.
        auths: the token of every AUTH.
        refuse_with: how an AUTH is refused whose token is not known.
    """

    def __init__(self) -> None:
        super().__init__()
        self.users: dict[str | None, str | None] = {None: None, "t1": "alice"}
        self.auths: list[str] = []
        self.refuse_with = "unauthenticated"
        self.answers_auth = True

    async def handle(self, connection: FakeConnection, event: requested.ServerEvent) -> None:
        if isinstance(event, requested.Opened):
            token = msgspec.json.decode(self.requests[-1])["token"] if b'"token"' in self.requests[-1] else None
            connection.session.welcome(self.users[token], self._ends)
        elif isinstance(event, requested.AuthRequested):
            self.auths.append(event.token)
            if not self.answers_auth:
                return
            if event.token in self.users:
                connection.session.authenticated(self.users[event.token], self._ends)
            else:
                connection.session.refuse_auth(RemoteProtocolError(self.refuse_with, "no"))
        else:
            await super().handle(connection, event)

    @property
    def _ends(self) -> int:
        return 1_795_401_000_000 + 60_000 * (1 + len(self.auths))

    async def expire(self, clock: FakeClock, after_s: float) -> None:
        """Announce that the credentials of every connection end after so long."""
        for connection in self.connections:
            connection.session.expiring(int((clock.time() + after_s) * 1000))
            await connection.flush()


@pytest.fixture
async def door() -> AsyncIterator[Door]:
    server = Door()
    await server.start()
    yield server
    await server.stop()


async def until(holds: Callable[[], bool]) -> None:
    """Let the loop turn until something is so."""
    async with asyncio.timeout(15):
        while not holds():
            await asyncio.sleep(0)


def about(wanted: float) -> Callable[[float], bool]:
    """Return what tells that a wait is this long; an end that is told in ms is not exact."""
    return lambda seconds: abs(seconds - wanted) < 0.01


async def test_the_client_says_who_the_server_takes_it_for_and_until_when(door: Door, clock: FakeClock) -> None:
    async with syncline.connect(door.url, clock=clock, token="t1") as client:
        assert client.user == "alice"
        assert (client.status.user, client.status.expires_at) == ("alice", 1_795_401_060.0)
        assert client.status.reason == "connected to fake/1 as alice"
    async with syncline.connect(door.url, clock=clock) as client:
        assert client.user is client.status.user is None


async def test_before_a_token_expires_the_function_is_asked_once_and_the_feeds_go_on(
    door: Door, clock: FakeClock
) -> None:
    door.users["t2"] = "alice"
    login = Login("t1", "t2")
    async with syncline.connect(door.url, clock=clock, token=login) as client:
        subscription = client.subscribe("notes")
        await client.add("notes", 1, "k1")
        assert (await soon(anext(subscription))).key == "k1"
        states: list[ConnectionState] = []
        client.on_status(lambda status: states.append(status.state))
        await door.expire(clock, 16)
        await until(lambda: client.status.expires_at == 1_795_401_120.0)
        await client.add("notes", 2, "k2")
        assert (await soon(anext(subscription))).key == "k2"
        assert states == [ConnectionState.LIVE, ConnectionState.LIVE]
    assert (door.auths, login.asked, door.connections_made) == (["t2"], 2, 1)


async def test_a_function_that_still_gives_the_old_token_is_asked_again_at_half_of_the_time_that_is_left(
    door: Door, clock: FakeClock
) -> None:
    door.users["t2"] = "alice"
    login = Login("t1", "t1", "t1", "t2")
    async with syncline.connect(door.url, clock=clock, token=login):
        await door.expire(clock, 16)
        await until(lambda: login.asked == 2)
        await clock.sleeper(about(8))
        clock.advance(8)
        await until(lambda: login.asked == 3)
        await clock.sleeper(about(4))
        clock.advance(4)
        await until(lambda: door.auths == ["t2"])


@pytest.mark.parametrize("failure", [OSError("no network"), AuthRequired(), None])
async def test_a_function_that_fails_is_asked_again_and_the_connection_goes_on_meanwhile(
    door: Door, clock: FakeClock, failure: BaseException | None
) -> None:
    door.users["t2"] = "alice"
    login = Login("t1", failure, "t2")
    async with syncline.connect(door.url, clock=clock, token=login) as client:
        await door.expire(clock, 16)
        await clock.sleeper(about(8))
        assert client.state is ConnectionState.LIVE
        await client.add("notes", 1)
        clock.advance(8)
        await until(lambda: door.auths == ["t2"])


async def test_a_token_that_is_refused_in_place_changes_nothing_and_is_not_shown_twice(
    door: Door, clock: FakeClock
) -> None:
    login = Login("t1", "bad", "bad", "t2")
    door.users["t2"] = "alice"
    async with syncline.connect(door.url, clock=clock, token=login) as client:
        await door.expire(clock, 16)
        await clock.sleeper(about(8))
        assert (door.auths, client.state, client.user) == (["bad"], ConnectionState.LIVE, "alice")
        await client.add("notes", 1)
        clock.advance(8)
        await clock.sleeper(about(4))
        clock.advance(4)
        await until(lambda: door.auths == ["bad", "t2"])


async def test_when_nothing_else_is_given_the_server_closes_and_the_function_is_asked_once_more(
    door: Door, clock: FakeClock
) -> None:
    login = Login("t1", "t1", "t2")
    async with syncline.connect(door.url, clock=clock, token=login) as client:
        subscription = client.subscribe("notes")
        await client.add("notes", 1, "k1")
        assert (await soon(anext(subscription))).key == "k1"
        await door.expire(clock, 1.5)
        await until(lambda: login.asked == 2)
        door.users["t2"] = "alice"
        await door.connections[0].socket.close(CloseCode.TOKEN_EXPIRED, "expired")
        await client.add("notes", 2, "k2")
        assert (await soon(anext(subscription))).key == "k2"
    assert (door.connections_made, login.asked) == (2, 3)
    afters = [msgspec.json.decode(each).get("after", "start") for each in door.requests if b'"SUBSCRIBE"' in each]
    assert afters == ["start", "inc1:1"]


async def test_a_plain_token_that_expires_waits_for_a_login_and_is_not_shown_again(
    door: Door, clock: FakeClock
) -> None:
    async with syncline.connect(door.url, clock=clock, token="t1") as client:
        await door.expire(clock, 1)
        await door.connections[0].socket.close(CloseCode.TOKEN_EXPIRED, "expired")
        await state(client, ConnectionState.NEEDS_AUTH)
        door.users["t2"] = "alice"
        client.authenticate("t2")
        await state(client, ConnectionState.LIVE)
    assert (door.auths, door.connections_made) == ([], 2)


async def test_a_token_that_is_given_while_live_is_shown_at_once(door: Door, clock: FakeClock) -> None:
    door.users["t2"] = "alice"
    async with syncline.connect(door.url, clock=clock, token="t1") as client:
        client.authenticate("t1")
        client.authenticate()
        client.authenticate("t2")
        await until(lambda: client.status.expires_at == 1_795_401_120.0)
    assert (door.auths, door.connections_made) == (["t2"], 1)


async def test_a_token_that_is_given_while_a_connection_is_made_without_it_is_shown_after_the_welcome(
    door: Door, clock: FakeClock
) -> None:
    door.users["t2"] = "alice"
    client = syncline.connect(door.url, clock=clock, token="t1", wait=False)

    async def give(connection: FakeConnection) -> bool:
        client.authenticate("t2")
        return True

    door.greet = give
    async with client:
        await until(lambda: client.status.expires_at == 1_795_401_120.0)
    assert (door.auths, door.connections_made) == (["t2"], 1)


async def test_another_user_connects_anew(door: Door, clock: FakeClock) -> None:
    clock.chance = 0.0
    async with syncline.connect(door.url, clock=clock, token="t1") as client:
        door.refuse_with = "forbidden"
        client.authenticate("t2")
        await until(lambda: client.state is not ConnectionState.LIVE)
        door.users["t2"] = "bob"
        await until(lambda: client.user == "bob")
    assert (door.auths, door.connections_made) == (["t2"], 2)


async def test_an_error_without_an_id_concerns_no_auth_that_was_not_sent(door: Door, clock: FakeClock) -> None:
    async with syncline.connect(door.url, clock=clock, token="t1") as client:
        await door.connections[0].send(messages.Error("forbidden", "what?", False))
        await client.add("notes", 1)
    assert door.connections_made == 1


async def test_a_connection_that_is_lost_forgets_its_auth(door: Door, clock: FakeClock) -> None:
    clock.chance = 0.0
    door.users["t2"] = "alice"
    async with syncline.connect(door.url, clock=clock, token="t1") as client:
        door.answers_auth = False
        client.authenticate("t2")
        await until(lambda: door.auths == ["t2"])
        await door.connections[0].drop()
        await until(lambda: door.connections_made == 2 and client.state is ConnectionState.LIVE)
        await client.add("notes", 1)


# --- too much at once ---


async def test_requests_that_are_too_many_are_made_again_when_the_server_says(door: Door, clock: FakeClock) -> None:
    limited = 0

    async def limit(connection: FakeConnection, event: requested.ServerEvent) -> bool:
        nonlocal limited
        if limited >= 2 or not isinstance(event, requested.SubscribeRequested | requested.WriteRequested):
            return False
        limited += 1
        request_id = event.id if isinstance(event, requested.WriteRequested) else event.request.id
        if isinstance(event, requested.WriteRequested):
            result = messages.WriteResult(request_id, "retry", code="rate_limited", message="slow", after_ms=700)
            connection.session.wrote([result])
        else:
            connection.session.refuse(request_id, "rate_limited", "slow", after_ms=700)
        return True

    door.intercept = limit
    async with syncline.connect(door.url, clock=clock) as client:
        subscription = client.subscribe("notes")
        adding = asyncio.create_task(client.add("notes", 1, "k1"))
        await until(lambda: limited == 2)
        await clock.sleeper(lambda seconds: seconds < 1)
        clock.advance(0.7)
        assert (await soon(adding)).status == "ok"
        assert (await soon(anext(subscription))).key == "k1"


async def test_a_connection_that_is_closed_for_too_many_messages_comes_back_after_a_wait(
    door: Door, clock: FakeClock
) -> None:
    async with syncline.connect(door.url, clock=clock) as client:
        await door.connections[0].socket.close(CloseCode.RATE_LIMITED, "slow down")
        status = await state(client, ConnectionState.OFFLINE)
        assert status.close_code == 4008
        assert status.retry_at is not None
        clock.advance(status.retry_at - clock.time())
        await state(client, ConnectionState.LIVE)
