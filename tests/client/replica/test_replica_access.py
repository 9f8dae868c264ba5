"""A replica whose user may see another part of the store than before, or nothing of it any more; and authors."""

from functools import partial
from pathlib import Path

import msgspec
import pytest

import syncline
from syncline import ConnectionState, LocalRecord, SyncState
from syncline_protocol import Cursor, Seq
from syncline_protocol import server as requested
from syncline_protocol.messages import WriteResult
from tests.client.fake_clock import FakeClock
from tests.client.fake_server import FakeConnection, FakeServer
from tests.client.replica.holding import caught_up, held, is_equal, keys, reports_of, shown, until

SECRET = "a text that nobody else has"


def fill(server: FakeServer) -> None:
    """Put records into both parts of the store, and delete one of each."""
    for key in ("a/1", "b/1", "a/2", "b/2", "a/3", "b/3"):
        server.notes.commit(key, msgspec.json.encode(f"{SECRET} {key}"))
    server.notes.commit("a/3", None)
    server.notes.commit("b/3", None)


async def change_view(server: FakeServer, view: str | None, prefix: str = "") -> None:
    """Let everybody see this part of the store only."""
    server.notes.view, server.notes.prefix = view, prefix
    await server.connections[0].end("view_changed")


def asked(server: FakeServer) -> list[str]:
    """Return the cursors of all SUBSCRIBEs."""
    requests = [msgspec.json.decode(each) for each in server.requests]
    return [each.get("after", "start") for each in requests if each["type"] == "SUBSCRIBE"]


def has_asked(server: FakeServer, count: int) -> bool:
    """Say whether there were so many SUBSCRIBEs."""
    return len(asked(server)) == count


# --- another part ---


async def test_what_may_be_seen_no_more_leaves_in_one_step_and_the_rest_is_not_sent_again(
    server: FakeServer, path: str | None
) -> None:
    fill(server)
    async with held(server, path) as replica:
        await caught_up(replica)
        watch = replica.watch()
        assert len(await anext(watch)) == 4
        server.requests.clear()
        reports = reports_of(replica)
        await change_view(server, "v1", "a/")
        view = await anext(watch)
        assert [record.key for record in view.records] == ["a/1", "a/2"]
        assert [record.key for record in view.removed] == ["b/1", "b/2"]
        assert view.added == view.changed == ()
        assert is_equal(replica, server)
        assert replica.status.cursor == "inc1:8~v1"
        assert asked(server) == ["inc1:8"]
        assert reports == []
        assert not any(b'"FETCH"' in frame for frame in server.requests)


async def test_what_may_be_seen_from_now_on_is_fetched_and_shown_in_one_step(
    server: FakeServer, path: str | None
) -> None:
    fill(server)
    server.notes.view, server.notes.prefix = "v1", "a/"
    async with held(server, path) as replica:
        await caught_up(replica)
        watch = replica.watch()
        assert [record.key for record in await anext(watch)] == ["a/1", "a/2"]
        await change_view(server, None)
        view = await anext(watch)
        assert [record.key for record in view.added] == ["b/1", "b/2"]
        assert is_equal(replica, server)
        assert replica.status.cursor == "inc1:8"


async def test_a_view_is_followed_by_its_cursors_also_over_a_restart(server: FakeServer, tmp_path: Path) -> None:
    fill(server)
    server.notes.view, server.notes.prefix = "v1", "a/"
    path = str(tmp_path / "replica.db")
    async with held(server, path) as replica:
        await caught_up(replica)
        server.notes.commit("b/4", b"0")
        server.notes.commit("a/4", b"0")
        await server.publish()
        await until(lambda: keys(replica) == ["a/1", "a/2", "a/4"])
    async with held(server, path) as replica:
        await caught_up(replica)
        assert is_equal(replica, server)
    assert asked(server) == ["start", "inc1:10~v1"]


async def test_a_view_that_changes_while_nobody_is_connected_is_met_at_the_next_connection(
    server: FakeServer, tmp_path: Path
) -> None:
    fill(server)
    path = str(tmp_path / "replica.db")
    async with held(server, path) as replica:
        await caught_up(replica)
    server.notes.view, server.notes.prefix = "v1", "b/"
    async with held(server, path) as replica:
        assert len(replica) == 4
        await caught_up(replica)
        assert keys(replica) == ["b/1", "b/2"]


async def test_what_waits_to_be_sent_stays_while_the_view_changes(server: FakeServer, path: str | None) -> None:
    fill(server)
    async with held(server, path) as replica:
        await caught_up(replica)
        held_back: list[requested.ServerEvent] = []

        async def hold(connection: FakeConnection, event: requested.ServerEvent) -> bool:
            if isinstance(event, requested.WriteRequested) and not held_back:
                held_back.append(event)
                return True
            return False

        server.intercept = hold
        write = await replica.add("mine", "a/mine")
        await until(lambda: held_back)
        await change_view(server, "v1", "a/")
        await until(lambda: keys(replica) == ["a/1", "a/2", "a/mine"])
        await server.handle(server.connections[0], held_back[0])
        await server.connections[0].flush()
        await write.stored(timeout=15)
        await until(lambda: is_equal(replica, server))
        assert keys(replica) == ["a/1", "a/2", "a/mine"]


# --- nothing any more ---


async def forbid(server: FakeServer) -> None:
    """Take everything back; whoever asks again hears that there is no such store."""
    server.stores["hidden"] = server.stores.pop("notes")
    await server.connections[0].end("forbidden")


def grant(server: FakeServer) -> None:
    """Grant it again."""
    server.stores["notes"] = server.stores.pop("hidden")


async def test_when_nothing_may_be_seen_any_more_the_records_leave_and_the_outbox_stays(
    server: FakeServer, path: str | None
) -> None:
    fill(server)
    clock = FakeClock(chance=0.5)
    async with held(server, path, clock=clock) as replica:
        await caught_up(replica)
        watch = replica.watch()
        await anext(watch)
        await forbid(server)
        view = await anext(watch)
        assert (view.records, len(view.removed), len(replica)) == ((), 4, 0)
        await until(lambda: replica.status.is_forbidden)
        write = await replica.add("mine", "k")
        assert replica.pending == [write]
        assert keys(replica) == ["k"]
        status = replica.status
        assert (status.state, status.is_caught_up, status.cursor) == (ConnectionState.LAGGING, False, "start")
        assert "the subscription ended: forbidden" in status.reason


async def test_it_is_tried_again_ever_more_slowly_and_goes_on_when_it_is_granted_again(
    server: FakeServer, path: str | None
) -> None:
    fill(server)
    clock = FakeClock(chance=0.25)
    async with held(server, path, clock=clock) as replica:
        await caught_up(replica)
        await forbid(server)
        await until(lambda: replica.status.is_forbidden)
        for wait_s in (0.5, 1.0, 2.0):
            attempts = len(asked(server))
            await clock.sleeper(wait_s.__eq__)
            clock.advance(wait_s)
            await until(partial(has_asked, server, attempts + 1))
            assert replica.status.is_forbidden
            assert "forbidden" in replica.status.reason
        grant(server)
        write = await replica.add("mine", "k")
        await clock.sleeper((4.0).__eq__)
        clock.advance(4)
        await write.stored(timeout=15)
        await until(lambda: is_equal(replica, server))
        assert len(replica) == 5
        assert not replica.status.is_forbidden


async def test_a_write_is_rejected_only_when_the_server_says_so(server: FakeServer, path: str | None) -> None:
    async with held(server, path) as replica:
        await caught_up(replica)

        async def deny(connection: FakeConnection, event: requested.ServerEvent) -> bool:
            if not isinstance(event, requested.WriteRequested):
                return False
            denied = WriteResult(event.id, "denied", code="forbidden", message="no grant allows this")
            connection.session.wrote([denied])
            return True

        server.intercept = deny
        write = await replica.add("mine", "k")
        with pytest.raises(syncline.WriteRejected, match="denied"):
            await write.stored(timeout=15)
        assert [each.refusal.code for each in replica.rejections if each.refusal] == ["forbidden"]


async def test_a_subscription_that_is_forbidden_from_the_start_takes_the_records_too(
    server: FakeServer, tmp_path: Path
) -> None:
    fill(server)
    path = str(tmp_path / "replica.db")
    async with held(server, path) as replica:
        await caught_up(replica)

    async def refuse(connection: FakeConnection, event: requested.ServerEvent) -> bool:
        if not isinstance(event, requested.SubscribeRequested):
            return False
        connection.session.refuse(event.request.id, "forbidden", "no grant allows this")
        return True

    server.intercept = refuse
    async with held(server, path, clock=FakeClock()) as replica:
        assert len(replica) == 4
        await until(lambda: len(replica) == 0)
        assert replica.status.is_forbidden
        assert "no grant allows this" in replica.status.reason


async def test_a_store_that_is_not_there_takes_nothing_away(server: FakeServer, tmp_path: Path) -> None:
    fill(server)
    path = str(tmp_path / "replica.db")
    async with held(server, path) as replica:
        await caught_up(replica)
    del server.stores["notes"]
    async with held(server, path, clock=FakeClock()) as replica:
        await until(lambda: "store_unknown" in replica.status.reason)
        assert len(replica) == 4
        assert not replica.status.is_forbidden


async def test_nothing_of_the_records_is_left_in_the_file(server: FakeServer, tmp_path: Path) -> None:
    fill(server)
    path = tmp_path / "replica.db"

    def content() -> bytes:
        return b"".join(each.read_bytes() for each in tmp_path.iterdir())

    async with held(server, str(path), clock=FakeClock()) as replica:
        await replica.add(f"{SECRET} of mine", "mine")
        await caught_up(replica)
        await until(lambda: not replica.pending)
        assert SECRET.encode() in content()
        await forbid(server)
        await until(lambda: SECRET.encode() not in content())
        await replica.add("later", "later")
    assert SECRET.encode() not in content()
    assert b"later" in content()


async def test_a_subscription_begins_again_when_another_part_may_be_seen(server: FakeServer) -> None:
    fill(server)
    async with syncline.connect(server.url, clock=FakeClock(chance=0.0)) as client:
        events = client.subscribe("notes").events()
        seen = [await anext(events) for _ in range(9)]
        assert isinstance(seen[-1], syncline.CaughtUp)
        await change_view(server, "v1", "a/")
        again = [await anext(events) for _ in range(6)]
        assert again[0] == syncline.Restarted(Cursor("start"), "reconcile")
        assert [event.key for event in again if isinstance(event, syncline.Change)] == ["a/1", "a/2", "a/3", "a/3"]
        assert isinstance(again[-1], syncline.CaughtUp)


# --- authors ---


async def test_a_record_says_who_made_it_once_the_server_has_said_so(server: FakeServer, path: str | None) -> None:
    server.notes.by = "alice"
    server.notes.commit("k1", b"1")
    async with held(server, path) as replica:
        await caught_up(replica)
        assert replica.get("k1") == LocalRecord("k1", "1", SyncState.SYNCED, Seq(1), 1_795_400_000_000, "alice")
        await change_view(server, "v1", "k")
        await until(lambda: replica.status.cursor.endswith("~v1") and replica.is_caught_up)
        assert [record.by for record in replica] == ["alice"]
        assert shown(replica) == [("k1", 1, "1")]


async def test_a_change_of_a_subscription_says_who_made_it_and_its_cursor_says_the_view(server: FakeServer) -> None:
    server.notes.by, server.notes.view = "alice", "v1"
    server.notes.commit_all(("k1", b"1"), ("k2", b"2"))
    async with syncline.connect(server.url, clock=FakeClock()) as client:
        subscription = client.subscribe("notes")
        changes = [await anext(subscription), await anext(subscription)]
        assert [change.by for change in changes] == ["alice", "alice"]
        assert [change.cursor for change in changes] == ["inc1:1~v1", "inc1:2~v1"]
        assert b'"by":"alice"' in changes[0].to_json()
