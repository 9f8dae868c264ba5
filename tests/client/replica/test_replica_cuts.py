"""The connection is cut at every frame of an exchange, the program restarted: each write has one effect, one end comes.

The exchange has a catch-up, writes of every kind, one of them refused, changes of others, and a rewind. A run without a
cut counts its frames; then there is one run for each of them.
"""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

import syncline
from syncline import Add, Delete, Json, Replica
from syncline_protocol import server as requested
from tests.client.fake_clock import FakeClock
from tests.client.fake_server import FakeConnection, FakeServer, FakeStore
from tests.client.replica.holding import caught_up, is_equal, keys, open_on, shown, turns, until

Step = Callable[[FakeServer, Replica], Awaitable[object]]


class Scissors:
    """Counts what goes through the connection in both directions, and breaks it at certain counts.

    What comes in is lost, and so is what was about to go out; what came of a request before that stays.
    """

    def __init__(self, server: FakeServer, cut_at: set[int]) -> None:
        self.count = 0
        self.cuts = 0
        self.cut_at = cut_at
        server.intercept = self._came
        server.outgoing = self._goes

    def _is_due(self) -> bool:
        self.count += 1
        if self.count not in self.cut_at:
            return False
        self.cuts += 1
        return True

    async def _came(self, connection: FakeConnection, event: requested.ServerEvent) -> bool:
        if self._is_due():
            await connection.drop()
            return True
        return False

    async def _goes(self, connection: FakeConnection, frame: bytes) -> list[bytes]:
        if self._is_due():
            await connection.drop()
            return []
        return [frame]


async def _restore(server: FakeServer, replica: Replica) -> None:
    """Lose what came last, and let everybody notice. Others bring back what is theirs."""
    await until(lambda: not replica.pending)
    theirs = ("d", b"4")
    assert theirs in server.notes.rows
    server.notes.restore(server.notes.head - 4, "inc2")
    if theirs not in server.notes.rows:
        await _others(server, replica)
    for connection in list(server.connections):
        await connection.drop()


async def _others(server: FakeServer, replica: Replica) -> None:
    server.notes.commit_all(("b", None), ("b2", b"2"), ("d", b"4"))
    await server.publish()


STEPS: list[Step] = [
    lambda server, replica: replica.add({"n": 1}, "x"),
    lambda server, replica: replica.replace("x", Json("9007199254740993"), "y"),
    lambda server, replica: replica.add("another value", "a"),
    lambda server, replica: caught_up(replica),
    lambda server, replica: replica.write([Add("p", 1), Delete("c"), Add("q", 2)]),
    _others,
    lambda server, replica: replica.delete("d"),
    _restore,
    lambda server, replica: replica.replace("q", 3, "r"),
]

END = {"a": b"1", "b2": b"2", "y": b"9007199254740993", "p": b"1", "r": b"3"}


class Run:
    """One run of the exchange on a replica of its own."""

    def __init__(self, server: FakeServer, path: str | None, cut_at: set[int], *, restarts: bool) -> None:
        self.server = server
        self.path = path
        self.restarts = restarts
        server.intercept = server.outgoing = None
        store = server.stores["notes"] = FakeStore("notes")
        for key in ("a", "b", "c"):
            store.commit(key, b"1")
        self.scissors = Scissors(server, cut_at)

    async def __call__(self) -> None:
        """Take every step, and check the end."""
        client = replica = None
        cuts = 0
        try:
            for step in STEPS:
                if client is None or replica is None or (self.restarts and cuts != self.scissors.cuts):
                    cuts = self.scissors.cuts
                    if client is not None:
                        await client.aclose()
                    client = syncline.connect(self.server.url, wait=False, clock=FakeClock(chance=0.0))
                    await client.__aenter__()
                    replica = await open_on(client, self.path)
                await step(self.server, replica)
                await turns(10)
            assert replica is not None
            await self._check(replica)
        finally:
            if client is not None:
                await client.aclose()

    async def _check(self, replica: Replica) -> None:
        try:
            await until(lambda: is_equal(replica, self.server))
        except TimeoutError:
            pytest.fail(f"{replica.status} {replica.pending} {shown(replica)} {self.server.notes.contents()}")
        store = self.server.notes
        assert len(set(store.rows)) == len(store.rows), "a write had two effects"
        live = {key: store.rows[seq - 1][1] for key, seq in store.live().items()}
        assert live == END
        assert [write.key for write in replica.rejections] == ["a"]
        assert len(replica) == len(keys(replica))


def place(path: str | None, number: int) -> str | None:
    """Return where the replica of a run is."""
    return None if path is None else f"{path}-{number}"


async def count_frames(server: FakeServer) -> int:
    """Return how many frames the exchange has without a cut."""
    run = Run(server, None, set(), restarts=False)
    await run()
    return run.scissors.count


async def test_a_cut_at_any_frame_changes_nothing_in_the_end(server: FakeServer, path: str | None) -> None:
    total = await count_frames(server)
    assert total > 30
    # With a file the restarts below are the harder test.
    for number in range(1, total + 1, 1 if path is None else 3):
        print("cut at", number)
        run = Run(server, place(path, number), {number}, restarts=False)
        await run()


async def test_a_restart_after_a_cut_at_any_frame_changes_nothing_in_the_end(
    server: FakeServer, tmp_path: Path
) -> None:
    total = await count_frames(server)
    for number in range(1, total + 1):
        print("cut at", number)
        run = Run(server, str(tmp_path / f"replica{number}.db"), {number}, restarts=True)
        await run()


@pytest.mark.parametrize("every", [7, 11, 13])
async def test_cuts_again_and_again_change_nothing_in_the_end(server: FakeServer, path: str | None, every: int) -> None:
    for offset in range(0, every, 2 if path is None else 5):
        print("cut at", offset)
        run = Run(server, place(path, offset), set(range(offset + 1, 150, every)), restarts=path is not None)
        async with asyncio.timeout(20):
            await run()
        assert run.scissors.cuts > 3
