"""A server that knows nothing of the history that a replica has: a snapshot, or another store altogether."""

import asyncio

import pytest

from syncline import Replica, Returned, StoreReplaced, SyncState, WriteRejected
from tests.client.fake_server import FakeConnection, FakeServer, FakeStore
from tests.client.replica.history import begin, come_back, cut
from tests.client.replica.holding import caught_up, held, is_equal, keys, reports_of, turns, until
from tests.client.waiting import soon

# --- snapshot ---


async def renew(server: FakeServer, replica: Replica, store: FakeStore, *, is_same: bool) -> None:
    """Have another log in the place of the store; `is_same`: under its id."""
    if is_same:
        store.store_id = server.notes.store_id
    server.stores["notes"] = store
    await cut(server, replica)


async def test_old_records_are_shown_until_the_other_history_is_there_and_what_is_ours_returns(
    server: FakeServer, path: str | None
) -> None:
    async with held(server, path) as replica:
        writes = await begin(server, replica)
        reports = reports_of(replica)
        before = keys(replica)
        other = FakeStore("notes", "other")
        for key in ("old3", "ours", "old2", "unheard"):
            other.commit(key, b"1")
        gate: list[tuple[FakeConnection, bytes]] = []

        async def keep(connection: FakeConnection, frame: bytes) -> list[bytes]:
            if b'"CAUGHT_UP"' in frame or gate:
                gate.append((connection, frame))
                return []
            return [frame]

        server.outgoing = keep
        await renew(server, replica, other, is_same=True)
        await until(lambda: gate)
        await turns(20)
        assert keys(replica) == before
        server.outgoing = None
        for connection, frame in gate:
            await connection.socket.send(frame, text=True)
        # The transaction builds on a record of somebody else who may bring it back.
        await until(lambda: writes[2].refusal is not None)
        assert writes[2].state is SyncState.PENDING
        assert reports == [Returned((writes[1].id, writes[2].id))]
        other.commit("old7", b"7")
        await server.publish()
        await come_back(server, replica)
        assert sorted(server.notes.live()) == ["old3", "ours", "ours2", "unheard"]


async def test_a_record_of_ours_that_we_deleted_does_not_come_back_with_a_snapshot(
    server: FakeServer, path: str | None
) -> None:
    async with held(server, path) as replica:
        await caught_up(replica)
        writes = [await replica.add(1, "k"), await replica.delete("k"), await replica.add(1, "a")]
        writes += [await replica.replace("a", 2, "b"), await replica.replace("b", 3, "c")]
        await soon(asyncio.gather(*[write.synced() for write in writes]))
        await renew(server, replica, FakeStore("notes", "other"), is_same=True)
        seen: set[str] = set()
        while not is_equal(replica, server):
            seen.update(keys(replica))
            await asyncio.sleep(0)
        assert (list(server.notes.live()), seen) == (["c"], {"c"})


# --- another store ---


async def test_a_store_that_was_made_anew_gets_nothing_of_the_old_ones_outbox(
    server: FakeServer, path: str | None
) -> None:
    server.acks_first = None
    async with held(server, path) as replica:
        await caught_up(replica)
        reports = reports_of(replica)
        acked = await replica.add(1, "acked")
        await soon(acked.stored())
        synced = await replica.add(1, "synced")
        await soon(synced.stored())
        await server.publish()
        await soon(synced.synced())
        late = await replica.add(1, "late")
        await soon(late.stored())
        await server.stop()
        pending = await replica.add(1, "pending")
        server.stores["notes"] = FakeStore("notes", "other")
        server.notes.commit("new", b"0")
        server.acks_first = True
        await server.start()
        await caught_up(replica)
        await turns(20)
        assert keys(replica) == ["new"]
        assert (server.notes.rows, reports) == ([("new", b"0")], [StoreReplaced(2)])
        assert replica.rejections == [late, pending]
        for write in (late, pending):
            assert write.refusal is not None
            assert write.refusal.status == "store_replaced"
            with pytest.raises(WriteRejected):
                await soon(write.stored())
        await late.retry()
        await soon(late.synced())
        await pending.discard()
        assert (keys(replica), late.seq, is_equal(replica, server)) == (["new", "late"], 2, True)


async def test_a_store_that_was_dropped_is_waited_for_and_not_made(server: FakeServer, path: str | None) -> None:
    async with held(server, path) as replica:
        await caught_up(replica)
        await soon((await replica.add(1, "k")).synced())
        (connection,) = server.connections
        del server.stores["notes"]
        await connection.end("store_dropped")
        await until(lambda: "store_unknown" in replica.status.reason or "no store" in replica.status.reason)
        assert (keys(replica), replica.is_caught_up) == (["k"], False)
        write = await replica.add(1, "j")
        await turns(50)
        assert write.state is SyncState.PENDING
        server.stores["notes"] = FakeStore("notes", "other")
        await until(lambda: write.state is SyncState.REJECTED)
        await caught_up(replica)
        assert keys(replica) == []
