"""The programs of `examples/` that work without a server, as their how-tos show them."""

import contextlib
import os
import queue
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.live_server import LiveServer, live_server

__all__ = ["live_server"]

EXAMPLES = Path(__file__).parent.parent / "examples"
_TIMEOUT_S = 20.0


class Terminal:
    """A program that is typed into, and what it has printed."""

    def __init__(self, url: str, name: str, *arguments: str) -> None:
        command = [sys.executable, str(EXAMPLES / name), *arguments]
        self.process = subprocess.Popen(
            command,
            env=os.environ | {"SYNCLINE_URL": url},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            bufsize=1,
        )
        self.shown: list[str] = []
        self._lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line.rstrip("\n"))

    def type(self, line: str) -> None:
        """Type one line."""
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")

    def sees(self, fits: Callable[[list[str]], bool]) -> list[str]:
        """Wait until what follows the last headline fits, and return it."""
        deadline = time.monotonic() + _TIMEOUT_S
        while not fits(self.shown):
            assert time.monotonic() < deadline, self.shown
            with contextlib.suppress(queue.Empty):
                line = self._lines.get(timeout=0.1)
                self.shown = [] if line.startswith("---") else [*self.shown, line.strip()]
        return self.shown

    def end(self) -> int:
        """End its input, and wait until it has ended."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        return self.process.wait(_TIMEOUT_S)


@pytest.fixture
def terminals() -> Iterator[Callable[..., Terminal]]:
    """Start terminals that do not outlive the test."""
    started: list[Terminal] = []

    def start(url: str, name: str, *arguments: str) -> Terminal:
        started.append(Terminal(url, name, *arguments))
        return started[-1]

    yield start
    for terminal in started:
        terminal.process.kill()
        terminal.process.wait()
        for stream in (terminal.process.stdin, terminal.process.stdout):
            assert stream is not None
            with contextlib.suppress(BrokenPipeError):
                stream.close()


def test_two_terminals_share_a_list_also_after_both_were_offline(
    live_server: LiveServer, tmp_path: Path, terminals: Callable[..., Terminal]
) -> None:
    anna = terminals(live_server.url, "todo.py", str(tmp_path / "anna.db"))
    ben = terminals(live_server.url, "todo.py", str(tmp_path / "ben.db"))
    anna.type("buy milk")
    ben.sees(lambda shown: shown == ["1 [ ] buy milk"])
    ben.type("x 1")
    anna.sees(lambda shown: shown == ["1 [x] buy milk"])
    live_server.terminate()
    anna.type("call home")
    anna.sees(lambda shown: shown == ["1 [x] buy milk", "2 [ ] call home*"])
    ben.type("d 1")
    ben.sees(lambda shown: shown == [])
    live_server.start()
    for terminal in (anna, ben):
        terminal.sees(lambda shown: shown == ["1 [ ] call home"])
        assert terminal.end() == 0


def notes(url: str, *arguments: str) -> list[str]:
    """Run the notes program once; return what it printed."""
    command = [sys.executable, str(EXAMPLES / "notes.py"), *arguments]
    done = subprocess.run(
        command, env=os.environ | {"SYNCLINE_URL": url}, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    # Whether the feed has brought back what the server has just acknowledged is a matter of milliseconds.
    return done.stdout.replace("(acked)", "(synced)").splitlines()


def test_notes_are_taken_offline_and_sent_once_when_there_is_a_server(live_server: LiveServer, tmp_path: Path) -> None:
    file, other = str(tmp_path / "my.db"), str(tmp_path / "other.db")
    (first,) = notes(live_server.url, file, "add", "Groceries", "milk, eggs")
    assert first.endswith("Groceries: milk, eggs []  (synced)")
    note_id = first.split()[0]
    live_server.terminate()
    lines = notes(live_server.url, file, "tag", note_id, "shop")
    assert lines[0].endswith("Groceries: milk, eggs ['shop']  (pending)")
    assert lines[1].startswith("1 to be sent: ")
    live_server.start()
    # Somebody else tags the note first: it keeps the tags of both.
    notes(live_server.url, other, "tag", note_id, "urgent")
    (merged,) = notes(live_server.url, file, "list")
    assert merged.endswith("Groceries: milk, eggs ['shop', 'urgent']  (synced)")
    (seen,) = notes(live_server.url, other, "edit", note_id, "tea")
    assert seen.endswith("Groceries: tea ['shop', 'urgent']  (synced)")


def rows_of(path: Path) -> dict[str, str]:
    """Return the records in the table."""
    with contextlib.closing(sqlite3.connect(path)) as db:
        return dict(db.execute("SELECT key, value FROM record"))


def put(server: LiveServer, key: str, value: int) -> None:
    """Add a record."""
    with server.client() as client:
        client.put(f"/v1/stores/notes/records/{key}", json=value).raise_for_status()


def test_a_store_in_a_table_goes_on_where_it_stopped(
    live_server: LiveServer, tmp_path: Path, terminals: Callable[..., Terminal]
) -> None:
    live_server.create("notes")
    path = tmp_path / "mine.db"
    put(live_server, "a", 1)
    put(live_server, "b", 2)
    first = terminals(live_server.url, "feed_to_sqlite.py", "notes", str(path))
    first.sees(lambda shown: "notes is at 2" in shown)
    first.process.kill()
    first.process.wait()
    with live_server.client() as client:
        client.delete("/v1/stores/notes/records/a").raise_for_status()
    put(live_server, "c", 3)
    second = terminals(live_server.url, "feed_to_sqlite.py", "notes", str(path))
    second.sees(lambda shown: "notes is at 4" in shown)
    assert rows_of(path) == {"b": "2", "c": "3"}
    # A store that is made anew is another history: the table begins again.
    with live_server.client() as client:
        client.delete("/v1/stores/notes").raise_for_status()
    live_server.create("notes")
    put(live_server, "d", 4)
    second.process.kill()
    second.process.wait()
    third = terminals(live_server.url, "feed_to_sqlite.py", "notes", str(path))
    third.sees(lambda shown: "notes is at 1" in shown)
    assert rows_of(path) == {"d": "4"}


def test_the_cells_of_the_notebook_run_offline_and_online_and_add_nothing_twice(
    live_server: LiveServer, tmp_path: Path
) -> None:
    command = [sys.executable, str(EXAMPLES / "notebook.py"), str(tmp_path / "quakes.db")]
    ends = []
    for stops in (True, False):
        if stops:
            live_server.terminate()
        else:
            live_server.start()
        environ = os.environ | {"SYNCLINE_URL": live_server.url}
        done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        ends.append(done.stdout.splitlines())
    assert ends[0][3:] == [
        "mean 5.1",
        "most [('Chile', 2)]",
        "changed [Quake(place='Japan', magnitude=6.2, felt=140)]",
        "5 to be sent the next time",
    ]
    assert ends[1][-1] == "all of it is on the server"
