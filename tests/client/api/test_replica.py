"""A replica of either API: reads, writes and what becomes of them, live queries, status, files."""

import asyncio
from pathlib import Path

import pytest

import syncline
from syncline import Add, Client, ClientClosed, ConnectionState, Delete, Rejected, Replica, Report, SyncState, View
from syncline.testing import Server
from tests.client.api.adapter import Api
from tests.client.api.waiting import until

NOWHERE = "http://127.0.0.1:1"


@pytest.fixture
async def replica(client: Client, store: str) -> Replica:
    opened = await client.replica(store)
    await opened.wait_caught_up()
    return opened


# --- reading and writing ---


async def test_what_is_added_shows_at_once_and_moves_on(replica: Replica) -> None:
    write = await replica.add({"n": 1}, "k")
    record = replica.get("k")
    assert record is not None
    assert record.value == {"n": 1}
    assert (write.key, write.keys) == ("k", ("k",))
    assert await write.stored() == 1
    assert await write.synced(timeout=20) == 1
    assert (write.state, write.seq, replica.state("k")) == (SyncState.SYNCED, 1, SyncState.SYNCED)
    assert write.at == replica.status.cursor
    record = replica.get("k")
    assert record is not None
    assert (record.state, record.seq) == (SyncState.SYNCED, 1)


async def test_reads_see_deletes_and_replacements(replica: Replica) -> None:
    await replica.write([Add("a", 1), Add("b", 2), Add("c", 3)])
    await replica.delete("a")
    await replica.replace("b", 20, "b2")
    assert [record.key for record in replica] == ["c", "b2"]
    assert ("a" in replica, "c" in replica, 7 in replica) == (False, True, False)
    assert (len(replica), replica.get("b"), replica.state("never")) == (2, None, None)
    await replica.flush(20)
    assert [record.value for record in replica.find(lambda record: record.value != 3)] == [20]
    assert [record.value for record in replica.find(prefix="b")] == [20]


async def test_a_whole_store_is_walked_through_in_order(client: Client, store: str) -> None:
    for first in range(0, 2500, 500):
        await client.write(store, [Add(f"k{n}", n) for n in range(first, first + 500)])
    replica = await client.replica(store)
    await replica.wait_caught_up()
    await replica.add("mine")
    await client.delete(store, "k0")
    await until(lambda: "k0" not in replica)
    assert [record.value for record in replica] == [*range(1, 2500), "mine"]


async def test_what_breaks_a_rule_is_refused_at_once(replica: Replica) -> None:
    with pytest.raises(syncline.WriteRefused):
        await replica.add(float("inf"))
    with pytest.raises(syncline.WriteRefused):
        await replica.add(1, "")
    assert len(replica) == 0
    assert not replica.pending


async def test_a_full_outbox_takes_no_more(api: Api) -> None:
    async with api.connect(NOWHERE, wait=False) as client:
        replica = await client.replica("notes", outbox_bytes_max=1000)
        await replica.add("x" * 600)
        with pytest.raises(syncline.OutboxFull) as full:
            await replica.add("x" * 600)
        assert full.value.size_max == 1000


async def test_a_part_of_a_store_is_a_part(client: Client, store: str) -> None:
    await client.write(store, [Add("a:1", 1), Add("b:1", 2)])
    replica = await client.replica(store, prefix="a:")
    await replica.wait_caught_up()
    assert [record.key for record in replica] == ["a:1"]
    assert (await replica.add(3)).key.startswith("a:")
    with pytest.raises(syncline.Misuse):
        await replica.add(3, "b:2")
    assert (replica.store, replica.prefix, replica.path) == (store, "a:", None)


# --- the outbox ---


async def test_a_refused_write_is_kept_until_somebody_decides(api: Api, replica: Replica, other: Client) -> None:
    await other.add(replica.store, "theirs", "k")
    reports: list[Report] = []
    stop = replica.on_report(lambda report: reports.append(report))
    write = await replica.write([Add("k", "ours"), Add("l", "ours")])
    with pytest.raises(syncline.WriteRejected) as rejected:
        await write.stored()
    assert api.write_of(rejected.value) == write
    assert rejected.value.status == "conflict"
    assert write.state is SyncState.REJECTED
    assert write.refusal is not None
    assert replica.rejections == [write]
    await until(lambda: reports)
    assert reports == [Rejected(write.id)]
    assert await write.retry() == write
    with pytest.raises(syncline.WriteRejected):
        await write.synced()
    await api.write_of(rejected.value).discard()
    assert replica.rejections == []
    stop()


async def test_a_write_is_retried_once_nothing_is_in_its_way(replica: Replica, other: Client) -> None:
    write = await replica.delete("k")
    with pytest.raises(syncline.WriteRejected):
        await write.stored()
    await other.add(replica.store, 1, "k")
    await replica.retry(write)
    assert await write.synced() == 2


async def test_what_waits_can_be_seen_and_waited_for(api: Api, server: Server) -> None:
    async with api.connect(server.url) as client:
        replica = await client.replica("notes")
        await replica.wait_caught_up()
        await replica.flush()
        server.kill()
        writes = [await replica.add(n) for n in range(3)]
        assert replica.pending == writes
        with pytest.raises(syncline.FlushTimeout) as late:
            await replica.flush(0.01)
        assert late.value.pending == 3
        with pytest.raises(TimeoutError):
            await writes[0].stored(0.01)
        server.start()
        await replica.flush()
        assert not replica.pending
        assert [await write.synced() for write in writes] == [1, 2, 3]


# --- following ---


async def test_a_watch_shows_what_fits_and_what_changed(api: Api, replica: Replica) -> None:
    await (await replica.add(1, "a")).synced()
    watch = replica.watch(lambda record: record.value != "no", prefix="")
    first = await anext(watch)
    assert [record.value for record in first] == [1]
    assert first.added == first.records
    await replica.write([Add("b", 2), Add("c", "no"), Delete("a")])
    second = await anext(watch)
    assert [record.key for record in second.records] == ["b"]
    assert [record.key for record in second.added] == ["b"]
    assert [record.key for record in second.removed] == ["a"]
    view = second
    while view.records[0].state is not SyncState.SYNCED:
        view = await anext(watch)
        assert [record.key for record in view.changed] == ["b"]
    with pytest.raises(TimeoutError):
        await api.next_within(watch, 0.05)
    await replica.add(3, "d")
    assert len(await anext(watch)) == 2


async def test_a_slow_watch_puts_changes_together(replica: Replica) -> None:
    watch = replica.watch(prefix="k")
    assert len(await anext(watch)) == 0
    for number in range(20):
        await replica.add(number, f"k{number}")
    await replica.add("other", "x")
    await replica.flush()
    view = await anext(watch)
    assert len(view) == len(view.added) == 20


async def test_a_watch_ends_when_it_or_its_replica_is_closed(replica: Replica) -> None:
    watches = [replica.watch(), replica.watch()]
    seen: list[View] = []
    first, second = [asyncio.ensure_future(_read(watch, seen)) for watch in watches]
    await until(lambda: len(seen) == 2)
    await watches[0].aclose()
    await first
    assert not second.done()
    await replica.aclose()
    await second
    assert len(seen) == 2
    for watch in watches:
        with pytest.raises(StopAsyncIteration):
            await anext(watch)


async def _read(watch: syncline.Watch[View], seen: list[View]) -> None:
    async for view in watch:
        seen += [view]


async def test_a_callback_gets_views_until_it_is_taken_back(replica: Replica) -> None:
    views: list[View] = []
    stop = replica.on_change(lambda view: views.append(view), lambda record: record.value != 0)
    assert [len(view) for view in views] == [0]
    await replica.add(0)
    await (await replica.add(1)).synced()
    await until(lambda: views[-1].records and views[-1].records[0].state is SyncState.SYNCED)
    stop()
    count = len(views)
    await (await replica.add(2)).synced()
    assert len(views) == count


async def test_the_status_of_a_replica_is_followed_to_its_end(api: Api, server: Server) -> None:
    async with api.connect(server.url) as client:
        replica = await client.replica("notes")
        seen: list[syncline.ReplicaStatus] = []
        reading = asyncio.ensure_future(_note(replica, seen))
        await replica.wait_caught_up()
        assert replica.is_caught_up
        await until(lambda: seen[-1:] and seen[-1].state is ConnectionState.LIVE)
        server.kill()
        await until(lambda: seen[-1].state is ConnectionState.OFFLINE)
        write = await replica.add(1)
        await until(lambda: seen[-1].pending == 1)
        server.start()
        await write.synced()
        await replica.aclose()
        await reading
        assert seen[-1].state is ConnectionState.CLOSED


async def _note(replica: Replica, seen: list[syncline.ReplicaStatus]) -> None:
    async for status in replica.statuses():
        seen += [status]


async def test_catching_up_may_take_too_long(api: Api) -> None:
    async with api.connect(NOWHERE, wait=False) as client:
        replica = await client.replica("notes")
        with pytest.raises(TimeoutError):
            await replica.wait_caught_up(0.01)
        assert not replica.is_caught_up


# --- files, and the end ---


async def test_a_file_keeps_records_and_outbox(api: Api, server: Server, tmp_path: Path) -> None:
    async with api.connect(server.url) as client:
        async with await client.replica("notes", tmp_path / "notes.db") as replica:
            await (await replica.add("there", "a")).synced()
            server.kill()
            await replica.add("not yet", "b")
        with pytest.raises(ClientClosed):
            replica.get("a")
        async with await client.replica("notes", str(tmp_path / "notes.db")) as replica:
            assert replica.path == str(tmp_path / "notes.db")
            assert [(record.value, record.state) for record in replica] == [
                ("there", SyncState.SYNCED),
                ("not yet", SyncState.PENDING),
            ]
            (write,) = replica.pending
            server.start()
            assert await write.stored() == 2


async def test_a_file_belongs_to_one_replica(client: Client, other: Client, store: str, tmp_path: Path) -> None:
    await client.replica(store, tmp_path / "notes.db")
    with pytest.raises(syncline.LocalFileLocked):
        await other.replica(store, tmp_path / "notes.db")
    with pytest.raises(syncline.LocalFileFailed):
        await other.replica(store, tmp_path)


async def test_a_client_follows_a_store_with_one_replica(client: Client, store: str) -> None:
    async with await client.replica(store):
        with pytest.raises(syncline.Misuse):
            await client.replica(store)
        with pytest.raises(syncline.Misuse):
            client.subscribe(store)
    await client.replica(store)


async def test_after_the_end_nothing_is_read_or_waited_for(api: Api, shared: Server, store: str) -> None:
    async with api.connect(shared.url) as client:
        replica = await client.replica(store)
        write = await replica.add(1)
        await write.synced()
        watch = replica.watch()
        await anext(watch)
    for read in (lambda: replica.get("k"), lambda: len(replica), lambda: list(replica), replica.find):
        with pytest.raises(ClientClosed):
            read()
    with pytest.raises(ClientClosed):
        await replica.add(2)
    with pytest.raises(StopAsyncIteration):
        await anext(watch)
    assert (write.state, write.seq) == (SyncState.SYNCED, 1)
    assert replica.status.state is ConnectionState.CLOSED
    await replica.aclose()
