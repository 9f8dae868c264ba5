"""A backup takes the place of a store file: checked first, safe to be killed, and clients ahead of it are known."""

import asyncio
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from syncline_protocol.audit import decode_entry
from syncline_protocol.transaction import Transaction
from syncline_server.accounts.audit import AuditLog
from syncline_server.checkup import examine
from syncline_server.restore import BackupUnsound, Restored, restore
from syncline_server.storage.base import Outcome, StorageError, StorageLocked, StorageUnavailable
from syncline_server.storage.sqlite import SqliteStorage
from tests.storage.conftest import add, single

ROOT = Path(__file__).parents[2]
_NOW_MS = 1_800_000_000_000


def _restore(backup: Path, path: Path) -> Restored:
    return restore(str(backup), str(path), _NOW_MS, lambda what, done, total: None)


def _keys(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        (store,) = connection.execute("SELECT id FROM stores WHERE name = 'notes'").fetchone()
        return [key for (key,) in connection.execute(f"SELECT key FROM keys_{store} ORDER BY add_seq")]


async def _audit_log(storage: SqliteStorage) -> AuditLog:
    async def write(transaction: Transaction) -> Outcome | StorageError:
        return (await storage.append([transaction], 1)).outcomes[0]

    log = AuditLog(storage, write, lambda: 1)
    await log.open()
    return log


@pytest.fixture
async def path(tmp_path: Path) -> Path:
    """A store file with the keys a, b, c, and beside it `backup.db` of when there were a and b."""
    path = tmp_path / "live" / "test.db"
    path.parent.mkdir()
    storage = SqliteStorage(path)
    await storage.open()
    await storage.create("notes", 1)
    log = await _audit_log(storage)
    await log.record("server.start", actor=None)
    await log.close()
    await storage.append([single(add("a")), single(add("b"))], 1)
    await storage.backup(str(tmp_path / "backup.db"))
    await storage.append([single(add("c"))], 1)
    await storage.close()
    return path


@pytest.fixture
def backup(path: Path, tmp_path: Path) -> Path:
    """The backup."""
    return tmp_path / "backup.db"


def test_the_backup_is_in_place_and_the_old_file_is_kept_aside(path: Path, backup: Path) -> None:
    restored = _restore(backup, path)
    assert _keys(path) == ["a", "b"]
    assert restored.aside == f"{path}.before-20270115T080000Z"
    assert _keys(Path(restored.aside)) == ["a", "b", "c"]
    assert sorted(file.name for file in path.parent.iterdir()) == [
        "test.db", "test.db.before-20270115T080000Z", "test.db.lock"
    ]  # fmt: skip
    for file in (path, Path(restored.aside)):
        assert [finding.text for finding in examine(str(file)) if finding.level == "fail"] == []


def test_the_same_backup_may_be_restored_again_and_each_old_file_is_kept(path: Path, backup: Path) -> None:
    first, second = _restore(backup, path), _restore(backup, path)
    assert second.aside == f"{first.aside}-2"
    assert _keys(path) == ["a", "b"]


def test_what_was_kept_aside_can_be_restored(path: Path, backup: Path) -> None:
    restored = _restore(backup, path)
    assert restored.aside is not None
    _restore(Path(restored.aside), path)
    assert _keys(path) == ["a", "b", "c"]


def test_a_place_where_no_file_was_gets_one(backup: Path, tmp_path: Path) -> None:
    restored = _restore(backup, tmp_path / "fresh.db")
    assert restored.aside is None
    assert [info.name for info in restored.stores] == ["_audit", "notes"]
    assert _keys(tmp_path / "fresh.db") == ["a", "b"]


async def test_positions_above_the_backup_are_nobodys_however_the_server_goes_on(path: Path, backup: Path) -> None:
    storage = SqliteStorage(path)
    await storage.open()
    ahead = (await storage.info("notes")).head
    await storage.close()
    names = set()
    for _ in range(2):
        await asyncio.to_thread(_restore, backup, path)
        # It is started, written to, and started again before the client comes.
        for key in ("x", "y", "z"):
            storage = SqliteStorage(path)
            await storage.open()
            await storage.append([single(add(key))], 2)
            head = (await storage.info("notes")).head
            await storage.close()
        assert head.lineage.last_seq(ahead.lineage.current.incarnation, head.seq) == 2, "it shares a and b, and no more"
        names.add(head.cursor)
    assert len(names) == 2, "of two restores each has its own history"


async def test_the_audit_log_of_the_backup_says_that_it_was_restored(path: Path, backup: Path) -> None:
    await asyncio.to_thread(_restore, backup, path)
    storage = SqliteStorage(path)
    await storage.open()
    entries = [decode_entry(text) for text in await (await _audit_log(storage)).entries()]
    await storage.close()
    assert [(entry.action, entry.subject) for entry in entries] == [
        ("server.start", None),
        ("store.restore", "backup.db"),
    ]


# --- refusals ---


async def test_a_file_that_is_served_is_not_replaced(path: Path, backup: Path) -> None:
    storage = SqliteStorage(path)
    await storage.open()
    try:
        with pytest.raises(StorageLocked, match="is served by process"):
            await asyncio.to_thread(_restore, backup, path)
    finally:
        await storage.close()
    assert _keys(path) == ["a", "b", "c"]


def test_a_damaged_backup_is_refused_and_nothing_is_touched(path: Path, backup: Path) -> None:
    with closing(sqlite3.connect(backup)) as connection:
        connection.execute("UPDATE stores SET digest = 17 WHERE name = 'notes'")
        connection.commit()
    before = path.read_bytes()
    with pytest.raises(BackupUnsound, match="the head says 00000011"):
        _restore(backup, path)
    assert path.read_bytes() == before
    assert sorted(file.name for file in path.parent.iterdir()) == ["test.db", "test.db.lock"]


def test_a_backup_that_is_not_there_is_refused(path: Path, tmp_path: Path) -> None:
    with pytest.raises(BackupUnsound, match="cannot be opened"):
        _restore(tmp_path / "gone.db", path)


def test_a_file_is_no_backup_of_itself(path: Path) -> None:
    with pytest.raises(StorageUnavailable, match="is the store file itself"):
        _restore(path, path)


def test_a_damaged_store_file_gives_way_and_is_kept_with_its_wal(path: Path, backup: Path) -> None:
    path.write_bytes(b"no database at all" * 1000)
    path.with_name("test.db-wal").write_bytes(b"a WAL that nobody can read")
    restored = _restore(backup, path)
    assert restored.aside is not None
    assert Path(restored.aside).read_bytes().startswith(b"no database")
    assert Path(restored.aside + "-wal").read_bytes() == b"a WAL that nobody can read"
    assert _keys(path) == ["a", "b"]
    assert not path.with_name("test.db-wal").exists(), "it would be taken for one of the new file"


# --- kills ---


@pytest.mark.parametrize(
    ("step", "expected"), [("copied", "abc"), ("prepared", "abc"), ("aside", "abc"), ("replaced", "ab")]
)
def test_a_kill_leaves_the_old_file_or_the_new_one(path: Path, backup: Path, step: str, expected: str) -> None:
    program = [sys.executable, "-m", "tests.server.restoring_program", str(backup), str(path), step]
    assert subprocess.run(program, cwd=ROOT, check=False).returncode == -signal.SIGKILL
    assert [finding.text for finding in examine(str(path)) if finding.level == "fail"] == []
    assert "".join(_keys(path)) == expected
    _restore(backup, path)
    assert "".join(_keys(path)) == "ab"
    assert not list(path.parent.glob("*.restoring*")), "what the killed one left is gone"


def test_changes_that_were_still_in_the_wal_of_the_old_file_are_kept(path: Path, backup: Path, tmp_path: Path) -> None:
    # As a server leaves it that was killed: the newest change is in the WAL only.
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL").fetchall()
        connection.execute("UPDATE stores SET created_ms = 77 WHERE name = 'notes'")
        crashed = tmp_path / "crashed.db"
        for ending in ("", "-wal"):
            shutil.copy(f"{path}{ending}", f"{crashed}{ending}")
    assert Path(f"{crashed}-wal").stat().st_size > 0
    restored = _restore(backup, crashed)
    assert restored.aside is not None
    with closing(sqlite3.connect(restored.aside)) as connection:
        assert connection.execute("SELECT created_ms FROM stores WHERE name = 'notes'").fetchone() == (77,)
