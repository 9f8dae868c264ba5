"""The client and the command line against a real server: restarts, crashes, whole round trips."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import msgspec
import pytest

import syncline
from syncline import CaughtUp, Change, ConnectionState, Json, Restarted
from syncline_protocol import Seq
from syncline_protocol.digest import digest_term, digest_text
from tests.client.waiting import soon, state, take
from tests.support.live_server import LiveServer

COMMAND = [sys.executable, "-c", "from syncline.cli import main; main(prog_name='syncline')"]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A server for all tests that do not stop it; each uses stores of its own."""
    with LiveServer(tmp_path_factory.mktemp("server"), store="memory:") as server:
        yield server


def start(server: LiveServer, *arguments: str, stdin: int | None = None) -> "subprocess.Popen[bytes]":
    """Start a command in a process of its own."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("SYNCLINE_")}
    return subprocess.Popen(
        [*COMMAND, *arguments],
        env={**environ, "SYNCLINE_URL": server.url},
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # A shell starts its background jobs deaf to SIGINT, and that would be inherited from whoever runs the tests.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )


def run(server: LiveServer, *arguments: str) -> tuple[int, str, str]:
    """Run a command to its end; returns exit code, stdout, stderr."""
    with start(server, *arguments) as process:
        out, err = process.communicate(timeout=60)
    return process.returncode, out.decode(), err.decode()


# --- the library ---


async def test_stores_records_and_changes_fit_together(shared: LiveServer) -> None:
    async with syncline.connect(shared.url) as client:
        created = await client.stores.create("fit")
        await client.add("fit", Json('{"n":12345678901234567890.50}'), "a/b")
        await client.add("fit", "\u2028", "b")
        await client.add("fit", 3, "c")
        await client.delete("fit", "c")
        record = await client.get("fit", "a/b")
        assert record is not None
        assert record.text == '{"n":12345678901234567890.50}'
        assert await client.get("fit", "c") is None
        records = client.records("fit")
        found = [(each.key, each.text) async for each in records]
        assert found == [("a/b", '{"n":12345678901234567890.50}'), ("b", '"\u2028"')]
        info = await client.stores.info("fit")
        assert (info.store_id, info.count, await records.cursor()) == (created.store_id, 2, info.head)
        assert "fit" in {store.name for store in await client.stores.list()}
        after_walk = client.subscribe("fit", after=info.head)
        await client.add("fit", 4, "d")
        assert [change.key for change in await take(after_walk, 1)] == ["d"]


async def test_caught_up_tells_count_and_digest_of_what_was_handed_out(shared: LiveServer) -> None:
    async with syncline.connect(shared.url) as client:
        await client.stores.create("digest")
        await asyncio.gather(*(client.add("digest", i, f"k{i}") for i in range(300)))
        await asyncio.gather(*(client.delete("digest", f"k{i}") for i in range(0, 300, 3)))
        live: dict[str, int] = {}
        async for event in client.subscribe("digest").events():
            if isinstance(event, CaughtUp):
                assert event.count == len(live) == 200
                assert event.digest == digest_text(sum(digest_term(Seq(seq), key) for key, seq in live.items()))
                break
            assert isinstance(event, Change)
            if event.op == "ADD":
                live[event.key] = event.seq
            else:
                live.pop(event.key, None)


async def test_a_replacement_is_won_by_one_of_two_rivals(shared: LiveServer) -> None:
    async with syncline.connect(shared.url) as client:
        await client.stores.create("rivals")
        await client.add("rivals", 0, "v0")
        outcomes = await asyncio.gather(
            *(client.write("rivals", [syncline.Delete("v0"), syncline.Add(f"v1-{i}", i)]) for i in range(2)),
            return_exceptions=True,
        )
        assert sorted(type(outcome).__name__ for outcome in outcomes) == ["WriteRefused", "Written"]


async def test_a_store_that_is_made_anew_is_noticed_by_a_saved_cursor(shared: LiveServer) -> None:
    async with syncline.connect(shared.url) as client:
        await client.stores.create("anew")
        await client.add("anew", 1, "old")
        subscription = client.subscribe("anew")
        cursor, known = (await take(subscription, 1))[0].cursor, subscription.lineage
        await subscription.aclose()
        await client.stores.drop("anew")
        await client.stores.create("anew")
        await client.add("anew", 1, "new")
        again = client.subscribe("anew", after=cursor, known=known)
        assert isinstance(await soon(anext(again.events())), Restarted)
        event = await soon(anext(again.events()))
        assert isinstance(event, Change)
        assert event.key == "new"


async def test_writes_and_reads_go_on_through_crashes_of_the_server(live_server: LiveServer) -> None:
    live_server.create("notes")
    async with syncline.connect(live_server.url, clock=Impatient()) as client:
        subscription = client.subscribe("notes")
        for round_number in range(3):
            writes = [asyncio.create_task(client.add("notes", i, f"{round_number}-{i}")) for i in range(200)]
            await asyncio.wait(writes, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.to_thread(live_server.restart, kill=True)
            results = await soon(asyncio.gather(*writes))
            assert {result.status for result in results} <= {"ok", "dup"}
        changes = await take(subscription, 600)
        assert [change.seq for change in changes] == list(range(1, 601))
        assert len({change.key for change in changes}) == 600


async def test_a_drain_is_followed_by_a_reconnect_to_the_next_server(live_server: LiveServer) -> None:
    async with syncline.connect(live_server.url, clock=Impatient()) as client:
        await asyncio.to_thread(live_server.terminate)
        status = await state(client, ConnectionState.OFFLINE)
        assert status.close_code in (4000, None)
        await asyncio.to_thread(live_server.start)
        await state(client, ConnectionState.LIVE)


class Impatient(syncline.Clock):
    """Waits a hundredth of the time before it tries again."""

    def random(self) -> float:
        return super().random() / 100


# --- the command line ---


def test_dump_and_load_give_the_same_records_and_loading_again_adds_nothing(shared: LiveServer, tmp_path: Path) -> None:
    source, copy = tmp_path / "a.ndjson", tmp_path / "b.ndjson"
    values = ['{"n":1.50}', '"\u2028\u0085"', "12345678901234567890", "null"]
    lines = [f'{{"key":"k{i}","value":{values[i % 4]}}}\n' for i in range(1000)]
    source.write_text("".join(lines), newline="\n")
    assert run(shared, "load", "copied", str(source)) == (
        0,
        "",
        "created the store copied\nadded 1000, already there 0\n",
    )
    assert run(shared, "dump", "copied", "-o", str(copy))[0] == 0
    assert sorted(copy.read_bytes().split(b"\n")) == sorted(source.read_bytes().split(b"\n"))
    assert run(shared, "load", "copied", str(source)) == (0, "", "added 0, already there 1000\n")
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_wrong_line_ends_the_load_at_its_number_and_what_came_before_is_there(
    shared: LiveServer, tmp_path: Path
) -> None:
    file = tmp_path / "in.ndjson"
    file.write_text('{"key":"a","value":1}\n\n{"key":"b","vale":2}\n{"key":"c","value":3}\n')
    code, _, err = run(shared, "load", "wrong", str(file))
    assert code == 1
    assert f"error: {file}:3: Object contains unknown field `vale`" in err
    assert err.endswith("added 1, already there 0\n")


def test_a_key_that_holds_another_value_is_a_conflict_and_the_rest_is_loaded(
    shared: LiveServer, tmp_path: Path
) -> None:
    file = tmp_path / "in.ndjson"
    run(shared, "stores", "create", "clash")
    run(shared, "add", "clash", "a", "1")
    file.write_text('{"key":"a","value":2}\n{"key":"b","value":2}\n')
    code, _, err = run(shared, "load", "clash", str(file))
    assert (code, err) == (
        1,
        f"{file}:1: conflict: the key 'a' holds another value\nadded 1, already there 0, conflicts 1\n",
    )


async def test_a_load_goes_on_through_a_crash_of_the_server(live_server: LiveServer, tmp_path: Path) -> None:
    file = tmp_path / "in.ndjson"
    file.write_text("".join(f'{{"key":"k{i}","value":{i}}}\n' for i in range(20_000)))
    live_server.create("big")
    with start(live_server, "load", "big", str(file)) as loading:
        async with syncline.connect(live_server.url) as client:
            await take(client.subscribe("big"), 500)
            assert loading.poll() is None, "the load was over before the crash"
        await asyncio.to_thread(live_server.restart, kill=True)
        assert await asyncio.to_thread(loading.wait, 60) == 0
    async with syncline.connect(live_server.url) as client:
        assert (await client.stores.info("big")).count == 20_000


async def test_tail_goes_on_through_a_crash_without_a_gap_or_a_repeat(live_server: LiveServer) -> None:
    live_server.create("notes")
    with start(live_server, "tail", "notes", "--json") as tail:
        assert tail.stdout is not None
        keys: list[str] = []
        for round_number in range(2):
            async with syncline.connect(live_server.url) as client:
                await asyncio.gather(*(client.add("notes", i, f"{round_number}-{i}") for i in range(100)))
            for _ in range(100):
                line = await soon(asyncio.to_thread(tail.stdout.readline))
                change = msgspec.json.decode(line)
                assert set(change) == {"seq", "op", "key", "value", "time"}
                assert change["seq"] == len(keys) + 1
                keys.append(change["key"])
            await asyncio.to_thread(live_server.restart, kill=True)
        tail.send_signal(signal.SIGINT)
        _, err = await asyncio.to_thread(tail.communicate, timeout=20)
    assert tail.returncode == 130
    assert "offline: " in err.decode()
    assert "Traceback" not in err.decode()


def test_a_tail_whose_reader_goes_ends_at_once_and_without_a_word(shared: LiveServer) -> None:
    run(shared, "stores", "create", "piped")
    run(shared, "add", "piped", "k", "1")
    with start(shared, "tail", "piped", "--json") as tail:
        assert tail.stdout is not None
        assert tail.stdout.readline().startswith(b'{"seq":1,"op":"ADD","key":"k","value":1')
        tail.stdout.close()
        assert tail.wait(20) == 0
        assert tail.stderr is not None
        assert "Traceback" not in tail.stderr.read().decode()


async def test_a_load_that_waits_for_its_input_can_be_interrupted_and_says_how_far_it_came(shared: LiveServer) -> None:
    shared.create("typed")
    with start(shared, "load", "typed", "-", stdin=subprocess.PIPE) as loading:
        assert loading.stdin is not None
        loading.stdin.write(b'{"key":"a","value":1}\n{"key":')
        loading.stdin.flush()
        async with syncline.connect(shared.url) as client:
            await take(client.subscribe("typed"), 1)
        loading.send_signal(signal.SIGINT)
        assert await asyncio.to_thread(loading.wait, 20) == 130
        assert loading.stderr is not None
        assert loading.stderr.read().startswith(b"added ")


def test_stores_are_shown_and_dropped(shared: LiveServer) -> None:
    assert run(shared, "stores", "create", "shown")[2] == "created shown\n"
    assert run(shared, "stores", "create", "shown")[2] == "shown is there already\n"
    run(shared, "add", "shown", "k", "1")
    assert "shown" in run(shared, "stores")[1]
    assert msgspec.json.decode(run(shared, "stores", "info", "shown", "--json")[1])["count"] == 1
    assert run(shared, "get", "shown", "k")[1] == "1\n"
    assert run(shared, "get", "shown", "j")[0] == 1
    assert run(shared, "stores", "drop", "shown")[2] == "dropped shown, it had 1 records\n"
    assert run(shared, "stores", "info", "shown")[0] == 1


def test_a_healthy_server_passes_the_doctor(live_server: LiveServer) -> None:
    code, out, _ = run(live_server, "doctor")
    assert code == 0
    assert {line.split()[0] for line in out.splitlines()} == {"ok"}
    assert "WebSocket: syncline.v1.json" in out
