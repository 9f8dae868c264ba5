"""How much one client may have or ask for at once, what he is told beyond it, and that nobody else notices."""

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import Any

import argon2
import msgspec
import pytest

from syncline_protocol.messages import (
    Auth,
    Authenticated,
    Error,
    Fetch,
    Heartbeat,
    Subscribe,
    Unsubscribe,
    Write,
    WriteOp,
    Wrote,
)
from syncline_server.access.gate import Visitor
from syncline_server.access.principal import Principal
from syncline_server.accounts.password import PasswordHasher
from syncline_server.limits.admission import Admission, AdmissionLimits
from syncline_server.limits.meter import Meter
from syncline_server.limits.throttle import Throttle

from .asgi_socket import AsgiSocket
from .desk import PASSWORD, desk
from .guarded import Asked, Guarded, GuardedPeer, guarded, turns
from .logged import logs

__all__ = ["logs"]

_MANY = 1_000_000


@pytest.fixture
async def world() -> AsyncIterator[Guarded]:
    """An engine with `sam`, who may write."""
    async with guarded() as made:
        yield made


async def _sam(world: Guarded, name: str = "sam", **limits: Any) -> str:
    token = await world.user(name)
    await world.grant(f"user:{name}", **limits)
    return token


# --- connections ---


@pytest.mark.parametrize("which", ["connections", "address", "pending", "pending_address"])
async def test_a_connection_too_many_is_closed_with_the_limit_named_and_counted(which: str) -> None:
    limits = AdmissionLimits(**{which: 2})
    async with guarded(admission=Admission(limits)) as world:
        token = await _sam(world)
        sockets = [AsgiSocket(world) for _ in range(2)]
        await turns(10)
        third = AsgiSocket(world)
        await turns(10)
        assert third.closed is not None
        assert third.closed[0] == 4001
        assert "2" in third.closed[1]
        assert world.hub.counts.refused == {which: 1}
        elsewhere = AsgiSocket(world, address="192.0.2.7")
        welcome = await elsewhere.hello(token)
        assert bool(welcome) == (which in ("address", "pending_address"))
        for socket in (*sockets, third, elsewhere):
            await socket.leave()
        assert world.hub.admission.open == 0
        again = AsgiSocket(world)
        assert await again.hello(token)
        await again.leave()


async def test_a_user_has_so_many_connections_wherever_he_comes_from_and_streams_count() -> None:
    async with guarded(admission=Admission(AdmissionLimits(user=2))) as world:
        token, other = await _sam(world), await _sam(world, "eve")
        first = world.peer(token, address="192.0.2.1")
        stream = world.ask("GET", "/v1/stores/notes/changes", token, accept="text/event-stream", address="192.0.2.2")
        await turns(20)
        third = world.peer(token, address="192.0.2.3")
        assert third.closed_with == 4001
        assert "user" in third.close_reason
        second = world.ask("GET", "/v1/stores/notes/changes", token, accept="text/event-stream")
        poll = world.ask("GET", "/v1/stores/notes/changes?wait=30&after=now", token)
        await turns(20)
        assert (second.status, poll.status) == (503, 503)
        assert world.hub.counts.refused == {"user": 3}
        assert world.peer(other).closed_with is None
        await stream.leave()
        assert world.peer(token).closed_with is None
        assert first.closed_with is None


async def test_who_logs_in_gives_the_place_of_those_who_wait_back() -> None:
    async with guarded(admission=Admission(AdmissionLimits(pending=1))) as world:
        token = await _sam(world)
        for _ in range(5):
            assert world.peer(token).closed_with is None
        assert world.hub.admission.pending == 0


# --- messages ---


def _error(peer: GuardedPeer) -> Error:
    (error,) = [message for message in peer.take() if isinstance(message, Error)]
    return error


async def test_a_write_that_comes_too_early_is_to_be_tried_again_and_then_taken(world: Guarded) -> None:
    peer = world.peer(await _sam(world), meter=Meter(1.0, _MANY))
    for number in range(20):
        peer.add(number, f"k{number}")
    await turns(10)
    results = [result for message in peer.take() if isinstance(message, Wrote) for result in message.results]
    early = [result for result in results if result.status == "retry"]
    assert len(early) == 11, "ten at once, one of which was HELLO"
    assert {result.code for result in early} == {"rate_limited"}
    after_ms = early[0].after_ms
    assert after_ms is not None
    assert 0 < after_ms <= 1001
    world.clock.seconds += after_ms / 1000
    peer.add(early[0].id, f"k{early[0].id}")
    await turns(10)
    assert [message.results[0].status for message in peer.take() if isinstance(message, Wrote)] == ["ok"]


async def test_bytes_count_as_messages_do(world: Guarded) -> None:
    peer = world.peer(await _sam(world), meter=Meter(_MANY, 100.0))
    peer.add(1, "a", b'"' + b"x" * 500 + b'"')
    peer.add(2, "b", b'"' + b"x" * 500 + b'"')
    await turns(10)
    results = [result for message in peer.take() if isinstance(message, Wrote) for result in message.results]
    assert sorted(result.status for result in results) == ["ok", "retry"]


async def test_a_request_that_comes_too_early_is_told_when_it_may(world: Guarded) -> None:
    peer = world.peer(await _sam(world), meter=Meter(1.0, _MANY))
    for number in range(9):
        peer.add(number, f"k{number}")
    await turns(10)
    peer.take()
    peer.send(Subscribe(900, "notes", "start"))
    error = _error(peer)
    assert (error.code, error.id) == ("rate_limited", 900)
    assert error.after_ms is not None
    world.clock.seconds += error.after_ms / 1000
    assert len(await peer.ask(Subscribe(900, "notes", "start"))) > 1
    peer.send(Fetch(900, "1-9"))
    error = _error(peer)
    assert error.code == "rate_limited"
    assert len(peer.connection.subscriptions) == 1, "a FETCH that is put off ends nothing"
    peer.send(Unsubscribe(900))
    assert not peer.connection.subscriptions, "to end something is never put off"


@pytest.mark.parametrize("what", ["writes", "heartbeats", "writes that are none", "requests for new credentials"])
async def test_who_floods_in_spite_of_the_answers_is_closed(world: Guarded, what: str) -> None:
    token = await _sam(world)
    peer, other = world.peer(token, meter=Meter(1.0, _MANY)), world.peer(token)
    for number in range(12_000):
        if peer.closed_with is not None:
            break
        match what:
            case "writes":
                peer.add(number, "k")
            case "heartbeats":
                peer.send(Heartbeat())
            case "writes that are none":
                peer.add(number, "")
            case _:
                peer.send(Auth("syncline_s_" + "x" * 43))
        if not number % 100:
            await turns(3)
    assert peer.closed_with == 4008
    assert other.closed_with is None


async def test_one_look_at_new_credentials_is_under_way_at_a_time() -> None:
    held = asyncio.Event()
    asked: list[str] = []

    async def authenticate(token: str, visitor: Visitor) -> Principal | None:
        asked.append(token)
        if len(asked) > 1:
            await held.wait()
        return Principal("app:ext", "external")

    async with guarded(authenticate=authenticate) as world:
        await world.grant("everyone", role="reader")
        peer = world.peer("operator-token")
        await turns(10)
        peer.take()
        for number in range(50):
            peer.send(Auth(f"operator-token-{number}"))
        await turns(10)
        assert len(asked) == 2
        assert {message.code for message in peer.take() if isinstance(message, Error)} == {"rate_limited"}
        held.set()
        await turns(10)
        assert [type(message) for message in peer.take()] == [Authenticated]
        assert [type(message) for message in await peer.ask(Auth("operator-token"))] == [Authenticated]


async def test_a_connection_has_so_many_subscriptions(world: Guarded) -> None:
    token = await _sam(world)
    await world.grant("user:sam", "s*", "reader")
    peer = world.peer(token)
    for number in range(64):
        await world.hub.create(f"s{number}")
        peer.send(Subscribe(number, f"s{number}", "start"))
    await turns(40)
    assert len(peer.connection.subscriptions) == 64
    peer.take()
    peer.send(Subscribe(900, "notes", "start"))
    assert _error(peer).code == "too_many_subscriptions"
    peer.send(Unsubscribe(1))
    peer.take()
    assert len(await peer.ask(Subscribe(900, "notes", "start"))) > 1


# --- bounds of grants ---


def _statuses(messages: list[Any]) -> list[tuple[str, str | None]]:
    results = [result for message in messages if isinstance(message, Wrote) for result in message.results]
    return [(result.status, result.code) for result in sorted(results, key=lambda it: it.id)]


async def test_a_grant_bounds_the_writes_of_each_user_on_all_his_connections(world: Guarded) -> None:
    token, other = await _sam(world, writes_per_s=1.0), await _sam(world, "eve", writes_per_s=1.0)
    first, second, eve = world.peer(token), world.peer(token), world.peer(other)
    first.add(1, "a")
    second.add(1, "b")
    await turns(5)
    first.add(2, "c")
    eve.add(1, "d")
    put = world.ask("PUT", "/v1/stores/notes/records/e", token, b"1")
    await turns(20)
    assert _statuses(first.take()) == [("ok", None), ("retry", "rate_limited")]
    assert _statuses(second.take()) == [("ok", None)]
    assert _statuses(eve.take()) == [("ok", None)]
    assert put.status == 429
    assert int(put.headers["retry-after"]) >= 1
    world.clock.seconds += 1
    first.add(2, "c")
    await turns(5)
    assert _statuses(first.take()) == [("ok", None)]


async def test_a_write_of_many_ops_counts_as_many_writes(world: Guarded) -> None:
    peer = world.peer(await _sam(world, writes_per_s=1.0))
    ops = tuple(WriteOp("ADD", f"k{number}", msgspec.Raw(b"1")) for number in range(10))
    peer.send(Write(1, "notes", ops))
    await turns(5)
    world.clock.seconds += 5
    peer.add(2, "late")
    await turns(5)
    assert _statuses(peer.take()) == [("ok", None), ("retry", "rate_limited")]


async def test_a_grant_bounds_what_a_user_keeps_by_whatever_way_he_writes(world: Guarded) -> None:
    token = await _sam(world, records_max=3)
    peer = world.peer(token)
    ops = tuple(WriteOp("ADD", f"k{number}", msgspec.Raw(b"1")) for number in range(5))
    peer.send(Write(1, "notes", ops, atomic=True))
    await turns(5)
    (wrote,) = [message for message in peer.take() if isinstance(message, Wrote)]
    assert wrote.results[0].ops is not None
    assert "quota_exceeded" in {op.code for op in wrote.results[0].ops}
    assert world.storage.keys("notes") == set()  # type: ignore[attr-defined]
    for number in range(3):
        peer.add(number, f"k{number}")
    put = world.ask("PUT", "/v1/stores/notes/records/more", token, b"1")
    await turns(20)
    assert put.status == 403
    assert len(world.storage.keys("notes")) == 3  # type: ignore[attr-defined]


# --- HTTP ---


async def _asked(world: Guarded, count: int, token: str | None, **options: Any) -> list[Asked]:
    asked = [world.ask("GET", "/v1/stores", token, **options) for _ in range(count)]
    await asyncio.wait([it.task for it in asked])
    return asked


async def test_requests_of_one_user_are_bounded_and_those_of_others_are_not() -> None:
    async with guarded(rate=Throttle(1.0, 3.0, 100)) as world:
        token, other = await _sam(world), await _sam(world, "eve")
        asked = await _asked(world, 5, token)
        assert [it.status for it in asked] == [200] * 3 + [429] * 2
        assert int(asked[-1].headers["retry-after"]) >= 1
        assert b"rate_limited" in b"".join(asked[-1].pieces)
        assert [it.status for it in await _asked(world, 3, other)] == [200] * 3
        assert world.hub.counts.refused == {"rate": 2}
        world.clock.seconds += 1
        assert [it.status for it in await _asked(world, 2, token, address="192.0.2.9")] == [200, 429]


async def test_requests_without_a_login_are_bounded_by_address() -> None:
    async with guarded(rate=Throttle(1.0, 3.0, 100)) as world:
        await world.grant("everyone", role="reader")
        assert [it.status for it in await _asked(world, 4, None, address="192.0.2.1")] == [200] * 3 + [429]
        assert [it.status for it in await _asked(world, 1, None, address="192.0.2.2")] == [200]
        hosts = [f"2001:db8::{number}" for number in range(1, 5)]
        statuses = [(await _asked(world, 1, None, address=host))[0].status for host in hosts]
        assert statuses == [200] * 3 + [429], "a host has a whole /64"


async def test_requests_with_bad_tokens_are_bounded_by_address() -> None:
    async with guarded(rate=Throttle(1.0, 3.0, 100)) as world:
        token = await _sam(world)
        bad = "syncline_s_" + "x" * 43
        assert [it.status for it in await _asked(world, 4, bad, address="192.0.2.1")] == [401] * 3 + [429]
        assert [it.status for it in await _asked(world, 1, token, address="192.0.2.1")] == [200]


async def test_a_user_who_is_called_like_an_address_takes_nothing_from_it() -> None:
    async with guarded(rate=Throttle(1.0, 3.0, 100)) as world:
        await world.grant("everyone", role="reader")
        token = await world.user("192.0.2.1")
        assert [it.status for it in await _asked(world, 4, token)][-1] == 429
        assert [it.status for it in await _asked(world, 1, None, address="192.0.2.1")] == [200]


# --- logins ---


async def test_who_guesses_waits_and_the_owner_at_another_address_does_not() -> None:
    async with desk() as made:
        await made.user("ada")
        guesser = made.person(address="192.0.2.1")
        for _ in range(5):
            (await guesser.post("login", {"user": "ada", "password": "wrong wrong"})).refused(401, "login_failed")
        answer = await guesser.post("login", {"user": "ada", "password": PASSWORD})
        answer.refused(429, "rate_limited")
        assert int(answer.headers["retry-after"]) >= 1
        assert made.hub.counts.refused == {"login": 1}
        owner = made.person(address="192.0.2.2")
        (await owner.post("login", {"user": "ada", "password": PASSWORD})).ok()


class _SlowArgon(argon2.PasswordHasher):
    """Hashes only when it may go on, and counts how many do so at once."""

    def __init__(self) -> None:
        super().__init__(time_cost=1, memory_cost=8, parallelism=1)
        self.may_go_on = threading.Event()
        self.at_once = self.at_once_max = 0
        self._lock = threading.Lock()

    def verify(self, hash: str | bytes, password: str | bytes) -> Any:
        with self._lock:
            self.at_once += 1
            self.at_once_max = max(self.at_once_max, self.at_once)
        self.may_go_on.wait(30)
        with self._lock:
            self.at_once -= 1
        return super().verify(hash, password)


async def test_a_flood_of_logins_is_bounded_and_leaves_the_event_loop_to_others() -> None:
    slow = _SlowArgon()
    async with desk() as made:
        ada = await made.user("ada")
        await made.accounts.hasher.close()
        object.__setattr__(made.accounts, "hasher", PasswordHasher(slow))
        people = [made.person(address=f"192.0.2.{number}") for number in range(80)]
        body = {"user": "nobody", "password": "wrong wrong"}
        # The bound of the account alone would let 50 through; here each has a name of his own.
        logins = [
            asyncio.ensure_future(person.post("login", {**body, "user": f"nobody{number}"}))
            for number, person in enumerate(people)
        ]
        while sum(login.done() for login in logins) < 28:
            await asyncio.sleep(0)
        (await ada.get("me")).ok()
        assert sum(login.done() for login in logins) == 28, "52 wait, and nobody else does"
        slow.may_go_on.set()
        statuses = sorted([(await login).status for login in logins])
        assert statuses == [401] * 52 + [503] * 28
        assert slow.at_once_max <= 2
