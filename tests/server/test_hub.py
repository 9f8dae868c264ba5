"""Feeds that open, end and come back while other things happen: no subscriber is left on a log that is no more."""

import asyncio

import pytest

from syncline_protocol.cursor import Cursor, Seq
from syncline_protocol.messages import CaughtUp, Ended, Error, Subscribe, Subscribed, Wrote
from syncline_server import committer
from syncline_server.storage.base import StoreUnknown
from tests.support.engine import Peer, engine, seqs_of, settle
from tests.support.faulty_storage import FaultyStorage


@pytest.fixture(autouse=True)
def no_wait_between_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(committer, "_REOPEN_S", 0.0)


async def test_commits_while_a_feed_opens_come_once() -> None:
    storage = FaultyStorage()
    async with engine(storage) as hub:
        writer, reader = Peer(hub), Peer(hub)
        writer.add(1, "k1")
        await settle()
        gate = storage.hold("after_info")
        reader.send(Subscribe(900, "notes"))
        await settle()
        for number in range(2, 5):
            writer.add(number, f"k{number}")
            await settle()
        gate.set()
        await settle()
        writer.add(5, "k5")
        await settle()
        assert seqs_of(reader.take()) == [1, 2, 3, 4, 5]


async def test_a_store_that_is_dropped_while_its_feed_opens_leaves_no_feed_behind() -> None:
    storage = FaultyStorage()
    async with engine(storage) as hub:
        reader, writer = Peer(hub), Peer(hub)
        reader.take()
        gate = storage.hold("after_info")
        reader.send(Subscribe(900, "notes"))
        await settle()
        dropping = asyncio.create_task(hub.drop("notes"))
        await settle()
        gate.set()
        await dropping
        await settle()
        assert isinstance(reader.take()[-1], Ended | Error)
        await hub.create("notes")
        messages = await reader.subscribe(request_id=901)
        assert isinstance(messages[0], Subscribed)
        writer.add(1, "k1")
        await settle()
        assert seqs_of(reader.take()) == [1]


async def test_a_drop_does_not_end_the_feed_of_a_store_that_was_made_anew_meanwhile() -> None:
    storage = FaultyStorage()
    async with engine(storage) as hub:
        gate = storage.hold("after_info")
        opening = asyncio.create_task(hub.feeds.feed("notes"))
        await settle()
        dropping = asyncio.create_task(hub.drop("notes"))
        await settle()
        await hub.create("notes")
        gate.set()
        await asyncio.gather(opening, dropping)
        reader, writer = Peer(hub), Peer(hub)
        assert isinstance((await reader.subscribe())[-1], CaughtUp)
        writer.add(1, "k1")
        await settle()
        assert seqs_of(reader.take()) == [1]


async def test_who_subscribes_while_the_storage_is_opened_anew_is_not_told_that_the_store_was_dropped() -> None:
    storage = FaultyStorage()
    async with engine(storage) as hub:
        first, reader, writer = Peer(hub), Peer(hub), Peer(hub)
        writer.add(1, "k1")
        await settle()
        subscribed = (await first.subscribe())[1]
        assert isinstance(subscribed, Subscribed)
        reader.take()
        # A rewind has to look at the log, and the feed ends while it does.
        gate = storage.hold("before_live_set")
        ahead = Cursor(subscribed.head.partition(":")[0] + ":9")
        reader.send(Subscribe(1, "notes", ahead, known=subscribed.lineage))
        await settle()
        storage.fail("after_append")
        writer.add(2, "k2")
        await settle()
        gate.set()
        await settle()
        last = reader.take()[-1]
        assert isinstance(last, Ended)
        assert last.reason == "resubscribe"


async def test_a_cold_read_that_is_under_way_when_its_store_is_dropped_shows_nothing_of_the_next_one() -> None:
    storage = FaultyStorage()
    async with engine(storage, tail_bytes_max=0) as hub:
        writer, late = Peer(hub), Peer(hub)
        feed = await hub.feeds.feed("notes")
        for number in range(5):
            writer.add(number, f"k{number}")
            await settle()
        gate = storage.hold("after_read")
        reading = asyncio.create_task(feed.frame_after(Seq(0)))
        late.send(Subscribe(1, "notes"))
        await settle()
        await hub.drop("notes")
        await hub.create("notes")
        gate.set()
        with pytest.raises(StoreUnknown):
            await reading
        await settle()
        messages = late.take()
        assert seqs_of(messages) == []
        assert isinstance(messages[-1], Ended)
        assert messages[-1].reason == "store_dropped"


async def test_a_cold_read_that_fails_by_a_mistake_of_ours_leaves_nobody_waiting() -> None:
    storage = FaultyStorage()
    seen: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: seen.append(context["exception"]))
    async with engine(storage, tail_bytes_max=0) as hub:
        await hub.feeds.feed("notes")
        writer = Peer(hub)
        for number in range(5):
            writer.add(number, f"k{number}")
            await settle()
        storage.fail("after_read", ZeroDivisionError("a bug"))
        late = Peer(hub)
        ended = (await late.subscribe())[-1]
        assert isinstance(ended, Ended)
        assert ended.reason == "resubscribe"
        assert seqs_of(await late.subscribe()) == [1, 2, 3, 4, 5]
        assert len(seen) == 1


async def test_now_is_not_before_a_write_that_was_acknowledged() -> None:
    async with engine() as hub:
        await Peer(hub).subscribe()
        writer = Peer(hub)
        writer.add(1, "k1")
        while not any(isinstance(message, Wrote) for message in writer.take()):
            await asyncio.sleep(0)
        messages = await writer.subscribe("now")
        assert isinstance(messages[0], Subscribed)
        assert messages[0].at.endswith(":1")
        assert seqs_of(messages) == []
