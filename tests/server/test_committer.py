"""The way of a commit: durable, published, acknowledged; and what a failure leaves behind (P1, P2, P5)."""

import asyncio

import pytest

from syncline_protocol.limits import DEFAULT_LIMITS
from syncline_protocol.messages import Batch, CaughtUp, Ended, Error, Subscribed, Wrote
from syncline_protocol.transaction import Transaction, make_op
from syncline_server import committer
from syncline_server.access.principal import OPEN
from syncline_server.storage.base import StorageFull
from tests.support.engine import Peer, engine, seqs_of, settle
from tests.support.faulty_storage import FaultyStorage


@pytest.fixture(autouse=True)
def no_wait_between_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(committer, "_REOPEN_S", 0.0)


async def caught_up(peer: Peer) -> Peer:
    """Let a peer follow the store and forget what came so far."""
    await peer.subscribe()
    peer.take()
    return peer


def result_of(peer: Peer) -> tuple[str, int | None, str | None]:
    """Return status, seq and code of the one answer that came."""
    (wrote,) = [message for message in peer.take() if isinstance(message, Wrote)]
    (result,) = wrote.results
    return result.status, result.seq, result.code


# --- the order ---


@pytest.mark.parametrize("point", ["before_append", "after_append"])
async def test_nobody_sees_a_change_or_its_ack_before_the_append_has_returned(point: str) -> None:
    storage = FaultyStorage()
    async with engine(storage) as hub:
        reader, writer = await caught_up(Peer(hub)), await caught_up(Peer(hub))
        gate = storage.hold(point)
        writer.add(1, "k1")
        await settle()
        assert reader.take() == writer.take() == []
        assert (await hub.feeds.feed("notes")).tail.head.seq == 0
        gate.set()
        await settle()
        assert seqs_of(reader.take()) == [1]
        assert {type(message) for message in writer.take()} == {Wrote, Batch}


async def test_a_change_is_with_its_feed_before_it_is_acknowledged() -> None:
    async with engine() as hub:
        feed = await hub.feeds.feed("notes")
        heads: list[int] = []

        class Witness:
            principal = OPEN

            def answered(self, answers: object) -> None:
                heads.append(feed.tail.head.seq)

        hub.submit(Transaction("notes", (make_op("k1", b"1", DEFAULT_LIMITS),)), Witness(), 1)
        await settle()
        assert heads == [1]


async def test_whatever_comes_during_an_append_shares_the_next_one() -> None:
    storage = FaultyStorage()
    async with engine(storage) as hub:
        peers = [Peer(hub) for _ in range(5)]
        gate = storage.hold("before_append")
        peers[0].add(0, "first")
        await settle()
        for number in range(100):
            peers[number % 5].add(1 + number, f"k{number}")
        await settle()
        gate.set()
        await settle()
        assert storage.appended == [1, 100]
        assert hub.counts.commits == 2


async def test_writes_of_one_connection_are_decided_in_the_order_in_which_they_came() -> None:
    async with engine() as hub:
        peer = Peer(hub)
        peer.take()
        for number in range(6000):
            peer.add(number, f"k{number}")
        while hub.counts.commits < 2 or peer.connection.session.in_flight:
            await settle()
        results = [result for message in peer.take() if isinstance(message, Wrote) for result in message.results]
        assert [(result.id, result.seq) for result in results] == [(n, n + 1) for n in range(6000)]


# --- failures ---


@pytest.mark.parametrize(("point", "again"), [("before_append", "ok"), ("after_append", "dup")])
async def test_a_write_whose_outcome_is_unknown_has_one_effect_when_it_is_sent_again(point: str, again: str) -> None:
    storage = FaultyStorage()
    async with engine(storage) as hub:
        writer = Peer(hub)
        writer.add(1, "k1")
        await settle()
        assert result_of(writer) == ("ok", 1, None)
        storage.fail(point)
        writer.add(2, "k2")
        await settle()
        assert result_of(writer) == ("retry", None, "storage_unavailable")
        assert storage.all_faults_fired
        assert storage.opened == 2
        writer.add(3, "k2")
        await settle()
        assert result_of(writer) == (again, 2, None)


async def test_a_feed_whose_log_went_on_unseen_ends_with_resubscribe_and_resumes_without_a_gap() -> None:
    storage = FaultyStorage()
    async with engine(storage, stores=("notes", "other")) as hub:
        reader, writer, bystander = await caught_up(Peer(hub)), Peer(hub), Peer(hub)
        await bystander.subscribe(store="other")
        bystander.take()
        writer.add(1, "k1")
        await settle()
        storage.fail("after_append")
        writer.add(2, "k2")
        await settle()
        batch, ended = reader.take()
        assert isinstance(batch, Batch)
        assert isinstance(ended, Ended)
        assert (ended.reason, ended.at) == ("resubscribe", batch.to)
        messages = await reader.subscribe(batch.to)
        assert isinstance(messages[0], Subscribed)
        assert messages[0].how == "resume"
        assert seqs_of(messages) == [2]
        # A log that stands where it stood goes on under its subscribers.
        assert bystander.take() == []
        writer.add(3, "x1", store="other")
        await settle()
        assert seqs_of(bystander.take()) == [1]


async def test_a_feed_whose_log_did_not_move_goes_on_over_a_failure() -> None:
    storage = FaultyStorage()
    async with engine(storage) as hub:
        reader, writer = await caught_up(Peer(hub)), Peer(hub)
        storage.fail("before_append")
        writer.add(1, "k1")
        await settle()
        assert reader.take() == []
        writer.add(2, "k1")
        await settle()
        assert seqs_of(reader.take()) == [1]


async def test_a_full_disk_is_named_and_troubles_nobody_else() -> None:
    storage = FaultyStorage()
    async with engine(storage) as hub:
        reader, writer = await caught_up(Peer(hub)), Peer(hub)
        writer.add(1, "k1")
        await settle()
        writer.take()
        storage.fail("before_append", StorageFull("no room"))
        writer.add(2, "k2")
        await settle()
        assert result_of(writer) == ("retry", None, "storage_full")
        assert hub.ready
        assert storage.opened == 1
        late = await Peer(hub).subscribe()
        assert isinstance(late[-1], CaughtUp)
        writer.add(3, "k2")
        await settle()
        assert result_of(writer) == ("ok", 2, None)
        assert seqs_of(reader.take()) == [1, 2]


async def test_while_the_storage_is_away_writes_are_answered_and_the_server_is_not_ready() -> None:
    storage = FaultyStorage()
    async with engine(storage) as hub:
        writer = Peer(hub)
        writer.take()
        storage.cannot_open = True
        storage.fail("before_append")
        for number in range(3):
            writer.add(number, f"k{number}")
            await settle()
            assert result_of(writer) == ("retry", None, "storage_unavailable")
            assert not hub.ready
        storage.cannot_open = False
        await settle()
        assert hub.ready
        writer.add(9, "k0")
        await settle()
        assert result_of(writer) == ("ok", 1, None)


async def test_a_mistake_in_an_append_is_an_unknown_outcome_too() -> None:
    storage = FaultyStorage()
    async with engine(storage) as hub:
        writer = Peer(hub)
        writer.take()
        storage.fail("after_append", ZeroDivisionError("a bug"))
        writer.add(1, "k1")
        await settle()
        assert result_of(writer) == ("retry", None, "storage_unavailable")
        writer.add(2, "k1")
        await settle()
        assert result_of(writer) == ("dup", 1, None)


async def test_a_mistake_while_the_storage_is_opened_is_tried_again() -> None:
    storage = FaultyStorage()
    async with engine(storage) as hub:
        writer = Peer(hub)
        writer.take()
        storage.fail("before_append")
        storage.fail("before_open", RuntimeError("can't start new thread"))
        writer.add(1, "k1")
        await settle()
        assert storage.all_faults_fired
        assert hub.ready


@pytest.mark.parametrize("request_", ["create", "drop"])
async def test_a_create_or_drop_that_fails_has_the_storage_opened_anew(request_: str) -> None:
    storage = FaultyStorage()
    async with engine(storage, stores=("notes", "old")) as hub:
        writer = Peer(hub)
        writer.add(1, "k1")
        await settle()
        storage.fail(f"before_{request_}")
        with pytest.raises(Exception, match="disk I/O error"):
            await (hub.create("more") if request_ == "create" else hub.drop("old"))
        await settle()
        # Without a write in between: readers must not depend on one.
        assert (await storage.info("notes")).head.seq == 1
        assert hub.ready


async def test_the_hub_stops_although_the_storage_stays_away() -> None:
    storage = FaultyStorage()
    async with engine(storage) as hub:
        writer = Peer(hub)
        storage.cannot_open = True
        storage.fail("before_append")
        writer.add(1, "k1")
        await settle()
        async with asyncio.timeout(5):
            await hub.drain(after_ms=1, jitter_ms=1, patience_s=60)
            await hub.stop()


async def test_writes_that_wait_are_committed_before_the_storage_is_closed() -> None:
    storage = FaultyStorage()
    async with engine(storage) as hub:
        writer = Peer(hub)
        writer.take()
        for number in range(10):
            writer.add(number, f"k{number}")
        await hub.stop()
        assert storage.appended == [10]


async def test_writes_of_a_connection_that_is_gone_are_committed_and_shown() -> None:
    async with engine() as hub:
        reader, writer = await caught_up(Peer(hub)), Peer(hub)
        writer.add(1, "k1")
        writer.connection.lost()
        await settle()
        assert seqs_of(reader.take()) == [1]


async def test_an_unknown_store_among_others_is_refused_alone() -> None:
    async with engine() as hub:
        peer = Peer(hub)
        peer.take()
        peer.add(1, "k1")
        peer.add(2, "k1", store="nowhere")
        peer.add(3, "k3")
        await settle()
        error, wrote = peer.take()
        assert isinstance(error, Error)
        assert isinstance(wrote, Wrote)
        assert [(result.id, result.seq) for result in wrote.results] == [(1, 1), (3, 2)]
