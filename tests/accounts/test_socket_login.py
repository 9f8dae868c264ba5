"""Who one is on a WebSocket: by HELLO, header, cookie or ticket, by an issuer or a function; and who is not let in."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from syncline_protocol.messages import (
    Auth,
    CaughtUp,
    Error,
    Subscribe,
    Subscribed,
    Welcome,
)
from syncline_server.access.gate import Visitor
from syncline_server.access.principal import ANONYMOUS, Principal
from syncline_server.accounts.jwt import JwtIdentity, KeysUnavailable, TokenExpired, TokenRefused

from .asgi_socket import AsgiSocket
from .guarded import Guarded, GuardedPeer, guarded, turns
from .logged import logs

__all__ = ["logs"]

_HERE = "http://127.0.0.1:7171"
_ELSEWHERE = "https://elsewhere.example"


@pytest.fixture
async def world() -> AsyncIterator[Guarded]:
    """An engine with `sam`, who may write."""
    async with guarded() as made:
        yield made


async def _sam(world: Guarded, **fields: Any) -> str:
    token = await world.user("sam", **fields)
    await world.grant("user:sam")
    return token


def _user(messages: list[Any]) -> str | None:
    (welcome,) = messages
    assert isinstance(welcome, Welcome), messages
    return welcome.user


async def _greeted(peer: GuardedPeer) -> list[Any]:
    await turns(10)
    return peer.take()


# --- where the token is ---


async def test_a_token_may_come_in_hello(world: Guarded) -> None:
    socket = AsgiSocket(world)
    assert _user(await socket.hello(await _sam(world))) == "sam"
    await socket.leave()


async def test_a_token_may_come_in_the_authorization_header(world: Guarded) -> None:
    socket = AsgiSocket(world, headers={"authorization": f"Bearer {await _sam(world)}"})
    assert _user(await socket.hello()) == "sam"
    await socket.leave()


async def test_the_token_of_hello_counts_more_than_that_of_the_upgrade(world: Guarded) -> None:
    other = await world.user("eve")
    socket = AsgiSocket(world, headers={"authorization": f"Bearer {other}"})
    assert _user(await socket.hello(await _sam(world))) == "sam"
    await socket.leave()


async def test_a_bad_token_in_hello_is_not_saved_by_a_good_one_in_the_header(world: Guarded) -> None:
    socket = AsgiSocket(world, headers={"authorization": f"Bearer {await _sam(world)}"})
    (error,) = await socket.hello("syncline_s_" + "x" * 43)
    assert isinstance(error, Error)
    assert error.code == "unauthenticated"
    assert socket.closed is not None
    assert socket.closed[0] == 4503
    await socket.leave()


async def test_the_cookie_of_the_console_counts_for_pages_of_this_origin_only(world: Guarded) -> None:
    cookie = {"cookie": f"syncline_session={await _sam(world)}"}
    here = AsgiSocket(world, headers={**cookie, "origin": _HERE})
    assert _user(await here.hello()) == "sam"
    allowed = AsgiSocket(world, headers={**cookie, "origin": _ELSEWHERE}, origins=frozenset({_ELSEWHERE}))
    assert (await allowed.hello())[0].code == "unauthenticated"  # type: ignore[union-attr]
    without = AsgiSocket(world, headers=cookie)
    assert (await without.hello())[0].code == "unauthenticated"  # type: ignore[union-attr]
    foreign = AsgiSocket(world, headers={**cookie, "origin": _ELSEWHERE})
    assert await foreign.hello() == []
    assert foreign.closed is not None
    assert foreign.closed[0] == 1008
    for socket in (here, allowed, without, foreign):
        await socket.leave()


@pytest.mark.parametrize("name", ["token", "access_token", "Authorization", "ticket", "anything"])
async def test_a_token_in_the_url_is_refused_and_the_reason_is_said(world: Guarded, name: str) -> None:
    socket = AsgiSocket(world, query=f"{name}={await _sam(world)}")
    await turns(10)
    assert socket.closed is not None
    assert socket.closed[0] == 4503
    assert "URL" in socket.closed[1]
    assert world.hub.counts.errors_sent["token_in_url"] == 1
    await socket.leave()


async def test_an_authorization_header_of_another_kind_logs_nobody_in(world: Guarded) -> None:
    socket = AsgiSocket(world, headers={"authorization": "Basic c2FtOnNhbQ=="})
    await socket.hello()
    assert socket.closed is not None
    assert socket.closed[0] == 4503
    await socket.leave()


# --- tickets ---


def _ticket(world: Guarded, token: str, origin: str | None = None) -> str:
    principal = world.directory.principal_of(token)
    assert isinstance(principal, Principal)
    return world.tickets.issue(principal, origin)[0]


async def test_a_ticket_opens_one_socket(world: Guarded) -> None:
    ticket = _ticket(world, await _sam(world))
    first, second = AsgiSocket(world, query=f"ticket={ticket}"), AsgiSocket(world, query=f"ticket={ticket}")
    assert _user(await first.hello()) == "sam"
    assert (await second.hello())[0].code == "unauthenticated"  # type: ignore[union-attr]
    for socket in (first, second):
        await socket.leave()


async def test_a_ticket_is_good_for_the_page_that_got_it_and_lost_if_another_one_comes_with_it(world: Guarded) -> None:
    token = await _sam(world)
    ticket = _ticket(world, token, _ELSEWHERE)
    wrong = AsgiSocket(world, query=f"ticket={ticket}", headers={"origin": _HERE})
    assert (await wrong.hello())[0].code == "unauthenticated"  # type: ignore[union-attr]
    headers, origins = {"origin": _ELSEWHERE}, frozenset({_ELSEWHERE})
    late = AsgiSocket(world, query=f"ticket={ticket}", headers=headers, origins=origins)
    assert (await late.hello())[0].code == "unauthenticated"  # type: ignore[union-attr]
    again = _ticket(world, token, _ELSEWHERE)
    right = AsgiSocket(world, query=f"ticket={again}", headers=headers, origins=origins)
    assert _user(await right.hello()) == "sam"
    for socket in (wrong, late, right):
        await socket.leave()


async def test_a_ticket_ends_after_30_s(world: Guarded) -> None:
    token = await _sam(world)
    just, late = _ticket(world, token), _ticket(world, token)
    world.clock.seconds += 29.9
    assert _user(await _greeted(world.peer(just))) == "sam"
    world.clock.seconds += 0.1
    peer = world.peer(late)
    assert peer.closed_with == 4503


async def test_a_ticket_does_not_outlive_the_token_that_it_was_got_with(world: Guarded) -> None:
    token = await _sam(world)
    before, after = _ticket(world, token), _ticket(world, token)
    peer = world.peer(before)
    (made,) = world.directory.registry.tokens_of("sam")
    await world.directory.revoke_token(made.id)
    assert peer.closed_with == 4503, "a socket that a ticket opened hangs on the token"
    assert world.peer(after).closed_with == 4503


async def test_a_ticket_ends_with_its_token_by_the_clock(world: Guarded) -> None:
    ends_ms = world.hub.now_ms() + 5_000
    ticket = _ticket(world, await _sam(world, expires_ms=ends_ms))
    peer = world.peer(ticket)
    world.tick(5.0)
    assert peer.closed_with == 4007


# --- without a token ---


async def test_without_a_token_nobody_comes_in_unless_something_is_granted_to_everyone(world: Guarded) -> None:
    refused = world.peer()
    assert refused.closed_with == 4503
    assert [message.code for message in refused.take() if isinstance(message, Error)] == ["unauthenticated"]
    await world.grant("everyone", role="reader")
    peer = world.peer()
    assert _user(peer.take()) is None
    peer.send(Subscribe(900, "notes", "start"))
    await turns(10)
    assert [type(message) for message in peer.take()] == [Subscribed, CaughtUp]
    peer.add(1, "a")
    await turns(10)
    assert [message.results[0].status for message in peer.take()] == ["denied"]  # type: ignore[union-attr]


@pytest.mark.parametrize("everyone", [False, True])
@pytest.mark.parametrize(
    "token",
    ["", "x", "syncline_s_" + "x" * 43, "syncline_c_" + "x" * 43, "syncline_i_" + "x" * 43, "a.b.c", "é" * 20_000],
)
async def test_a_bad_token_is_refused_also_where_none_is_needed(world: Guarded, token: str, everyone: bool) -> None:
    if everyone:
        await world.grant("everyone", role="reader")
    peer = world.peer(token)
    assert peer.closed_with == 4503
    assert [message.code for message in peer.take()] == ["unauthenticated"]  # type: ignore[union-attr]


async def test_an_expired_token_is_told_from_a_bad_one(world: Guarded) -> None:
    token = await _sam(world, expires_ms=world.hub.now_ms() + 1000)
    world.clock.seconds += 1
    peer = world.peer(token)
    assert peer.closed_with == 4007
    assert [message.code for message in peer.take()] == ["token_expired"]  # type: ignore[union-attr]


# --- other ways to know somebody ---


class _Issuer:
    """Knows tokens by what stands before the dots, and waits if it is told to."""

    def __init__(self) -> None:
        self.expires_ms: int | None = None
        self.held = asyncio.Event()
        self.held.set()

    async def verify(self, token: str) -> JwtIdentity:
        await self.held.wait()
        if token.startswith("late"):
            raise TokenExpired("it has expired")
        if token.startswith("away"):
            raise KeysUnavailable("no route to the issuer")
        if not token.startswith("header"):
            raise TokenRefused("the signature is wrong")
        return JwtIdentity("sam", frozenset({"team"}), self.expires_ms)  # type: ignore[arg-type]


async def test_a_jwt_is_proved_and_its_faults_have_codes_of_their_own() -> None:
    async with guarded(jwt=_Issuer()) as world:
        assert _user(await _greeted(world.peer("header.payload.signature"))) == "jwt:sam"
        for token, code in [("late.payload.x", 4007), ("wrong.payload.x", 4503), ("away.payload.x", 4001)]:
            peer = world.peer(token)
            await turns(10)
            assert peer.closed_with == code, token


async def test_a_jwt_that_ends_closes_the_connection_and_grants_to_its_groups_count() -> None:
    issuer = _Issuer()
    async with guarded(jwt=issuer) as world:
        issuer.expires_ms = world.hub.now_ms() + 60_000
        await world.directory.add_grant("group:jwt:team", "notes", "reader", by=None, must_exist=False)
        peer = world.peer("header.payload.signature")
        await turns(10)
        assert isinstance((await peer.subscribe())[-1], CaughtUp)
        world.tick(60.0)
        assert peer.closed_with == 4007


async def test_nothing_is_taken_before_the_credentials_are_proved() -> None:
    issuer = _Issuer()
    issuer.held.clear()
    async with guarded(jwt=issuer) as world:
        await world.directory.add_grant("user:jwt:sam", "notes", "writer", by=None, must_exist=False)
        peer = world.peer("header.payload.signature")
        peer.send(Subscribe(900, "notes", "start"))
        peer.add(1, "a")
        await turns(10)
        assert not [message for message in peer.take() if not isinstance(message, Error)]
        assert (await world.storage.info("notes")).head.seq == 0


async def test_who_cannot_be_proved_within_the_deadline_of_hello_is_closed() -> None:
    issuer = _Issuer()
    issuer.held.clear()
    async with guarded(jwt=issuer) as world:
        peer = world.peer("header.payload.signature")
        world.tick(10.0)
        assert peer.closed_with == 4004
        assert world.hub.admission.pending == 0
        issuer.held.set()
        await turns(10)
        assert peer.take() == []


def _known(token: str, visitor: Visitor) -> Principal | None:
    return Principal("app:ext", "external") if token == "operator-token" else None


async def _known_later(token: str, visitor: Visitor) -> Principal | None:
    await asyncio.sleep(0)
    return _known(token, visitor)


@pytest.mark.parametrize("authenticate", [_known, _known_later])
async def test_the_operators_function_says_who_comes(authenticate: Any) -> None:
    async with guarded(authenticate=authenticate) as world:
        assert _user(await _greeted(world.peer("operator-token"))) == "app:ext"
        peer = world.peer("another one")
        await turns(10)
        assert peer.closed_with == 4503


def _fails(token: str, visitor: Visitor) -> Principal | None:
    raise LookupError(f"the directory is away for {token}")


async def _fails_later(token: str, visitor: Visitor) -> Principal | None:
    await asyncio.sleep(0)
    raise LookupError(f"the directory is away for {token}")


def _is_wrong(token: str, visitor: Visitor) -> Any:
    return "sam"


def _is_a_user(token: str, visitor: Visitor) -> Principal:
    return Principal("sam", "user", is_admin=True)


def _is_open(token: str, visitor: Visitor) -> Principal:
    return Principal(None, "open", is_admin=True)


def _is_nobody(token: str, visitor: Visitor) -> Principal:
    return ANONYMOUS


@pytest.mark.parametrize("authenticate", [_fails, _fails_later, _is_wrong, _is_a_user, _is_open, _is_nobody])
async def test_an_operators_function_that_fails_lets_nobody_in_and_is_logged(
    authenticate: Any, logs: list[Any]
) -> None:
    async with guarded(authenticate=authenticate) as world:
        await world.grant("everyone", role="reader")
        peer = world.peer("operator-token")
        await turns(10)
        assert peer.closed_with in (4005, 4503)
        assert not [message for message in peer.take() if isinstance(message, Welcome)]
        assert [entry for entry in logs if entry["log_level"] == "error"]
        asked = world.ask("GET", "/v1/stores/notes", "operator-token")
        await turns(20)
        assert asked.status in (401, 500)
        await asyncio.wait([asked.task])


async def test_an_operators_function_that_fails_at_auth_leaves_the_credentials_that_are_there() -> None:
    async with guarded(authenticate=_fails) as world:
        peer = world.peer(await _sam(world))
        await peer.subscribe()
        (error,) = await peer.ask(Auth("operator-token"))
        assert isinstance(error, Error)
        assert peer.connection.principal.name == "sam"
        assert len(peer.connection.subscriptions) == 1


async def test_a_client_that_is_gone_before_it_is_accepted_leaves_its_place(world: Guarded) -> None:
    for _ in range(3):
        socket = AsgiSocket(world, loses_accept=True)
        await asyncio.wait([socket.task])
        socket.task.exception()
    assert world.hub.admission.open == 0
