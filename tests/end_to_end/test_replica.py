"""A replica against a real server in a process of its own: killed, restored from a backup, its store made anew (P9)."""

import asyncio
import contextlib
import os
import random
import shutil
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path

import pytest

import syncline
from syncline import (
    Add,
    Client,
    Delete,
    LocalRecord,
    PutBack,
    Replica,
    Returned,
    RewoundTo,
    StoreReplaced,
    SyncState,
    Write,
)
from syncline.clock import Clock
from tests.client.waiting import soon
from tests.support.live_server import LiveServer


class QuickClock(Clock):
    """The real clock of a client that comes back soon."""

    def random(self) -> float:
        return 0.03


@contextlib.asynccontextmanager
async def held(server: LiveServer, path: Path | None = None, *, create: bool = True) -> AsyncIterator[Replica]:
    """A replica of `notes` on a client of its own."""
    async with syncline.connect(server.url, wait=False, clock=QuickClock()) as client:
        yield await client.replica("notes", path, create=create)


@pytest.fixture(params=["memory", "file"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    """Where the replica is."""
    return None if request.param == "memory" else tmp_path / "replica.db"


#: A client that met a server which was killed again and again may rest for 30 s before it tries once more.
_SETTLED_S = 90.0


async def until(condition: Callable[[], object], timeout_s: float = _SETTLED_S) -> None:
    """Wait until something is so. The server is another process, so turning the loop would take its processor away."""
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.01)


def shown(replica: Replica) -> list[tuple[str, int | None, str]]:
    """Return key, seq and text of every record."""
    return [(record.key, record.seq, record.text) for record in replica]


async def stored(server: LiveServer) -> list[tuple[str, int, str]]:
    """Return key, seq and text of every record that the server has."""
    async with syncline.connect(server.url) as client:
        return [(record.key, record.seq, record.text) async for record in client.records("notes")]


async def settle(*replicas: Replica) -> None:
    """Wait until nothing is under way, and all have heard of everything."""
    for replica in replicas:
        await replica.flush(30)
    first, *others = replicas
    async with asyncio.timeout(30):
        for replica in replicas:
            await replica.wait_caught_up()
    await until(lambda: all(shown(other) == shown(first) for other in others))


async def assert_equal(server: LiveServer, *replicas: Replica) -> None:
    """Check that each replica is what the server has, and says of itself what is so."""
    await settle(*replicas)
    records = await stored(server)
    for replica in replicas:
        await until(lambda replica=replica: shown(replica) == records)  # type: ignore[misc]
        assert len(replica) == len(records)
        assert all(record.state is SyncState.SYNCED for record in replica)
        assert replica.pending == []


def back_up(server: LiveServer) -> list[tuple[Path, Path]]:
    """End the server, copy its storage, and start it again."""
    server.terminate()
    copies = []
    for path in sorted(server.directory.glob("syncline.db*")):
        copies.append((path, path.with_name(f"backup-{path.name}")))
        shutil.copy(*copies[-1])
    server.start()
    return copies


def restore(server: LiveServer, copies: list[tuple[Path, Path]]) -> None:
    """End the server, put the copy in the place of its storage, and start it again."""
    server.terminate()
    for path in server.directory.glob("syncline.db*"):
        path.unlink()
    for path, copy in copies:
        shutil.copy(copy, path)
    server.start()


# --- stores ---


async def test_everything_works_from_the_first_moment_and_the_store_is_made_when_there_is_a_server(
    tmp_path: Path, path: Path | None
) -> None:
    with LiveServer(tmp_path) as server:
        server.terminate()
        async with held(server, path) as replica:
            write = await replica.add({"n": 1}, "k")
            assert shown(replica) == [("k", None, '{"n":1}')]
            server.start()
            assert await write.synced(30) == 1
            await assert_equal(server, replica)


async def test_a_store_that_is_not_there_is_not_made_if_that_is_not_wanted(live_server: LiveServer) -> None:
    async with held(live_server, create=False) as replica:
        write = await replica.add(1)
        await until(lambda: "store" in replica.status.reason)
        async with syncline.connect(live_server.url) as client:
            assert await client.stores.list() == []
            assert write.state is SyncState.PENDING
            await client.stores.create("notes")
            await write.synced(30)


async def test_a_store_that_was_dropped_is_not_made_again_and_another_one_gets_nothing_of_the_outbox(
    live_server: LiveServer, path: Path | None
) -> None:
    async with held(live_server, path) as replica, syncline.connect(live_server.url) as client:
        reports: list[syncline.Report] = []
        replica.on_report(reports.append)
        await (await replica.add(1, "k")).synced(30)
        await client.stores.drop("notes")
        await until(lambda: not replica.is_caught_up)
        write = await replica.add(2, "late")
        # Each refusal is a chance to make the store, which must not be taken.
        live_server.restart(kill=True)
        await until(lambda: "no store" in replica.status.reason)
        assert await client.stores.list() == []
        await client.stores.create("notes")
        await until(lambda: write.state is SyncState.REJECTED)
        assert write.refusal is not None
        assert (write.refusal.status, reports) == ("store_replaced", [StoreReplaced(1)])
        await soon(replica.wait_caught_up())
        assert (shown(replica), await stored(live_server)) == ([], [])
        await write.retry()
        await write.synced(30)
        await assert_equal(live_server, replica)


# --- a restore ---


async def lose(server: LiveServer, ours: Replica) -> list[Write]:
    """Make a history of which the second half is lost in a restore; return what of that is ours."""
    server.create("notes")
    async with syncline.connect(server.url, clock=QuickClock()) as others:
        for number in range(10):
            await others.add("notes", number, f"old{number}")
        await others.delete("notes", "old0")
        await (await ours.add(0, "kept")).synced(30)
        copies = await asyncio.to_thread(back_up, server)
        writes = [await ours.add(1, "ours"), await ours.delete("old1"), await ours.replace("old2", 2, "ours2")]
        writes.append(await ours.replace("ours2", 3, "ours3"))
        for write in writes:
            await write.synced(30)
        await others.add("notes", 1, "theirs")
        await others.delete("notes", "old5")
        await others.write("notes", [Delete("old6"), Add("theirs6", 6)])
        await until(lambda: "theirs6" in ours)
        await asyncio.to_thread(restore, server, copies)
    return writes


#: What is there in the end: ours, what others wrote too, and what others had deleted, since that is not repeated.
AFTER = {"theirs", "theirs6", "old3", "old4", "old5", "old6", "old7", "old8", "old9", "kept", "ours", "ours3"}


async def test_a_restored_server_gets_back_what_we_hold_and_we_get_what_it_has(
    live_server: LiveServer, path: Path | None
) -> None:
    async with held(live_server, path) as replica:
        reports: list[syncline.Report] = []
        replica.on_report(reports.append)
        writes = await lose(live_server, replica)
        await until(lambda: reports)
        for write in writes:
            await write.synced(30)
        await assert_equal(live_server, replica)
        assert {record.key for record in replica} == AFTER
        assert [type(report) for report in reports] == [RewoundTo, Returned, PutBack]
        returned = next(report for report in reports if isinstance(report, Returned))
        assert returned.entry_ids == tuple([write.id for write in writes])


async def test_a_replica_that_was_away_when_the_server_was_restored_brings_back_its_writes(
    live_server: LiveServer, tmp_path: Path
) -> None:
    path = tmp_path / "replica.db"
    async with held(live_server, path) as replica:
        await (await replica.add(0, "a")).synced(30)
        copies = await asyncio.to_thread(back_up, live_server)
        await (await replica.add(1, "b")).synced(30)
        await (await replica.replace("a", 2, "a2")).synced(30)
    await asyncio.to_thread(restore, live_server, copies)
    async with syncline.connect(live_server.url) as others:
        # The seqs that were lost are used again before we are back.
        for number in range(10):
            await others.add("notes", number)
    async with syncline.connect(live_server.url, wait=False) as nobody:
        assert nobody.unanswered_writes == 0
    async with held(live_server, path) as replica:
        late = await replica.add(3, "c")
        await late.synced(30)
        await assert_equal(live_server, replica)
        assert len(replica) == 13
        assert {"a2", "b", "c"} <= {record.key for record in replica}


# --- at random ---


class Writer:
    """Adds, deletes and replaces records of a replica at random, among them some that others do too."""

    def __init__(self, replica: Replica, name: str, chance: random.Random) -> None:
        self.writes: list[Write] = []
        self._replica = replica
        self._name = name
        self._chance = chance

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            await self._write()
            if self._chance.random() < 0.3:
                await asyncio.sleep(0.01)

    async def _write(self) -> None:
        records = list(self._replica)
        roll = self._chance.random()
        if roll < 0.1:
            # Rivals collide here, in value or in life.
            key = f"contested{self._chance.randrange(1000)}"
            self.writes.append(await self._replica.add(self._name, key))
        elif not records or roll < 0.5:
            self.writes.append(await self._replica.add({"by": self._name, "n": len(self.writes)}))
        elif roll < 0.7:
            self.writes.append(await self._replica.delete(self._chance.choice(records).key))
        else:
            self.writes.append(await self._replica.replace(self._chance.choice(records).key, self._name))


@pytest.mark.parametrize("is_restored", [False, True], ids=["kills", "kills and a restore"])
async def test_replicas_end_equal_to_the_server_whatever_happens_to_it(tmp_path: Path, is_restored: bool) -> None:
    seed = int.from_bytes(os.urandom(4), "big")
    print(f"seed {seed}")
    chance = random.Random(seed)
    with LiveServer(tmp_path) as server:
        async with (
            held(server, tmp_path / "one.db") as one,
            held(server) as two,
            held(server, tmp_path / "3.db") as three,
        ):
            replicas = (one, two, three)
            writers = [Writer(replica, f"w{n}", random.Random(seed + n)) for n, replica in enumerate(replicas * 2)]
            tasks = [asyncio.create_task(writer.run()) for writer in writers]
            copies = None
            for cycle in range(4):
                await asyncio.sleep(chance.uniform(0.1, 0.5))
                if cycle == 1 and is_restored:
                    copies = await asyncio.to_thread(back_up, server)
                elif cycle == 3 and copies is not None:
                    await asyncio.to_thread(restore, server, copies)
                else:
                    await asyncio.to_thread(server.restart, kill=True)
            await stop(tasks)
            await end_waits(replicas, may_wait=is_restored)
            await assert_equal(server, *replicas)
        writes = [write for writer in writers for write in writer.writes]
        assert {write.state for write in writes} <= {SyncState.SYNCED, SyncState.REJECTED}
        assert len(writes) > 200, "too little happened to mean anything"
        assert sum(write.state is SyncState.SYNCED for write in writes) > 100


async def stop(tasks: list[asyncio.Task[None]]) -> None:
    """Cancel tasks that run for ever; one that failed raises."""
    for task in tasks:
        task.cancel()
    for task in tasks:
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def end_waits(replicas: tuple[Replica, ...], *, may_wait: bool) -> None:
    """Wait until everything is decided; what waits for what nobody will bring back is discarded."""

    def undecided() -> list[Write]:
        return [write for replica in replicas for write in replica.pending if not waits(write, replica.pending)]

    while True:
        await until(lambda: all(replica.is_caught_up for replica in replicas) and not undecided())
        waiting = [write for replica in replicas for write in replica.pending]
        if not waiting:
            return
        assert may_wait
        for write in waiting:
            await write.discard()


def waits(write: Write, pending: list[Write]) -> bool:
    """Whether a write waits for what was lost, or for another one that does."""
    older = [other for other in pending if other.id < write.id and set(other.keys) & set(write.keys)]
    return write.refusal is not None or any(waits(other, pending) for other in older)


# --- half of nothing ---


async def test_twenty_watchers_never_see_half_a_transfer(live_server: LiveServer) -> None:
    accounts = 10

    def balanced(records: tuple[LocalRecord, ...]) -> None:
        assert len(records) in (0, accounts)
        assert sum(int(record.text) for record in records) in (0, 100 * accounts)

    async def watch(replica: Replica, pace: int) -> int:
        count = 0
        async for view in replica.watch(prefix="account."):
            balanced(view.records)
            count += 1
            for _ in range(pace):
                await asyncio.sleep(0)
        return count

    async def transfer(client: Client, count: int, chance: random.Random) -> None:
        keys = [f"account.{number}" for number in range(accounts)]
        balances = [100] * accounts
        await client.write("notes", [Add(key, 100) for key in keys])
        for number in range(count):
            giver, taker = chance.sample(range(accounts), 2)
            ops: list[Add | Delete] = []
            for account, change in ((giver, -1), (taker, 1)):
                balances[account] += change
                ops.append(Delete(keys[account]))
                keys[account] = f"account.{account}.{number}"
                ops.append(Add(keys[account], balances[account]))
            await client.write("notes", ops)

    live_server.create("notes")
    async with syncline.connect(live_server.url, clock=QuickClock()) as writer:
        async with held(live_server) as replica:
            watching = [asyncio.create_task(watch(replica, pace)) for pace in range(0, 400, 20)]
            writing = asyncio.create_task(transfer(writer, 400, random.Random(1)))
            for _ in range(2):
                await until(lambda: len(replica) == accounts)
                await asyncio.to_thread(live_server.restart, kill=True)
            await asyncio.wait_for(writing, 30)
            await until(lambda: max((record.seq or 0) for record in replica) == accounts + 400 * 4)
            await assert_equal(live_server, replica)
        counts = await soon(asyncio.gather(*watching))
    assert min(counts) >= 2
    assert max(counts) > 50


# --- much of it ---


def has_moved(replica: Replica, cursor: str) -> bool:
    return replica.is_caught_up or replica.status.cursor != cursor


async def test_a_large_store_is_caught_up_with_through_kills_and_restarts(
    live_server: LiveServer, tmp_path: Path
) -> None:
    live_server.create("notes")
    async with syncline.connect(live_server.url) as client:
        for first in range(0, 20_000, 2000):
            await client.write(
                "notes", [Add(f"k{first + n:05}", {"n": first + n, "pad": "x" * 50}) for n in range(2000)]
            )
            await client.write("notes", [Delete(f"k{first + n:05}") for n in range(0, 2000, 3)])
    path = tmp_path / "replica.db"
    cursors = set()
    for _ in range(2):
        async with held(live_server, path) as replica:
            await until(partial(has_moved, replica, replica.status.cursor))
            cursors.add(replica.status.cursor)
            await asyncio.to_thread(live_server.kill)
            assert len(replica) in (0, 20_000 - 10 * 667)
        live_server.start()
    async with held(live_server, path) as replica:
        await soon(replica.wait_caught_up())
        await assert_equal(live_server, replica)
    assert len(cursors) >= 2
