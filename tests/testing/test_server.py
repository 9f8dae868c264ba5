"""The server that tests of applications embed, with the real client on it."""

import asyncio
import errno
import socket
import threading
import time
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint
from itertools import count
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import pytest

import syncline
from syncline import (
    Change,
    Client,
    ConnectionState,
    Misuse,
    Restarted,
    Rewound,
    SubscriptionEvent,
    SubscriptionEvents,
)
from syncline.testing import Server, VirtualClock
from tests.client.waiting import soon, state, take

Make = Callable[[], Server]


@pytest.fixture(params=["memory", "file"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    """What makes servers of one kind, each with the store `notes`."""
    numbers = count()

    def make_one() -> Server:
        path = tmp_path / f"odd name?#%{next(numbers)}.db"
        return Server(path if request.param == "file" else None, stores=["notes"])

    return make_one


@pytest.fixture
def server(make: Make) -> Iterator[Server]:
    """A server of either kind; it leaves no thread behind."""
    before = set(threading.enumerate())
    with make() as server:
        yield server
    # Those of asyncio belong to the event loop of the test.
    assert {t for t in set(threading.enumerate()) - before if not t.name.startswith("asyncio")} == set()


def connect(server: Server, *, chance: float = 0.0, seed: int = 0) -> Client:
    """Return a client that comes back without waiting, unless `chance` says otherwise."""
    return syncline.connect(server.url, clock=VirtualClock(chance, seed=seed))


def port_of(server: Server) -> int:
    """Return its port."""
    port = urlsplit(server.url).port
    assert port is not None
    return port


async def keys(client: Client) -> list[str]:
    """Return the keys of all records in `notes`."""
    return [record.key async for record in client.records("notes")]


async def until(events: SubscriptionEvents, key: str) -> list[SubscriptionEvent]:
    """Return the events up to the change of this key."""
    seen = [await soon(anext(events))]
    while not (isinstance(seen[-1], Change) and seen[-1].key == key):
        seen.append(await soon(anext(events)))
    return seen


# --- use ---


async def test_it_is_a_server_that_a_client_reads_and_writes(server: Server) -> None:
    async with connect(server) as client:
        written = await client.add("notes", {"text": "hi"}, "k")
        [change] = await take(client.subscribe("notes"), 1)
        assert (change.key, change.cursor) == ("k", written.at)
        assert await keys(client) == ["k"]


async def test_it_can_be_used_in_async_with() -> None:
    async with Server(stores=["notes"]) as server, connect(server) as client:
        assert (await client.stores.info("notes")).seq == 0
    assert not server.running


def test_a_program_that_blocks_can_use_it_too(server: Server) -> None:
    server.create("more")
    server.create("more")
    with httpx2.Client(base_url=server.url, trust_env=False) as http:
        assert [store["name"] for store in http.get("/v1/stores").json()["stores"]] == ["more", "notes"]
        assert "date" in http.get("/health/ready").headers


def test_it_says_nothing_on_the_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    with Server(stores=["notes"]) as server:
        server.cut()
    assert capfd.readouterr() == ("", "")


def test_several_run_side_by_side() -> None:
    with Server() as one, Server() as other:
        assert one.url != other.url


# --- the end, and the next beginning ---


async def test_stop_says_goodbye(server: Server) -> None:
    async with connect(server, chance=0.5) as client:
        server.stop()
        assert not server.running
        status = await state(client, ConnectionState.OFFLINE)
        assert (status.close_code, status.attempt) == (4000, 1)


async def test_stop_does_not_wait_for_clients_of_the_event_loop_that_it_holds_up(server: Server) -> None:
    async with connect(server, chance=0.5):
        began = time.monotonic()
        server.stop()
        # A server that nobody holds up waits three seconds for the answer to its close frame.
        assert time.monotonic() - began < 2


async def test_kill_says_nothing(server: Server) -> None:
    async with connect(server, chance=0.5) as client:
        server.kill()
        assert not server.running
        assert (await state(client, ConnectionState.OFFLINE)).close_code == 1006


async def test_a_restart_keeps_address_and_stores(server: Server) -> None:
    url = server.url
    async with connect(server) as client:
        first = await client.add("notes", 1, "a")
        server.restart()
        assert server.url == url
        second = await client.add("notes", 2, "b")
        assert await keys(client) == ["a", "b"]
        assert second.seq == 2
        assert first.at is not None
        assert second.at is not None
        assert first.at.partition(":")[0] != second.at.partition(":")[0], "a restart mints an incarnation"


@pytest.mark.parametrize("end", [Server.stop, Server.kill])
async def test_what_was_under_way_at_the_end_is_done_once(server: Server, end: Callable[[Server], None]) -> None:
    clock = VirtualClock()
    async with syncline.connect(server.url, clock=clock) as client:
        subscription = client.subscribe("notes")
        writes = [asyncio.create_task(client.add("notes", n, f"k{n}")) for n in range(500)]
        await asyncio.wait(writes, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.to_thread(end, server)
        server.start()
        status = await state(client, ConnectionState.OFFLINE)
        assert status.retry_at is not None
        clock.advance(status.retry_at - clock.time())
        results = await soon(asyncio.gather(*writes))
        assert {result.status for result in results} <= {"ok", "dup"}
        assert [change.seq for change in await take(subscription, 500)] == list(range(1, 501))


async def test_a_write_waits_while_the_server_is_down(server: Server) -> None:
    clock = VirtualClock()
    async with syncline.connect(server.url, clock=clock) as client:
        server.kill()
        write = asyncio.create_task(client.add("notes", 1))
        await state(client, ConnectionState.OFFLINE)
        server.start()
        assert not write.done()
        clock.advance(await clock.sleeper())
        assert (await soon(write)).seq == 1


def test_nobody_else_gets_the_port_while_the_server_is_down(server: Server) -> None:
    server.stop()
    with socket.socket() as other, pytest.raises(OSError, match="in use") as taken:
        other.bind(("127.0.0.1", port_of(server)))
    assert taken.value.errno == errno.EADDRINUSE
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port_of(server)))
    server.start()
    socket.create_connection(("127.0.0.1", port_of(server))).close()


def test_a_server_that_is_down_stays_down_when_it_is_ended_again(server: Server) -> None:
    server.stop()
    server.stop()
    server.kill()
    assert not server.running


def test_a_file_outlives_the_server(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    with Server(path, stores=["notes"]):
        pass
    with Server(str(path)) as again, httpx2.Client(base_url=again.url, trust_env=False) as http:
        assert http.get("/v1/stores/notes").status_code == httpx2.codes.OK


def test_a_server_that_could_not_start_can_be_started_when_the_reason_is_gone(tmp_path: Path) -> None:
    server = Server(tmp_path / "folder" / "app.db")
    with pytest.raises(Exception, match="there is no directory"):
        server.start()
    assert not server.running
    (tmp_path / "folder").mkdir()
    with server:
        assert server.running


# --- a bad network ---


async def test_cut_breaks_what_is_open_and_the_server_goes_on(server: Server) -> None:
    async with connect(server, chance=0.5) as client, connect(server, seed=1) as other:
        await keys(client)
        server.cut()
        assert (await state(client, ConnectionState.OFFLINE)).close_code == 1006
        assert (await soon(other.add("notes", 1, "k"))).status == "ok"
        assert await keys(client) == ["k"]


async def test_a_subscription_goes_on_after_a_cut_without_a_gap_or_a_repeat(server: Server) -> None:
    async with connect(server) as client, connect(server, seed=1) as writer:
        subscription = client.subscribe("notes")
        seen: list[int] = []
        for n in range(10):
            await soon(writer.add("notes", f"before {n}"))
            server.cut()
            await soon(writer.add("notes", f"after {n}"))
            seen += [change.seq for change in await take(subscription, 2)]
        assert seen == list(range(1, 21))


async def test_refusing_hangs_up_on_those_who_come_and_leaves_the_others(server: Server) -> None:
    async with connect(server) as client:
        with server.refusing():
            with pytest.raises(syncline.ConnectionFailed):
                async with syncline.connect(server.url):
                    pass
            await soon(client.add("notes", 1))
        async with syncline.connect(server.url):
            pass


async def test_a_client_waits_longer_each_time_that_it_is_refused(server: Server) -> None:
    clock = VirtualClock(chance=0.5)
    waits: list[float] = []
    async with syncline.connect(server.url, clock=clock) as client:
        with server.refusing():
            server.cut()
            async for status in client.statuses():
                if status.state is ConnectionState.OFFLINE:
                    assert status.retry_at is not None
                    waits.append(status.retry_at - clock.time())
                    if len(waits) == 4:
                        break
                    clock.advance(waits[-1])
        clock.advance(waits[-1])
        assert (await soon(client.add("notes", 1))).seq == 1
    assert waits == pytest.approx([0.5, 1.0, 2.0, 4.0])


def test_refusing_goes_on_over_a_restart(server: Server) -> None:
    with server.refusing():
        server.restart()
        with socket.create_connection(("127.0.0.1", port_of(server))) as peer:
            assert peer.recv(1) == b""


# --- an older log ---


@pytest.mark.parametrize("is_running", [True, False])
async def test_a_client_learns_that_the_log_is_an_older_one(server: Server, is_running: bool) -> None:
    async with connect(server) as client:
        events = client.subscribe("notes").events()
        await client.add("notes", 1, "kept")
        if not is_running:
            server.stop()
        backup = server.backup()
        if not is_running:
            server.start()
        await soon(client.add("notes", 2, "lost"))
        await until(events, "lost")
        server.restore(backup)
        await soon(client.add("notes", 3, "new"))
        seen = await until(events, "new")
        assert any(isinstance(event, Rewound | Restarted) for event in seen)
        assert isinstance(seen[-1], Change)
        assert seen[-1].seq == 2
        assert await keys(client) == ["kept", "new"]


async def test_a_backup_can_be_restored_again_and_in_another_server(server: Server, make: Make) -> None:
    async with connect(server) as client:
        await client.add("notes", 1, "a")
        backup = server.backup()
        for key in ("b", "c"):
            await soon(client.add("notes", 1, key))
            server.restore(backup)
            assert await keys(client) == ["a"]
    with make() as other:
        other.restore(backup)
        async with connect(other) as client:
            assert await keys(client) == ["a"]


def test_a_server_that_is_down_when_it_is_set_back_stays_down(server: Server) -> None:
    backup = server.backup()
    server.stop()
    server.restore(backup)
    assert not server.running
    server.start()


def test_a_restored_log_has_what_it_had_and_not_what_the_server_was_made_with(make: Make) -> None:
    server = make()
    nothing = server.backup()
    with server:
        server.restore(nothing)
        with httpx2.Client(base_url=server.url, trust_env=False) as http:
            assert http.get("/v1/stores").json()["stores"] == []


# --- misuse ---


def test_what_makes_no_sense_is_said(server: Server) -> None:
    with pytest.raises(Misuse, match="runs already"):
        server.start()
    with pytest.raises(Misuse, match="cannot name a store"):
        server.create("no/store")
    with pytest.raises(Misuse, match=r"give the names in a list: \['notes'\]"):
        Server(stores="notes")
    assert server.running
    server.stop()
    for method in (server.cut, lambda: server.create("more")):
        with pytest.raises(Misuse, match="does not run"):
            method()


@pytest.mark.parametrize("is_file", [True, False])
def test_a_backup_of_the_other_kind_is_refused_and_the_server_goes_on(tmp_path: Path, is_file: bool) -> None:
    file, memory = Server(tmp_path / "app.db"), Server()
    server, other = (file, memory) if is_file else (memory, file)
    with server:
        with pytest.raises(Misuse, match="from a server of the same kind"):
            server.restore(other.backup())
        assert server.running


@pytest.mark.parametrize("missing", ["uvicorn", "syncline_server"])
def test_without_the_server_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    def load(self: EntryPoint) -> object:
        raise ModuleNotFoundError(f"No module named {missing!r}", name=missing)

    monkeypatch.setattr(EntryPoint, "load", load)
    with pytest.raises(Misuse, match=r"pip install 'syncline\[server\]'"):
        Server()


def test_a_server_that_lacks_a_module_of_its_own_is_a_bug_and_shows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(self: EntryPoint) -> object:
        raise ModuleNotFoundError("No module named 'syncline_server.gone'", name="syncline_server.gone")

    monkeypatch.setattr(EntryPoint, "load", load)
    with pytest.raises(ModuleNotFoundError):
        Server()


def test_where_no_package_offers_a_server_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("syncline.testing.server._ENTRY_POINTS", "syncline.nothing")
    with pytest.raises(Misuse, match=r"pip install 'syncline\[server\]'"):
        Server()
