"""A loss that another process is told of, and one that is told while things go wrong: it takes effect all the same."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from syncline_protocol.messages import Batch, CaughtUp, Ended, Error, Subscribe, Wrote
from syncline_server.access.grant import GrantLimits
from syncline_server.accounts.entry import ACCOUNTS
from syncline_server.storage.base import StorageUnavailable
from tests.support.engine import TestClock
from tests.support.faulty_storage import FaultyStorage

from .guarded import Guarded, GuardedPeer, HeldStorage, guarded, turns
from .losses import LOSSES, subject_of


@pytest.fixture
async def pair() -> AsyncIterator[tuple[Guarded, Guarded]]:
    """Two processes on one storage, with one clock."""
    storage, clock = HeldStorage(), TestClock()
    async with guarded(storage, clock=clock) as here, guarded(storage, clock=clock, stores=()) as there:
        yield here, there


async def _second(world: Guarded) -> None:
    """Do what a process does once a second."""
    world.tick()
    await world.directory.catch_up()


# --- in another process ---


@pytest.mark.parametrize("loss", [name for name, loss in LOSSES.items() if loss.kind != "dropped"])
async def test_a_loss_takes_effect_in_another_process_within_a_second(pair: tuple[Guarded, Guarded], loss: str) -> None:
    here, there = pair
    what = LOSSES[loss]
    root = await here.user("root", is_admin=True)
    subject = await subject_of(here, what, None)
    await _second(there)
    peer, lagging = there.peer(subject.token), there.peer(subject.token)
    for one in (peer, lagging):
        assert isinstance((await one.subscribe())[-1], CaughtUp)
    lagging.set_full(True)
    stream = there.ask("GET", "/v1/stores/notes/changes", subject.token, accept="text/event-stream")
    await turns(20)
    assert stream.status == 200
    await what.act(subject)
    await _second(there)
    mark = len(stream.pieces)
    messages = peer.take()
    if what.kind != "reader":
        await turns(5)
        assert stream.is_over
        assert lagging.aborted
        assert peer.closed_with == what.close
        if what.close is None:
            assert [message.reason for message in messages if isinstance(message, Ended)] == [what.reason]
    await _write(there.peer(root), "k/b/1")
    for number in range(2):
        if peer.closed_with is None:
            peer.add(number, f"k/b/own{number}")
    await turns(20)
    assert not any("own" in key for key in there.storage.keys("notes"))  # type: ignore[attr-defined]
    if what.kind != "reader":
        assert not [message for message in peer.take() if isinstance(message, Batch)]
        assert stream.pieces[mark:] == []
    await stream.leave()


async def _write(root: GuardedPeer, key: str) -> None:
    root.add(1, key)
    await turns(10)
    assert [message.results[0].status for message in root.take() if isinstance(message, Wrote)] == ["ok"]


async def test_a_gain_takes_effect_in_another_process_too(pair: tuple[Guarded, Guarded]) -> None:
    here, there = pair
    token = await here.user("sam")
    await _second(there)
    peer = there.peer(token)
    peer.take()
    assert [message.code for message in await peer.subscribe()] == ["store_unknown"]  # type: ignore[union-attr]
    await here.grant("user:sam", role="reader")
    await _second(there)
    assert isinstance((await peer.subscribe())[-1], CaughtUp)


async def test_a_revoked_token_opens_nothing_in_another_process_within_a_second(
    pair: tuple[Guarded, Guarded],
) -> None:
    here, there = pair
    subject = await subject_of(here, LOSSES["token revoked"], None)
    await _second(there)
    await LOSSES["token revoked"].act(subject)
    await _second(there)
    assert there.peer(subject.token).closed_with == 4503
    asked = there.ask("GET", "/v1/stores/notes/records", subject.token)
    await asyncio.wait([asked.task])
    assert asked.status == 401


async def test_writes_that_wait_when_another_process_is_heard_are_judged_again(pair: tuple[Guarded, Guarded]) -> None:
    here, there = pair
    assert isinstance(there.storage, HeldStorage)
    subject = await subject_of(here, LOSSES["grant removed"], None)
    await _second(there)
    peer = there.peer(subject.token)
    await LOSSES["grant removed"].act(subject)
    there.storage.append_turns = 5
    peer.add(1, "under-way")
    await turns(3)
    assert there.storage.under_way == {"under-way"}
    peer.add(2, "waits")
    await _second(there)
    await turns(40)
    messages = peer.take()
    assert there.storage.keys("notes") == {"under-way"}
    assert [message.id for message in messages if isinstance(message, Error)] == [2]


# --- when things go wrong ---


async def test_accounts_that_are_gone_give_nobody_anything() -> None:
    async with guarded() as world:
        token = await world.user("sam")
        await world.grant("user:sam")
        await world.grant("everyone", role="reader")
        peer, nobody = world.peer(token), world.peer()
        for one in (peer, nobody):
            await one.subscribe()
        await world.storage.drop(ACCOUNTS)
        await world.directory.catch_up()
        assert (peer.closed_with, nobody.closed_with) == (4503, 4503)
        assert world.peer(token).closed_with == 4503
        assert world.peer().closed_with == 4503


async def test_accounts_that_cannot_be_read_leave_what_is_known_and_forget_nothing_that_ends() -> None:
    storage = FaultyStorage()
    async with guarded(storage) as world:
        token = await world.user("sam", expires_ms=world.hub.now_ms() + 5000)
        await world.grant("user:sam")
        peer = world.peer(token)
        await peer.subscribe()
        storage.fail("after_info")
        with pytest.raises(StorageUnavailable):
            await world.directory.catch_up()
        assert peer.closed_with is None
        world.tick(5.0)
        assert peer.closed_with == 4007


async def test_a_change_that_cannot_be_written_changes_nothing_and_is_not_half_told() -> None:
    storage = FaultyStorage()
    async with guarded(storage) as world:
        token = await world.user("sam")
        grant = await world.grant("user:sam")
        peer = world.peer(token)
        await peer.subscribe()
        storage.fail("before_append")
        with pytest.raises(StorageUnavailable):
            await world.directory.remove_grant(grant)
        await turns(60)
        await world.directory.catch_up()
        assert peer.closed_with is None
        await world.directory.remove_grant(grant)
        assert [message.reason for message in peer.take() if isinstance(message, Ended)][-1:] == ["forbidden"]


class _Broken(GuardedPeer):
    """A client whose socket raises where none should."""

    is_broken = False

    def write(self, payload: bytes) -> None:
        if self.is_broken:
            raise OSError("the socket is in a bad way")
        super().write(payload)


async def test_a_mistake_on_one_connection_leaves_nobody_what_was_taken_from_him() -> None:
    async with guarded() as world:
        token = await world.user("sam")
        grant = await world.grant("user:sam")
        peers = [world.peer(token) for _ in range(3)]
        broken = [_Broken(world.hub, token=token) for _ in range(3)]
        for one in (*peers, *broken):
            await one.subscribe()
        stream = world.ask("GET", "/v1/stores/notes/changes", token, accept="text/event-stream")
        await turns(20)
        for one in broken:
            one.is_broken = True
        with capture_logs() as logs:
            await world.directory.remove_grant(grant)
        assert [entry["event"] for entry in logs if entry["log_level"] == "error"] == ["recheck_failed"] * 3
        await turns(3)
        assert all(one.aborted for one in broken)
        for one in peers:
            assert [message.reason for message in one.take() if isinstance(message, Ended)] == ["forbidden"]
        assert stream.aborted
        await stream.leave()


async def test_a_listener_is_told_before_the_change_is_acknowledged() -> None:
    async with guarded() as world:
        token = await world.user("sam")
        grant = await world.grant("user:sam")
        peer = world.peer(token)
        await peer.subscribe()
        told: list[Any] = []

        async def take_back() -> None:
            await world.directory.remove_grant(grant)
            told.extend(peer.take())

        await take_back()
        assert [message.reason for message in told if isinstance(message, Ended)] == ["forbidden"]


async def test_what_is_taken_and_given_back_at_once_leaves_nothing_open_in_between() -> None:
    async with guarded() as world:
        token = await world.user("sam")
        peer = world.peer(token)
        for _ in range(20):
            grant = await world.grant("user:sam", role="reader")
            peer.send(Subscribe(900, "notes", "start"))
            await turns(peer.connection.hub.counts.rounds % 3)
            await world.directory.remove_grant(grant)
            assert not peer.connection.subscriptions
        await turns(20)
        assert not peer.connection.subscriptions
        assert peer.closed_with is None


async def test_many_losses_at_once_are_told_to_each_once() -> None:
    async with guarded() as world:
        tokens = [await world.user(f"u{number}") for number in range(50)]
        members = [f"u{number}" for number in range(50)]
        await world.directory.put_group("team", members)
        await world.grant("group:team", role="reader")
        peers = [world.peer(token) for token in tokens]
        for peer in peers:
            peer.send(Subscribe(900, "notes", "start"))
        await turns(30)
        await world.directory.put_group("team", members[::2])
        for number, peer in enumerate(peers):
            ended = [message.reason for message in peer.take() if isinstance(message, Ended)]
            assert ended == ([] if number % 2 == 0 else ["forbidden"])
        await world.directory.add_grant("group:team", "notes", "reader", by=None, limits=GrantLimits(read_prefix="k/"))
        for peer in peers[::2]:
            assert [message.reason for message in peer.take() if isinstance(message, Ended)] == ["view_changed"]
