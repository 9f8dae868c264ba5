"""The past of a store and its upkeep, by the client, the client for threads and the command line."""

from collections.abc import Iterator
from datetime import UTC, datetime

import msgspec
import pytest
from click.testing import CliRunner, Result

import syncline
from syncline import Misuse, RequestRefused, StoreSettings
from syncline.cli import main
from tests.support.live_server import LiveServer


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A server that keeps nothing of the past for longer than its stores ask for."""
    arguments = ("--history-s", "0", "--tombstones-s", "0")
    with LiveServer(tmp_path_factory.mktemp("server"), arguments=arguments, store="memory:") as server:
        yield server


def command(server: LiveServer, *arguments: str) -> Result:
    """Run the command line."""
    return CliRunner().invoke(main, ["--url", server.url, *arguments], prog_name="syncline")


async def _history(client: syncline.Client, store: str) -> None:
    """Make a store in which a and b were added, and a was replaced by c."""
    await client.stores.create(store)
    await client.add(store, {"n": 1}, "a")
    await client.add(store, {"n": 2}, "b")
    await client.write(store, [syncline.Delete("a"), syncline.Add("c", {"n": 3})])


async def test_records_are_read_as_they_were(server: LiveServer) -> None:
    async with syncline.connect(server.url) as client:
        await _history(client, "past")
        assert [record.key async for record in client.records("past", at=2)] == ["a", "b"]
        assert [record.key async for record in client.records("past")] == ["b", "c"]
        record = await client.get("past", "a", at=2)
        assert record is not None
        assert record.value == {"n": 1}
        assert await client.get("past", "a") is None
        assert await client.get("past", "a", at=datetime(1999, 1, 1, tzinfo=UTC)) is None
        with pytest.raises(Misuse, match="time zone"):
            await client.get("past", "a", at=datetime(1999, 1, 1))


async def test_a_diff_is_followed_by_what_comes_next(server: LiveServer) -> None:
    async with syncline.connect(server.url) as client:
        await _history(client, "diffed")
        async with client.diff("diffed", 2) as changes:
            found = [(change.op, change.key, change.value, change.old and change.old.value) async for change in changes]
            assert found == [("DELETE", "a", None, {"n": 1}), ("ADD", "c", {"n": 3}, None)]
            cursor = await changes.cursor()
        assert cursor is not None
        await client.add("diffed", {"n": 4}, "d")
        async for change in client.subscribe("diffed", cursor):
            assert change.key == "d"
            break


async def test_settings_statistics_and_clean_up(server: LiveServer) -> None:
    async with syncline.connect(server.url) as client:
        await _history(client, "kept")
        settings = StoreSettings(description="ours", records_max=100)
        assert await client.stores.configure("kept", settings) == settings == await client.stores.settings("kept")
        assert (await client.stores.estimate("kept")).values == 1
        told: list[syncline.CleanUp] = []
        done = await client.stores.compact("kept", told.append)
        assert (done.values, done.error) == (1, "")
        stats = await client.stores.stats("kept")
        assert (stats.records, stats.sizes.dead_values) == (2, 0)
        assert stats.upkeep.last == done
        info = await client.stores.info("kept")
        assert (info.description, info.floors) == ("ours", stats.floors)
        with pytest.raises(RequestRefused, match="history") as refused:
            await client.get("kept", "a", at=2)
        assert refused.value.code == "history_gone"


def test_the_client_for_threads_does_the_same(server: LiveServer) -> None:
    with syncline.sync.connect(server.url) as client:
        client.stores.create("threads")
        for key in ("a", "b"):
            client.add("threads", key, key)
        client.delete("threads", "a")
        assert [record.key for record in client.records("threads", at=2)] == ["a", "b"]
        record = client.get("threads", "a", at=2)
        assert record is not None
        assert record.value == "a"
        changes = client.diff("threads", 1, 3)
        assert [(change.op, change.key) for change in changes] == [("ADD", "b"), ("DELETE", "a")]
        assert changes.cursor() == client.stores.info("threads").head
        assert client.stores.configure("threads", StoreSettings(bytes_max=1000)).bytes_max == 1000
        assert client.stores.settings("threads").bytes_max == 1000
        assert client.stores.estimate("threads").values == 1
        assert client.stores.compact("threads").values == 1
        assert client.stores.stats("threads").sizes.dead_values == 0


def test_commands_show_the_past(server: LiveServer) -> None:
    for arguments in (("stores", "create", "shell"), ("add", "shell", "a", "1"), ("add", "shell", "b", "2")):
        assert command(server, *arguments).exit_code == 0
    assert command(server, "delete", "shell", "a").exit_code == 0
    assert command(server, "get", "shell", "a", "--at", "2").output == "1\n"
    assert command(server, "dump", "shell", "--at", "1").output.startswith('{"key":"a","value":1}\n')
    assert command(server, "diff", "shell", "1").output == '+ "b" 2\n- "a" 1\n'
    (line,) = command(server, "diff", "shell", "2", "--json").output.splitlines()
    assert msgspec.json.decode(line)["old"]["value"] == 1
    assert command(server, "get", "shell", "a", "--at", "3").exit_code == 1
    assert command(server, "dump", "--all", "-o", "x", "--at", "1").exit_code == 2


def test_commands_say_how_a_store_is_kept_and_clean_it_up(server: LiveServer) -> None:
    for arguments in (("stores", "create", "tidy"), ("add", "tidy", "a", "1"), ("delete", "tidy", "a")):
        assert command(server, *arguments).exit_code == 0
    assert command(server, "stores", "set", "tidy", "--description", "ours", "--history", "7d").exit_code == 0
    assert command(server, "compact", "tidy", "--dry-run").output.startswith("0 values")
    assert command(server, "stores", "set", "tidy", "--history", "none", "--records-max", "5").exit_code == 0
    shown = command(server, "stores", "show", "tidy").output
    assert "ours" in shown
    assert "dead values  1," in shown
    assert command(server, "compact", "tidy").output.startswith("1 values")
    settings = msgspec.json.decode(command(server, "stores", "show", "tidy", "--json").output)["settings"]
    assert settings == {"description": "ours", "records_max": 5}


@pytest.mark.parametrize("arguments", [(), ("--history", "soon"), ("--records-max", "-1"), ("--compact-ratio", "half")])
def test_settings_that_make_no_sense_are_not_sent(arguments: tuple[str, ...]) -> None:
    result = CliRunner().invoke(main, ["--url", "http://127.0.0.1:1", "stores", "set", "x", *arguments])
    assert result.exit_code == 2
