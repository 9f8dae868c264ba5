"""Subscriptions with a filter: who gets what, what a commit costs those it does not concern, count and digest."""

import asyncio
import gc
import itertools
import random
from collections.abc import Sequence

import msgspec
import pytest

from syncline_protocol.cursor import Seq, parse_cursor
from syncline_protocol.digest import digest_text
from syncline_protocol.index import IndexKind, IndexSpec
from syncline_protocol.messages import (
    Add,
    Batch,
    Behind,
    CaughtUp,
    Delete,
    Ended,
    Error,
    Fetch,
    Fill,
    Live,
    ServerMessage,
    Subscribe,
    Subscribed,
    Write,
    WriteOp,
)
from syncline_server.hub import Hub
from syncline_server.storage.base import IndexInfo, StoreInfo, Summary
from syncline_server.storage.memory import MemoryStorage
from syncline_server.storage.selection import Selector
from tests.support.engine import Peer, TestClock, engine, seqs_of, settle

_ROOM1 = b'{"index":"room","eq":"r1"}'


async def declare(hub: Hub, name: str = "room", path: str = "/room", kind: IndexKind = "equality") -> IndexInfo:
    """Declare an index; memory storage has it at once."""
    info, _ = await hub.storage.create_index("notes", IndexSpec(name, path, kind), 1)
    return info


async def follow(peer: Peer, filter_text: bytes, after: str = "start", request_id: int = 900) -> list[ServerMessage]:
    """Subscribe with a filter and return everything that came."""
    return await peer.ask(Subscribe(request_id, "notes", after, filter=msgspec.Raw(filter_text)))


def keys_of(messages: Sequence[ServerMessage]) -> list[str]:
    """Return what the batches bring, a DELETE with a minus before its key."""
    batches = [message for message in messages if isinstance(message, Batch)]
    assert all(one.to == other.from_ for one, other in itertools.pairwise(batches))
    return [("-" if change.op == "DELETE" else "") + change.key for batch in batches for change in batch.changes]


def room(number: int) -> bytes:
    """Return the value of a record in a room."""
    return b'{"room":"r%d","price":%d}' % (number, number)


async def write(hub: Hub, *keys: tuple[str, int | None]) -> None:
    """Add records to rooms, or delete them, each with a commit of its own."""
    writer = Peer(hub)
    for number, (key, where) in enumerate(keys):
        if where is None:
            writer.send(Delete(number, "notes", key))
        else:
            writer.add(number, key, room(where))
        await settle()


async def test_a_filter_brings_what_meets_it_and_count_and_digest_are_of_exactly_that() -> None:
    async with engine() as hub:
        await declare(hub)
        await write(hub, ("a", 1), ("b", 2), ("c", 1), ("d", 1), ("d", None))
        peer = Peer(hub)
        messages = await follow(peer, _ROOM1)
        assert set(keys_of(messages)) >= {"a", "c"}
        assert "b" not in keys_of(messages)
        caught_up = messages[-1]
        assert isinstance(caught_up, CaughtUp)
        summary = await hub.storage.summary(
            "notes", next(iter(peer.connection.subscriptions)).feed.view.selectors, Seq(5)
        )
        assert (caught_up.count, caught_up.digest) == (2, digest_text(summary.digest))


async def test_what_a_filter_does_not_show_is_not_told_and_what_it_shows_is_at_once() -> None:
    clock = TestClock()
    async with engine(clock=clock) as hub:
        await declare(hub)
        peer = Peer(hub)
        await follow(peer, _ROOM1)
        peer.take()
        await write(hub, ("a", 2), ("b", 2), ("b", None))
        assert peer.take() == []
        await write(hub, ("c", 1), ("a", None), ("c", None))
        assert keys_of(peer.take()) == ["c", "-c"]
        await write(hub, ("d", 2))
        for _ in range(7):
            clock.seconds += 1
            hub.tick()
            await settle()
        (bookmark,) = [message for message in peer.take() if isinstance(message, Batch)]
        assert (bookmark.changes, parse_cursor(bookmark.to).seq) == ((), 7)


@pytest.mark.parametrize(
    ("filter_text", "shown"),
    [
        (b'{"index":"price","ge":2,"lt":4}', ["a/2", "b/3"]),
        (b'{"index":"price","gt":3}', ["b/4"]),
        (b'{"index":"name","prefix":"r"}', ["a/1", "a/2", "b/3", "b/4"]),
        (b'{"index":"name","prefix":"r3"}', ["b/3"]),
        (b'{"key_prefix":"a/"}', ["a/1", "a/2"]),
        (b'{"index":"price","le":3,"key_prefix":"b/"}', ["b/3"]),
        (b'{"index":"price"}', ["a/1", "a/2", "b/3", "b/4"]),
        (b'{"index":"price","ge":4,"lt":2}', []),
        (b'{"index":"tags","eq":"x"}', ["c"]),
    ],
)
async def test_live_and_from_the_start_a_filter_shows_the_same(filter_text: bytes, shown: list[str]) -> None:
    async with engine() as hub:
        await declare(hub, "price", "/price", "range")
        await declare(hub, "name", "/room", "range")
        await declare(hub, "tags", "/tags", "multi")
        early, late = Peer(hub), Peer(hub)
        await follow(early, filter_text)
        early.take()
        await write(hub, ("a/1", 1), ("a/2", 2), ("b/3", 3), ("b/4", 4))
        writer = Peer(hub)
        writer.add(1, "c", b'{"tags":["x","y"]}')
        await settle()
        assert keys_of(early.take()) == shown
        messages = await follow(late, filter_text)
        assert keys_of(messages) == shown
        assert isinstance(messages[-1], CaughtUp)
        assert messages[-1].count == len(shown)


async def test_subscribers_of_one_filter_get_the_same_bytes_however_it_is_written() -> None:
    async with engine() as hub:
        await declare(hub)
        peers = [Peer(hub) for _ in range(2)]
        await follow(peers[0], _ROOM1)
        await follow(peers[1], b'{ "eq": "r1", "key_prefix": "", "index": "room" }')
        await write(hub, ("a", 1))
        assert peers[0].payloads[-1] is peers[1].payloads[-1]


async def test_one_connection_follows_several_filters_of_a_store_but_none_twice() -> None:
    async with engine() as hub:
        await declare(hub)
        peer = Peer(hub)
        await follow(peer, _ROOM1, request_id=1)
        await follow(peer, b'{"index":"room","eq":"r2"}', request_id=2)
        (refused,) = [m for m in await follow(peer, _ROOM1, request_id=3) if isinstance(m, Error)]
        assert (refused.code, refused.id) == ("already_subscribed", 3)
        await write(hub, ("a", 1), ("b", 2))
        batches = {message.feed: keys_of([message]) for message in peer.take() if isinstance(message, Batch)}
        assert sorted(batches.values()) == [["a"], ["b"]]


@pytest.mark.parametrize(
    ("filter_text", "code", "retry"),
    [
        (b'{"index":"nowhere","eq":1}', "index_unknown", False),
        (b'{"index":"room","ge":1}', "filter_invalid", False),
        (b'{"index":"room","eq":1,"prefix":"a"}', "filter_invalid", False),
        (b'{"eq":1}', "filter_invalid", False),
        (b"{}", "filter_invalid", False),
        (b"null", "filter_invalid", False),
        (b'{"index":"room","equals":1}', "filter_invalid", False),
    ],
)
async def test_a_filter_that_cannot_be_used_is_refused_and_the_id_is_free(
    filter_text: bytes, code: str, retry: bool
) -> None:
    async with engine() as hub:
        await declare(hub)
        peer = Peer(hub)
        peer.take()
        for _ in range(2):
            (refused,) = await follow(peer, filter_text)
            assert isinstance(refused, Error)
            assert (refused.code, refused.retry, refused.id) == (code, retry, 900)


class _Slow(MemoryStorage):
    """Memory storage whose indexes are never complete and whose summaries wait."""

    def __init__(self) -> None:
        super().__init__()
        self.is_building = False
        self.gate = asyncio.Event()
        self.gate.set()

    async def info(self, store: str) -> StoreInfo:
        info = await super().info(store)
        if not self.is_building:
            return info
        indexes = tuple([msgspec.structs.replace(index, state="building") for index in info.indexes])
        return StoreInfo(info.name, info.store_id, info.created_ms, info.head, indexes=indexes)

    async def summary(self, store: str, selectors: Sequence[Selector], upto: Seq) -> Summary:
        summary = await super().summary(store, selectors, upto)
        await self.gate.wait()
        return summary


async def test_an_index_that_is_being_built_is_to_be_asked_for_again() -> None:
    storage = _Slow()
    async with engine(storage) as hub:
        await declare(hub)
        storage.is_building = True
        peer = Peer(hub)
        peer.take()
        (refused,) = await follow(peer, _ROOM1)
        assert isinstance(refused, Error)
        assert (refused.code, refused.retry) == ("index_building", True)
        storage.is_building = False
        assert isinstance((await follow(peer, _ROOM1))[-1], CaughtUp)


async def test_what_is_committed_while_the_store_is_counted_comes_once_and_counts_once() -> None:
    storage = _Slow()
    async with engine(storage) as hub:
        await declare(hub)
        await write(hub, ("a", 1), ("b", 2))
        storage.gate.clear()
        peer = Peer(hub)
        await follow(peer, _ROOM1)
        await write(hub, ("c", 1), ("a", None), ("d", 2))
        storage.gate.set()
        await settle()
        messages = peer.take()
        assert "c" in keys_of(messages)
        assert isinstance(messages[-1], CaughtUp)
        assert messages[-1].count == 1


async def test_count_and_digest_of_many_filters_stay_those_of_the_log() -> None:
    chance = random.Random(5)
    async with engine() as hub:
        await declare(hub)
        peers = [Peer(hub) for _ in range(4)]
        for number, peer in enumerate(peers):
            await follow(peer, b'{"index":"room","eq":"r%d"}' % number)
        writer, living = Peer(hub), list[str]()
        for number in range(60):
            ops = []
            if living and chance.random() < 0.5:
                ops.append(WriteOp("DELETE", living.pop(chance.randrange(len(living)))))
            living.append(f"k{number}")
            ops.append(WriteOp("ADD", f"k{number}", msgspec.Raw(room(chance.randrange(5)))))
            writer.send(Write(number, "notes", tuple(ops)))
            await settle()
        for peer in peers:
            (subscription,) = peer.connection.subscriptions
            feed = subscription.feed
            held = await hub.storage.summary("notes", feed.view.selectors, feed.published.seq)
            assert (feed.published.count, feed.published.digest) == (held.count, held.digest)


async def test_a_commit_is_a_round_for_the_filters_that_show_it_and_for_no_other() -> None:
    async with engine() as hub:
        await declare(hub)
        peers = [Peer(hub) for _ in range(200)]
        for number, peer in enumerate(peers):
            await follow(peer, b'{"index":"room","eq":"r%d"}' % number)
            peer.take()
        rounds = hub.counts.rounds
        await write(hub, ("a", 7))
        assert hub.counts.rounds - rounds == 1
        assert [number for number, peer in enumerate(peers) if peer.payloads] == [7]


async def test_a_cursor_of_another_filter_is_reconciled_to_exactly_what_this_one_shows() -> None:
    async with engine() as hub:
        await declare(hub)
        await write(hub, ("a", 1), ("b", 2), ("c", 2), ("d", 1), ("c", None))
        peer = Peer(hub)
        first = await follow(peer, _ROOM1, request_id=1)
        assert isinstance(first[-1], CaughtUp)
        messages = await follow(peer, b'{"index":"room","eq":"r2"}', first[-1].at, request_id=2)
        subscribed, live, caught_up = messages
        assert isinstance(subscribed, Subscribed)
        assert isinstance(live, Live)
        assert isinstance(caught_up, CaughtUp)
        assert (subscribed.how, live.seqs, live.last, caught_up.count) == ("reconcile", "2", True, 1)
        fills = [message for message in await peer.ask(Fetch(2, "1-5")) if isinstance(message, Fill)]
        assert [change.key for fill in fills for change in fill.changes] == ["b"]


async def test_a_cursor_of_the_same_filter_resumes() -> None:
    async with engine() as hub:
        await declare(hub)
        await write(hub, ("a", 1))
        messages = await follow(Peer(hub), _ROOM1)
        assert isinstance(messages[-1], CaughtUp)
        await write(hub, ("b", 2), ("c", 1), ("a", None))
        again = await follow(Peer(hub), _ROOM1, messages[-1].at)
        (subscribed,) = [message for message in again if isinstance(message, Subscribed)]
        assert subscribed.how == "resume"
        assert keys_of(again) == ["c", "-a"]


async def test_a_slow_subscriber_of_a_filter_gets_what_is_in_memory_without_a_catch_up() -> None:
    async with engine() as hub:
        await declare(hub)
        peer = Peer(hub)
        await follow(peer, _ROOM1)
        peer.take()
        peer.set_full(True)
        await write(hub, ("a", 1), ("b", 2), ("c", 1), ("a", None))
        peer.set_full(False)
        messages = peer.take()
        assert keys_of(messages) == ["a", "c", "-a"]
        assert not any(isinstance(message, Behind) for message in messages)


async def test_one_that_is_overtaken_by_the_memory_catches_up_from_the_storage() -> None:
    async with engine(tail_bytes_max=600) as hub:
        await declare(hub)
        peer = Peer(hub)
        await follow(peer, _ROOM1)
        peer.take()
        peer.set_full(True)
        await write(hub, *[(f"k{number}", number % 2) for number in range(40)])
        peer.set_full(False)
        await settle()
        messages = peer.take()
        assert isinstance(messages[0], Behind)
        assert seqs_of(messages) == list(range(2, 41, 2))
        assert isinstance(messages[-1], CaughtUp)
        assert messages[-1].count == 20


async def test_an_index_that_is_dropped_ends_its_filters_and_no_other() -> None:
    async with engine() as hub:
        await declare(hub)
        peer, other = Peer(hub), Peer(hub)
        first = await follow(peer, _ROOM1)
        await follow(other, b'{"key_prefix":"a"}')
        peer.take(), other.take()
        await hub.drop_index("notes", "room")
        (ended,) = peer.take()
        assert isinstance(ended, Ended)
        assert (ended.reason, ended.id) == ("resubscribe", 900)
        assert other.take() == []
        (refused,) = await follow(peer, _ROOM1)
        assert isinstance(refused, Error)
        assert refused.code == "index_unknown"
        await declare(hub)
        await write(hub, ("a", 1))
        assert isinstance(first[-1], CaughtUp)
        assert keys_of(await follow(peer, _ROOM1)) == ["a"]
        assert keys_of(other.take()) == ["a"]


async def test_a_cursor_of_an_index_that_was_declared_anew_is_reconciled() -> None:
    async with engine() as hub:
        await declare(hub)
        await write(hub, ("a", 1))
        first = await follow(Peer(hub), _ROOM1)
        assert isinstance(first[-1], CaughtUp)
        await hub.drop_index("notes", "room")
        await declare(hub, path="/other")
        messages = await follow(Peer(hub), _ROOM1, first[-1].at)
        (subscribed,) = [message for message in messages if isinstance(message, Subscribed)]
        (live,) = [message for message in messages if isinstance(message, Live)]
        assert (subscribed.how, live.seqs) == ("reconcile", "")


async def test_an_index_that_is_dropped_while_a_filter_is_opened_leaves_no_feed_behind() -> None:
    storage = _Slow()
    async with engine(storage) as hub:
        await declare(hub)
        storage.gate.clear()
        peer = Peer(hub)
        peer.take()
        peer.send(Subscribe(900, "notes", filter=msgspec.Raw(_ROOM1)))
        await settle()
        dropping = asyncio.ensure_future(hub.drop_index("notes", "room"))
        await settle()
        storage.gate.set()
        await dropping
        await settle()
        (refused,) = peer.take()
        assert isinstance(refused, Error)
        assert refused.code == "index_unknown"
        assert len(hub.feeds.all()) == 1


async def test_a_feed_of_a_filter_goes_with_the_last_who_follows_it() -> None:
    async with engine() as hub:
        await declare(hub)
        peers = [Peer(hub) for _ in range(2)]
        for peer in peers:
            await follow(peer, _ROOM1)
        assert len(hub.feeds.all()) == 2
        for peer in peers:
            peer.connection.lost()
        peers.clear()
        await settle()
        del peer
        gc.collect()
        assert len(hub.feeds.all()) == 1
        await write(hub, ("a", 1))
        assert keys_of(await follow(Peer(hub), _ROOM1)) == ["a"]


async def test_an_add_and_its_delete_in_one_write_are_both_shown_live() -> None:
    async with engine() as hub:
        await declare(hub)
        peer, writer = Peer(hub), Peer(hub)
        await follow(peer, _ROOM1)
        peer.take()
        writer.send(Add(1, "notes", "a", msgspec.Raw(room(1))))
        writer.send(Delete(2, "notes", "a"))
        await settle()
        assert keys_of(peer.take()) == ["a", "-a"]
