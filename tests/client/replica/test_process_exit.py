"""Programs that forget to close their client and replica end by themselves, soon, and without a word of ours."""

import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import msgspec
import pytest

from tests.support.live_server import LiveServer

NOWHERE = "http://127.0.0.1:1"

#: What a busy machine may take; a program that hangs takes for ever.
TIMEOUT_S = 30

_FORGETS = """
import asyncio, sys
import syncline
from syncline.replica import local_file

url, path, ending = sys.argv[1:]
local_file._WRITER_PATIENCE_S = 0.5


async def main():
    # The development mode also tells of steps that a busy machine made slow, which is no fault.
    asyncio.get_running_loop().slow_callback_duration = 60
    client = syncline.connect(url, wait=False)
    await client.__aenter__()
    replica = await client.replica("notes", path)
    for number in range(3):
        await replica.add(number)
    if not url.endswith(":1"):
        await replica.wait_caught_up(20)
    watching = asyncio.create_task(anext(replica.watch(lambda record: record.value == "never")))
    print("written", flush=True)
    if ending == "locked":
        sys.stdin.readline()
    # These are under way while the program ends.
    adding = [asyncio.create_task(replica.add("x" * 1000)) for _ in range(50)]
    await asyncio.sleep(0)
    match ending:
        case "exit":
            sys.exit(3)
        case "error":
            raise RuntimeError("mine")
        case "interrupt":
            print("ready", flush=True)
            await asyncio.Event().wait()
        case "keep":
            global kept
            kept = client, replica, watching, adding


asyncio.run(main())
"""


def start(url: str, path: Path, ending: str, *flags: str) -> "subprocess.Popen[str]":
    """Start the program; returns when its first writes are stored."""
    command = [sys.executable, *flags, "-c", _FORGETS, url, str(path), ending]
    pipe = subprocess.PIPE
    # A shell starts its background jobs deaf to SIGINT, and that would be inherited from whoever runs the tests.
    listen = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, preexec_fn=listen)
    assert process.stdout is not None
    assert process.stdout.readline() == "written\n", process.communicate()
    return process


def end_of(process: "subprocess.Popen[str]") -> tuple[int, str]:
    """Wait until a program has ended; returns its exit code and what it said."""
    try:
        _, errors = process.communicate(timeout=TIMEOUT_S)
    finally:
        process.kill()
    return process.returncode, errors


def without_resource_warnings(errors: str) -> str:
    """Leave out what Python 3.13 and later say, if they are asked to, of any database that nobody closed."""
    pattern = r"Exception ignored in: <sqlite3.Connection .*>\nResourceWarning: unclosed database .*\n"
    return re.sub(pattern, "", errors)


def stored(path: Path) -> list[str]:
    """Return the values in an outbox, oldest first."""
    with sqlite3.connect(path) as db:
        rows = db.execute("SELECT entry FROM outbox ORDER BY id").fetchall()
    db.close()
    return [msgspec.json.decode(entry)["ops"][0]["text"] for (entry,) in rows]


@pytest.fixture(scope="module", params=["offline", "connected"])
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if request.param == "offline":
        yield NOWHERE
        return
    with LiveServer(tmp_path_factory.mktemp("server")) as server:
        server.create("notes")
        yield server.url


@pytest.mark.parametrize(("ending", "code"), [("return", 0), ("keep", 0), ("exit", 3)])
def test_a_program_that_returns_or_exits_ends_in_silence(url: str, tmp_path: Path, ending: str, code: int) -> None:
    assert end_of(start(url, tmp_path / "notes.db", ending)) == (code, "")
    assert stored(tmp_path / "notes.db")[:3] == ["0", "1", "2"]


def test_with_every_warning_an_error_nothing_is_said_but_that_a_database_was_not_closed(
    url: str, tmp_path: Path
) -> None:
    code, errors = end_of(start(url, tmp_path / "notes.db", "return", "-X", "dev", "-W", "error"))
    assert (code, without_resource_warnings(errors)) == (0, "")


def test_a_program_that_raises_ends_with_its_own_traceback_alone(url: str, tmp_path: Path) -> None:
    code, errors = end_of(start(url, tmp_path / "notes.db", "error"))
    assert code == 1
    assert errors.count("Traceback") == 1
    assert errors.endswith("\nRuntimeError: mine\n")
    assert "syncline/" not in errors
    assert stored(tmp_path / "notes.db")[:3] == ["0", "1", "2"]


def test_a_program_that_is_interrupted_ends_as_any_other(url: str, tmp_path: Path) -> None:
    process = start(url, tmp_path / "notes.db", "interrupt")
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    code, errors = end_of(process)
    assert code == -signal.SIGINT
    assert errors.endswith("\nKeyboardInterrupt\n")
    assert "syncline/" not in errors
    assert stored(tmp_path / "notes.db")[:3] == ["0", "1", "2"]


def test_a_transaction_that_waits_for_a_lock_holds_the_program_up_no_longer_than_its_patience(tmp_path: Path) -> None:
    path = tmp_path / "notes.db"
    process = start(NOWHERE, path, "locked")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    assert process.stdin is not None
    process.stdin.write("go on\n")
    process.stdin.flush()
    assert end_of(process) == (0, "")
    other.execute("ROLLBACK")
    other.close()
    assert stored(path) == ["0", "1", "2"]
