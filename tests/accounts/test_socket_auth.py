"""The end of a token on a WebSocket, and AUTH, which puts another one in its place."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from syncline_protocol.messages import Auth, Authenticated, Batch, Ended, Error, Expiring, Hello, Subscribe

from .asgi_socket import AsgiSocket
from .guarded import Guarded, guarded, turns
from .logged import logs

__all__ = ["logs"]


@pytest.fixture
async def world() -> AsyncIterator[Guarded]:
    """An engine with `sam`, who may write."""
    async with guarded() as made:
        yield made


async def _sam(world: Guarded, **fields: Any) -> str:
    token = await world.user("sam", **fields)
    await world.grant("user:sam")
    return token


async def test_auth_renews_in_place_and_subscriptions_go_on(world: Guarded) -> None:
    ends_ms = world.hub.now_ms() + 60_000
    peer = world.peer(await _sam(world, expires_ms=ends_ms))
    await peer.subscribe()
    (old,) = world.directory.registry.tokens_of("sam")
    new = (await world.directory.add_token("sam", "", kind="session", expires_ms=ends_ms + 60_000))[1]
    peer.take()
    assert await peer.ask(Auth(new)) == [Authenticated("sam", ends_ms + 60_000)]
    world.tick(60.0)
    assert peer.closed_with is None
    peer.add(1, "a")
    await turns(10)
    assert [type(message).__name__ for message in peer.take() if isinstance(message, Batch)] == ["Batch"]
    await world.directory.revoke_token(old.id)
    assert peer.closed_with is None, "the token before is of no matter any more"
    world.tick(60.0)
    assert peer.closed_with == 4007


async def test_auth_with_a_token_for_other_stores_ends_what_it_does_not_show(world: Guarded) -> None:
    peer = world.peer(await _sam(world))
    await peer.subscribe()
    narrow = (await world.directory.add_token("sam", "", stores=["other"]))[1]
    messages = await peer.ask(Auth(narrow))
    assert [message.reason for message in messages if isinstance(message, Ended)] == ["forbidden"]


@pytest.mark.parametrize("what", ["another user", "nobody", "bad", "expired"])
async def test_auth_that_is_refused_changes_nothing(world: Guarded, what: str) -> None:
    peer = world.peer(await _sam(world))
    await peer.subscribe()
    token = {
        "another user": await world.user("eve"),
        "nobody": "",
        "bad": "syncline_s_" + "x" * 43,
        "expired": (await world.directory.add_token("sam", "", expires_ms=world.hub.now_ms() + 1))[1],
    }[what]
    world.clock.seconds += 1
    peer.take()
    (error,) = await peer.ask(Auth(token))
    assert isinstance(error, Error)
    codes = {"another user": "forbidden", "expired": "token_expired"}
    assert error.code == codes.get(what, "unauthenticated")
    assert peer.closed_with is None
    assert len(peer.connection.subscriptions) == 1


async def test_auth_before_hello_is_misuse(world: Guarded) -> None:
    socket = AsgiSocket(world)
    await socket.ask(Auth(await _sam(world)))
    assert socket.closed is not None
    assert socket.closed[0] == 4501
    await socket.leave()


async def test_nobody_becomes_somebody_only_by_connecting_anew(world: Guarded) -> None:
    await world.grant("everyone", role="reader")
    peer = world.peer()
    peer.take()
    (error,) = await peer.ask(Auth(await _sam(world)))
    assert isinstance(error, Error)
    assert error.code == "forbidden"


async def test_the_end_of_a_token_is_announced_once_and_then_comes(world: Guarded) -> None:
    ends_ms = world.hub.now_ms() + 20_000
    peer = world.peer(await _sam(world, expires_ms=ends_ms))
    peer.take()
    for _ in range(15):
        world.tick(1.0)
    assert not [message for message in peer.take() if isinstance(message, Expiring)]
    for _ in range(4):
        world.tick(1.0)
    assert [message for message in peer.take() if isinstance(message, Expiring)] == [Expiring(ends_ms)]
    world.tick(1.0)
    assert peer.closed_with == 4007


async def test_the_end_of_a_long_lived_token_is_announced_a_minute_before(world: Guarded) -> None:
    ends_ms = world.hub.now_ms() + 3_600_000
    peer = world.peer(await _sam(world, expires_ms=ends_ms))
    world.clock.seconds += 3539
    peer.send(Subscribe(900, "notes", "start"))
    world.tick()
    assert not [message for message in peer.take() if isinstance(message, Expiring)]
    world.tick(1.0)
    assert [message for message in peer.take() if isinstance(message, Expiring)] == [Expiring(ends_ms)]


async def test_auth_after_expiring_puts_the_end_off_and_announces_the_next_one(world: Guarded) -> None:
    start_ms = world.hub.now_ms()
    peer = world.peer(await _sam(world, expires_ms=start_ms + 20_000))
    new = (await world.directory.add_token("sam", "", kind="session", expires_ms=start_ms + 40_000))[1]
    world.tick(17.0)
    assert Expiring(start_ms + 20_000) in peer.take()
    assert Authenticated("sam", start_ms + 40_000) in await peer.ask(Auth(new))
    world.tick(5.0)
    assert peer.closed_with is None
    peer.add(1, "a")
    world.tick(15.0)
    assert Expiring(start_ms + 40_000) in peer.take()
    world.tick(3.0)
    assert peer.closed_with == 4007


async def test_a_revoked_token_that_has_also_expired_is_closed_as_expired(world: Guarded) -> None:
    peer = world.peer(await _sam(world, expires_ms=world.hub.now_ms() + 1000))
    (made,) = world.directory.registry.tokens_of("sam")
    world.clock.seconds += 1
    await world.directory.revoke_token(made.id)
    assert peer.closed_with == 4007


async def test_a_second_hello_with_another_token_changes_nobody(world: Guarded) -> None:
    peer = world.peer(await _sam(world))
    peer.take()
    other = await world.user("eve")
    (error,) = await peer.ask(Hello(token=other))
    assert isinstance(error, Error)
    assert error.code == "hello_repeated"
    assert peer.connection.principal.name == "sam"
