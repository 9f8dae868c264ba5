"""A server that lost a part of the history that a replica has: rewind, reconcile, fetching what is lacking."""

import asyncio
from pathlib import Path

import pytest

from syncline import Add, Delete, Returned, RewoundTo, SyncState
from syncline_protocol import Seq
from syncline_protocol import server as requested
from syncline_protocol.messages import ResumeHow
from tests.client.fake_clock import FakeClock
from tests.client.fake_server import FakeConnection, FakeServer
from tests.client.replica.history import AFTER, begin, come_back, cut
from tests.client.replica.holding import caught_up, held, is_equal, keys, reports_of, shown, turns, until
from tests.client.waiting import soon


class CutAfter:
    """Breaks the connection once, right after the n-th frame of a type that the server sends."""

    def __init__(self, server: FakeServer, kind: str, count: int) -> None:
        self.left = count
        self._mark = f'"type":"{kind}"'.encode()
        server.outgoing = self._outgoing

    async def _outgoing(self, connection: FakeConnection, frame: bytes) -> list[bytes]:
        if self._mark in frame:
            self.left -= 1
            if self.left == 0:
                await connection.socket.send(frame, text=True)
                await connection.drop()
        return [frame]


@pytest.mark.parametrize("meanwhile", [0, 3], ids=["quiet", "others wrote"])
async def test_a_restored_server_keeps_what_it_has_and_gets_back_what_is_ours(
    server: FakeServer, path: str | None, meanwhile: int
) -> None:
    async with held(server, path) as replica:
        reports = reports_of(replica)
        writes = await begin(server, replica)
        server.notes.restore(8, "inc2")
        for number in range(meanwhile):
            server.notes.commit(f"new{number}", b"0")
        await cut(server, replica)
        await come_back(server, replica)
        assert sorted(server.notes.live()) == sorted([*AFTER, *[f"new{number}" for number in range(meanwhile)]])
        assert reports == [RewoundTo(Seq(8)), Returned(tuple([write.id for write in writes]))]
        # In their old order.
        assert [key for key, _ in server.notes.rows[8 + meanwhile :]] == ["ours", "old2", "old7", "ours2"]
        assert any(b'"FETCH"' in frame for frame in server.requests)


async def test_what_was_lost_does_not_vanish_from_sight_if_it_is_ours(server: FakeServer, path: str | None) -> None:
    async with held(server, path) as replica:
        await begin(server, replica)
        server.notes.restore(8, "inc2")
        done = asyncio.Event()

        async def look() -> None:
            while not done.is_set():
                assert {"ours", "ours2"} <= set(keys(replica))
                assert not {"old2", "old7"} & set(keys(replica))
                assert len(replica) == len(keys(replica))
                await asyncio.sleep(0)

        looking = asyncio.create_task(look())
        await cut(server, replica)
        await come_back(server, replica)
        done.set()
        await soon(looking)


@pytest.mark.parametrize(
    ("kind", "count"),
    [("SUBSCRIBED", 1), *[("LIVE", n) for n in (1, 2, 4)], ("FILL", 1), ("FILL", 2), ("CAUGHT_UP", 1)],
)
async def test_a_rewind_that_is_cut_off_goes_on(server: FakeServer, path: str | None, kind: str, count: int) -> None:
    async with held(server, path) as replica:
        await begin(server, replica)
        server.notes.restore(8, "inc2")
        server.notes.commit("new", b"0")
        scissors = CutAfter(server, kind, count)
        await cut(server, replica)
        await come_back(server, replica)
        assert scissors.left <= 0, "it was not cut off"
        assert sorted(server.notes.live()) == sorted([*AFTER, "new"])


@pytest.mark.parametrize(("kind", "count"), [("LIVE", 1), ("FILL", 1)])
async def test_a_rewind_that_a_restart_cuts_off_goes_on(
    server: FakeServer, tmp_path: Path, kind: str, count: int
) -> None:
    path = str(tmp_path / "replica.db")
    async with held(server, path) as replica:
        await begin(server, replica)
        server.notes.restore(8, "inc2")
        scissors = CutAfter(server, kind, count)
        await cut(server, replica)
        await until(lambda: scissors.left == 0)
    async with held(server, path) as replica:
        await come_back(server, replica)
        assert sorted(server.notes.live()) == AFTER


@pytest.mark.parametrize("kind", ["LIVE", "FILL"])
async def test_a_server_that_is_restored_again_while_the_replica_still_rewinds(
    server: FakeServer, path: str | None, kind: str
) -> None:
    async with held(server, path) as replica:
        await begin(server, replica)
        server.notes.restore(8, "inc2")
        server.notes.commit("new", b"0")
        server.acks_first = None
        scissors = CutAfter(server, kind, 1)
        await cut(server, replica)
        await until(lambda: scissors.left == 0)
        server.notes.restore(7, "inc3")
        server.acks_first = True
        await cut(server, replica)
        await come_back(server, replica)
        assert sorted(server.notes.live()) == [key for key in AFTER if key != "old8"]


async def test_an_acked_write_that_the_server_lost_returns_though_the_cursor_is_good(
    server: FakeServer, path: str | None
) -> None:
    async with held(server, path) as replica:
        for number in range(60):
            server.notes.commit(f"k{number}", b"0")
        await caught_up(replica)
        await server.publish()
        await until(lambda: len(replica) == 60)
        server.acks_first = None
        for number in range(60, 80):
            server.notes.commit(f"k{number}", b"0")
        write = await replica.add(1, "ours")
        await soon(write.stored())
        assert (write.seq, replica.status.cursor) == (81, server.notes.cursor(60))
        server.notes.restore(80, "inc2")
        server.notes.commit("rival", b"0")
        server.acks_first = True
        reports = reports_of(replica)
        await cut(server, replica)
        await come_back(server, replica)
        assert (write.state, write.seq) == (SyncState.SYNCED, 82)
        assert reports == [Returned((write.id,))]


async def test_a_rewind_takes_what_is_ours_back_in_order_also_where_one_builds_on_the_other(
    server: FakeServer, path: str | None
) -> None:
    async with held(server, path) as replica:
        await caught_up(replica)
        first = await replica.add(0, "v0")
        rest = [await replica.replace(f"v{n}", n, f"v{n + 1}") for n in range(6)]
        await soon(asyncio.gather(*[write.synced() for write in (first, *rest)]))
        server.notes.restore(5, "inc2")
        await cut(server, replica)
        await come_back(server, replica)
        assert list(server.notes.live()) == ["v6"]
        assert len(server.notes.rows) == 13


async def test_what_builds_on_what_somebody_else_has_to_bring_back_waits_for_that(
    server: FakeServer, tmp_path: Path
) -> None:
    async with held(server, None) as theirs, held(server, str(tmp_path / "replica.db")) as ours:
        await caught_up(ours)
        await soon((await theirs.add(1, "v1")).synced())
        await until(lambda: "v1" in ours)
        write = await ours.replace("v1", 2, "v2")
        await soon(write.synced())
        await theirs.aclose()
        server.notes.restore(0, "inc2")
        await cut(server, ours)
        await caught_up(ours)
        await until(lambda: write.refusal is not None)
        assert (write.state, keys(ours)) == (SyncState.PENDING, ["v2"])
        server.notes.commit("v1", b"1")
        await server.publish()
        await soon(write.synced())
        await come_back(server, ours)
        assert keys(ours) == ["v2"]


async def test_what_is_no_edit_waits_for_what_it_builds_on_however_long_that_takes(
    server: FakeServer, path: str | None
) -> None:
    clock = FakeClock(chance=0.0)
    async with held(server, path, clock=clock) as replica:
        await caught_up(replica)
        server.notes.commit("v1", b"1")
        await server.publish()
        await until(lambda: "v1" in replica)
        write = await replica.replace("v1", 2, "v2")
        await soon(write.synced())
        server.notes.restore(0, "inc2")
        await cut(server, replica)
        await caught_up(replica)
        await until(lambda: write.refusal is not None)
        for _ in range(3):
            clock.advance(31.0)
            await turns(100)
        assert (write.state, replica.pending, keys(replica)) == (SyncState.PENDING, [write], ["v2"])
        await caught_up(replica)
        server.notes.commit("v1", b"1")
        await server.publish()
        await soon(write.synced())
        await come_back(server, replica)
        assert keys(replica) == ["v2"]


async def test_what_a_write_waits_for_may_come_back_before_the_write_is_told_to_wait(
    server: FakeServer, path: str | None
) -> None:
    late: list[tuple[FakeConnection, bytes]] = []

    async def delay(connection: FakeConnection, frame: bytes) -> list[bytes]:
        if b'"absent"' not in frame or late:
            return [frame]
        late.append((connection, frame))
        return []

    async with held(server, path) as replica:
        await caught_up(replica)
        server.notes.commit("v1", b"1")
        await server.publish()
        await until(lambda: "v1" in replica)
        write = await replica.replace("v1", 2, "v2")
        await soon(write.synced())
        server.notes.restore(0, "inc2")
        server.outgoing = delay
        await cut(server, replica)
        await until(lambda: late)
        await caught_up(replica)
        server.notes.commit("v1", b"1")
        await server.publish()
        await until(lambda: replica.status.cursor == server.notes.cursor(1))
        ((connection, frame),) = late
        await connection.socket.send(frame, text=True)
        await soon(write.synced())
        assert is_equal(replica, server)


# --- fetching ---


class Kept:
    """Keeps the FILL frames until they are let go."""

    def __init__(self, server: FakeServer) -> None:
        self.frames: list[tuple[FakeConnection, bytes]] = []
        self._server = server
        server.outgoing = self._outgoing

    async def _outgoing(self, connection: FakeConnection, frame: bytes) -> list[bytes]:
        if b'"FILL"' not in frame:
            return [frame]
        self.frames.append((connection, frame))
        return []

    async def let_go(self) -> None:
        self._server.outgoing = None
        for connection, frame in self.frames:
            await connection.socket.send(frame, text=True)


@pytest.mark.parametrize("comes_first", ["delete", "fill"])
async def test_a_record_that_dies_while_it_is_fetched_stays_dead(
    server: FakeServer, path: str | None, comes_first: str
) -> None:
    async with held(server, path) as replica:
        await begin(server, replica)
        reports = reports_of(replica)
        server.notes.restore(8, "inc2")
        kept = Kept(server)
        await cut(server, replica)
        await until(lambda: b'"last":true' in b"".join(frame for _, frame in kept.frames))
        if comes_first == "fill":
            await kept.let_go()
        server.notes.commit("old5", None)
        server.notes.commit("more", b"0")
        await server.publish()
        if comes_first == "delete":
            await until(lambda: replica.status.cursor == server.notes.cursor(server.notes.head))
            await kept.let_go()
        await come_back(server, replica)
        assert "old5" not in replica
        assert [type(report) for report in reports] == [RewoundTo, Returned], "it was put right by a repair only"


async def test_a_rewind_shows_nothing_before_what_is_missing_was_fetched(server: FakeServer, path: str | None) -> None:
    async with held(server, path) as replica:
        await begin(server, replica)
        before = {key for key in keys(replica) if key.startswith("old")}
        server.notes.restore(8, "inc2")
        server.notes.commit("new", b"0")
        kept = Kept(server)
        await cut(server, replica)
        await until(lambda: kept.frames and not replica.pending)
        await turns(20)
        assert {key for key in keys(replica) if not key.startswith("ours")} == before | {"theirs"}
        assert not replica.is_caught_up
        await kept.let_go()
        await come_back(server, replica)


async def test_a_write_that_is_acked_during_a_rewind_is_not_taken_for_one_that_is_shown(
    server: FakeServer, path: str | None
) -> None:
    """Its seq is below what is shown, which is of the history that is being left."""
    async with held(server, path) as replica:
        await begin(server, replica)
        server.notes.restore(8, "inc2")
        kept = Kept(server)
        await cut(server, replica)
        write = await replica.add(1, "fresh")
        await soon(write.stored())
        assert write.seq is not None
        assert write.seq <= 14
        await until(lambda: kept.frames and not replica.pending)
        await turns(30)
        assert (write.state, "fresh" in replica) == (SyncState.ACKED, True)
        await kept.let_go()
        while not is_equal(replica, server):
            assert "fresh" in replica
            await asyncio.sleep(0)
        await soon(write.synced())


async def test_a_fetch_that_the_server_cannot_answer_now_is_tried_again(server: FakeServer, path: str | None) -> None:
    refused = 0

    async def refuse(connection: FakeConnection, event: requested.ServerEvent) -> bool:
        nonlocal refused
        if isinstance(event, requested.FetchRequested) and refused < 3:
            refused += 1
            connection.session.refuse(event.request.id, "storage_unavailable", "the disk is away")
            return True
        return False

    async with held(server, path) as replica:
        await begin(server, replica)
        server.notes.restore(8, "inc2")
        server.intercept = refuse
        await cut(server, replica)
        await come_back(server, replica)
        assert (refused, len(server.connections)) == (3, 1)


# --- reconcile ---


@pytest.mark.parametrize("how", ["reconcile", "rewind"])
async def test_a_reconcile_drops_what_died_and_fetches_what_is_lacking(
    server: FakeServer, path: str | None, how: ResumeHow
) -> None:
    async with held(server, path) as replica:
        await begin(server, replica)
        await server.stop()
        # History as if its tombstones were gone: nothing tells that these have died, and one has come back.
        rows = server.notes.rows
        rows[0], rows[2], rows[11] = ("gone", b"0"), ("gone", None), ("back", b"0")
        server.notes.commit("new", b"0")
        server.how = how
        await server.start()
        await until(lambda: replica.is_caught_up)
        server.how = None
        assert shown(replica) == server.notes.contents()
        assert {"old1", "old3"}.isdisjoint(keys(replica))
        assert "new" in replica


async def test_a_partial_replica_rewinds_too(server: FakeServer, path: str | None) -> None:
    async with held(server, path, prefix="o") as replica, held(server, None) as whole:
        await begin(server, whole)
        await caught_up(replica)
        write = await replica.add(1, "own")
        await soon(write.synced())
        server.notes.restore(8, "inc2")
        await cut(server, replica)
        await until(lambda: write.state is SyncState.SYNCED and replica.is_caught_up)
        await come_back(server, whole)
        await until(lambda: shown(replica) == [each for each in server.notes.contents() if each[0].startswith("o")])


async def test_a_server_that_skips_is_not_believed(server: FakeServer, path: str | None) -> None:
    for number in range(5):
        server.notes.commit(f"k{number}", b"0")
    lies = 3

    async def skip(connection: FakeConnection, event: requested.ServerEvent) -> bool:
        nonlocal lies
        if not isinstance(event, requested.SubscribeRequested) or not lies:
            return False
        lies -= 1
        head = server.notes.cursor(server.notes.head)
        opened = {"feed": "notes", "how": "resume", "at": head, "head": head}
        connection.session.subscribed(
            event.request.id,
            store_id=server.notes.store_id,
            lineage=server.notes.lineage,
            **opened,  # type: ignore[arg-type]
        )
        await connection.flush()
        await connection.caught_up(server.notes, server.notes.head)
        return True

    server.intercept = skip
    async with held(server, path, prefix="k") as replica:
        await until(lambda: replica.is_caught_up)
        assert (lies, len(replica)) == (0, 5)


async def test_a_rewind_of_an_idle_replica_that_wrote_nothing_is_silent_but_for_the_report(
    server: FakeServer, path: str | None
) -> None:
    async with held(server, path) as replica:
        for number in range(4):
            server.notes.commit(f"k{number}", b"0")
        await caught_up(replica)
        await server.publish()
        await until(lambda: len(replica) == 4)
        reports = reports_of(replica)
        server.notes.restore(2, "inc2")
        await cut(server, replica)
        await come_back(server, replica)
        assert reports == [RewoundTo(Seq(2))]
        await soon((await replica.write([Delete("k0"), Add("k9", 1)])).synced())
        assert is_equal(replica, server)
