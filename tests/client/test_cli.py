"""The command line: usage, exit codes, what it says. No server is needed, or a small one on loopback."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import EntryPoint

import msgspec
import pytest
from click.testing import CliRunner, Result

from syncline.cli import group, main
from syncline.cli.frame import EXIT_CODES
from syncline_protocol import server as requested
from tests.client.fake_server import FakeConnection, FakeServer
from tests.client.guarded_server import GuardedServer

NOWHERE = "http://127.0.0.1:1"


def syncline(*arguments: str, stdin: str | None = None) -> Result:
    """Run the command line."""
    return CliRunner().invoke(main, arguments, input=stdin, prog_name="syncline")


@pytest.fixture
def served() -> Iterator[FakeServer]:
    """A server in a thread of its own, as a command runs its own event loop."""
    server = FakeServer()
    with running(server):
        yield server


@contextmanager
def running(server: FakeServer) -> Iterator[None]:
    """Serve in a thread."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    asyncio.run_coroutine_threadsafe(server.start(), loop).result()
    yield
    asyncio.run_coroutine_threadsafe(server.stop(), loop).result()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def test_the_help_names_every_command_and_every_exit_code() -> None:
    text = syncline("--help").output
    for command in ("add", "delete", "doctor", "dump", "get", "load", "outbox", "serve", "stores", "tail"):
        assert f"\n  {command}" in text
    for code, meaning in EXIT_CODES.items():
        assert f"{code}" in text
        assert meaning in text


def test_without_a_command_the_help_is_shown_and_the_usage_is_wrong() -> None:
    assert syncline().exit_code == 2
    assert syncline("nonsense").exit_code == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ("stores",),
        ("stores", "create", "notes"),
        ("add", "notes", "1"),
        ("get", "notes", "k"),
        ("delete", "notes", "k"),
        ("tail", "notes"),
        ("dump", "notes"),
        ("doctor",),
    ],
)
def test_a_server_that_cannot_be_reached_is_exit_code_3_with_what_to_do(arguments: tuple[str, ...]) -> None:
    result = syncline("--url", NOWHERE, *arguments)
    assert result.exit_code == 3
    assert "syncline serve" in result.output
    assert "Traceback" not in result.output


def test_the_url_may_stand_before_or_after_the_command_and_the_nearer_one_counts(served: FakeServer) -> None:
    assert syncline("--url", served.url, "add", "notes", "1").exit_code == 0
    assert syncline("add", "--url", served.url, "notes", "1").exit_code == 0
    assert syncline("--url", NOWHERE, "add", "notes", "1", "--url", served.url).exit_code == 0


def test_the_url_may_come_from_the_environment(served: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYNCLINE_URL", served.url)
    assert syncline("add", "notes", "1").exit_code == 0


def test_a_url_that_is_none_is_wrong_usage() -> None:
    result = syncline("--url", "nonsense", "add", "notes", "1")
    assert result.exit_code == 2
    assert "error: 'nonsense' is not the address of a server" in result.stderr


def test_add_prints_seq_and_key_and_keeps_the_digits(served: FakeServer) -> None:
    result = syncline("--url", served.url, "add", "notes", "k1", '{"n":12345678901234567890.50}')
    assert (result.exit_code, result.stdout, result.stderr) == (0, "1 k1\n", "")
    assert served.notes.rows == [("k1", b'{"n":12345678901234567890.50}')]


def test_add_makes_a_key_and_reads_a_value_from_stdin(served: FakeServer) -> None:
    result = syncline("--url", served.url, "add", "notes", "-", stdin="[1]\n")
    assert result.exit_code == 0
    ((key, value),) = served.notes.rows
    assert result.stdout == f"1 {key}\n"
    assert value == b"[1]"


def test_adding_the_same_again_says_so_and_is_no_error(served: FakeServer) -> None:
    syncline("--url", served.url, "add", "notes", "k1", "1")
    result = syncline("--url", served.url, "add", "notes", "k1", "1", "--json")
    assert result.exit_code == 0
    assert msgspec.json.decode(result.stdout) == {"status": "dup", "key": "k1", "seq": 1, "at": "inc1:1"}
    assert "is there already" in result.stderr


def test_a_conflict_is_exit_code_1_with_what_to_do(served: FakeServer) -> None:
    served.notes.commit("k1", b"1")
    result = syncline("--url", served.url, "add", "notes", "k1", "2")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "conflict; records never change" in result.stderr


@pytest.mark.parametrize("text", ["hi", "{'a':1}", "NaN", ""])
def test_what_is_no_json_is_wrong_usage_and_never_sent(text: str) -> None:
    result = syncline("--url", NOWHERE, "add", "notes", text)
    assert result.exit_code == 2
    assert "is not JSON" in result.stderr


def test_too_many_words_are_wrong_usage() -> None:
    result = syncline("--url", NOWHERE, "add", "notes", "hello", "big", "world")
    assert result.exit_code == 2
    assert "put the JSON in quotes" in result.stderr


def test_deleting_twice_is_no_error_and_deleting_nothing_is_one(served: FakeServer) -> None:
    served.notes.commit("k1", b"1")
    assert syncline("--url", served.url, "delete", "notes", "k1").stdout == "2 k1\n"
    again = syncline("--url", served.url, "delete", "notes", "k1")
    assert (again.exit_code, again.stdout) == (0, "2 k1\n")
    assert "was deleted already" in again.stderr
    assert syncline("--url", served.url, "delete", "notes", "k2").exit_code == 1


def test_tail_of_a_store_that_is_not_there_is_exit_code_1(served: FakeServer) -> None:
    result = syncline("--url", served.url, "tail", "nowhere")
    assert result.exit_code == 1
    assert "store_unknown" in result.stderr


@pytest.mark.parametrize(
    "command", [("tail", "notes"), ("add", "notes", "1"), ("delete", "notes", "k")], ids=lambda command: command[0]
)
def test_a_command_ends_when_a_proxy_wants_credentials_in_the_middle_of_it(
    monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    monkeypatch.setattr("syncline.backoff._CEILING_FIRST_S", 0.0)
    server = GuardedServer(None)

    async def shut_the_door(connection: FakeConnection, event: requested.ServerEvent) -> bool:
        is_asked = isinstance(event, requested.WriteRequested | requested.SubscribeRequested)
        if is_asked:
            server.valid.clear()
            await connection.drop()
        return is_asked

    server.intercept = shut_the_door
    with running(server):
        result = syncline("--url", server.url, *command)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "it answers HTTP 401, it wants a token; log in with `syncline login`" in result.stderr


@pytest.mark.parametrize(
    "arguments", [("tail", "notes"), ("add", "notes", "1"), ("stores",), ("dump", "notes"), ("doctor",)]
)
def test_a_token_that_is_refused_is_exit_code_1_with_what_to_do(arguments: tuple[str, ...]) -> None:
    server = GuardedServer("good")
    with running(server):
        for token in ((), ("--token", "bad")):
            result = syncline("--url", server.url, *token, *arguments)
            assert result.exit_code == 1
            assert "log in with `syncline login`" in result.output
            assert "proxy" not in result.output


def test_tail_says_what_to_do_when_nobody_grants_the_store_any_more(served: FakeServer) -> None:
    async def take_back(connection: FakeConnection, event: requested.ServerEvent) -> bool:
        if not isinstance(event, requested.SubscribeRequested):
            return False
        await served.handle(connection, event)
        await connection.end("forbidden")
        return True

    served.intercept = take_back
    result = syncline("--url", served.url, "tail", "notes")
    assert result.exit_code == 1
    assert "the subscription ended: forbidden; nobody grants it any more; ask an owner" in result.stderr


@pytest.mark.parametrize(
    ("missing", "module"), [("uvicorn", "syncline_server.cli"), ("syncline_server", "syncline_server.cli")]
)
def test_serve_without_the_server_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, missing: str, module: str
) -> None:
    def load(self: EntryPoint) -> object:
        raise ModuleNotFoundError(f"No module named {missing!r}", name=missing)

    monkeypatch.setattr(EntryPoint, "load", load)
    assert "serve" in syncline("--help").output
    result = syncline("serve")
    assert result.exit_code == 2
    assert "pip install 'syncline[server]'" in result.stderr


def test_a_server_that_lacks_a_module_of_its_own_is_a_bug_and_shows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(self: EntryPoint) -> object:
        raise ModuleNotFoundError("No module named 'syncline_server.gone'", name="syncline_server.gone")

    monkeypatch.setattr(EntryPoint, "load", load)
    assert isinstance(syncline("serve").exception, ModuleNotFoundError)
    assert "serve" in group._offered()
