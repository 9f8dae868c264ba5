"""Subscriptions of the client, against a server that drops connections and changes its history."""

import asyncio

import msgspec
import pytest

import syncline
from syncline import (
    CaughtUp,
    Change,
    ConnectionState,
    Ended,
    HistoryChanged,
    Misuse,
    Restarted,
    Rewound,
    SubscriptionEnded,
    SubscriptionRefused,
)
from syncline_protocol import CloseCode, Seq
from tests.client.fake_clock import FakeClock
from tests.client.fake_server import FakeServer, FakeStore
from tests.client.waiting import come_back, soon, state, take


async def test_changes_come_in_order_with_exact_text_and_a_cursor_each(server: FakeServer, clock: FakeClock) -> None:
    server.notes.commit("a", b'{"n":12345678901234567890.50}')
    server.notes.commit("b", b"null")
    server.notes.commit("a", None)
    async with syncline.connect(server.url, clock=clock) as client, client.subscribe("notes") as subscription:
        changes = await take(subscription, 3)
    assert [(change.seq, change.op, change.key, change.text) for change in changes] == [
        (1, "ADD", "a", '{"n":12345678901234567890.50}'),
        (2, "ADD", "b", "null"),
        (3, "DELETE", "a", None),
    ]
    assert [change.cursor for change in changes] == ["inc1:1", "inc1:2", "inc1:3"]
    assert [change.ends_batch for change in changes] == [False, False, True]
    assert changes[0].value == {"n": 12345678901234567890.5}
    assert msgspec.json.decode(changes[2].to_json()) == {
        "seq": 3,
        "op": "DELETE",
        "key": "a",
        "time": 1_795_400_000_000,
    }


async def test_the_cursor_moves_when_a_whole_batch_was_dealt_with(server: FakeServer, clock: FakeClock) -> None:
    for key in ("a", "b"):
        server.notes.commit(key, b"1")
    async with syncline.connect(server.url, clock=clock) as client:
        subscription = client.subscribe("notes")
        assert subscription.cursor == "start"
        await take(subscription, 1)
        assert subscription.cursor == "inc1:0"
        await take(subscription, 1)
        assert subscription.cursor == "inc1:0"
        waiting = asyncio.ensure_future(anext(subscription))
        await soon(subscription.wait_caught_up())
        assert subscription.cursor == "inc1:2"
        server.notes.commit("c", b"1")
        await server.publish()
        assert (await soon(waiting)).key == "c"


async def test_now_shows_only_what_comes_later(server: FakeServer, clock: FakeClock) -> None:
    server.notes.commit("old", b"1")
    async with syncline.connect(server.url, clock=clock) as client:
        subscription = client.subscribe("notes", after="now")
        await soon(subscription.wait_caught_up())
        await soon(client.add("notes", 2, "new"))
        assert [change.key for change in await take(subscription, 1)] == ["new"]


async def test_an_empty_store_is_caught_up(server: FakeServer, clock: FakeClock) -> None:
    async with syncline.connect(server.url, clock=clock) as client:
        subscription = client.subscribe("notes")
        await soon(subscription.wait_caught_up())
        assert subscription.caught_up
        assert await soon(anext(subscription.events())) == CaughtUp(server.notes.cursor(0), 0, "00000000")


async def test_a_subscription_resumes_with_its_cursor_after_the_connection_was_dropped(
    server: FakeServer, clock: FakeClock
) -> None:
    async with syncline.connect(server.url, clock=clock) as client:
        subscription = client.subscribe("notes")
        await soon(client.add("notes", 1, "a"))
        await take(subscription, 1)
        await server.connections[0].drop()
        server.notes.commit("b", b"2")
        await come_back(client, clock)
        assert [change.key for change in await take(subscription, 1)] == ["b"]
    subscribes = [msgspec.json.decode(frame) for frame in server.requests if b"SUBSCRIBE" in frame]
    assert [(each.get("after", "start"), each.get("known")) for each in subscribes] == [
        ("start", None),
        ("inc1:1", "inc1@0"),
    ]


async def test_a_restart_of_the_server_while_nobody_iterates_loses_nothing(
    server: FakeServer, clock: FakeClock
) -> None:
    async with syncline.connect(server.url, clock=clock) as client:
        subscription = client.subscribe("notes")
        await soon(client.add("notes", 1, "a"))
        await take(subscription, 1)
        server.notes.commit("b", b"2")
        await server.publish()
        await server.stop()
        await state(client, ConnectionState.OFFLINE)
        server.notes.commit("c", b"3")
        await server.start()
        await come_back(client, clock)
        server.notes.commit("d", b"4")
        await server.publish()
        assert [change.key for change in await take(subscription, 3)] == ["b", "c", "d"]


async def test_a_batch_that_does_not_begin_where_the_last_ended_closes_with_desync_and_is_not_handed_out(
    server: FakeServer, clock: FakeClock
) -> None:
    async with syncline.connect(server.url, clock=clock) as client:
        subscription = client.subscribe("notes")
        await soon(client.add("notes", 1, "a"))
        await take(subscription, 1)
        connection = server.connections[0]
        server.notes.commit("b", b"2")
        server.notes.commit("c", b"3")
        await connection.batch(server.notes, 2, 3)
        await soon(connection.socket.wait_closed())
        assert connection.socket.close_code == CloseCode.DESYNC
        await come_back(client, clock)
        assert [change.key for change in await take(subscription, 2)] == ["b", "c"]


async def test_the_plain_iterator_raises_when_history_changed_and_goes_on_raising(
    server: FakeServer, clock: FakeClock
) -> None:
    server.notes.commit("a", b"1")
    async with syncline.connect(server.url, clock=clock) as client:
        subscription = client.subscribe("notes")
        await take(subscription, 1)
        server.stores["notes"] = FakeStore("notes", incarnation="other")
        server.notes.commit("z", b"1")
        await server.connections[0].drop()
        await come_back(client, clock)
        for _ in range(2):
            with pytest.raises(HistoryChanged, match="another history") as raised:
                await soon(anext(subscription))
            assert raised.value.event == Restarted(server.notes.cursor(0))
        events = subscription.events()
        assert await soon(anext(events)) == Restarted(server.notes.cursor(0))
        change = await soon(anext(events))
        assert isinstance(change, Change)
        assert (change.key, subscription.cursor) == ("z", "other:0")


async def test_a_rewind_names_what_to_keep(server: FakeServer, clock: FakeClock) -> None:
    for key in ("a", "b", "c"):
        server.notes.commit(key, b"1")
    async with syncline.connect(server.url, clock=clock) as client:
        subscription = client.subscribe("notes")
        await take(subscription, 3)
        del server.notes.rows[1:]
        await server.connections[0].drop()
        await come_back(client, clock)
        with pytest.raises(HistoryChanged, match="forked after 1"):
            await soon(anext(subscription))
        events = subscription.events()
        assert [await soon(anext(events))] == [Rewound(Seq(1), server.notes.cursor(1))]
        assert isinstance(await soon(anext(events)), CaughtUp)


async def test_a_saved_cursor_goes_on_in_another_client(server: FakeServer, clock: FakeClock) -> None:
    for key in ("a", "b", "c"):
        server.notes.commit(key, b"1")
    async with syncline.connect(server.url, clock=clock) as client:
        subscription = client.subscribe("notes")
        saved, known = (await take(subscription, 2))[-1].cursor, subscription.lineage
    async with syncline.connect(server.url, clock=clock) as client:
        subscription = client.subscribe("notes", after=saved, known=known)
        assert [change.key for change in await take(subscription, 1)] == ["c"]


async def test_a_slow_reader_does_not_hold_up_the_acks_of_its_own_writes(server: FakeServer, clock: FakeClock) -> None:
    for i in range(50):
        server.notes.commit(f"k{i}", b'"%s"' % (b"x" * 1000))
    async with syncline.connect(server.url, clock=clock) as client:
        subscription = client.subscribe("notes", buffer_bytes_max=10_000)
        seen: list[str] = []
        async with asyncio.timeout(15):
            async for change in subscription:
                seen.append(change.key)
                if change.key.startswith("k"):
                    await client.add("notes", "y" * 1000, f"copy-{change.key}")
                if len(seen) == 100:
                    break
        assert seen == [f"k{i}" for i in range(50)] + [f"copy-k{i}" for i in range(50)]
    assert any(b"UNSUBSCRIBE" in frame for frame in server.requests)


async def test_a_store_that_is_not_there_ends_the_iteration_with_the_reason(
    server: FakeServer, clock: FakeClock
) -> None:
    async with syncline.connect(server.url, clock=clock) as client:
        with pytest.raises(SubscriptionRefused, match="store_unknown"):
            await soon(anext(client.subscribe("nowhere")))


async def test_a_store_that_is_dropped_ends_the_iteration_and_is_an_event(server: FakeServer, clock: FakeClock) -> None:
    async with syncline.connect(server.url, clock=clock) as client:
        subscription = client.subscribe("notes")
        await soon(subscription.wait_caught_up())
        connection = server.connections[0]
        connection.session.ended(next(iter(connection.feeds)), "store_dropped", None)
        await connection.flush()
        events = [event async for event in subscription.events()]
        assert events[-1] == Ended("store_dropped", None)
        with pytest.raises(SubscriptionEnded, match="store_dropped"):
            await soon(anext(subscription))


async def test_a_second_subscription_to_a_store_is_refused_until_the_first_is_closed(
    server: FakeServer, clock: FakeClock
) -> None:
    server.notes.commit("a", b"1")
    async with syncline.connect(server.url, clock=clock) as client:
        first = client.subscribe("notes")
        with pytest.raises(Misuse, match="subscribed to 'notes' already"):
            client.subscribe("notes")
        await take(first, 1)
        await first.aclose()
        second = client.subscribe("notes")
        assert [change.key for change in await take(second, 1)] == ["a"]
        assert [change async for change in first] == []


async def test_two_tasks_that_iterate_over_one_subscription_are_told(server: FakeServer, clock: FakeClock) -> None:
    async with syncline.connect(server.url, clock=clock) as client:
        subscription = client.subscribe("notes")
        waiting = asyncio.ensure_future(anext(subscription))
        await soon(subscription.wait_caught_up())
        with pytest.raises(Misuse, match="two tasks"):
            await anext(subscription)
        waiting.cancel()
