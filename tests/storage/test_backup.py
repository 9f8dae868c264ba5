"""A copy of a store file while it is written to: of one moment, whole or not there, its owner's alone."""

import asyncio
import os
import sqlite3
import stat
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from syncline_server.checkup import examine
from syncline_server.storage.base import StorageUnavailable, Unsupported
from syncline_server.storage.memory import MemoryStorage
from syncline_server.storage.sqlite import SqliteStorage
from syncline_server.storage.sqlite_backup import open_snapshot

from .conftest import add, single, write


@pytest.fixture
async def storage(tmp_path: Path) -> AsyncIterator[SqliteStorage]:
    """An open storage with 4,000 records in two stores, some megabytes."""
    storage = SqliteStorage(tmp_path / "test.db")
    await storage.open()
    for store in ("left", "right"):
        await storage.create(store, 1)
        for first in range(0, 4000, 500):
            await storage.append([single(add(f"k{n}", "x" * 500), store) for n in range(first, first + 500)], 1)
    yield storage
    await storage.close()


def _log(path: Path, store: str) -> list[tuple[int, bytes]]:
    with closing(sqlite3.connect(path)) as connection:
        (id_,) = connection.execute("SELECT id FROM stores WHERE name = ?", (store,)).fetchone()
        return connection.execute(f"SELECT seq, CAST(change AS BLOB) FROM log_{id_} ORDER BY seq").fetchall()


def _faults(path: Path) -> list[str]:
    return [finding.text for finding in examine(str(path)) if finding.level == "fail"]


async def test_what_is_written_during_a_copy_is_not_in_it_and_does_not_begin_it_anew(
    storage: SqliteStorage, tmp_path: Path
) -> None:
    loop, written, steps = asyncio.get_running_loop(), 0, [0]

    async def write_in_both() -> None:
        nonlocal written
        written += 1
        await storage.append([write(add(f"w{written}"), store=store) for store in ("left", "right")], 2)

    def commit_between_two_steps(done: int, total: int) -> None:
        # The copy waits for a commit after each step, so that every one of them meets a file that has changed.
        assert done > steps[-1], "it began anew"
        steps.append(done)
        asyncio.run_coroutine_threadsafe(write_in_both(), loop).result()

    await storage.backup(str(tmp_path / "copy.db"), commit_between_two_steps)
    assert written == len(steps) - 1 > 3
    assert _faults(tmp_path / "copy.db") == []
    for store in ("left", "right"):
        copied, original = _log(tmp_path / "copy.db", store), _log(tmp_path / "test.db", store)
        assert copied == original[:4000], "both stores are as they were at the beginning"
        assert len(original) == 4000 + written


async def test_a_copy_is_one_file_that_only_its_owner_can_read(storage: SqliteStorage, tmp_path: Path) -> None:
    folder = tmp_path / "copies"
    folder.mkdir()
    await storage.backup(str(folder / "copy.db"))
    assert os.listdir(folder) == ["copy.db"]
    assert stat.S_IMODE((folder / "copy.db").stat().st_mode) == 0o600
    with closing(sqlite3.connect(folder / "copy.db")) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)


async def test_a_copy_can_be_served(storage: SqliteStorage, tmp_path: Path) -> None:
    await storage.backup(str(tmp_path / "copy.db"))
    copy = SqliteStorage(tmp_path / "copy.db")
    await copy.open()
    await copy.append([single(add("more"), "left")], 3)
    assert (await copy.info("left")).head.seq == 4001
    assert (await storage.info("left")).head.seq == 4000
    await copy.close()


async def test_a_file_that_is_there_is_left_alone(storage: SqliteStorage, tmp_path: Path) -> None:
    (tmp_path / "copy.db").write_text("mine")
    with pytest.raises(StorageUnavailable, match="is there already"):
        await storage.backup(str(tmp_path / "copy.db"))
    assert (tmp_path / "copy.db").read_text() == "mine"


async def test_a_copy_that_is_cancelled_leaves_nothing(storage: SqliteStorage, tmp_path: Path) -> None:
    folder = tmp_path / "copies"
    folder.mkdir()
    loop, has_begun = asyncio.get_running_loop(), asyncio.Event()

    def progress(done: int, total: int) -> None:
        loop.call_soon_threadsafe(has_begun.set)

    copying = asyncio.create_task(storage.backup(str(folder / "copy.db"), progress))
    await has_begun.wait()
    copying.cancel()
    with pytest.raises(asyncio.CancelledError):
        await copying
    assert os.listdir(folder) == []


async def test_a_directory_that_is_not_there_is_named(storage: SqliteStorage, tmp_path: Path) -> None:
    with pytest.raises(StorageUnavailable, match=r"gone/copy\.db: No such file"):
        await storage.backup(str(tmp_path / "gone" / "copy.db"))


async def test_a_storage_in_memory_has_no_copies(tmp_path: Path) -> None:
    storage = MemoryStorage()
    await storage.open()
    with pytest.raises(Unsupported):
        await storage.backup(str(tmp_path / "copy.db"))


async def test_a_snapshot_keeps_what_it_began_with(storage: SqliteStorage, tmp_path: Path) -> None:
    with closing(open_snapshot(str(tmp_path / "test.db"))) as snapshot:
        await storage.append([single(add("later"), "left")], 3)
        assert snapshot.execute("SELECT max(head_seq) FROM stores").fetchone() == (4000,)
