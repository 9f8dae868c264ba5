"""The local database: what it remembers, who may open it, and what it says of files that are none of its own."""

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from syncline.errors import (
    LocalFileCorrupt,
    LocalFileError,
    LocalFileFailed,
    LocalFileInvalid,
    LocalFileLocked,
    LocalFileTooNew,
)
from syncline.replica import local_file
from syncline.replica.database import Contradiction, Database
from syncline.replica.entry import Entry, EntryOp, SyncState
from syncline.replica.local_file import WAL_BYTES_MAX
from syncline.replica.schema import FORMAT_VERSION, Identity
from syncline.replica.step import Apply, SaveEntries, SavePlace, Step
from syncline_protocol.cursor import Seq
from tests.client.replica.filling import NOTES, added, apply, fill, hold, place, wal_bytes


def pending(number: int, text: str = "1") -> Entry:
    """A write that waits."""
    return Entry(number, (EntryOp(f"e{number}", text),), 1_795_400_000_000)


def save(*entries: Entry) -> list[Step]:
    return [SaveEntries(list(entries))]


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "notes.db")


async def make(path: str, identity: Identity = NOTES, count: int = 3) -> None:
    """Make a replica with some records and one entry, and close it."""
    db = await Database.open(path, identity)
    await apply(db, *[added(seq) for seq in range(1, count + 1)])
    await db.commit(save(pending(1)), place(count))
    await db.close()


# --- what it remembers ---


@pytest.mark.parametrize("kind", ["file", "memory"])
async def test_a_commit_is_seen_after_refresh(path: str, kind: str) -> None:
    db = await Database.open(path if kind == "file" else None, NOTES)
    await db.commit([Apply(1, [added(1)], None), SavePlace(place(1))], place(1))
    assert db.get("k1") is None
    db.refresh()
    row = db.get("k1")
    assert row is not None
    assert (row.seq, row.key, row.text) == (1, "k1", '{"a":1}')
    await db.close()
    await db.close()


async def test_records_place_and_entries_are_there_after_reopening(path: str) -> None:
    await make(path)
    db = await Database.open(path, NOTES)
    saved = db.load()
    assert [row.seq for row in db.page(Seq(0), 100)] == [1, 2, 3]
    assert saved.place == place(3)
    assert saved.entries == [pending(1)]
    assert (saved.tally.count, saved.tally.shown_count, saved.last_entry_id) == (3, 3, 1)
    await db.close()


async def test_changes_that_contradict_what_is_held_leave_nothing_behind(path: str) -> None:
    db = await Database.open(path, NOTES)
    await apply(db, added(1))
    with pytest.raises(Contradiction):
        await db.commit([*save(pending(1)), Apply(1, [added(2), added(1)], None)], place(2))
    saved = db.load()
    assert (saved.entries, saved.tally.count) == ([], 1)
    await apply(db, added(2))
    assert db.has("k2")
    await db.close()


# --- where it is ---

NAMES = ["a b.db", "what?mode=ro.db", "#1.db", "100%41.db", "näme-日本.db", "file:x.db", ":memory:", "'\".db", "-x"]


@pytest.mark.parametrize("name", NAMES)
async def test_any_file_name_is_a_file_of_that_name(tmp_path: Path, name: str) -> None:
    path = str(tmp_path / name)
    await make(path)
    db = await Database.open(path, NOTES)
    assert db.has("k3")
    with pytest.raises(LocalFileLocked):
        await Database.open(path, NOTES)
    await db.close()
    assert {file.name for file in tmp_path.iterdir()} == {name, f"{name}-lock"}


async def test_a_name_that_is_no_text_is_a_file_too(tmp_path: Path) -> None:
    path = os.fsdecode(os.fsencode(tmp_path) + b"/n\xffte.db")
    await make(path)
    db = await Database.open(path, NOTES)
    assert db.has("k3")
    await db.close()


async def test_a_relative_path_means_the_directory_of_that_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    db = await Database.open("notes.db", NOTES)
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert db.path == str(tmp_path / "notes.db")
    await fill(db, 2 * WAL_BYTES_MAX)
    assert wal_bytes(db) <= 2 * WAL_BYTES_MAX
    with pytest.raises(LocalFileLocked):
        await Database.open("../notes.db", NOTES)
    await db.close()
    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert {file.name for file in tmp_path.iterdir()} == {"notes.db", "notes.db-lock", "elsewhere"}


async def test_a_symbolic_link_is_the_file_that_it_leads_to(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    link, real = tmp_path / "link.db", tmp_path / "disk" / "real.db"
    link.symlink_to(real)
    db = await Database.open(str(link), NOTES)
    with pytest.raises(LocalFileLocked):
        await Database.open(str(real), NOTES)
    await fill(db, 2 * WAL_BYTES_MAX)
    assert real.with_name("real.db-wal").stat().st_size < 2 * WAL_BYTES_MAX
    await db.close()


# --- who may open it ---


async def refused(path: str, kind: type[LocalFileError], identity: Identity = NOTES) -> LocalFileError:
    """Try to open a file; it says what is wrong with it, and leaves neither a thread nor a lock."""
    threads = set(threading.enumerate())
    for _ in range(2):
        with pytest.raises(kind) as caught:
            await Database.open(path, identity)
    for thread in set(threading.enumerate()) - threads:
        thread.join(5)
        assert not thread.is_alive()
    assert type(caught.value) is kind
    assert caught.value.path == os.path.abspath(path)
    assert os.path.abspath(path) in str(caught.value)
    return caught.value


async def test_a_second_replica_of_one_file_is_refused_until_the_first_is_closed(path: str) -> None:
    db = await Database.open(path, NOTES)
    error = await refused(path, LocalFileLocked)
    assert "close that one" in error.hint
    await db.close()
    db = await Database.open(path, NOTES)
    await db.close()


async def test_another_process_keeps_the_file_until_kill_9_and_nothing_is_lost(path: str) -> None:
    process = hold(path, entries=50)
    try:
        await refused(path, LocalFileLocked)
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert os.path.getsize(path + "-wal") > 50_000, "the log of the crash is there to be recovered"
    db = await Database.open(path, NOTES)
    assert [entry.id for entry in db.load().entries] == list(range(1, 51))
    await db.close()
    assert not os.path.exists(path + "-wal")


async def test_another_program_that_locks_the_database_itself_is_waited_for_and_then_named(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("syncline.replica.local_file._WRITER_PATIENCE_S", 0.01)
    await make(path)
    db = await Database.open(path, NOTES)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(LocalFileLocked):
        await apply(db, added(4))
    assert db.has("k3"), "reads go on"
    other.execute("COMMIT")
    other.close()
    await apply(db, added(4))
    assert db.has("k4")
    await db.close()


async def test_of_many_that_open_a_file_at_once_one_gets_it(path: str) -> None:
    for _ in range(20):
        opened = await asyncio.gather(*[Database.open(path, NOTES) for _ in range(4)], return_exceptions=True)
        databases = [db for db in opened if isinstance(db, Database)]
        assert len(databases) == 1
        assert all(isinstance(other, Database | LocalFileLocked) for other in opened)
        await databases[0].close()


async def test_an_opening_that_is_cancelled_lets_go_of_the_file(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    began, go_on = threading.Event(), threading.Event()
    open_writer = local_file._open_writer

    def slow(*arguments: str | Identity) -> sqlite3.Connection:
        began.set()
        go_on.wait(10)
        return open_writer(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(local_file, "_open_writer", slow)
    opening = asyncio.create_task(Database.open(path, NOTES))
    await asyncio.to_thread(began.wait, 10)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    with pytest.raises(LocalFileLocked):
        await Database.open(path, NOTES)
    go_on.set()
    for thread in threading.enumerate():
        if thread.name.startswith("syncline-replica"):
            await asyncio.to_thread(thread.join, 10)
    db = await Database.open(path, NOTES)
    await db.close()


# --- what is none ---


def files_beside(path: str) -> dict[str, bytes]:
    """Return everything in the directory of a file, but the lock."""
    directory = Path(path).parent
    return {file.name: file.read_bytes() for file in directory.iterdir() if not file.name.endswith("-lock")}


async def unchanged(path: str, kind: type[LocalFileError], identity: Identity = NOTES) -> LocalFileError:
    before = files_beside(path)
    error = await refused(path, kind, identity)
    assert files_beside(path) == before
    return error


async def test_a_replica_of_another_store_or_prefix_is_refused(path: str) -> None:
    await make(path, Identity("notes", "a/"))
    error = await unchanged(path, LocalFileInvalid, Identity("tasks", "a/"))
    assert "a replica of the store 'notes', not of 'tasks'" in str(error)
    error = await unchanged(path, LocalFileInvalid, Identity("notes", "b/"))
    assert "begin with 'a/', not with 'b/'" in str(error)
    db = await Database.open(path, Identity("notes", "a/"))
    await db.close()


async def test_a_newer_format_is_refused_and_says_which(path: str) -> None:
    await make(path)
    with sqlite3.connect(path) as db:
        db.execute(f"PRAGMA user_version = {FORMAT_VERSION + 1}")
        db.execute("DROP TABLE meta")
    db.close()
    error = await unchanged(path, LocalFileTooNew)
    assert isinstance(error, LocalFileTooNew)
    assert (error.found, error.known) == (FORMAT_VERSION + 1, FORMAT_VERSION)
    assert "update syncline" in error.hint


@pytest.mark.parametrize("mode", ["delete", "wal"])
async def test_the_database_of_another_program_is_refused_and_not_touched(path: str, mode: str) -> None:
    with sqlite3.connect(path) as db:
        db.execute(f"PRAGMA journal_mode = {mode}")
        db.execute("CREATE TABLE meta (name TEXT)")
    db.close()
    error = await unchanged(path, LocalFileInvalid)
    assert "another program" in str(error)


async def test_an_empty_database_of_another_program_is_refused(path: str) -> None:
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA application_id = 7")
    db.close()
    await unchanged(path, LocalFileInvalid)


@pytest.mark.parametrize("content", [b"hello", b"\0" * 4096, b"x" * 50_000, b"SQLite format 3\0", os.urandom(20_000)])
async def test_what_is_no_database_is_refused_with_the_way_to_save_what_it_holds(path: str, content: bytes) -> None:
    Path(path).write_bytes(content)
    error = await unchanged(path, LocalFileCorrupt)
    assert "syncline outbox" in error.hint


async def test_an_empty_file_is_a_new_replica(path: str) -> None:
    Path(path).touch()
    await make(path)


async def test_a_directory_is_refused(tmp_path: Path) -> None:
    error = await refused(str(tmp_path), LocalFileFailed)
    assert "it is a directory" in str(error)
    assert not Path(f"{tmp_path}-lock").exists()


async def test_a_directory_that_is_not_there_is_named(tmp_path: Path) -> None:
    error = await refused(str(tmp_path / "gone" / "notes.db"), LocalFileFailed)
    assert f"there is no directory {tmp_path / 'gone'}; make it first" in str(error)


async def test_a_path_through_a_file_or_around_in_a_circle_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    await refused(str(tmp_path / "file" / "notes.db"), LocalFileFailed)
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    await refused(str(tmp_path / "circle"), LocalFileFailed)


async def test_a_path_that_no_file_can_have_is_refused() -> None:
    with pytest.raises(LocalFileFailed, match="cannot be the path"):
        await Database.open("a\0b", NOTES)


async def test_a_file_in_place_of_the_lock_is_named(path: str) -> None:
    await make(path)
    Path(path + "-lock").write_text("mine")
    error = await refused(path, LocalFileFailed)
    assert "-lock beside it is not the replica's" in str(error)


_OPEN_AS_NOBODY = """
import asyncio, concurrent.futures.thread, os, sys
from syncline.errors import LocalFileError
from syncline.replica.database import Database
from syncline.replica.schema import Identity

async def main():
    for path in sys.argv[1:]:
        try:
            await Database.open(path, Identity("notes", ""))
        except LocalFileError as error:
            print(type(error).__name__, error)

if os.getuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
asyncio.run(main())
"""


async def test_a_file_or_directory_without_permission_says_what_is_needed() -> None:
    # The directory of pytest may not be entered by others.
    with tempfile.TemporaryDirectory() as directory:
        path, new = os.path.join(directory, "notes.db"), os.path.join(directory, "new.db")
        await make(path)
        os.chmod(path, 0o444)
        os.chmod(directory, 0o555)
        command = [sys.executable, "-c", _OPEN_AS_NOBODY, path, new]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        os.chmod(directory, 0o755)
        os.chmod(path + "-lock", 0o666)
        again = subprocess.run(command[:-1], capture_output=True, text=True, timeout=60, check=True)
    assert (done.stderr, again.stderr) == ("", "")
    refusals = (done.stdout + again.stdout).splitlines()
    assert len(refusals) == 3
    for refusal, name in zip(refusals, (path, new, path), strict=True):
        assert refusal.startswith(f"LocalFileFailed {name}: SQLite says: ")
        assert "write to the file and to its directory" in refusal


def test_states_in_the_file_are_those_of_the_code() -> None:
    # The indexes of the outbox name them.
    assert {state.value for state in SyncState} == {"pending", "acked", "synced", "rejected"}
