"""Tokens: when they are asked for, and what follows when they are refused."""

import asyncio

import pytest

import syncline
from syncline import (
    AuthRequired,
    Client,
    ConnectionFailed,
    ConnectionForbidden,
    ConnectionState,
    Misuse,
    Status,
)
from syncline.credentials import Credentials
from syncline_protocol import CloseCode
from syncline_protocol import server as requested
from tests.client.fake_clock import FakeClock
from tests.client.fake_server import FakeConnection
from tests.client.guarded_server import GuardedServer, Login, guarded
from tests.client.waiting import come_back, soon, state

__all__ = ["guarded"]


async def hang() -> str:
    """Never give a token."""
    await asyncio.Event().wait()
    return "late"


def states_of(client: Client) -> list[ConnectionState]:
    """Return a list that gets the state now and every one that follows."""
    seen: list[ConnectionState] = []
    client.on_status(lambda status: seen.append(status.state))
    return seen


# --- the question ---


async def test_those_who_ask_while_a_question_is_under_way_get_its_answer() -> None:
    asked, may_answer = 0, asyncio.Event()

    async def token() -> str:
        nonlocal asked
        asked += 1
        await may_answer.wait()
        return f"t{asked}"

    credentials = Credentials("http://h", token)
    waiting = [asyncio.ensure_future(credentials.ask()) for _ in range(5)]
    await asyncio.sleep(0)
    assert credentials.is_asking
    may_answer.set()
    assert [await soon(each) for each in waiting] == ["t1"] * 5
    assert await credentials.ask() == "t2"
    assert not credentials.is_asking


async def test_those_who_ask_while_a_question_fails_get_its_failure_and_the_next_one_asks_anew() -> None:
    login = Login(OSError("away"), "t")
    credentials = Credentials("http://h", login)
    results = await asyncio.gather(*(credentials.ask() for _ in range(3)), return_exceptions=True)
    assert [str(each) for each in results] == ["no connection to http://h: there is no token: OSError('away')"] * 3
    assert (login.asked, await credentials.ask()) == (1, "t")


async def test_when_the_one_who_asked_is_cancelled_another_one_asks() -> None:
    may_answer, asked = asyncio.Event(), 0

    async def token() -> str:
        nonlocal asked
        asked += 1
        await may_answer.wait()
        return "t"

    credentials = Credentials("http://h", token)
    first, second = (asyncio.ensure_future(credentials.ask()) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    may_answer.set()
    assert (await soon(second), asked) == ("t", 2)
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_a_refused_token_is_replaced_once_for_all_who_had_it() -> None:
    login = Login("old", "new")
    credentials = Credentials("http://h", login)
    assert await credentials.ask() == "old"
    together = [credentials.renew("old"), credentials.renew("old")]
    assert [await each for each in together] == ["new", "new"]
    assert (await credentials.renew("old"), login.asked) == ("new", 2)


@pytest.mark.parametrize("source", [None, "old", Login("old"), Login(None)])
async def test_where_there_is_no_other_token_there_is_nothing_to_try(source: str | Login | None) -> None:
    credentials = Credentials("http://h", source)
    assert await credentials.renew(await credentials.ask()) is None


async def test_an_answer_of_a_function_that_was_replaced_meanwhile_does_not_count() -> None:
    may_answer = asyncio.Event()

    async def old() -> str:
        await may_answer.wait()
        raise AuthRequired

    credentials = Credentials("http://h", old)
    asking = asyncio.ensure_future(credentials.ask())
    await asyncio.sleep(0)
    credentials.replace("fresh")
    may_answer.set()
    assert await soon(asking) == "fresh"


@pytest.mark.parametrize("token", ["good\n", " good", "gööd", "a\r\nX-Evil: 1"])
async def test_a_token_that_no_header_can_carry_is_refused_and_never_printed(token: str) -> None:
    with pytest.raises(Misuse, match="a header cannot carry") as raised:
        syncline.connect(token=token)
    assert token.strip() not in str(raised.value)
    with pytest.raises(ConnectionFailed, match="a header cannot carry"):
        await Credentials("http://h", Login(token)).ask()


async def test_a_token_that_is_no_text_is_named_by_its_type() -> None:
    async def token() -> str:
        return {"access_token": "secret"}  # type: ignore[return-value]

    with pytest.raises(ConnectionFailed, match="the function gave is a dict, no text") as raised:
        await Credentials("http://h", token).ask()
    assert "secret" not in str(raised.value)


# --- functions that misbehave ---


async def test_a_token_function_that_hangs_is_an_attempt_that_failed(
    guarded: GuardedServer, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("syncline.credentials._ANSWER_TIMEOUT_S", 0.0)
    async with syncline.connect(guarded.url, clock=clock, token=hang, wait=False) as client:
        status = await state(client, ConnectionState.OFFLINE)
        assert "the token function gave no answer within 0 s" in status.reason
        assert isinstance(status.last_error, ConnectionFailed)
        assert "let it raise AuthRequired" in status.last_error.hint
        client.authenticate("good")
        await come_back(client, clock)
    assert guarded.shown == ["good"]


async def test_who_waits_for_the_first_connection_is_told_that_it_was_the_token_function(clock: FakeClock) -> None:
    with pytest.raises(ConnectionFailed, match="no answer of the token function within 0 s"):
        async with syncline.connect("http://127.0.0.1:1", clock=clock, token=hang, timeout=0):
            pass


@pytest.mark.parametrize("error", [OSError("the login is away"), TimeoutError("slow"), asyncio.CancelledError("inner")])
async def test_whatever_a_token_function_raises_is_shown_and_followed_by_another_attempt(
    guarded: GuardedServer, clock: FakeClock, error: BaseException
) -> None:
    login = Login(error, error, "good")
    async with syncline.connect(guarded.url, clock=clock, token=login, wait=False) as client:
        async for status in client.statuses():
            if status.state is ConnectionState.LIVE:
                break
            if status.retry_at is not None:
                assert repr(error) in status.reason
                clock.advance(status.retry_at - clock.time())
    assert login.asked == 3


async def test_a_token_function_that_fails_for_long_is_asked_at_growing_intervals_also_after_a_long_connection(
    guarded: GuardedServer,
) -> None:
    clock = FakeClock(chance=1.0)
    async with syncline.connect(guarded.url, clock=clock, token=Login("good", OSError("away"))) as client:
        clock.advance(31)
        await guarded.connections[0].drop()
        waits: list[float] = []
        async for status in client.statuses():
            if status.retry_at is not None:
                waits.append(status.retry_at - clock.time())
                clock.advance(waits[-1])
                if len(waits) == 7:
                    break
        assert waits == pytest.approx([1, 2, 4, 8, 16, 30, 30])


async def test_a_token_function_that_gives_none_means_to_go_without(guarded: GuardedServer, clock: FakeClock) -> None:
    guarded.valid = {None}
    async with syncline.connect(guarded.url, clock=clock, token=Login(None)) as client:
        assert client.state is ConnectionState.LIVE
        assert await client.stores.list() == []
    assert guarded.shown == [None, None]


async def test_closing_ends_a_token_function_that_hangs(guarded: GuardedServer, clock: FakeClock) -> None:
    was_cancelled = False

    async def token() -> str:
        nonlocal was_cancelled
        try:
            return await hang()
        except asyncio.CancelledError:
            was_cancelled = True
            raise

    async with syncline.connect(guarded.url, clock=clock, token=token, wait=False):
        await asyncio.sleep(0)
    assert was_cancelled


# --- refused at the socket ---


async def test_after_sleep_the_first_attempt_has_a_new_token(guarded: GuardedServer, clock: FakeClock) -> None:
    guarded.valid = {"monday"}
    login = Login("monday", "tuesday")
    async with syncline.connect(guarded.url, clock=clock, token=login) as client:
        seen = states_of(client)
        guarded.valid = {"tuesday"}
        await guarded.connections[0].drop()
        await state(client, ConnectionState.OFFLINE)
        clock.advance(8 * 3600)
        await state(client, ConnectionState.LIVE)
    assert guarded.shown == ["monday", "tuesday"]
    assert ConnectionState.NEEDS_AUTH not in seen


async def test_a_function_that_hands_out_an_expired_token_is_asked_once_more_at_once(
    guarded: GuardedServer, clock: FakeClock
) -> None:
    login = Login("expired", "good")
    async with syncline.connect(guarded.url, clock=clock, token=login) as client:
        assert client.state is ConnectionState.LIVE
        assert client.status.attempt == 0
    assert guarded.shown == ["expired", "good"]
    assert clock.slept == [5.0], "for WELCOME"


async def test_a_second_token_that_is_refused_stops_all_attempts_until_somebody_has_logged_in(
    guarded: GuardedServer, clock: FakeClock
) -> None:
    login = Login("bad", "worse", "good")
    async with syncline.connect(guarded.url, clock=clock, token=login, wait=False) as client:
        adding = asyncio.ensure_future(client.add("notes", 1, "k"))
        reading = asyncio.ensure_future(anext(client.subscribe("notes")))
        status = await state(client, ConnectionState.NEEDS_AUTH)
        assert status.reason == (
            "it answers HTTP 401, it does not accept the token; call authenticate() when there is a valid token"
        )
        assert isinstance(status.last_error, AuthRequired)
        assert status.retry_at is None
        clock.advance(24 * 3600)
        await client.stores.list()
        assert guarded.shown == ["bad", "worse", "good"]
        assert client.state is ConnectionState.NEEDS_AUTH
        assert not adding.done()
        client.authenticate()
        assert (await soon(adding)).status == "ok"
        assert (await soon(reading)).key == "k"


async def test_a_token_that_is_given_later_leads_through_connecting_to_live(
    guarded: GuardedServer, clock: FakeClock
) -> None:
    async with syncline.connect(guarded.url, clock=clock, wait=False) as client:
        status = await state(client, ConnectionState.NEEDS_AUTH)
        assert "it wants a token" in status.reason
        seen = states_of(client)
        client.authenticate("good")
        await state(client, ConnectionState.LIVE)
        assert seen == [ConnectionState.NEEDS_AUTH, ConnectionState.CONNECTING, ConnectionState.LIVE]
        assert await client.stores.list() == []
    assert guarded.shown == [None, "good", "good"]


async def test_a_token_function_can_say_itself_that_somebody_has_to_log_in(
    guarded: GuardedServer, clock: FakeClock
) -> None:
    login = Login(AuthRequired("the session of Ann has ended"), "good")
    async with syncline.connect(guarded.url, clock=clock, token=login, wait=False) as client:
        status = await state(client, ConnectionState.NEEDS_AUTH)
        assert status.reason.startswith("the session of Ann has ended; call authenticate()")
        assert guarded.shown == []
        client.authenticate()
        await state(client, ConnectionState.LIVE)
    assert guarded.shown == ["good"]


async def test_a_refusal_after_many_days_waits_for_credentials_too(guarded: GuardedServer, clock: FakeClock) -> None:
    async with syncline.connect(guarded.url, clock=clock, token="good") as client:
        guarded.valid = {"better"}
        await guarded.connections[0].drop()
        status = await state(client, ConnectionState.OFFLINE)
        assert status.retry_at is not None
        clock.advance(status.retry_at - clock.time())
        await state(client, ConnectionState.NEEDS_AUTH)
        client.authenticate("better")
        await state(client, ConnectionState.LIVE)


async def test_a_replica_is_of_use_while_nobody_is_logged_in(guarded: GuardedServer, clock: FakeClock) -> None:
    async with syncline.connect(guarded.url, clock=clock, token="bad", wait=False) as client:
        await state(client, ConnectionState.NEEDS_AUTH)
        replica = await client.replica("notes")
        write = await replica.add({"text": "hi"}, "k")
        assert [record.value for record in replica] == [{"text": "hi"}]
        assert replica.status.state is ConnectionState.NEEDS_AUTH
        assert "call authenticate()" in replica.status.reason
        assert replica.status.pending == 1
        with pytest.raises(AuthRequired):
            await client.add("other", 1)
        client.authenticate("good")
        await soon(write.stored())
        await soon(replica.wait_caught_up())


async def test_the_first_connection_is_refused_with_an_error_that_says_what_to_do(
    guarded: GuardedServer, clock: FakeClock
) -> None:
    for token, what in (("bad", "does not accept the token; check the token"), (None, "wants a token")):
        with pytest.raises(ConnectionForbidden, match=what) as raised:
            async with syncline.connect(guarded.url, clock=clock, token=token):
                pass
        assert isinstance(raised.value, AuthRequired)
        assert raised.value.url == guarded.url
    with pytest.raises(AuthRequired, match=r"^log in, please$"):
        async with syncline.connect(guarded.url, clock=clock, token=Login(AuthRequired("log in, please"))):
            pass


async def test_a_program_that_authenticates_at_every_refusal_does_not_hammer_the_server(guarded: GuardedServer) -> None:
    clock = FakeClock(chance=1.0)
    async with syncline.connect(guarded.url, clock=clock, token="bad", wait=False) as client:

        def insist(status: Status) -> None:
            if status.state is ConnectionState.NEEDS_AUTH:
                client.authenticate("bad")

        client.on_status(insist)
        for wait_s in (2, 4, 8, 16, 30, 30):
            left = await soon(clock.sleeper())
            assert left == pytest.approx(wait_s)
            assert client.state is ConnectionState.CONNECTING
            clock.advance(left)
            await soon(_woken(clock, left))
        assert len(guarded.shown) == 8


async def _woken(clock: FakeClock, slept: float) -> None:
    """Wait until the next sleep begins."""
    before = len(clock.slept)
    while len(clock.slept) == before:
        await asyncio.sleep(0)


async def test_a_welcome_makes_the_next_authentication_a_prompt_one_again(
    guarded: GuardedServer, clock: FakeClock
) -> None:
    async with syncline.connect(guarded.url, clock=clock, token="bad", wait=False) as client:
        for _ in range(2):
            await state(client, ConnectionState.NEEDS_AUTH)
            slept = len(clock.slept)
            guarded.valid = {"good"}
            client.authenticate("good")
            await state(client, ConnectionState.LIVE)
            assert not [each for each in clock.slept[slept:] if each < 5]
            guarded.valid = {"better"}
            await guarded.connections[0].drop()
            status = await state(client, ConnectionState.OFFLINE)
            assert status.retry_at is not None
            clock.advance(status.retry_at - clock.time())


async def test_a_token_that_comes_while_the_old_one_is_being_refused_is_used_at_once(
    guarded: GuardedServer, clock: FakeClock
) -> None:
    async def token() -> str:
        client.authenticate("good")
        raise AuthRequired

    client = syncline.connect(guarded.url, clock=clock, token=token, wait=False)
    async with client:
        seen = states_of(client)
        await state(client, ConnectionState.LIVE)
        assert seen == [ConnectionState.CONNECTING, ConnectionState.LIVE]


async def test_authenticate_wants_an_open_client(guarded: GuardedServer, clock: FakeClock) -> None:
    client = syncline.connect(guarded.url, clock=clock, token="good")
    with pytest.raises(Misuse, match="not open"):
        client.authenticate()
    async with client:
        client.authenticate("later")
        assert client.state is ConnectionState.LIVE
        with pytest.raises(Misuse, match="header cannot carry"):
            client.authenticate("later\n")
    with pytest.raises(syncline.ClientClosed):
        client.authenticate()


# --- refused with a close code ---


async def test_a_close_code_before_welcome_can_refuse_credentials(guarded: GuardedServer, clock: FakeClock) -> None:
    async def close(connection: FakeConnection) -> bool:
        await connection.socket.close(CloseCode.UNAUTHENTICATED, "who are you?")
        return False

    guarded.valid, guarded.greet = {None}, close
    async with syncline.connect(guarded.url, clock=clock, token=Login("a", "b"), wait=False) as client:
        status = await state(client, ConnectionState.NEEDS_AUTH)
        assert (status.close_code, "who are you?" in status.reason) == (4503, True)
        assert guarded.shown == ["a", "b"]
        guarded.greet = None
        client.authenticate("c")
        await state(client, ConnectionState.LIVE)


@pytest.mark.parametrize("code", [CloseCode.UNAUTHENTICATED, CloseCode.TOKEN_EXPIRED])
async def test_a_close_code_after_welcome_asks_for_another_token_and_comes_back_at_once(
    guarded: GuardedServer, clock: FakeClock, code: CloseCode
) -> None:
    guarded.valid = {None}
    login = Login("a", "b", "c")
    async with syncline.connect(guarded.url, clock=clock, token=login) as client:
        states = states_of(client)
        for _ in range(2):
            clock.advance(40)
            await guarded.connections[0].socket.close(code, "expired")
            await state(client, ConnectionState.CONNECTING)
            await state(client, ConnectionState.LIVE)
    assert guarded.shown == ["a", "b", "c"]
    assert login.asked == 3
    assert states == [ConnectionState.LIVE, ConnectionState.CONNECTING] * 2 + [
        ConnectionState.LIVE,
        ConnectionState.CLOSED,
    ]


async def test_where_there_is_no_other_token_a_credential_that_was_taken_back_needs_a_login(
    guarded: GuardedServer, clock: FakeClock
) -> None:
    async with syncline.connect(guarded.url, clock=clock, token="good") as client:
        await guarded.connections[0].socket.close(CloseCode.UNAUTHENTICATED, "logged out")
        status = await state(client, ConnectionState.NEEDS_AUTH)
        assert (status.close_code, guarded.shown) == (4503, ["good"])


async def test_a_server_that_takes_every_token_and_takes_it_back_at_once_is_not_hammered(
    guarded: GuardedServer, clock: FakeClock
) -> None:
    guarded.valid = {None}

    async def take_back(connection: FakeConnection, event: requested.ServerEvent) -> bool:
        connection.session.welcome()
        await connection.flush()
        await connection.socket.close(CloseCode.TOKEN_EXPIRED, "expired")
        return True

    guarded.intercept = take_back
    async with syncline.connect(guarded.url, clock=clock, token=Login("a", "b", "c", "d"), wait=False) as client:
        await state(client, ConnectionState.NEEDS_AUTH)
        assert guarded.shown == ["a", "b"]
