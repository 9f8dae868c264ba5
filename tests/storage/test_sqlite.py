"""What a file can suffer: other openers, full and read-only disks, foreign files, kills, being replaced."""

import asyncio
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from syncline_protocol import Seq
from syncline_server.storage import open_storage
from syncline_server.storage.base import (
    Record,
    StorageFull,
    StorageLocked,
    StorageUnavailable,
    StoreUnknown,
)
from syncline_server.storage.sqlite import SqliteStorage
from syncline_server.storage.sqlite_schema import sqlite_wal_bug

from .backends import check
from .conftest import add, delete, single, write

ROOT = Path(__file__).parents[2]
KILLS = 10


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the file is."""
    return tmp_path / "test.db"


@pytest.fixture
async def storage(path: Path) -> AsyncIterator[SqliteStorage]:
    """An open storage with the store `notes`."""
    storage = SqliteStorage(path)
    await storage.open()
    await storage.create("notes", 1)
    yield storage
    await storage.close()
    check(storage, path)


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mount a file system in memory with these options; again with others to remount it."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = False

    def mount(options: str) -> Path:
        nonlocal mounted
        again = "remount," if mounted else ""
        command = ["mount", "-t", "tmpfs", "-o", again + options, "tmpfs", str(disk)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"needs to mount a tmpfs, which takes root: {done.stderr.strip()}")
        mounted = True
        return disk

    yield mount
    if mounted:
        subprocess.run(["umount", str(disk)], check=True)


# --- opening ---


async def test_a_second_opener_is_refused_with_path_and_pid_until_the_first_has_closed(
    storage: SqliteStorage, path: Path
) -> None:
    second = SqliteStorage(path)
    with pytest.raises(StorageLocked, match=rf"{path} is served by process {os.getpid()}"):
        await second.open()
    with pytest.raises(StorageUnavailable, match="not open"):
        await second.stores()
    await storage.close()
    await second.open()
    assert [info.name for info in await second.stores()] == ["notes"]
    await second.close()


async def test_a_link_to_the_file_is_the_same_file(storage: SqliteStorage, path: Path) -> None:
    link = path.with_name("link.db")
    link.symlink_to(path)
    with pytest.raises(StorageLocked):
        await SqliteStorage(link).open()


async def test_a_lock_file_that_was_left_behind_does_not_matter(path: Path) -> None:
    path.with_name("test.db.lock").write_text("1\n")
    storage = SqliteStorage(path)
    await storage.open()
    await storage.close()


async def test_the_directory_of_a_relative_path_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    storage = open_storage("sqlite:///data/here/test.db")
    await storage.open()
    await storage.close()
    assert (tmp_path / "data/here/test.db").is_file()


async def test_the_directory_of_an_absolute_path_has_to_be_there(tmp_path: Path) -> None:
    with pytest.raises(StorageUnavailable, match=f"there is no directory {tmp_path}/not/there"):
        await open_storage(f"sqlite:///{tmp_path}/not/there/test.db").open()
    with pytest.raises(StorageUnavailable, match="is a directory"):
        await open_storage(f"sqlite:///{tmp_path}").open()


async def test_a_file_name_with_signs_of_a_uri_is_that_file(tmp_path: Path) -> None:
    path = tmp_path / "a b?c#d%41.db"
    storage = SqliteStorage(path)
    await storage.open()
    await storage.create("notes", 1)
    assert len(await storage.stores()) == 1
    await storage.close()
    assert path.is_file()


def test_a_file_that_is_no_database_is_refused_and_left_alone(path: Path) -> None:
    path.write_bytes(b"this is a letter to grandmother" * 100)
    before = path.read_bytes()
    with pytest.raises(StorageUnavailable, match=rf"cannot open {path}: file is not a database"):
        asyncio.run(SqliteStorage(path).open())
    assert path.read_bytes() == before


async def test_the_database_of_another_program_is_refused(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE recipes(name)")
    with pytest.raises(StorageUnavailable, match="is the SQLite file of another program"):
        await SqliteStorage(path).open()


async def test_a_newer_format_is_refused(storage: SqliteStorage, path: Path) -> None:
    await storage.close()
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("UPDATE meta SET value = 4")
        with pytest.raises(StorageUnavailable, match=r"has format 4, this version of Syncline reads formats 1 to 3"):
            await storage.open()
        connection.execute("UPDATE meta SET value = 3")


async def test_a_log_that_does_not_end_where_its_head_says_is_refused(storage: SqliteStorage, path: Path) -> None:
    await storage.append([single(add("k1"))], 1)
    await storage.close()
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("UPDATE stores SET head_seq = 7")
        with pytest.raises(StorageUnavailable, match="the log of 'notes' ends at 1, its head says 7"):
            await storage.open()
        connection.execute("UPDATE stores SET head_seq = 1")


async def test_a_read_only_directory_is_refused_with_path_and_hint(mount: Callable[[str], Path]) -> None:
    disk = mount("size=1m")
    storage = SqliteStorage(disk / "test.db")
    await storage.open()
    await storage.close()
    mount("ro")
    with pytest.raises(StorageUnavailable, match=rf"{disk}/test\.db\.lock: Read-only") as caught:
        await storage.open()
    assert "writable" in caught.value.hint


def test_a_program_that_does_not_close_its_storage_still_ends(path: Path) -> None:
    program = f"""
import asyncio
from syncline_server.storage.sqlite import SqliteStorage
storage = SqliteStorage({str(path)!r})
async def main():
    await storage.open()
    await storage.create("notes", 1)
asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", program], timeout=20, check=False)
    assert done.returncode == 0
    assert check(SqliteStorage(path), path) == 1


# --- the medium ---


async def test_a_full_disk_commits_nothing_of_the_append_and_works_again_when_there_is_room(
    mount: Callable[[str], Path],
) -> None:
    disk = mount("size=3m")
    ballast = disk / "ballast"
    ballast.write_bytes(b"x" * 1024 * 1024)
    storage = SqliteStorage(disk / "test.db")
    await storage.open()
    await storage.create("notes", 1)
    written = 0

    async def append_for_ever() -> None:
        nonlocal written
        while True:
            await storage.append([write(*(add(f"k{written + n}", "y" * 1000) for n in range(20)))], 1)
            written += 20

    with pytest.raises(StorageFull, match=r"test\.db: there is no room"):
        await append_for_ever()
    before = await storage.info("notes")
    assert before.head.seq == written > 0
    with pytest.raises(StorageFull):
        await append_for_ever()
    assert await storage.info("notes") == before
    assert await storage.get("notes", "k0") is not None

    ballast.unlink()
    appended = await storage.append([single(add(f"k{written}"))], 1)
    assert appended.commits[0].after == written
    await storage.close()
    assert check(storage, disk / "test.db") == 1


async def test_a_file_that_is_replaced_while_it_is_served_is_noticed_before_the_next_write(
    storage: SqliteStorage, path: Path
) -> None:
    await storage.append([single(add("k1"))], 1)
    await storage.close()
    backup = path.with_name("backup.db")
    shutil.copy(path, backup)
    await storage.open()
    await storage.append([single(add("k2"))], 1)
    os.replace(backup, path)
    with pytest.raises(StorageUnavailable, match="was replaced or removed"):
        await storage.append([single(add("k3"))], 1)


class Appender:
    """`appender.py`: one process that is killed many times."""

    def __init__(self, path: Path) -> None:
        self.path = path
        command = [sys.executable, "-m", "tests.storage.appender"]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True)
        self.pid = 0

    def start(self, name: str) -> None:
        """Begin to append under this name."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{self.path} {name}\n")
        self.process.stdin.flush()
        ready, pid = self.line().split()
        assert ready == "ready"
        self.pid = int(pid)

    def line(self) -> str:
        """Return the next line that it prints."""
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def kill(self) -> Iterator[str]:
        """Kill it in whatever it does; yield the lines that it had printed."""
        os.kill(self.pid, signal.SIGKILL)
        yield from iter(self.line, "gone\n")


@pytest.fixture
def appender(path: Path) -> Iterator[Appender]:
    """An appender for the file; it ends with the test."""
    appender = Appender(path)
    yield appender
    appender.process.communicate()
    assert appender.process.returncode == 0


async def test_what_was_acknowledged_survives_kills(path: Path, appender: Appender) -> None:
    acked: set[str] = set()
    for kill in range(KILLS):
        appender.start(f"run{kill}")
        for _ in range(3 + 7 * kill):
            acked.update(appender.line().split())
        if kill == 0:
            with pytest.raises(StorageLocked, match=f"served by process {appender.pid}"):
                await SqliteStorage(path).open()
        for line in appender.kill():
            acked.update(line.split())

    storage = SqliteStorage(path)
    await storage.open()
    rows = await asyncio.gather(*(storage.get("notes", key + half) for key in acked for half in "ab"))
    assert None not in rows
    assert len(rows) > 1000
    # Each run minted one incarnation; the first one that of the new store.
    assert len((await storage.info("notes")).head.lineage.entries) == KILLS
    await storage.close()
    assert check(storage, path) == 1


# --- several at once ---


async def test_readers_see_whole_transactions_while_the_writer_commits(storage: SqliteStorage) -> None:
    done = False

    async def write_on() -> None:
        nonlocal done
        for n in range(60):
            await storage.append([write(add(f"a{n}"), add(f"b{n}")), write(delete(f"a{n}"), add(f"c{n}"))], n)
        done = True

    async def follow() -> int:
        at, count = Seq(0), 0
        while not done or at < (await storage.info("notes")).head.seq:
            head = (await storage.info("notes")).head
            chunk = await storage.read("notes", at, head.seq)
            assert chunk.after == at
            assert all(row.last_seq <= head.seq for row in chunk.rows)
            count += len(chunk.rows)
            at = chunk.to
        return count

    _, *counts = await asyncio.gather(write_on(), follow(), follow(), follow())
    assert all(120 <= count <= 240 for count in counts)


async def test_a_read_that_waits_while_its_store_is_dropped_finds_no_store(storage: SqliteStorage) -> None:
    await storage.append([single(add("k1"))], 1)
    results = await asyncio.gather(
        storage.drop("notes"), *(storage.get("notes", "k1") for _ in range(50)), return_exceptions=True
    )
    assert all(isinstance(result, StoreUnknown | Record) for result in results[1:])
    with pytest.raises(StoreUnknown):
        await storage.get("notes", "k1")


async def test_an_append_whose_caller_is_cancelled_is_carried_out_or_not_but_never_half(
    storage: SqliteStorage,
) -> None:
    tasks = [asyncio.create_task(storage.append([write(add(f"a{n}"), add(f"b{n}"))], 1)) for n in range(20)]
    await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    head = (await storage.append([single(add("last"))], 1)).commits[0].head
    assert head.seq % 2 == 1
    assert head.count == head.seq


async def test_only_the_writer_can_write_or_checkpoint(storage: SqliteStorage) -> None:
    for reader in storage._readers:
        with pytest.raises(sqlite3.OperationalError):
            await reader.run(lambda connection: connection.execute("CREATE TABLE t(x)"))
        assert await reader.run(lambda c: c.execute("PRAGMA wal_autocheckpoint").fetchone()) == (0,)


async def test_every_commit_is_flushed(storage: SqliteStorage) -> None:
    assert storage._link is not None
    assert await storage._link.run(lambda c: c.execute("PRAGMA synchronous").fetchone()) == (2,)
    assert await storage._link.run(lambda c: c.execute("PRAGMA journal_mode").fetchone()) == ("wal",)


async def test_closing_leaves_one_file_with_everything_in_it(storage: SqliteStorage, path: Path) -> None:
    await storage.append([single(add("k1"))], 1)
    await storage.close()
    assert sorted(found.name for found in path.parent.iterdir()) == ["test.db", "test.db.lock"]


# --- SQLite itself ---


@pytest.mark.parametrize(
    ("version", "has_bug"),
    [
        ((3, 6, 23), False),
        ((3, 7, 0), True),
        ((3, 40, 1), True),
        ((3, 44, 5), True),
        ((3, 44, 6), False),
        ((3, 45, 0), True),
        ((3, 50, 6), True),
        ((3, 50, 7), False),
        ((3, 51, 2), True),
        ((3, 51, 3), False),
        ((3, 52, 0), False),
        ((4, 0, 0), False),
    ],
)
def test_versions_with_the_wal_reset_bug_are_known(version: tuple[int, int, int], has_bug: bool) -> None:
    assert sqlite_wal_bug(version) is has_bug


def test_the_description_names_file_version_and_durability(path: Path) -> None:
    description = SqliteStorage(path).description
    assert str(path) in description
    assert sqlite3.sqlite_version in description
    assert "synchronous=FULL" in description
    assert ("WAL-reset bug" in description) is sqlite_wal_bug(sqlite3.sqlite_version_info)


async def test_a_new_file_is_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    storage = SqliteStorage(path)
    await storage.open()
    await storage.create("notes", 0)
    modes = {file.name: file.stat().st_mode & 0o777 for file in tmp_path.glob("s.db*") if "lock" not in file.name}
    await storage.close()
    assert modes == {"s.db": 0o600, "s.db-wal": 0o600, "s.db-shm": 0o600}
