"""A file of an older format is brought to the newest when it is opened, whole or not at all."""

import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from syncline_protocol import Seq
from syncline_protocol.digest import digest_term
from syncline_protocol.messages import OpResult
from syncline_protocol.transaction import Quota, hash_value
from syncline_server.storage import sqlite_migration
from syncline_server.storage.base import Outcome, StorageUnavailable, Usage
from syncline_server.storage.sqlite import SqliteStorage
from syncline_server.storage.sqlite_schema import APPLICATION_ID, FORMAT

from .backends import check
from .conftest import add, delete, single

#: What the first version made, word for word.
_FORMAT_1 = """
    CREATE TABLE meta(name TEXT PRIMARY KEY, value) WITHOUT ROWID;
    CREATE TABLE stores(
        id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, store_id TEXT NOT NULL,
        created_ms INTEGER NOT NULL, head_seq INTEGER NOT NULL, live_count INTEGER NOT NULL, digest INTEGER NOT NULL);
    CREATE TABLE lineage(
        store INTEGER NOT NULL, first_seq INTEGER NOT NULL, incarnation TEXT NOT NULL,
        PRIMARY KEY (store, first_seq)) WITHOUT ROWID;
    INSERT INTO meta VALUES ('format', 1);
"""
_STORE_OF_FORMAT_1 = """
    CREATE TABLE log_{id}(
        seq INTEGER PRIMARY KEY, last_seq INTEGER NOT NULL, partner INTEGER, change TEXT NOT NULL);
    CREATE TABLE keys_{id}(
        key TEXT PRIMARY KEY, add_seq INTEGER NOT NULL, delete_seq INTEGER, hash BLOB NOT NULL) WITHOUT ROWID;
    INSERT INTO lineage VALUES ({id}, 0, 'i{id}');
    INSERT INTO log_{id} VALUES (1, 1, 3, '{{"seq":1,"op":"ADD","key":"k1","value":"y","time":5}}');
    INSERT INTO log_{id} VALUES (2, 2, NULL, '{{"seq":2,"op":"ADD","key":"k2","value":"y","time":5}}');
    INSERT INTO log_{id} VALUES (3, 3, 1, '{{"seq":3,"op":"DELETE","key":"k1","time":6}}');
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file of format 1, with the stores `notes` and `other` of three changes each."""
    path = tmp_path / "test.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL").fetchall()
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.executescript(_FORMAT_1)
        digest = digest_term(Seq(2), "k2")
        for store, name in ((1, "notes"), (2, "other")):
            connection.executescript(_STORE_OF_FORMAT_1.format(id=store))
            connection.execute("INSERT INTO stores VALUES (?, ?, ?, 5, 3, 1, ?)", (store, name, f"s{store}", digest))
            keys = [("k1", 1, 3, hash_value(b'"y"')), ("k2", 2, None, hash_value(b'"y"'))]
            connection.executemany(f"INSERT INTO keys_{store} VALUES (?, ?, ?, ?)", keys)
    return path


def tables(path: Path) -> dict[str, list[str]]:
    """The columns of every table."""
    with closing(sqlite3.connect(path)) as connection:
        names = [name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        return {
            name: [" ".join(map(str, column)) for column in connection.execute(f"PRAGMA table_info({name})")]
            for name in names
        }


def format_of(path: Path) -> int:
    """The format that the file says it has."""
    with closing(sqlite3.connect(path)) as connection:
        (found,) = connection.execute("SELECT value FROM meta WHERE name = 'format'").fetchone()
        return int(found)


async def test_a_file_of_format_1_keeps_its_records_which_are_nobodys(path: Path) -> None:
    storage = SqliteStorage(path)
    await storage.open()
    assert [(info.name, info.head.cursor) for info in await storage.stores()] == [("notes", "i1:3"), ("other", "i2:3")]
    assert await storage.get("notes", "k1") is None
    assert await storage.get("notes", "k2") is not None
    assert await storage.usage("notes", "ada") == Usage()
    outcomes = (
        await storage.append(
            [
                single(add("k1", "y")),
                single(delete("k2", "ada"), by="ada"),
                single(add("k3", "y"), by="ada", quota=Quota(records_max=1)),
                single(add("k4", "y"), by="ada", quota=Quota(records_max=1)),
                single(delete("k2"), by="bob"),
            ],
            7,
        )
    ).outcomes
    assert [outcome.ops[0].status for outcome in outcomes if isinstance(outcome, Outcome)] == [
        "dup",
        "denied",
        "ok",
        "denied",
        "ok",
    ]
    assert isinstance(outcomes[0], Outcome)
    assert outcomes[0].ops == (OpResult("dup", Seq(1), Seq(3)),)
    assert await storage.usage("notes", "ada") == Usage(1, 5)
    await storage.close()
    assert check(storage, path) == 2


async def test_a_file_that_was_migrated_has_the_tables_of_a_new_one(path: Path, tmp_path: Path) -> None:
    fresh = tmp_path / "fresh.db"
    for file in (path, fresh):
        storage = SqliteStorage(file)
        await storage.open()
        for name in ("notes", "other"):
            await storage.create(name, 1)
        await storage.close()
        assert format_of(file) == FORMAT
    assert tables(path) == tables(fresh)


async def test_a_migration_that_fails_leaves_the_file_as_it_was(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = tables(path)

    def fail(connection: sqlite3.Connection) -> None:
        sqlite_migration._add_authors(connection)
        connection.execute("SELECT nonsense")

    monkeypatch.setitem(sqlite_migration._STEPS, 1, fail)
    with pytest.raises(StorageUnavailable, match="no such column: nonsense"):
        await SqliteStorage(path).open()
    assert (tables(path), format_of(path)) == (before, 1)
    monkeypatch.undo()
    storage = SqliteStorage(path)
    await storage.open()
    await storage.close()
    assert check(storage, path) == 2


async def test_a_process_that_is_killed_while_it_migrates_leaves_the_file_as_it_was(path: Path) -> None:
    before = tables(path)
    program = f"""
import asyncio, os, signal
from syncline_server.storage import sqlite_migration
from syncline_server.storage.sqlite import SqliteStorage
def die(connection):
    sqlite_migration._add_authors(connection)
    connection.execute("UPDATE meta SET value = 2")
    os.kill(os.getpid(), signal.SIGKILL)
sqlite_migration._STEPS[1] = die
asyncio.run(SqliteStorage({str(path)!r}).open())
"""
    done = subprocess.run([sys.executable, "-c", program], timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL
    assert (tables(path), format_of(path)) == (before, 1)
    storage = SqliteStorage(path)
    await storage.open()
    await storage.close()
    assert format_of(path) == FORMAT
    assert check(storage, path) == 2
