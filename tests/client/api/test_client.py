"""A client of either API: writes, stores, records, and its connection."""

import asyncio

import pytest

import syncline
from syncline import Add, Client, ClientClosed, ConnectionState, Delete, Json, Status
from syncline.testing import Server
from tests.client.api.adapter import Api
from tests.client.api.waiting import until

NOWHERE = "http://127.0.0.1:1"


async def test_what_was_added_can_be_got(client: Client, store: str) -> None:
    written = await client.add(store, {"text": "hi"})
    assert (written.status, written.seq) == ("ok", 1)
    assert written.key is not None
    record = await client.get(store, written.key)
    assert record is not None
    assert (record.key, record.seq, record.value) == (written.key, 1, {"text": "hi"})
    assert await client.get(store, "another") is None


async def test_the_same_write_again_is_a_duplicate_and_another_value_is_refused(client: Client, store: str) -> None:
    first = await client.add(store, 1, "k")
    again = await client.add(store, 1, "k")
    assert (again.status, again.seq) == ("dup", first.seq)
    with pytest.raises(syncline.WriteRefused) as refused:
        await client.add(store, 2, key="k")
    assert refused.value.status == "conflict"


async def test_a_record_is_deleted_once(client: Client, store: str) -> None:
    await client.add(store, 1, "k")
    assert (await client.delete(store, "k")).status == "ok"
    assert (await client.delete(store, "k")).status == "dup"
    assert await client.get(store, "k") is None
    with pytest.raises(syncline.WriteRefused) as refused:
        await client.delete(store, "never")
    assert refused.value.status == "absent"


async def test_a_transaction_is_all_or_none(client: Client, store: str) -> None:
    written = await client.write(store, [Add("a", 1), Add("b", 2)])
    assert [op.seq for op in written.ops] == [1, 2]
    with pytest.raises(syncline.WriteRefused) as refused:
        await client.write(store, [Delete("a"), Add("b", 3)])
    assert [op.status for op in refused.value.result.ops] == ["skipped", "conflict"]
    assert await client.get(store, "a") is not None


async def test_ops_that_are_no_transaction_are_decided_alone(client: Client, store: str) -> None:
    await client.add(store, 1, "a")
    written = await client.write(store, (op for op in [Add("a", 2), Add("b", 2)]), atomic=False)
    assert written.status == "partial"
    assert [op.status for op in written.ops] == ["conflict", "ok"]


async def test_a_write_for_another_store_of_this_name_is_refused(client: Client, store: str) -> None:
    with pytest.raises(syncline.WriteRefused):
        await client.add(store, 1, store_id="0" * 16)


async def test_values_keep_their_text_and_what_is_no_json_is_refused(client: Client, store: str) -> None:
    await client.add(store, Json('{"n": 12345678901234567890.50}'), "k")
    record = await client.get(store, "k")
    assert record is not None
    assert record.text == '{"n": 12345678901234567890.50}'
    with pytest.raises(syncline.WriteRefused) as refused:
        await client.add(store, float("nan"))
    assert refused.value.status == "invalid"


async def test_stores_are_made_listed_and_dropped(client: Client, store: str) -> None:
    name = f"{store}-new"
    made = await client.stores.create(name)
    assert await client.stores.create(name) == made
    assert (await client.stores.info(name)).store_id == made.store_id
    assert name in [each.name for each in await client.stores.list()]
    assert (await client.stores.drop(name)).name == name
    with pytest.raises(syncline.RequestRefused) as refused:
        await client.stores.info(name)
    assert refused.value.code == "store_unknown"


async def test_a_walk_shows_all_live_records_in_order_and_where_to_go_on(client: Client, store: str) -> None:
    for first in range(0, 1500, 100):
        await client.write(store, [Add(f"k{n}", n) for n in range(first, first + 100)])
    await client.delete(store, "k7")
    async with client.records(store) as records:
        cursor = await records.cursor()
        values = [record.value async for record in records]
    assert values == [n for n in range(1500) if n != 7]
    assert cursor is not None
    await client.add(store, "later")
    change = await anext(client.subscribe(store, cursor))
    assert change.value == "later"


async def test_a_walk_may_be_left_early(client: Client, store: str) -> None:
    await client.write(store, [Add(f"k{n}", n) for n in range(100)])
    async with client.records(store) as records:
        async for record in records:
            assert record.value == 0
            break
    with pytest.raises(StopAsyncIteration):
        await anext(records)
    assert len([record async for record in client.records(store)]) == 100


async def test_a_walk_over_no_store_is_refused_each_time(client: Client) -> None:
    records = client.records("never-made")
    with pytest.raises(syncline.RequestRefused):
        await anext(records)
    with pytest.raises(syncline.Misuse):
        await anext(records)


async def test_a_client_says_how_it_is_connected(client: Client, shared: Server) -> None:
    assert client.url == shared.url
    assert client.state is client.status.state is ConnectionState.LIVE
    assert client.welcome is not None
    assert client.limits == client.welcome.limits
    assert client.unanswered_writes == 0


async def test_the_status_is_followed_over_a_broken_connection_to_the_end(api: Api, server: Server) -> None:
    async with api.connect(server.url) as client:
        statuses = client.statuses()
        assert (await anext(statuses)).state is ConnectionState.LIVE
        server.kill()
        async for status in statuses:
            if status.state is ConnectionState.OFFLINE:
                assert status.retry_at is not None
                break
        following = asyncio.create_task(_last(client))
        await asyncio.sleep(0)
    assert (await following).state is ConnectionState.CLOSED


async def _last(client: Client) -> Status:
    return [status async for status in client.statuses()][-1]


async def test_a_callback_hears_each_status_until_it_is_taken_back(api: Api, server: Server) -> None:
    heard: list[ConnectionState] = []
    async with api.connect(server.url) as client:
        stop = client.on_status(lambda status: heard.append(status.state))
        server.cut()
        await until(lambda: len(heard) >= 4)
        live = ConnectionState.LIVE
        assert heard[:4] == [live, ConnectionState.OFFLINE, ConnectionState.CONNECTING, live]
        stop()
        stop()
        count = len(heard)
    assert len(heard) == count


async def test_a_write_waits_while_the_server_is_away(api: Api, server: Server) -> None:
    server.create("notes")
    async with api.connect(server.url) as client:
        server.kill()
        writing = asyncio.ensure_future(client.add("notes", 1))
        await until(lambda: client.unanswered_writes)
        server.start()
        assert (await writing).seq == 1


async def test_a_write_that_waits_learns_that_the_client_is_closed(api: Api, server: Server) -> None:
    async with api.connect(server.url) as client:
        server.kill()
        writing = asyncio.ensure_future(client.add("notes", 1))
        await until(lambda: client.unanswered_writes)
    with pytest.raises(ClientClosed):
        await writing


async def test_a_closed_client_says_so(api: Api, shared: Server, store: str) -> None:
    async with api.connect(shared.url) as client:
        pass
    assert client.state is ConnectionState.CLOSED
    with pytest.raises(ClientClosed):
        await client.add(store, 1)
    with pytest.raises(ClientClosed):
        client.subscribe(store)
    with pytest.raises(ClientClosed):
        await client.replica(store)
    await client.aclose()


async def test_without_a_server_opening_fails_or_does_not_wait(api: Api) -> None:
    with pytest.raises(syncline.ConnectionFailed):
        async with api.connect(NOWHERE):
            raise AssertionError
    async with api.connect(NOWHERE, wait=False) as client:
        await until(lambda: client.state is ConnectionState.OFFLINE)
        with pytest.raises(syncline.ConnectionFailed):
            await client.stores.list()


async def test_an_address_that_is_none_is_refused(api: Api) -> None:
    with pytest.raises(syncline.AddressInvalid):
        async with api.connect("ftp://host"):
            raise AssertionError


async def test_a_token_function_is_asked_and_may_say_that_somebody_has_to_log_in(api: Api, server: Server) -> None:
    tokens = ["first"]

    async def token() -> str | None:
        if not tokens:
            raise syncline.AuthRequired("log in again")
        return tokens.pop()

    async with api.connect(server.url, token=token) as client:
        assert not tokens
        server.cut()
        await until(lambda: client.state is ConnectionState.NEEDS_AUTH)
        assert "log in again" in client.status.reason
        client.authenticate("second")
        await until(lambda: client.state is ConnectionState.LIVE)
