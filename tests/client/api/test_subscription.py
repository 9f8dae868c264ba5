"""A subscription of either API: order, positions, and what happens to it."""

import asyncio

import pytest

import syncline
from syncline import Add, CaughtUp, Change, Client, ClientClosed, Ended, HistoryChanged, Restarted, Rewound
from syncline.testing import Server
from syncline_protocol import Seq
from syncline_protocol.digest import digest_term, digest_text
from tests.client.api.adapter import Api
from tests.client.api.waiting import until


async def test_changes_come_in_order_each_once(client: Client, store: str) -> None:
    subscription = client.subscribe(store)
    # A catch-up may leave out what is deleted already.
    await subscription.wait_caught_up()
    await client.add(store, {"n": 1}, "a")
    await client.delete(store, "a")
    await client.add(store, {"n": 2}, "b")
    first, second, third = [await anext(subscription) for _ in range(3)]
    assert [(each.seq, each.op, each.key) for each in (first, second, third)] == [
        (1, "ADD", "a"),
        (2, "DELETE", "a"),
        (3, "ADD", "b"),
    ]
    assert (first.value, second.value, third.text) == ({"n": 1}, None, '{"n":2}')


async def test_the_cursor_moves_when_the_next_change_is_asked_for(api: Api, client: Client, store: str) -> None:
    subscription = client.subscribe(store)
    await client.add(store, 1)
    change = await anext(subscription)
    assert subscription.cursor != change.cursor
    with pytest.raises(TimeoutError):
        await api.next_within(subscription, 0.05)
    assert subscription.cursor == change.cursor
    assert subscription.lineage is not None


async def test_the_cursor_does_not_stop_inside_of_a_transaction(client: Client, store: str) -> None:
    subscription = client.subscribe(store)
    await client.add(store, 0)
    await anext(subscription)
    await client.write(store, [Add("a", 1), Add("b", 2), Add("c", 3)])
    before = (await anext(subscription)).cursor
    assert subscription.cursor != before
    cursor = subscription.cursor
    assert not (await anext(subscription)).ends_batch
    assert subscription.cursor == cursor
    last = await anext(subscription)
    assert last.ends_batch
    assert subscription.cursor == cursor


async def test_what_is_asked_for_in_vain_is_not_lost(api: Api, client: Client, store: str) -> None:
    subscription = client.subscribe(store)
    for number in range(20):
        with pytest.raises(TimeoutError):
            await api.next_within(subscription, 0.001)
        await client.add(store, number)
        assert (await anext(subscription)).value == number


async def test_one_goes_on_where_another_stopped(client: Client, store: str) -> None:
    for number in range(4):
        await client.add(store, number)
    first = client.subscribe(store)
    kept = [await anext(first) for _ in range(2)][-1].cursor
    lineage = first.lineage
    await first.aclose()
    second = client.subscribe(store, kept, known=lineage)
    assert [(await anext(second)).value for _ in range(2)] == [2, 3]


async def test_now_is_after_all_that_was(client: Client, store: str) -> None:
    await client.add(store, "before")
    subscription = client.subscribe(store, "now")
    await subscription.wait_caught_up()
    await client.add(store, "after")
    assert (await anext(subscription)).value == "after"


async def test_a_loop_that_was_left_is_taken_up_by_another(client: Client, store: str) -> None:
    subscription = client.subscribe(store)
    await client.write(store, [Add(f"k{n}", n) for n in range(10)])
    async for change in subscription:
        if change.value == 3:
            break
    async for change in subscription:
        assert change.value == 4
        break


async def test_a_client_follows_a_store_once(client: Client, store: str) -> None:
    subscription = client.subscribe(store)
    with pytest.raises(syncline.Misuse):
        client.subscribe(store)
    await subscription.aclose()
    async with client.subscribe(store) as again:
        assert again.store == store
    client.subscribe(store)


async def test_a_closed_subscription_stops_whoever_iterates(client: Client, store: str) -> None:
    subscription = client.subscribe(store)
    seen: list[Change] = []
    reading = asyncio.ensure_future(_read(subscription, seen))
    await client.add(store, 1)
    await until(lambda: seen)
    await subscription.aclose()
    await reading
    assert [change.value for change in seen] == [1]
    with pytest.raises(StopAsyncIteration):
        await anext(subscription)


async def _read(subscription: syncline.Subscription, seen: list[Change]) -> None:
    async for change in subscription:
        seen += [change]


async def test_events_tell_when_everything_was_handed_out(client: Client, store: str) -> None:
    written = [await client.add(store, number, f"k{number}") for number in range(3)]
    events = client.subscribe(store).events()
    for number in range(3):
        event = await anext(events)
        assert isinstance(event, Change)
        assert event.value == number
    caught_up = await anext(events)
    digest = sum([digest_term(Seq(number + 1), f"k{number}") for number in range(3)])
    assert isinstance(caught_up, CaughtUp)
    assert (caught_up.at, caught_up.count, caught_up.digest) == (written[-1].at, 3, digest_text(digest))


async def test_it_is_caught_up_when_the_last_change_was_dealt_with(api: Api, client: Client, store: str) -> None:
    await client.add(store, 1)
    subscription = client.subscribe(store)
    await anext(subscription)
    assert not subscription.caught_up
    with pytest.raises(TimeoutError):
        await api.next_within(subscription, 0.05)
    assert subscription.caught_up
    await subscription.wait_caught_up()


async def test_plain_iteration_and_events_share_one_position(client: Client, store: str) -> None:
    await client.write(store, [Add(f"k{n}", n) for n in range(4)])
    subscription = client.subscribe(store)
    assert (await anext(subscription)).value == 0
    event = await anext(subscription.events())
    assert isinstance(event, Change)
    assert event.value == 1
    assert (await anext(subscription)).value == 2


async def test_a_subscription_to_no_store_is_refused(client: Client) -> None:
    with pytest.raises(syncline.SubscriptionRefused) as refused:
        await anext(client.subscribe("never-made"))
    assert refused.value.code == "store_unknown"


async def test_it_ends_with_its_store(client: Client, store: str) -> None:
    await client.add(store, 1)
    subscription = client.subscribe(store)
    assert (await anext(subscription)).value == 1
    await client.stores.drop(store)
    with pytest.raises(syncline.SubscriptionEnded) as ended:
        await anext(subscription)
    assert ended.value.reason == "store_dropped"


async def test_events_end_with_the_reason(client: Client, store: str) -> None:
    events = client.subscribe(store).events()
    assert isinstance(await anext(events), CaughtUp)
    await client.stores.drop(store)
    ended = [event async for event in events]
    assert [type(event) for event in ended] == [Ended]


async def test_it_ends_with_its_client(api: Api, shared: Server, store: str) -> None:
    async with api.connect(shared.url) as client:
        subscription = client.subscribe(store)
        reading = asyncio.ensure_future(_read(subscription, []))
        await subscription.wait_caught_up()
    with pytest.raises(ClientClosed):
        await reading
    with pytest.raises(ClientClosed):
        await anext(subscription)


async def test_a_cut_is_not_to_be_seen(api: Api, server: Server) -> None:
    server.create("notes")
    async with api.connect(server.url) as client:
        subscription = client.subscribe("notes")
        await client.add("notes", 1)
        assert (await anext(subscription)).value == 1
        server.cut()
        await client.add("notes", 2)
        server.restart()
        await client.add("notes", 3)
        assert [(await anext(subscription)).value for _ in range(2)] == [2, 3]


async def test_history_that_changed_is_raised_until_somebody_acts_on_it(api: Api, server: Server) -> None:
    server.create("notes")
    async with api.connect(server.url) as client:
        subscription = client.subscribe("notes")
        await client.add("notes", 1)
        backup = server.backup()
        await client.add("notes", 2)
        assert [(await anext(subscription)).value for _ in range(2)] == [1, 2]
        server.restore(backup)
        for _ in range(2):
            with pytest.raises(HistoryChanged):
                await anext(subscription)
        event = await anext(subscription.events())
        assert isinstance(event, Rewound | Restarted)
        await client.add("notes", 3)
        assert await _next_new(subscription) == 3


async def _next_new(subscription: syncline.Subscription) -> object:
    """Return the value after those that a subscription which began again sees a second time."""
    async for change in subscription:
        if change.value != 1:
            return change.value
    raise AssertionError
