"""What can be seen while things happen: at every turn of the loop each record once, and never half of anything."""

import asyncio
import contextlib
import itertools
import random
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from syncline import Add, Delete, LocalRecord, Replica, SyncState, View
from syncline.replica.watch import Watch
from tests.client.fake_server import FakeConnection, FakeServer
from tests.client.replica.holding import caught_up, held, is_equal, keys, shown, turns, until
from tests.client.waiting import soon

ORDER = [SyncState.PENDING, SyncState.ACKED, SyncState.SYNCED]


@contextlib.asynccontextmanager
async def watched(check: Callable[[], None]) -> AsyncIterator[None]:
    """Check something at every turn of the loop."""

    async def look() -> None:
        while True:
            check()
            await asyncio.sleep(0)

    looking = asyncio.create_task(look())
    try:
        yield
    finally:
        looking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await looking


class Gate:
    """Holds back the frames of one type, and what comes after them, until it is opened."""

    def __init__(self, server: FakeServer, kind: str) -> None:
        self.kept: list[tuple[FakeConnection, bytes]] = []
        self._mark = f'"type":"{kind}"'.encode()
        self._server = server
        server.outgoing = self._outgoing

    async def _outgoing(self, connection: FakeConnection, frame: bytes) -> list[bytes]:
        if self._mark not in frame and not self.kept:
            return [frame]
        self.kept.append((connection, frame))
        return []

    async def open(self) -> None:
        """Send what was held back."""
        self._server.outgoing = None
        for connection, frame in self.kept:
            await connection.socket.send(frame, text=True)


def consistent(replica: Replica) -> None:
    """Check that all ways to look agree."""
    records = list(replica)
    found = [record.key for record in records]
    assert len(found) == len(set(found)) == len(replica)
    assert records == replica.find()
    for record in records:
        assert replica.get(record.key) == record


# --- one write, at every turn of the loop ---


@pytest.mark.parametrize("acks_first", [True, False, None], ids=["ack first", "feed first", "ack long before"])
@pytest.mark.parametrize("is_connected", [True, False], ids=["connected", "before"])
async def test_a_record_is_there_exactly_once_from_its_add_to_the_end(
    server: FakeServer, path: str | None, acks_first: bool | None, is_connected: bool
) -> None:
    server.acks_first = acks_first
    seen: list[SyncState] = []
    named: list[SyncState | None] = []
    async with held(server, path) as replica:
        if is_connected:
            await caught_up(replica)
        views = views_of(replica.watch())
        write = await replica.add({"n": 1}, "k")

        def check() -> None:
            consistent(replica)
            (record,) = replica
            seen.append(record.state)
            named.append(replica.state("k"))

        async with watched(check):
            await soon(write.stored())
            await turns(20)
            await server.publish()
            await soon(write.synced())
            await turns(20)
        assert [state for state, _ in itertools.groupby(seen)] in (ORDER, [ORDER[0], ORDER[2]])
        assert [state for state, _ in itertools.groupby(named)] in (ORDER, [ORDER[0], ORDER[2]])
        await until(lambda: views and [record.state for record in views[-1]] == [SyncState.SYNCED])
        assert [len(view) for view in views] in ([0] + [1] * (len(views) - 1), [1] * len(views))


@pytest.mark.parametrize("acks_first", [True, False, None], ids=["ack first", "feed first", "ack long before"])
async def test_a_replaced_record_gives_its_place_to_the_new_one_in_one_step(
    server: FakeServer, path: str | None, acks_first: bool | None
) -> None:
    server.notes.commit("v0", b"0")
    server.acks_first = acks_first
    async with held(server, path) as replica:
        await caught_up(replica)
        views = views_of(replica.watch())
        seen: list[str] = []

        def check() -> None:
            consistent(replica)
            (record,) = replica
            seen.append(record.key)

        async with watched(check):
            writes = [await replica.replace(f"v{number}", number, f"v{number + 1}") for number in range(5)]
            for write in writes:
                await soon(write.stored())
                await server.publish()
            await soon(writes[-1].synced())
        assert [key for key, _ in itertools.groupby(seen)] == ["v0", "v1", "v2", "v3", "v4", "v5"]
        await until(lambda: views and views[-1].records[0].state is SyncState.SYNCED)
        assert all(len(view) == 1 for view in views)


async def test_a_deleted_record_does_not_come_back(server: FakeServer, path: str | None) -> None:
    server.notes.commit("k", b"0")
    server.acks_first = None
    async with held(server, path) as replica:
        await caught_up(replica)
        write = await replica.delete("k")

        def check() -> None:
            consistent(replica)
            assert len(replica) == 0
            assert "k" not in replica

        async with watched(check):
            await soon(write.stored())
            await server.connections[0].drop()
            await until(lambda: not replica.is_caught_up)
            await caught_up(replica)
            await soon(write.synced())
            await turns(10)


async def test_a_write_shows_through_a_catch_up_that_passes_it(server: FakeServer, path: str | None) -> None:
    async with held(server, path) as replica:
        await caught_up(replica)
        server.acks_first = None
        write = await replica.add(1, "k")
        await soon(write.stored())
        for number in range(30):
            server.notes.commit(f"other{number}", b"0")
        server.batch_changes_max = 4

        def check() -> None:
            consistent(replica)
            assert keys(replica).count("k") == 1
            assert len(replica) in (1, 31)

        async with watched(check):
            await server.connections[0].fall_behind()
            await soon(write.synced())
        assert is_equal(replica, server)


# --- a catch-up ---


async def fill(server: FakeServer, replica: Replica | None = None) -> None:
    for number in range(60):
        server.notes.commit_all((f"k{number}", b"%d" % number), (f"l{number}", b"0"))
        if number % 3 == 0:
            server.notes.commit(f"l{number}", None)
    server.batch_changes_max = 7


async def test_nothing_of_the_first_catch_up_is_seen_before_its_end_and_then_all(
    server: FakeServer, path: str | None
) -> None:
    await fill(server)
    gate = Gate(server, "CAUGHT_UP")
    async with held(server, path) as replica:
        views = views_of(replica.watch())
        await until(lambda: replica.status.cursor == server.notes.cursor(server.notes.head))
        await turns(20)
        consistent(replica)
        assert (len(replica), replica.get("k1"), [len(view) for view in views]) == (0, None, [0])
        await gate.open()
        await caught_up(replica)
        consistent(replica)
        assert is_equal(replica, server)
        await until(lambda: len(views) == 2)
        assert [(r.key, r.seq, r.text) for r in views[1]] == server.notes.contents()


async def test_nothing_of_a_later_catch_up_is_seen_before_its_end_and_then_all(
    server: FakeServer, path: str | None
) -> None:
    for key in ("a", "b", "c"):
        server.notes.commit(key, b"1")
    async with held(server, path) as replica:
        await caught_up(replica)
        views = views_of(replica.watch())
        await until(lambda: views)
        gate = Gate(server, "CAUGHT_UP")
        server.notes.commit("a", None)
        await fill(server)
        server.notes.commit("c", None)
        await server.connections[0].fall_behind()
        await until(lambda: replica.status.cursor == server.notes.cursor(server.notes.head))
        await turns(20)
        consistent(replica)
        assert (keys(replica), len(views)) == (["a", "b", "c"], 1)
        await gate.open()
        await caught_up(replica)
        assert is_equal(replica, server)
        await until(lambda: len(views) == 2)
        assert [(r.key, r.seq, r.text) for r in views[1]] == server.notes.contents()
        assert {record.key for record in views[1].removed} == {"a", "c"}


async def test_who_is_caught_up_sees_it(server: FakeServer, path: str | None) -> None:
    await fill(server)
    async with held(server, path) as replica:

        def check() -> None:
            if replica.is_caught_up:
                assert len(replica) == len(server.notes.live())

        async with watched(check):
            await caught_up(replica)
            await turns(5)


@pytest.mark.parametrize("batches", range(1, 6))
async def test_a_catch_up_that_was_cut_off_shows_all_of_itself_to_those_who_watch(
    server: FakeServer, path: str | None, batches: int
) -> None:
    await fill(server)
    left = batches

    async def cut(connection: FakeConnection, frame: bytes) -> list[bytes]:
        nonlocal left
        if b'"BATCH"' in frame:
            left -= 1
            if left == 0:
                await connection.drop()
        return [frame]

    server.outgoing = cut
    async with held(server, path) as replica:
        views = views_of(replica.watch())
        callback: list[View] = []
        replica.on_change(callback.append)
        await caught_up(replica)
        assert is_equal(replica, server)
        await until(lambda: [(r.key, r.seq, r.text) for r in views[-1]] == server.notes.contents())
        assert [(r.key, r.seq, r.text) for r in callback[-1]] == server.notes.contents()
        assert (len(views), len(callback)) == (2, 2)


async def test_a_catch_up_that_a_restart_cuts_off_shows_all_of_itself_to_those_who_watch(
    server: FakeServer, tmp_path: Path
) -> None:
    path = str(tmp_path / "replica.db")
    for key in ("a", "b", "c"):
        server.notes.commit(key, b"1")
    async with held(server, path) as replica:
        await caught_up(replica)
    server.notes.commit("a", None)
    await fill(server)
    gate = Gate(server, "CAUGHT_UP")
    async with held(server, path) as replica:
        await until(lambda: replica.status.cursor == server.notes.cursor(server.notes.head))
        assert keys(replica) == ["a", "b", "c"]
    await gate.open() if not gate.kept else None
    server.outgoing = None
    async with held(server, path) as replica:
        views = views_of(replica.watch())
        assert keys(replica) == ["a", "b", "c"]
        await caught_up(replica)
        await until(lambda: len(views) == 2)
        assert [(r.key, r.seq, r.text) for r in views[1]] == shown(replica) == server.notes.contents()


# --- views ---


def views_of(watch: Watch[View]) -> list[View]:
    """Return a list that the views come to."""
    views: list[View] = []

    async def look() -> None:
        async for view in watch:
            views.append(view)  # noqa: PERF401 - each is to be seen as it comes

    task = asyncio.create_task(look())
    _LOOKING.add(task)
    task.add_done_callback(_LOOKING.discard)
    return views


_LOOKING: set[asyncio.Task[None]] = set()


class Accounts:
    """Twelve accounts on the server; a transfer replaces the records of two, and the sum stays."""

    def __init__(self, server: FakeServer, seed: int) -> None:
        self.chance = random.Random(seed)
        self._server = server
        self._balances = [100] * 12
        self._versions = [0] * 12
        for account in range(12):
            server.notes.commit(f"{account}.0", b"100")

    def transfer(self) -> list[Add | Delete]:
        """Decide a transfer, and return its ops."""
        giver, taker = self.chance.sample(range(12), 2)
        amount = self.chance.randint(1, 9)
        ops: list[Add | Delete] = []
        for account, change in ((giver, -amount), (taker, amount)):
            self._balances[account] += change
            ops.append(Delete(f"{account}.{self._versions[account]}"))
            self._versions[account] += 1
            ops.append(Add(f"{account}.{self._versions[account]}", self._balances[account]))
        return ops

    def commit(self) -> None:
        """Make a transfer as somebody else."""
        changes = [(op.key, None if isinstance(op, Delete) else str(op.value).encode()) for op in self.transfer()]
        self._server.notes.commit_all(*changes)


def balanced(records: tuple[LocalRecord, ...] | list[LocalRecord]) -> None:
    """Check that no transfer is seen by half."""
    assert len(records) == 12
    assert sum(int(record.text) for record in records) == 1200


async def follow(replica: Replica, pace: int, chance: random.Random) -> int:
    """Look at every view, slowly, until the replica is closed; return how many there were."""
    count = 0
    mirror: set[tuple[str, str]] = set()
    async for view in replica.watch():
        count += 1
        if not view.records:
            continue
        balanced(view.records)
        mirror -= {(record.key, record.text) for record in view.removed}
        mirror |= {(record.key, record.text) for record in view.added}
        assert mirror == {(record.key, record.text) for record in view.records}
        await turns(chance.randint(0, pace))
    return count


@pytest.mark.parametrize("ours", [False, True], ids=["theirs", "ours"])
async def test_no_view_has_half_a_transaction(server: FakeServer, path: str | None, ours: bool) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    accounts = Accounts(server, seed)
    server.batch_changes_max = 3
    async with held(server, path) as replica:
        watching = [asyncio.create_task(follow(replica, pace, chance)) for pace in range(0, 100, 5)]
        replica.on_change(lambda view: balanced(view.records) if view.records else None)
        await caught_up(replica)
        async with watched(lambda: balanced(list(replica))):
            for step in range(150):
                if ours:
                    await replica.write(accounts.transfer())
                else:
                    accounts.commit()
                if step % 40 == 39:
                    await server.connections[0].drop() if step % 80 == 39 else await server.connections[0].fall_behind()
                    await caught_up(replica)
                elif step % 3 == 0:
                    await server.publish()
                await turns(chance.randint(0, 3))
            await soon(replica.flush())
            await server.publish()
            await until(lambda: is_equal(replica, server))
    counts = await soon(asyncio.gather(*watching))
    assert min(counts) >= 2
    assert max(counts) > 5
