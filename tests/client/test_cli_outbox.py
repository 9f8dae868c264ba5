"""`syncline outbox`: what it prints of whole and of damaged files, and how it ends."""

import asyncio
import shutil
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result

import syncline
from syncline.cli import main
from tests.client.replica.golden import format_1


def outbox(*arguments: str | Path) -> Result:
    """Run the command. No server is needed."""
    words = ["outbox", *[str(argument) for argument in arguments]]
    return CliRunner().invoke(main, words, prog_name="syncline", env={"SYNCLINE_URL": "http://127.0.0.1:1"})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A replica's file with an entry of every kind."""
    return Path(shutil.copy(format_1.FILE, tmp_path / "notes.db"))


LINES = [
    '{"id":1,"state":"pending","made_ms":1795400000000,"ops":[{"op":"ADD","key":"e1","value":{"n":1.0}}]}',
    '{"id":2,"state":"pending","made_ms":1795400000001,'
    '"ops":[{"op":"DELETE","key":"k1"},{"op":"ADD","key":"e2","value":"neu"}]}',
    '{"id":3,"state":"pending","made_ms":1795400000002,"atomic":false,"ops":[{"op":"DELETE","key":"gone"}]}',
    '{"id":4,"state":"pending","made_ms":1795400000003,'
    '"ops":[{"op":"DELETE","key":"k3"},{"op":"ADD","key":"d/a/4","value":"ours"}],'
    '"refusal":{"status":"refused","ops":["gone","skipped"],"head":"inc1:9"}}',
    '{"id":5,"state":"acked","made_ms":1795400000004,"ops":[{"op":"ADD","key":"e5","value":5}],"at":"inc1:7"}',
    '{"id":6,"state":"rejected","made_ms":1795400000005,"ops":[{"op":"ADD","key":"k1","value":6}],'
    '"refusal":{"status":"conflict","ops":["conflict"],"code":"some_code","message":"somebody else was first",'
    '"head":"inc1:4"}}',
]


def test_a_line_is_a_write_with_the_exact_text_of_its_values_and_why_it_was_refused(path: Path) -> None:
    result = outbox(path)
    assert (result.exit_code, result.stdout.splitlines()) == (0, LINES)
    counts = "4 pending, 1 acked, 1 rejected, 1 synced (--all prints them too)"
    assert result.stderr == f"{path}: the outbox of the replica of notes has {counts}\n"


def test_with_all_what_the_server_has_is_printed_too(path: Path) -> None:
    result = outbox(path, "--all")
    *others, synced = result.stdout.splitlines()
    assert (result.exit_code, others) == (0, LINES)
    assert synced.startswith('{"id":7,"state":"synced",')
    assert synced.endswith(',"at":"inc1:4"}')


async def test_it_is_read_while_a_replica_has_it_open(path: Path) -> None:
    async with syncline.connect("http://127.0.0.1:1", wait=False) as client:
        replica = await client.replica("notes", path)
        await replica.add(syncline.Json("12345678901234567890.10"), "new")
        # The command has an event loop of its own.
        result = await asyncio.to_thread(outbox, path)
        assert result.exit_code == 0
        assert '{"op":"ADD","key":"new","value":12345678901234567890.10}' in result.stdout


def test_of_a_damaged_file_it_prints_what_it_finds_and_says_what_it_does_not(path: Path) -> None:
    path.write_bytes(b"\0" * 4096 + path.read_bytes()[4096:])
    result = outbox(path)
    assert result.exit_code == 1
    found = [msgspec.json.decode(line) for line in result.stdout.splitlines()]
    assert [line["id"] for line in found] == [1, 2, 3, 4, 5, 6]
    assert all(line["loose"] for line in found)
    for text in ("file is not a database", "entries from 1 on may be missing", "what is loose", "error: "):
        assert text in result.stderr


def test_a_value_that_is_no_json_any_more_is_printed_as_the_text_that_it_is(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(rb"{\"n\":1.0}", rb"{\"n\":1.0)"))
    result = outbox(path)
    (line, *_) = [msgspec.json.decode(line) for line in result.stdout.splitlines()]
    assert line["ops"] == [{"op": "ADD", "key": "e1", "damaged_text": '{"n":1.0)'}]


def test_a_file_that_is_not_there_or_a_directory_is_wrong_usage(tmp_path: Path) -> None:
    assert outbox(tmp_path / "missing.db").exit_code == 2
    assert outbox(tmp_path).exit_code == 2
    assert outbox().exit_code == 2


def test_what_is_no_replica_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("hello")
    result = outbox(tmp_path / "text.db")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "error: " in result.stderr
