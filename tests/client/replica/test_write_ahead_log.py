"""The write-ahead log of a replica: it stays short, and what a crash leaves in it is recovered."""

import itertools
import os
import signal
from pathlib import Path

import pytest

from syncline.replica.database import Database
from syncline.replica.local_file import WAL_BYTES_MAX
from tests.client.replica.filling import NOTES, fill, hold, wal_bytes


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "notes.db")


@pytest.mark.parametrize("group", [64 * 1024, 4 * 1024 * 1024])
async def test_the_log_stays_short_over_100_mb_of_writes_though_a_reader_is_pinned(path: str, group: int) -> None:
    db = await Database.open(path, NOTES)
    sizes: list[int] = []
    await fill(db, 100 * 1024 * 1024, lambda: sizes.append(wal_bytes(db)), group)
    assert max(sizes) <= WAL_BYTES_MAX + 2 * group
    assert os.path.getsize(path) > 90 * 1024 * 1024
    await db.close()


async def test_the_log_is_written_back_once_in_a_while_and_not_after_every_commit(path: str) -> None:
    db = await Database.open(path, NOTES)
    grown: list[int] = []
    await fill(db, 40 * 1024 * 1024, lambda: grown.append(os.path.getsize(path)), 64 * 1024)
    checkpoints = sum(1 for before, after in itertools.pairwise(grown) if after > before)
    assert 3 <= checkpoints <= 12
    await db.close()


async def test_after_one_huge_transaction_the_log_becomes_short_again(path: str) -> None:
    db = await Database.open(path, NOTES)
    await fill(db, 30 * 1024 * 1024, group=30 * 1024 * 1024)
    assert wal_bytes(db) > 30 * 1024 * 1024
    await fill(db, 1024 * 1024)
    assert wal_bytes(db) <= WAL_BYTES_MAX
    await db.close()


async def test_a_log_of_many_megabytes_left_by_a_crash_is_recovered(path: str) -> None:
    process = hold(path, entries=3000)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert os.path.getsize(path + "-wal") > 20 * 1024 * 1024
    db = await Database.open(path, NOTES)
    assert len(db.load().entries) == 3000
    await db.close()


async def test_a_log_whose_end_was_cut_off_loses_no_more_than_what_stood_there(path: str) -> None:
    process = hold(path, entries=100)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    size = os.path.getsize(path + "-wal")
    os.truncate(path + "-wal", size // 2)
    db = await Database.open(path, NOTES)
    ids = [entry.id for entry in db.load().entries]
    assert ids == list(range(1, len(ids) + 1))
    assert 20 < len(ids) < 100
    await db.close()
