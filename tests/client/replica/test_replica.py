"""A replica as an application sees it: reading, writing without a server, statuses, callbacks, closing."""

import asyncio
import contextlib
from pathlib import Path

import pytest

import syncline
from syncline import (
    Add,
    ClientClosed,
    ConnectionState,
    Delete,
    FlushTimeout,
    LocalRecord,
    Misuse,
    SyncState,
    View,
    WriteRefused,
)
from syncline_protocol import Seq
from syncline_protocol.messages import Behind
from tests.client.fake_clock import FakeClock
from tests.client.fake_server import FakeServer, FakeStore
from tests.client.replica.holding import caught_up, held, is_equal, keys, open_on, reports_of, shown, turns, until
from tests.client.waiting import soon

# --- reading ---


async def test_a_replica_reads_what_the_server_has(server: FakeServer, path: str | None) -> None:
    server.notes.commit("b", b'{"n":1.50}')
    server.notes.commit("a", b"2")
    server.notes.commit("b", None)
    server.notes.commit("c", b"3")
    async with held(server, path) as replica:
        await caught_up(replica)
        assert shown(replica) == [("a", 2, "2"), ("c", 4, "3")]
        assert replica.get("a") == LocalRecord("a", "2", SyncState.SYNCED, Seq(2), 1_795_400_000_000)
        assert ("a" in replica, "b" in replica, 1 in replica) == (True, False, False)
        assert (len(replica), replica.get("b")) == (2, None)
        assert replica.status.cursor == server.notes.cursor(4)


async def test_numbers_keep_every_digit(server: FakeServer, path: str | None) -> None:
    async with held(server, path) as replica:
        write = await replica.add(syncline.Json("[9007199254740993, 1.0]"), "k")
        await soon(write.synced())
        record = replica.get("k")
        assert record is not None
        assert record.text == "[9007199254740993, 1.0]"
        assert server.notes.rows == [("k", b"[9007199254740993, 1.0]")]


async def test_everything_works_before_there_is_a_server_and_goes_there_when_one_appears(
    server: FakeServer, path: str | None
) -> None:
    await server.stop()
    async with held(server, path) as replica:
        assert (len(replica), list(replica), "k" in replica, replica.find()) == (0, [], False, [])
        first = await replica.add({"n": 1}, "k1")
        second = await replica.write([Delete("k1"), Add("k2", 2)])
        assert (first.state, second.state) == (SyncState.PENDING, SyncState.PENDING)
        assert shown(replica) == [("k2", None, "2")]
        assert (len(replica), replica.pending) == (1, [first, second])
        assert (replica.status.pending, replica.is_caught_up) == (2, False)
        assert replica.status.state in (ConnectionState.CONNECTING, ConnectionState.OFFLINE)
        await server.start()
        await soon(second.synced())
        await caught_up(replica)
        assert shown(replica) == [("k2", 3, "2")]
        assert (first.state, first.seq, second.seq) == (SyncState.SYNCED, 1, 3)
        assert is_equal(replica, server)


async def test_records_come_by_seq_and_then_as_they_were_written(server: FakeServer, path: str | None) -> None:
    for key in ("r.b", "r.a", "r.c"):
        server.notes.commit(key, b"0")
    async with held(server, path) as replica:
        await caught_up(replica)
        watch = replica.watch()
        first = [record.key for record in await anext(watch)]
        assert first == keys(replica) == ["r.b", "r.a", "r.c"]
        await server.stop()
        await replica.add(0, "r.z")
        await replica.write([Add("r.y", 0), Add("r.x", 0), Delete("r.a")])
        await asyncio.gather(*[replica.add(0, f"r.{name}") for name in "wvutsq"])
        wanted = ["r.b", "r.c", "r.z", "r.y", "r.x", *[f"r.{name}" for name in "wvutsq"]]
        assert keys(replica) == wanted
        assert [record.key for record in replica.find(prefix="r.")] == wanted
        assert [record.key for record in await soon(anext(watch))] == wanted
        await server.start()


async def test_acked_records_come_by_their_seqs(server: FakeServer, path: str | None) -> None:
    server.acks_first = None
    async with held(server, path) as replica:
        await caught_up(replica)
        watch = replica.watch()
        await anext(watch)
        write = await replica.write([Add("b", 0), Add("a", 0)])
        other = await replica.add(0, "0")
        await soon(asyncio.gather(write.stored(), other.stored()))
        assert shown(replica) == [("b", 1, "0"), ("a", 2, "0"), ("0", 3, "0")]
        view = await soon(anext(watch))
        while view.records[0].state is not SyncState.ACKED or view.records[-1].state is not SyncState.ACKED:
            view = await soon(anext(watch))
        assert [record.key for record in view] == ["b", "a", "0"]


async def test_find_takes_a_prefix_and_a_predicate(server: FakeServer, path: str | None) -> None:
    for number in range(6):
        server.notes.commit(f"{'even' if number % 2 == 0 else 'odd'}.{number}", b"%d" % number)
    async with held(server, path) as replica:
        await caught_up(replica)
        await server.stop()
        await replica.add(8, "even.8")
        await replica.delete("even.2")
        await replica.add(9, "odd.9")
        assert [record.value for record in replica.find(prefix="even.")] == [0, 4, 8]
        assert [record.value for record in replica.find(lambda record: record.value in (3, 8))] == [3, 8]
        assert [r.value for r in replica.find(lambda r: isinstance(r.value, int) and r.value > 3, prefix="odd.")] == [
            5,
            9,
        ]
        assert replica.find(prefix="none") == []
        await server.start()


async def test_each_key_says_how_far_it_has_come(server: FakeServer, path: str | None) -> None:
    server.notes.commit("taken", b"1")
    server.acks_first = None
    async with held(server, path) as replica:
        await caught_up(replica)
        await server.stop()
        write = await replica.add(0, "k")
        assert (replica.state("k"), replica.state("none"), replica.state("taken")) == (
            SyncState.PENDING,
            None,
            SyncState.SYNCED,
        )
        rejected = await replica.add(2, "taken")
        await server.start()
        await soon(write.stored())
        await until(lambda: rejected.state is SyncState.REJECTED)
        assert (replica.state("k"), replica.state("taken")) == (SyncState.ACKED, SyncState.REJECTED)
        await server.publish()
        await soon(write.synced())
        assert replica.state("k") is SyncState.SYNCED


async def test_a_partial_replica_holds_its_part_only(server: FakeServer, path: str | None) -> None:
    server.notes.commit("a.1", b"1")
    server.notes.commit("b.1", b"1")
    async with held(server, path, prefix="a.") as replica:
        await caught_up(replica)
        write = await replica.add(2, "a.2")
        made = await replica.add(3)
        assert made.key.startswith("a.")
        await soon(asyncio.gather(write.synced(), made.synced()))
        server.notes.commit("b.1", None)
        server.notes.commit("a.1", None)
        await server.publish()
        await until(lambda: len(replica) == 2)
        assert keys(replica) == ["a.2", made.key]
        with pytest.raises(Misuse, match=r"begin with 'a\.'"):
            await replica.add(1, "b.2")


# --- what is wrong at once ---


async def test_what_no_server_would_take_is_refused_at_once_and_not_stored(
    server: FakeServer, path: str | None
) -> None:
    async with held(server, path) as replica:
        for refused in (
            replica.add(object(), "k"),
            replica.add("\ud800", "k"),
            replica.add(1, "a\nb"),
            replica.write([]),
        ):
            with pytest.raises((WriteRefused, TypeError, Misuse)):
                await refused
        assert (len(replica), replica.pending, replica.rejections) == (0, [], [])


# --- statuses ---


async def test_the_statuses_tell_the_story_of_a_connection(server: FakeServer, path: str | None) -> None:
    states: list[ConnectionState] = []

    async def note(replica: syncline.Replica) -> None:
        async for status in replica.statuses():
            if not states or states[-1] is not status.state:
                states.append(status.state)

    async with held(server, path, clock=FakeClock(chance=0.5)) as replica:
        noting = asyncio.create_task(note(replica))
        await caught_up(replica)
        await turns(3)
        assert (replica.status.state, replica.status.reason) == (ConnectionState.LIVE, "follows the server")
        await server.stop()
        await until(lambda: replica.status.state is ConnectionState.OFFLINE)
        assert not replica.is_caught_up
        assert replica.status.retry_at is not None
        await server.start()
        await replica.aclose()
        await soon(noting)
    assert replica.status.state is ConnectionState.CLOSED
    assert states[0] in (ConnectionState.CONNECTING, ConnectionState.LAGGING)
    assert states[-4:] == [
        ConnectionState.LAGGING,
        ConnectionState.LIVE,
        ConnectionState.OFFLINE,
        ConnectionState.CLOSED,
    ]


async def test_it_is_lagging_while_the_server_brings_what_was_missed(server: FakeServer, path: str | None) -> None:
    async with held(server, path) as replica:
        await caught_up(replica)
        server.notes.commit("a", b"1")
        (connection,) = server.connections
        await connection.send(Behind("notes", server.notes.cursor(0), server.notes.cursor(1)))
        await until(lambda: replica.status.state is ConnectionState.LAGGING)
        assert (replica.is_caught_up, replica.status.reason) == (False, "catching up")
        await connection.catch_up()
        await connection.caught_up(server.notes, 1)
        await caught_up(replica)
        assert replica.status.state is ConnectionState.LIVE


# --- those who follow ---


async def test_callbacks_that_raise_stop_nothing(server: FakeServer, path: str | None) -> None:
    failures: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context["exception"]))
    views: list[View] = []
    armed = False

    def fail(*_: object) -> None:
        if armed:
            raise ZeroDivisionError

    def picky(record: LocalRecord) -> bool:
        fail()
        return True

    async with held(server, path) as replica:
        replica.on_change(fail)
        replica.on_change(lambda view: None, picky)
        replica.on_report(fail)
        replica.on_change(views.append)
        armed = True
        await caught_up(replica)
        server.notes.commit("taken", b"1")
        await server.publish()
        refused = await replica.add(2, "taken")
        write = await replica.add(1, "k")
        await soon(write.synced())
        await until(lambda: refused.state is SyncState.REJECTED)
        assert [record.key for record in views[-1]] == ["taken", "k"]
        assert is_equal(replica, server)
    assert {type(failure) for failure in failures} == {ZeroDivisionError}
    assert len(failures) > 3


async def test_a_predicate_that_raises_reaches_the_one_who_asked(server: FakeServer, path: str | None) -> None:
    async with held(server, path) as replica:
        await caught_up(replica)
        watch = replica.watch(lambda record: 1 / 0 > 0)
        await anext(watch)
        write = await replica.add(1, "k")
        with pytest.raises(ZeroDivisionError):
            await soon(anext(watch))
        await soon(write.synced())


async def test_a_callback_is_called_no_more_once_it_was_ended(server: FakeServer, path: str | None) -> None:
    views: list[View] = []
    async with held(server, path) as replica:
        end = replica.on_change(views.append)
        assert len(views) == 1
        end_reports = replica.on_report(lambda report: pytest.fail(str(report)))
        for _ in range(2):
            end()
            end_reports()
        await soon((await replica.add(1)).synced())
        assert len(views) == 1


# --- closing ---


async def test_a_closed_replica_says_so_and_ends_those_who_wait(server: FakeServer, path: str | None) -> None:
    await server.stop()
    async with held(server, path) as replica:
        write = await replica.add(1, "k")
        other = await replica.add(1, "j")
        watch = replica.watch()
        await anext(watch)
        waiting = [
            asyncio.ensure_future(work)
            for work in (write.stored(), write.synced(), replica.flush(), replica.wait_caught_up())
        ]
        await turns(2)
        await asyncio.gather(replica.aclose(), replica.aclose())
        for each in waiting:
            with pytest.raises(ClientClosed):
                await soon(each)
        with pytest.raises(StopAsyncIteration):
            await soon(anext(watch))
        for work in (replica.add(1), replica.delete("k"), replica.flush(), replica.retry(write), write.stored()):
            with pytest.raises(ClientClosed):
                await soon(work)
        for read in (
            lambda: replica.get("k"),
            lambda: len(replica),
            lambda: list(replica),
            replica.find,
            replica.watch,
        ):
            with pytest.raises(ClientClosed):
                read()
        (late, _) = replica.pending
        assert late is write
        with pytest.raises(ClientClosed):
            await soon(other.stored())
        assert replica.status.state is ConnectionState.CLOSED
    await server.start()


async def test_a_write_that_is_looked_up_after_the_end_does_not_wait_for_ever(
    server: FakeServer, path: str | None
) -> None:
    await server.stop()
    async with held(server, path) as replica:
        await replica.add(1, "k")
        await replica.aclose()
        (write,) = replica.pending
        with pytest.raises(ClientClosed):
            await soon(write.stored())
    await server.start()


async def test_iterating_over_a_replica_that_is_closed_meanwhile_raises(server: FakeServer, path: str | None) -> None:
    for number in range(1500):
        server.notes.commit(f"k{number}", b"0")
    async with held(server, path) as replica:
        await caught_up(replica)
        walk = iter(replica)
        next(walk)
        await replica.aclose()
        with pytest.raises(ClientClosed):
            list(walk)


async def test_writes_under_way_when_it_closes_are_there_when_it_opens_again(
    server: FakeServer, tmp_path: Path
) -> None:
    path = str(tmp_path / "replica.db")
    await server.stop()
    async with held(server, path) as replica:
        adding = [asyncio.ensure_future(replica.add(number, f"k{number}")) for number in range(20)]
        await turns(1)
        await replica.aclose()
        made = await soon(asyncio.gather(*adding, return_exceptions=True))
        kept = [write.key for write in made if isinstance(write, syncline.Write)]
        assert all(isinstance(write, syncline.Write | ClientClosed) for write in made)
    async with held(server, path) as replica:
        assert keys(replica) == kept
        await server.start()
        await soon(replica.flush())
        assert [key for key, _ in server.notes.rows] == kept


async def test_a_client_that_is_closed_closes_its_replicas(server: FakeServer, path: str | None) -> None:
    async with held(server, path) as replica:
        await caught_up(replica)
        server.acks_first = None
        write = await replica.add(1, "k")
        await soon(write.stored())
        waiting = asyncio.ensure_future(write.synced())
        await turns(2)
    with pytest.raises(ClientClosed):
        await soon(waiting)
    with pytest.raises(ClientClosed):
        replica.get("k")
    await replica.aclose()


async def test_a_store_is_followed_once_by_a_client_and_again_after_the_first_was_closed(
    server: FakeServer, path: str | None
) -> None:
    server.notes.commit("a", b"1")
    async with syncline.connect(server.url, wait=False, clock=FakeClock(chance=0.0)) as client:
        for _ in range(3):
            replica = await open_on(client, path)
            with pytest.raises(Misuse):
                await client.replica("notes")
            with pytest.raises(Misuse):
                client.subscribe("notes")
            await caught_up(replica)
            assert keys(replica) == ["a"]
            await replica.aclose()
        async with client.subscribe("notes") as subscription:
            assert (await soon(anext(subscription))).key == "a"
            with pytest.raises(Misuse):
                await client.replica("notes")


async def test_of_two_that_are_opened_at_once_one_is_refused(server: FakeServer, tmp_path: Path) -> None:
    async with syncline.connect(server.url, wait=False, clock=FakeClock(chance=0.0)) as client:
        opening = [client.replica("notes", tmp_path / f"{number}.db", create=False) for number in range(2)]
        replica, refused = await asyncio.gather(*opening, return_exceptions=True)
        assert isinstance(replica, syncline.Replica)
        assert isinstance(refused, Misuse)
        await caught_up(replica)


async def test_a_replica_that_is_being_opened_when_the_client_is_closed_is_closed_too(
    server: FakeServer, tmp_path: Path
) -> None:
    path = str(tmp_path / "replica.db")
    for count in range(12):
        async with syncline.connect(server.url, wait=False, clock=FakeClock(chance=0.0)) as client:
            opening = asyncio.ensure_future(open_on(client, path))
            await turns(count)
        with contextlib.suppress(ClientClosed):
            replica = await soon(opening)
            assert replica.status.state is ConnectionState.CLOSED
        # Nobody holds the file any more.
        async with held(server, path) as replica:
            await caught_up(replica)


async def test_two_replicas_of_one_client_and_its_own_writes_do_not_disturb_each_other(
    server: FakeServer, tmp_path: Path
) -> None:
    server.stores["tasks"] = FakeStore("tasks", "inc2")
    async with syncline.connect(server.url, wait=False, clock=FakeClock(chance=0.0)) as client:
        notes = await client.replica("notes", tmp_path / "notes.db", create=False)
        tasks = await client.replica("tasks", create=False)
        writes = [await notes.add(1, "k"), await tasks.add(2, "k")]
        await soon(client.add("notes", 3, "j"))
        await soon(asyncio.gather(*[write.synced() for write in writes]))
        await until(lambda: "j" in notes)
        assert (sorted(keys(notes)), keys(tasks)) == (["j", "k"], ["k"])
        await notes.aclose()
        later = await tasks.add(3, "l")
        await soon(later.synced())


async def test_a_replica_that_is_closed_in_a_large_catch_up_holds_up_nobody(server: FakeServer) -> None:
    server.stores["tasks"] = FakeStore("tasks", "inc2")
    for number in range(24):
        server.notes.commit(f"k{number}", b'"%b"' % (b"x" * 500_000))
    server.batch_changes_max = 1
    async with syncline.connect(server.url, wait=False, clock=FakeClock(chance=0.0)) as client:
        notes = await open_on(client, None)
        await until(lambda: notes.status.cursor != "start")
        await notes.aclose()
        await soon(client.add("tasks", 3, "j"))


async def test_a_server_that_forbids_to_come_back_leaves_the_replica_usable(
    server: FakeServer, path: str | None
) -> None:
    async with held(server, path) as replica:
        await caught_up(replica)
        await server.connections[0].socket.close(4500, "too old")
        await until(lambda: replica.status.state is ConnectionState.CLOSED)
        assert "too old" in replica.status.reason
        write = await replica.add(1, "k")
        assert (keys(replica), write.state) == (["k"], SyncState.PENDING)
        with pytest.raises(FlushTimeout, match="too old"):
            await soon(replica.flush(timeout=0.0))
    assert server.connections_made == 1


async def test_reports_come_only_for_what_an_application_may_want_to_know(server: FakeServer, path: str | None) -> None:
    async with held(server, path) as replica:
        reports = reports_of(replica)
        await soon((await replica.add(1)).synced())
        await server.connections[0].drop()
        await until(lambda: not replica.is_caught_up)
        await caught_up(replica)
        assert reports == []
