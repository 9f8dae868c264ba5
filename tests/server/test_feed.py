"""Fan-out: who gets which frame, when, and at what cost."""

import asyncio

from syncline_protocol.messages import Batch, Behind, CaughtUp, Ended, Subscribe, Subscribed, Unsubscribe, Wrote
from tests.support.engine import Peer, engine, seqs_of, settle


async def test_a_subscriber_of_an_empty_store_is_caught_up_at_once() -> None:
    async with engine() as hub:
        messages = await Peer(hub).subscribe()
        assert [type(message) for message in messages[1:]] == [Subscribed, CaughtUp]
        caught_up = messages[-1]
        assert isinstance(caught_up, CaughtUp)
        assert (caught_up.count, caught_up.digest) == (0, "00000000")


async def test_live_subscribers_get_the_very_same_bytes() -> None:
    async with engine() as hub:
        peers = [Peer(hub) for _ in range(3)]
        for peer in peers:
            await peer.subscribe()
            peer.take()
        writer = Peer(hub)
        writer.add(1, "k1")
        await settle()
        frames = [peer.payloads[-1] for peer in peers]
        assert frames[0] is frames[1] is frames[2]


async def test_commits_between_two_rounds_travel_in_one_frame() -> None:
    async with engine() as hub:
        peer = Peer(hub)
        await peer.subscribe()
        writer = Peer(hub)
        for number in range(20):
            writer.add(number, f"k{number}")
        await settle()
        batches = [message for message in peer.take() if isinstance(message, Batch)]
        assert seqs_of(batches) == list(range(1, 21))
        assert len(batches) < 20


async def test_a_subscriber_with_a_full_transport_lags_and_gets_everything_once_it_drains() -> None:
    async with engine() as hub:
        peer, writer = Peer(hub), Peer(hub)
        await peer.subscribe()
        peer.take()
        peer.set_full(True)
        for number in range(5):
            writer.add(number, f"k{number}")
            await settle()
        assert peer.take() == []
        assert hub.gauges().subscriptions == {"live": 0, "lagging": 1}
        peer.set_full(False)
        messages = peer.take()
        assert seqs_of(messages) == [1, 2, 3, 4, 5]
        # From the tail nothing is left out, so this was no catch-up.
        assert not any(isinstance(message, Behind | CaughtUp) for message in messages)
        assert hub.gauges().subscriptions == {"live": 1, "lagging": 0}


async def test_a_subscriber_below_the_tail_is_told_that_it_is_behind_and_reads_the_storage() -> None:
    async with engine(tail_bytes_max=600) as hub:
        peer, writer = Peer(hub), Peer(hub)
        await peer.subscribe()
        peer.take()
        peer.set_full(True)
        for number in range(30):
            writer.add(number, f"k{number}")
            await settle()
        peer.set_full(False)
        await settle()
        messages = peer.take()
        assert isinstance(messages[0], Behind)
        assert isinstance(messages[-1], CaughtUp)
        assert seqs_of(messages) == list(range(1, 31))
        assert hub.counts.cold_reads >= 1


async def test_many_who_reconnect_at_one_position_cost_one_read() -> None:
    async with engine(tail_bytes_max=600) as hub:
        writer = Peer(hub)
        for number in range(50):
            writer.add(number, f"k{number}")
        await settle()
        async with engine(hub.storage, stores=()) as other:  # a process that starts with an empty tail
            peers = [Peer(other) for _ in range(40)]
            for number, peer in enumerate(peers):
                peer.send(Subscribe(number, "notes"))
            await settle()
            for peer in peers:
                assert seqs_of(peer.take()) == list(range(1, 51))
            assert other.counts.cold_reads == 1


async def test_writes_during_a_catch_up_arrive_once_and_in_order() -> None:
    async with engine(tail_bytes_max=300) as hub:
        writer = Peer(hub)
        value = b'"' + b"x" * 20000 + b'"'
        for number in range(40):
            writer.add(number, f"a{number}", value)
        await settle()
        peer = Peer(hub)
        received = await peer.subscribe()
        for number in range(40):
            writer.add(100 + number, f"b{number}")
            await settle()
            received += peer.take()
        assert seqs_of(received) == list(range(1, 81))


async def test_nothing_of_a_feed_follows_its_end() -> None:
    async with engine() as hub:
        peer, writer = Peer(hub), Peer(hub)
        await peer.subscribe()
        messages = await peer.ask(Unsubscribe(900))
        assert isinstance(messages[-1], Ended)
        assert messages[-1].reason == "unsubscribed"
        writer.add(1, "k1")
        await settle()
        assert peer.take() == []


async def test_dropping_a_store_ends_its_subscriptions() -> None:
    async with engine() as hub:
        peer = Peer(hub)
        await peer.subscribe()
        peer.take()
        await hub.drop("notes")
        (ended,) = peer.take()
        assert isinstance(ended, Ended)
        assert ended.reason == "store_dropped"


async def test_a_round_that_is_written_in_slices_serves_everybody_once() -> None:
    async with engine() as hub:
        peers = [Peer(hub) for _ in range(600)]
        for peer in peers:
            await peer.subscribe()
            peer.take()
        writer = Peer(hub)
        for number in range(3):
            writer.add(number, f"k{number}")
            await settle()
        leaver = peers.pop()
        leaver.connection.lost()
        await settle()
        for peer in peers:
            assert seqs_of(peer.take()) == [1, 2, 3]


async def test_a_subscription_after_an_ack_is_not_caught_up_before_it_has_that_change() -> None:
    async with engine() as hub:
        for number in range(1, 6):
            writer = Peer(hub)
            writer.add(1, f"k{number}")
            while not any(isinstance(message, Wrote) for message in writer.take()):
                await asyncio.sleep(0)
            messages = await Peer(hub).subscribe()
            assert seqs_of(messages[: [type(message) for message in messages].index(CaughtUp)])[-1] == number
