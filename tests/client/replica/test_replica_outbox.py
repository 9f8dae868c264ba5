"""The outbox of a replica against a server: in what order writes go out, and what becomes of each."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from syncline import Add, Delete, FlushTimeout, Json, OutboxFull, Rejected, Replica, SyncState, Write, WriteRejected
from syncline_protocol import server as requested
from syncline_protocol.messages import WriteResult
from tests.client.fake_clock import FakeClock
from tests.client.fake_server import FakeConnection, FakeServer
from tests.client.replica.holding import caught_up, held, is_equal, keys, reports_of, shown, turns, until
from tests.client.waiting import soon


class Withheld:
    """Writes of some keys are not taken up by the server until they are let go."""

    def __init__(self, server: FakeServer, *keys: str) -> None:
        self.keys = set(keys)
        self.came: list[tuple[FakeConnection, requested.ServerEvent]] = []
        self._server = server
        server.intercept = self._intercept

    async def _intercept(self, connection: FakeConnection, event: requested.ServerEvent) -> bool:
        if isinstance(event, requested.WriteRequested) and self.keys & {op.key for op in event.transaction.ops}:
            self.came.append((connection, event))
            return True
        return False

    async def let_go(self) -> None:
        """Take up what was withheld."""
        self.keys.clear()
        for connection, event in self.came:
            await self._server.handle(connection, event)
            await connection.flush()


def writes_in(server: FakeServer) -> list[dict[str, Any]]:
    """Return the writes that the server got, without their ids."""
    frames = [json.loads(frame) for frame in server.requests]
    return [{**frame, "id": 0} for frame in frames if frame["type"] in ("ADD", "DELETE", "WRITE")]


# --- what becomes of a write ---


async def test_a_write_is_pending_then_acked_then_synced(server: FakeServer, path: str | None) -> None:
    server.acks_first = None
    withheld = Withheld(server, "k")
    async with held(server, path) as replica:
        await caught_up(replica)
        write = await replica.add(1, "k")
        assert (write.state, write.seq, write.at, replica.pending) == (SyncState.PENDING, None, None, [write])
        await until(lambda: withheld.came)
        await withheld.let_go()
        assert await soon(write.stored()) == 1
        assert (write.state, write.at, replica.pending) == (SyncState.ACKED, server.notes.cursor(1), [])
        assert shown(replica) == [("k", 1, "1")]
        assert replica.status.cursor == server.notes.cursor(0)
        await server.publish()
        assert await soon(write.synced()) == 1
        assert is_equal(replica, server)


Making = Callable[[Replica], Any]

REFUSED: dict[str, tuple[Making, str, tuple[str, ...]]] = {
    "conflict": (lambda replica: replica.add(2, "taken"), "conflict", ("conflict",)),
    "gone": (lambda replica: replica.add(2, "dead"), "gone", ("gone",)),
    "absent": (lambda replica: replica.delete("never"), "absent", ("absent",)),
    "replaced before": (lambda replica: replica.replace("dead", 2, "new"), "refused", ("gone", "skipped")),
    "replaces nothing": (lambda replica: replica.replace("never", 2, "new"), "refused", ("absent", "skipped")),
    "exists": (lambda replica: replica.write([Add("new", 1), Add("taken", 1)]), "refused", ("skipped", "exists")),
    "twice": (lambda replica: replica.write([Add("new", 1), Delete("new")]), "refused", ("skipped", "invalid")),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_a_refused_write_is_a_rejection_and_its_records_are_as_the_server_has_them(
    server: FakeServer, path: str | None, name: str
) -> None:
    make, status, ops = REFUSED[name]
    for key, value in (("taken", b"1"), ("dead", b"1"), ("dead", None)):
        server.notes.commit(key, value)
    async with held(server, path) as replica:
        reports = reports_of(replica)
        await caught_up(replica)
        write: Write = await make(replica)
        with pytest.raises(WriteRejected) as raised:
            await soon(write.stored())
        assert raised.value.write is write
        assert (write.state, replica.rejections, replica.pending) == (SyncState.REJECTED, [write], [])
        assert write.refusal is not None
        assert (write.refusal.status, write.refusal.ops) == (status, ops)
        assert reports == [Rejected(write.id)]
        assert (replica.status.rejected, replica.state(write.key)) == (1, SyncState.REJECTED)
        await soon(replica.flush())
        assert is_equal(replica, server)
        await write.discard()
        assert (replica.rejections, replica.status.rejected) == ([], 0)


async def test_a_rejected_write_can_be_tried_again_as_it_is(server: FakeServer, path: str | None) -> None:
    async with held(server, path) as replica:
        write = await replica.delete("k")
        with pytest.raises(WriteRejected):
            await soon(write.stored())
        server.notes.commit("k", b"1")
        await server.publish()
        await until(lambda: "k" in replica)
        assert await write.retry() is write
        assert "k" not in replica
        assert await soon(write.synced()) == 2
        assert (replica.rejections, is_equal(replica, server)) == ([], True)


async def test_rejections_are_kept_over_a_restart_and_can_be_dealt_with_then(
    server: FakeServer, tmp_path: Path
) -> None:
    path = str(tmp_path / "replica.db")
    server.notes.commit("taken", b"1")
    async with held(server, path) as replica:
        write = await replica.add(2, "taken")
        await until(lambda: write.state is SyncState.REJECTED)
    async with held(server, path) as replica:
        (again,) = replica.rejections
        assert (again.id, again.key, again.refusal) == (write.id, "taken", write.refusal)
        await again.discard()
        assert (await replica.add(1, "k")).id > again.id
    async with held(server, path) as replica:
        assert replica.rejections == []
        await caught_up(replica)


async def test_what_is_neither_rejected_nor_waiting_cannot_be_retried_or_discarded(
    server: FakeServer, path: str | None
) -> None:
    withheld = Withheld(server, "k")
    async with held(server, path) as replica:
        write = await replica.add(1, "k")
        await write.discard()
        await write.retry()
        assert keys(replica) == ["k"]
        await until(lambda: withheld.came)
        await withheld.let_go()
        await soon(write.synced())
        await write.discard()
        assert is_equal(replica, server)


async def test_who_waits_for_a_discarded_write_learns_that_it_never_arrives(
    server: FakeServer, path: str | None
) -> None:
    async with held(server, path) as replica:
        write = await replica.delete("k")
        await until(lambda: write.state is SyncState.REJECTED)
        await write.discard()
        with pytest.raises(WriteRejected):
            await soon(write.stored())
        await write.retry()
        await turns(5)
        assert (write.state, replica.pending) == (SyncState.REJECTED, [])


# --- bounds ---


async def test_flush_waits_for_what_was_written_before_it_and_no_longer(server: FakeServer, path: str | None) -> None:
    withheld = Withheld(server, "late")
    server.notes.commit("taken", b"1")
    async with held(server, path) as replica:
        await soon(replica.flush())
        first, refused = await replica.add(1, "k"), await replica.add(2, "taken")
        flushing = asyncio.ensure_future(replica.flush())
        await turns(1)
        late = await replica.add(1, "late")
        await soon(flushing)
        assert (refused.state, late.state) == (SyncState.REJECTED, SyncState.PENDING)
        assert first.state in (SyncState.ACKED, SyncState.SYNCED)
        with pytest.raises(FlushTimeout) as raised:
            await soon(replica.flush(timeout=0.01))
        assert raised.value.pending == 1
        await withheld.let_go()
        await soon(replica.flush())


async def fill_up(replica: Replica) -> None:
    while True:
        await replica.add("x" * 100)


async def test_a_full_outbox_refuses_and_has_room_again_when_it_was_sent(server: FakeServer, path: str | None) -> None:
    await server.stop()
    async with held(server, path, outbox_bytes_max=2000) as replica:
        with pytest.raises(OutboxFull) as raised:
            await fill_up(replica)
        assert (raised.value.size_max, raised.value.size > 1000) == (2000, True)
        assert 3 <= len(replica.pending) == len(replica) < 20
        await server.start()
        await soon(replica.flush())
        await soon((await replica.add("x" * 100, "later")).synced())


# --- in what order ---


async def test_a_write_that_waits_for_its_answer_holds_up_no_other(server: FakeServer, path: str | None) -> None:
    withheld = Withheld(server, "slow")
    async with held(server, path) as replica:
        slow = await replica.add(0, "slow")
        others = [await replica.add(number, f"k{number}") for number in range(50)]
        refused = await replica.delete("never")
        behind = await replica.delete("slow")
        await soon(asyncio.gather(*[write.synced() for write in others]))
        await until(lambda: refused.state is SyncState.REJECTED)
        assert (slow.state, behind.state) == (SyncState.PENDING, SyncState.PENDING)
        await withheld.let_go()
        await soon(behind.synced())
        assert is_equal(replica, server)


async def test_writes_of_one_key_go_one_after_the_other_and_the_others_at_once(
    server: FakeServer, path: str | None
) -> None:
    withheld = Withheld(server, "a", "b", "c", "d")
    async with held(server, path) as replica:
        await caught_up(replica)
        writes = [
            await replica.add(1, "a"),
            await replica.replace("a", 2, "b"),
            await replica.replace("b", 3, "c"),
            await replica.add(1, "d"),
        ]
        assert keys(replica) == ["c", "d"]
        await until(lambda: len(withheld.came) == 2)
        await turns(20)
        assert [frame["key"] for frame in writes_in(server)] == ["a", "d"]
        await withheld.let_go()
        await soon(asyncio.gather(*[write.synced() for write in writes]))
        assert server.notes.rows == [("a", b"1"), ("d", b"1"), ("a", None), ("b", b"2"), ("b", None), ("c", b"3")]


async def test_what_builds_on_a_refused_write_is_decided_by_the_server_too(
    server: FakeServer, path: str | None
) -> None:
    server.notes.commit("k", b"1")
    async with held(server, path) as replica:
        await caught_up(replica)
        first = await replica.add(2, "k")
        second = await replica.replace("k", 3, "l")
        await soon(second.synced())
        assert (first.state, shown(replica)) == (SyncState.REJECTED, [("l", 3, "3")])


async def test_a_transaction_of_many_ops_goes_through_as_one(server: FakeServer, path: str | None) -> None:
    async with held(server, path) as replica:
        write = await replica.write([Add(f"k{number:04}", number) for number in range(5000)])
        assert len(replica) == 5000
        await soon(write.synced())
        assert is_equal(replica, server)
        assert [frame["type"] for frame in writes_in(server)] == ["WRITE"]


# --- when it is sent ---


async def test_nothing_is_sent_before_the_feed_was_opened_and_every_write_names_the_store(
    server: FakeServer, path: str | None
) -> None:
    opening: list[tuple[FakeConnection, requested.ServerEvent]] = []

    async def keep_waiting(connection: FakeConnection, event: requested.ServerEvent) -> bool:
        if isinstance(event, requested.SubscribeRequested):
            opening.append((connection, event))
            return True
        return False

    server.intercept = keep_waiting
    async with held(server, path) as replica:
        for _ in range(3):
            await replica.add(1)
            await until(lambda: opening)
            await replica.write([Add(replica.new_id(), 1)])
            await turns(20)
            assert writes_in(server) == []
            ((connection, _),) = opening
            opening.clear()
            await connection.drop()
        server.intercept = None
        await soon(replica.flush())
        assert [frame["store_id"] for frame in writes_in(server)] == [server.notes.store_id] * 6


async def test_what_was_under_way_when_the_connection_was_lost_waits_for_the_next_feed(
    server: FakeServer, path: str | None
) -> None:
    withheld = Withheld(server, "k", "j")
    async with held(server, path) as replica:
        await caught_up(replica)
        writes = [await replica.add(1, "k"), await replica.add(1, "j"), await replica.replace("k", 2, "l")]
        await until(lambda: len(withheld.came) == 2)
        server.requests.clear()
        opening: list[tuple[FakeConnection, requested.ServerEvent]] = []

        async def keep_waiting(connection: FakeConnection, event: requested.ServerEvent) -> bool:
            if isinstance(event, requested.SubscribeRequested):
                opening.append((connection, event))
                return True
            return False

        server.intercept = keep_waiting
        await server.connections[0].drop()
        await until(lambda: opening)
        await turns(30)
        assert writes_in(server) == []
        server.intercept = None
        for connection, event in opening:
            await server.handle(connection, event)
        await soon(asyncio.gather(*[write.synced() for write in writes]))
        assert is_equal(replica, server)
        assert len(writes_in(server)) == 3


async def test_what_was_not_answered_is_sent_again_to_the_letter(server: FakeServer, tmp_path: Path) -> None:
    path = str(tmp_path / "replica.db")
    cuts = 0

    async def cut(connection: FakeConnection, event: requested.ServerEvent) -> bool:
        nonlocal cuts
        if isinstance(event, requested.WriteRequested) and cuts < 4:
            cuts += 1
            if cuts % 2 == 0:
                server.notes.write(event.transaction)
            await connection.drop()
            return True
        return False

    server.intercept = cut
    text = '{"b": 9007199254740993, "a": [1.0, 1e2]}'
    async with held(server, path) as replica:
        write = await replica.write([Add("k", Json(text)), Add("ключ", "🙂")])
        await until(lambda: cuts == 2)
    async with held(server, path) as replica:
        (again,) = replica.pending or replica.rejections
        assert again.id == write.id
        await soon(again.synced())
        assert is_equal(replica, server)
    sent = [frame.split(b',"store"', 1)[1] for frame in server.requests if b'"WRITE"' in frame]
    assert (len(sent), len(set(sent))) == (5, 1)
    assert server.notes.rows == [("k", text.encode()), ("ключ", '"🙂"'.encode())]


@pytest.mark.parametrize("code", ["retry", "storage_unavailable"])
async def test_what_the_server_puts_off_is_sent_again_when_it_said(
    server: FakeServer, path: str | None, code: str
) -> None:
    clock = FakeClock(chance=0.0)
    asked = 0

    async def put_off(connection: FakeConnection, event: requested.ServerEvent) -> bool:
        nonlocal asked
        if not isinstance(event, requested.WriteRequested):
            return False
        asked += 1
        if asked > 3:
            return False
        if asked == 2:
            # It was committed, and the server does not know.
            server.notes.write(event.transaction)
        if code == "retry":
            connection.session.wrote([WriteResult(event.id, "retry", after_ms=7000)])
        else:
            connection.session.refuse(event.id, code, "try again", after_ms=7000)
        return True

    server.intercept = put_off
    async with held(server, path, clock=clock) as replica:
        write = await replica.add(1, "k")
        for count in (1, 2, 3):
            await soon(clock.sleeper(lambda left: left == 7))
            assert (asked, write.state) == (count, SyncState.PENDING)
            clock.advance(7)
        await soon(write.synced())
        assert (asked, is_equal(replica, server)) == (4, True)
        assert server.notes.rows == [("k", b"1")]


async def test_a_write_for_another_store_waits_until_the_feed_has_found_out(
    server: FakeServer, path: str | None
) -> None:
    refused = 0

    async def mismatch(connection: FakeConnection, event: requested.ServerEvent) -> bool:
        nonlocal refused
        if isinstance(event, requested.WriteRequested) and not refused:
            refused += 1
            connection.session.refuse(event.id, "store_mismatch", "it is another store now")
            return True
        return False

    server.intercept = mismatch
    async with held(server, path) as replica:
        write = await replica.add(1, "k")
        await until(lambda: refused)
        await turns(50)
        assert (write.state, len(writes_in(server))) == (SyncState.PENDING, 1)
        await server.connections[0].end("resubscribe")
        await soon(write.synced())
        assert is_equal(replica, server)
