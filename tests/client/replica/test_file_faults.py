"""The disk fails under a replica: what was stored stays, who waited is told, and it goes on by itself afterwards."""

import asyncio
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import syncline
from syncline import ConnectionState, Replica, SyncState
from syncline.errors import LocalFileCorrupt, LocalFileError, LocalFileFailed, LocalFileFull
from syncline.replica import local_file
from syncline.replica.schema import Identity
from tests.client.fake_clock import FakeClock
from tests.client.fake_server import FakeServer
from tests.client.replica.holding import caught_up, held, is_equal, turns, until
from tests.client.waiting import soon

#: One wait of the backoff with this chance is as long or shorter.
CHANCE, REST_S = 0.01, 0.5


def io_error() -> sqlite3.OperationalError:
    """Return what SQLite raises when a disk does not obey."""
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = sqlite3.SQLITE_IOERR
    return error


def malformed() -> sqlite3.DatabaseError:
    """Return what SQLite raises when it meets a damaged page."""
    error = sqlite3.DatabaseError("database disk image is malformed")
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    return error


class Disk:
    """What lies under the connection that writes.

    Attributes:
        before, after: called with each statement; what they raise is what SQLite says of it.
        failures: how often one of them has raised.
    """

    def __init__(self) -> None:
        self.before: Callable[[str], None] | None = None
        self.after: Callable[[str], None] | None = None
        self.failures = 0

    def look(self, fault: Callable[[str], None] | None, statement: str) -> None:
        try:
            if fault is not None:
                fault(statement)
        except sqlite3.Error:
            self.failures += 1
            raise

    def sound(self) -> None:
        self.before = self.after = None


class FaultyConnection:
    """A connection on such a disk."""

    def __init__(self, connection: sqlite3.Connection, disk: Disk) -> None:
        self._connection = connection
        self._disk = disk

    def execute(self, statement: str, *values: Any) -> sqlite3.Cursor:
        self._disk.look(self._disk.before, statement)
        cursor = self._connection.execute(statement, *values)
        self._disk.look(self._disk.after, statement)
        return cursor

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    """The disk under every replica that a test opens; it obeys until the test says otherwise."""
    disk, open_writer = Disk(), local_file._open_writer

    def open_on_it(path: str, real_path: str, identity: Identity) -> Any:
        return FaultyConnection(open_writer(path, real_path, identity), disk)

    monkeypatch.setattr(local_file, "_open_writer", open_on_it)
    return disk


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "replica.db")


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(chance=CHANCE)


def on(statement: str, error: Callable[[], Exception], *, times: int = 10**9) -> Callable[[str], None]:
    """Return a fault that raises when a statement begins so, so many times."""
    left = times

    def fault(executed: str) -> None:
        nonlocal left
        if left and executed.startswith(statement):
            left -= 1
            raise error()

    return fault


async def limit_pages(replica: Replica, pages: int | None = None) -> None:
    """Let the database have no more pages than it has, or so many: beyond that SQLite says that the disk is full."""
    file = replica._database._file
    assert file is not None

    def work(db: sqlite3.Connection) -> None:
        (now,) = db.execute("PRAGMA page_count").fetchone()
        db.execute(f"PRAGMA max_page_count = {pages or now}")

    await file.run(work)


UNLIMITED = 2**30


async def recovered(replica: Replica, server: FakeServer, clock: FakeClock) -> None:
    """Let the rest pass; the replica becomes equal to the server without being asked."""
    await passes(clock, replica, lambda: is_equal(replica, server) and replica.status.last_error is None)


async def passes(clock: FakeClock, replica: Replica, condition: Callable[[], object]) -> None:
    """Let every rest of the replica pass until something is so."""

    def look() -> object:
        if replica._keeper._is_resting:
            clock.advance(REST_S)
        return condition()

    await until(look)


def counts(server: FakeServer, key: str) -> int:
    """How often the server has added a key."""
    return sum(1 for name, value in server.notes.rows if name == key and value is not None)


# --- a commit that fails ---


async def test_a_write_that_could_not_be_stored_is_not_there_and_says_so(
    server: FakeServer, path: str, disk: Disk, clock: FakeClock
) -> None:
    async with held(server, path, clock=clock) as replica:
        await caught_up(replica)
        kept = await replica.add(1, "kept")
        await soon(kept.synced())
        disk.before = on("COMMIT", io_error)
        with pytest.raises(LocalFileFailed, match="check the disk") as caught:
            await soon(replica.add(2, "lost"))
        assert path in str(caught.value)
        assert disk.failures
        assert ("kept" in replica, "lost" in replica, replica.pending) == (True, False, [])
        assert (replica.status.state, replica.status.last_error) == (ConnectionState.LAGGING, caught.value)
        disk.sound()
        again = await replica.add(3, "again")
        await recovered(replica, server, clock)
        assert again.state is SyncState.SYNCED
        assert [counts(server, key) for key in ("kept", "lost", "again")] == [1, 0, 1]


async def test_a_write_that_was_stored_though_the_commit_failed_is_found_and_sent_once(
    server: FakeServer, path: str, disk: Disk, clock: FakeClock
) -> None:
    async with held(server, path, clock=clock) as replica:
        await caught_up(replica)
        disk.after = on("COMMIT", io_error, times=1)
        with pytest.raises(LocalFileFailed):
            await soon(replica.add(1, "unsure"))
        assert "unsure" in replica, "memory was read from the file again"
        await recovered(replica, server, clock)
        assert counts(server, "unsure") == 1
        assert [record.key for record in replica] == ["unsure"]


@pytest.mark.parametrize("when", ["before", "after"])
async def test_the_ack_of_a_write_is_not_missed_whatever_the_commit_of_it_came_to(
    server: FakeServer, path: str, disk: Disk, clock: FakeClock, when: str
) -> None:
    async with held(server, path, clock=clock) as replica:
        await caught_up(replica)
        write = await replica.add(1, "k")
        setattr(disk, when, on("COMMIT", io_error, times=1))
        await until(lambda: disk.failures)
        waiting = asyncio.create_task(write.synced())
        await recovered(replica, server, clock)
        assert await soon(waiting) == 1
        assert counts(server, "k") == 1


@pytest.mark.parametrize("when", ["before", "after"])
async def test_changes_whose_commit_fails_come_again(
    server: FakeServer, path: str, disk: Disk, clock: FakeClock, when: str
) -> None:
    async with held(server, path, clock=clock) as replica:
        await caught_up(replica)
        setattr(disk, when, on("COMMIT", io_error, times=3))
        server.notes.commit("a", b"1")
        await server.publish()
        await until(lambda: disk.failures)
        server.notes.commit("a", None)
        server.notes.commit("b", b"2")
        await server.publish()
        await recovered(replica, server, clock)
        assert [record.key for record in replica] == ["b"]


async def test_many_writes_at_once_are_all_answered_when_the_disk_fails_in_between(
    server: FakeServer, path: str, disk: Disk, clock: FakeClock
) -> None:
    async with held(server, path, clock=clock) as replica:
        await caught_up(replica)
        adding = [asyncio.create_task(replica.add(number, f"k{number}")) for number in range(200)]
        await turns(1)
        disk.before = on("COMMIT", io_error, times=1)
        adding += [asyncio.create_task(replica.add(number, f"k{number}")) for number in range(200, 400)]
        results = await soon(asyncio.gather(*adding, return_exceptions=True))
        failed = {f"k{number}" for number, result in enumerate(results) if isinstance(result, LocalFileFailed)}
        stored = {f"k{number}" for number, result in enumerate(results) if not isinstance(result, BaseException)}
        assert len(failed) + len(stored) == 400
        assert failed
        await recovered(replica, server, clock)
        assert {record.key for record in replica} == stored
        assert all(counts(server, key) == 1 for key in stored)


async def test_an_order_that_waits_for_a_flush_which_fails_is_not_forgotten(
    server: FakeServer, path: str, disk: Disk, clock: FakeClock
) -> None:
    async with held(server, path, clock=clock) as replica:
        await caught_up(replica)
        disk.before = on("COMMIT", io_error, times=1)
        server.notes.commit("a", b"1")
        await server.publish()
        await until(lambda: replica._keeper.feed.items or disk.failures)
        reading = asyncio.ensure_future(replica._keeper.order(lambda: None, reads=True))
        await turns(100)
        await soon(asyncio.wait([reading]))
        assert reading.exception() is None or isinstance(reading.exception(), LocalFileError)
        await recovered(replica, server, clock)


async def test_a_failure_while_the_log_is_written_back_undoes_nothing(
    server: FakeServer, path: str, disk: Disk, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("syncline.replica.database.WAL_BYTES_MAX", 1)
    async with held(server, path, clock=clock) as replica:
        await caught_up(replica)
        disk.before = on("PRAGMA wal_checkpoint", io_error)
        write = await replica.add(1, "k")
        await until(lambda: disk.failures)
        assert "k" in replica
        disk.sound()
        await recovered(replica, server, clock)
        assert write.state is SyncState.SYNCED


# --- what is stored cannot be read for a while, or never again ---


async def test_a_file_that_cannot_be_read_either_is_tried_again_until_it_can(
    server: FakeServer, path: str, disk: Disk, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with held(server, path, clock=clock) as replica:
        await caught_up(replica)
        kept = await replica.add(1, "kept")
        await soon(kept.synced())
        load = replica._database.load
        failure = LocalFileFailed(path, "it cannot be read")

        def fail() -> Any:
            raise failure

        monkeypatch.setattr(replica._database, "load", fail)
        disk.before = on("COMMIT", io_error)
        results = await soon(asyncio.gather(*[replica.add(n, f"k{n}") for n in range(5)], return_exceptions=True))
        assert all(isinstance(result, LocalFileFailed) for result in results)
        with pytest.raises(LocalFileFailed, match="cannot be read"):
            await soon(replica.add(2, "no"))
        assert (replica.is_caught_up, replica.status.last_error) == (False, failure)
        await passes(clock, replica, lambda: not replica._keeper._is_resting)
        assert not replica.is_caught_up
        monkeypatch.setattr(replica._database, "load", load)
        disk.sound()
        await recovered(replica, server, clock)
        await soon((await replica.add(3, "yes")).synced())
        assert [record.key for record in replica] == ["kept", "yes"]


async def test_a_file_found_damaged_ends_the_replica_and_everybody_who_waits(
    server: FakeServer, path: str, disk: Disk, clock: FakeClock
) -> None:
    async with held(server, path, clock=clock) as replica:
        await caught_up(replica)
        await server.stop()
        write = await replica.add(1, "k")
        waiting = asyncio.create_task(write.stored())
        await turns(10)
        disk.before = on("COMMIT", malformed)
        with pytest.raises(LocalFileCorrupt, match="syncline outbox"):
            await soon(replica.add(2, "x"))
        with pytest.raises(LocalFileCorrupt):
            await soon(waiting)
        with pytest.raises(LocalFileCorrupt):
            await soon(replica.add(3, "y"))
        with pytest.raises(LocalFileCorrupt):
            await soon(replica.flush())
        status = replica.status
        assert status.state is ConnectionState.CLOSED
        assert isinstance(status.last_error, LocalFileCorrupt)
        assert path in status.reason
        assert "k" in replica
        await server.start()


async def test_a_read_that_meets_a_damaged_page_says_which_file(server: FakeServer, path: str) -> None:
    async with held(server, path) as replica:
        write = await replica.add(1, "k")
        await soon(write.synced())
    db = sqlite3.connect(path)
    (page,) = db.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'records_1'").fetchone()
    db.close()
    content = bytearray(Path(path).read_bytes())
    content[(page - 1) * 4096 : page * 4096] = b"\xff" * 4096
    Path(path).write_bytes(content)
    async with held(server, path) as replica:
        for read in (lambda: replica.get("k"), lambda: list(replica), lambda: len(replica.find(prefix="k"))):
            with pytest.raises(LocalFileCorrupt, match=r"replica\.db: the file is damaged"):
                read()


# --- no room ---


async def fill(replica: Replica) -> LocalFileFull:
    """Write until there is no room; return what it says then."""
    for number in range(100):
        try:
            await soon(replica.add("x" * 3000, f"full{number}"))
        except LocalFileFull as error:
            return error
    raise AssertionError("there is room without end")


async def test_a_full_disk_refuses_writes_keeps_the_rest_and_needs_no_restart(
    server: FakeServer, path: str, clock: FakeClock
) -> None:
    async with held(server, path, clock=clock) as replica:
        await caught_up(replica)
        await soon((await replica.add(1, "before")).synced())
        await limit_pages(replica)
        error = await fill(replica)
        assert path in str(error)
        assert "make room" in error.hint
        stored = {record.key for record in replica}
        assert "before" in stored
        assert isinstance(replica.status.last_error, LocalFileFull)
        await limit_pages(replica, UNLIMITED)
        await soon(replica.add(2, "after"))
        await recovered(replica, server, clock)
        assert {record.key for record in replica} == stored | {"after"}
        assert all(counts(server, key) == 1 for key in stored | {"after"})


async def test_a_disk_that_becomes_full_during_a_catch_up_stops_it_until_there_is_room(
    server: FakeServer, path: str, clock: FakeClock
) -> None:
    async with held(server, path, clock=clock) as replica:
        await caught_up(replica)
        await limit_pages(replica)
        for number in range(300):
            server.notes.commit(f"k{number}", b'"%b"' % (b"x" * 500))
        await server.publish()
        await until(lambda: isinstance(replica.status.last_error, LocalFileFull))
        subscriptions = _subscriptions(server)
        await turns(500)
        assert _subscriptions(server) == subscriptions, "it rests"
        assert replica.status.state is ConnectionState.LAGGING
        assert "there is no room on the disk" in replica.status.reason
        assert len(replica) == 0
        for _ in range(3):
            await passes(clock, replica, lambda before=subscriptions: _subscriptions(server) > before)  # type: ignore[misc]
            await until(lambda: replica.status.last_error is not None)
            subscriptions = _subscriptions(server)
        await limit_pages(replica, UNLIMITED)
        await recovered(replica, server, clock)
        assert len(replica) == 300


def _subscriptions(server: FakeServer) -> int:
    return sum(1 for frame in server.requests if b'"SUBSCRIBE"' in frame)


async def test_writes_that_fail_meanwhile_do_not_make_the_feed_rest_longer(
    server: FakeServer, path: str, clock: FakeClock
) -> None:
    async with held(server, path, clock=clock) as replica:
        await caught_up(replica)
        await limit_pages(replica)
        for number in range(50):
            with pytest.raises(LocalFileFull):
                await soon(replica.add("x" * 50_000, f"full{number}"))
        assert replica._keeper._rests.attempts <= 2
        await limit_pages(replica, UNLIMITED)
        await recovered(replica, server, clock)


async def test_a_replica_can_be_closed_while_its_disk_is_full(server: FakeServer, path: str, clock: FakeClock) -> None:
    async with held(server, path, clock=clock) as replica:
        await caught_up(replica)
        await limit_pages(replica)
        adding = [asyncio.create_task(replica.add("x" * 50_000, f"k{n}")) for n in range(10)]
        await turns(2)
        await soon(replica.aclose())
        results = await soon(asyncio.gather(*adding, return_exceptions=True))
        assert all(isinstance(result, LocalFileFull | syncline.ClientClosed) for result in results)
    async with held(server, path, clock=FakeClock(chance=0.0)) as replica:
        await soon((await replica.add(1, "k")).synced())
