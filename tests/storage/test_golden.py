"""Files of every format that there was open, at whatever statement a migration of theirs was broken off before.

`golden/format_N.sql` is what the program of that format wrote, as SQL. All hold the same three stores; that of format 3
has an index, the table of one that was dropped, settings, floors, and a sweep of clean-up that has just begun.
"""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from syncline_protocol import DEFAULT_LIMITS, Seq
from syncline_protocol.codec import decode_change
from syncline_protocol.index import TermRange, encode_term
from syncline_protocol.messages import OpResult
from syncline_protocol.transaction import make_op
from syncline_server.storage import sqlite_migration
from syncline_server.storage.base import Floors, Horizon, Outcome, Usage
from syncline_server.storage.sqlite import SqliteStorage
from syncline_server.storage.sqlite_migration import migrate
from syncline_server.storage.sqlite_schema import FORMAT

from .backends import Mint, check
from .conftest import add, single

GOLDEN = Path(__file__).parent / "golden"
FORMATS = range(1, FORMAT + 1)

#: What a walk over `notes` from the start gives, in every format.
WALK = ["+c", "+d", "+e", "+f"]
#: What comes behind the transaction that ends at 7.
BEHIND_7 = ["+e", "-é", "+f"]
VALUES = {"c": b'{"room":"r2"}', "d": b"[1,2]", "e": b'{"room":"r1"}', "f": b"null"}


def restore(path: Path, number: int) -> None:
    """Make a file of what was written in a format."""
    path.unlink(missing_ok=True)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.executescript((GOLDEN / f"format_{number}.sql").read_text())
        connection.execute("PRAGMA journal_mode = WAL").fetchall()


def keys_of(texts: list[bytes]) -> list[str]:
    """Each change as `+key` or `-key`."""
    return [("+" if change.op == "ADD" else "-") + change.key for change in map(decode_change, texts)]


async def assert_whole(path: Path, number: int) -> None:
    """Everything that was written is there, and can be gone on with."""
    storage = SqliteStorage(path, mint=Mint())
    await storage.open()
    try:
        infos = {info.name: info for info in await storage.stores()}
        assert {
            name: (info.store_id, info.created_ms, info.head.seq, info.head.count) for name, info in infos.items()
        } == {
            "notes": ("m2", 1000, 10, 4),
            "empty": ("m4", 1001, 0, 0),
            "other": ("m6", 1002, 2, 0),
        }
        assert infos["notes"].head.digest == 3732674571
        assert [entry.first_seq for entry in infos["notes"].head.lineage.entries] == [0, 8]
        for after, expected in ((0, WALK), (7, BEHIND_7)):
            rows = (await storage.read("notes", Seq(after), Seq(10))).rows
            assert keys_of([row.text for row in rows]) == expected
        for key, value in VALUES.items():
            record = await storage.get("notes", key)
            assert record is not None
            assert bytes(decode_change(record.text).value) == value  # type: ignore[arg-type]
        assert await storage.get("notes", "a") is None
        assert [*(await storage.live_set("notes", Seq(10))).ranges()] == [(5, 6), (8, 8), (10, 10)]
        assert await storage.usage("notes", "ada") == (Usage(3, 25) if number > 1 else Usage())
        if number == 3:
            assert infos["notes"].floors == Floors(Seq(9), Seq(4))
            assert (infos["notes"].settings.description, infos["notes"].settings.records_max) == ("golden", 100)
            r1 = encode_term("r1")
            found = await storage.find("notes", "room", TermRange(r1, r1 + b"\0"))
            assert [row.seq for row in found.rows] == [8]
        assert check(storage, path) == 3
        await _go_on(storage)
    finally:
        await storage.close()
    assert check(storage, path) == 3


async def _go_on(storage: SqliteStorage) -> None:
    """Write, clean up, and give back."""
    again = make_op("a", b'{"room":"r1"}', DEFAULT_LIMITS)
    outcomes = (await storage.append([single(again), single(add("g"))], 9000)).outcomes
    assert [outcome.ops[0] for outcome in outcomes if isinstance(outcome, Outcome)] == [
        OpResult("dup", Seq(1), Seq(4)),
        OpResult("ok", Seq(11)),
    ]
    while not (await storage.compact("notes", Horizon(Seq(11), Seq(11)), 0)).is_done:
        pass
    while await storage.reclaim(0):
        pass
    info = await storage.info("notes")
    assert (info.floors, info.sizes.dead_values, info.sizes.tombstones) == (Floors(Seq(9), Seq(9)), 0, 0)
    rows = (await storage.read("notes", Seq(0), Seq(11))).rows
    assert keys_of([row.text for row in rows]) == [*WALK, "+g"]


@pytest.mark.parametrize("number", FORMATS)
async def test_a_golden_file_opens_with_everything_that_was_written(tmp_path: Path, number: int) -> None:
    restore(tmp_path / "golden.db", number)
    await assert_whole(tmp_path / "golden.db", number)


class Killed(Exception):
    """The process is no more."""


class Mortal(sqlite3.Connection):
    """A connection whose process dies before a statement; it was told how many it has yet to live."""

    left = -1

    def execute(self, *arguments: Any) -> sqlite3.Cursor:
        if self.left == 0:
            raise Killed
        self.left -= 1
        return super().execute(*arguments)


def lives_through(path: Path, statements: int) -> bool:
    """Migrate a file, and die before that statement. Returns whether the migration was through by then."""
    connection = sqlite3.connect(path, isolation_level=None, factory=Mortal)
    connection.left = statements
    try:
        migrate(connection, FORMAT)
    except Killed:
        return False
    finally:
        # No statement of it can say ROLLBACK: what was not committed is gone, as with the process.
        connection.close()
    return True


@pytest.mark.parametrize("number", FORMATS[:-1])
async def test_a_migration_that_is_killed_before_any_statement_is_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    # So that there are several pieces.
    monkeypatch.setattr(sqlite_migration, "_ROWS_AT_ONCE", 4)
    path = tmp_path / "golden.db"
    statements = 0
    while True:
        restore(path, number)
        if lives_through(path, statements):
            break
        await assert_whole(path, number)
        statements += 1
    assert statements > 40, "there were many statements to die before"
    await assert_whole(path, number)


@pytest.mark.parametrize("number", FORMATS[:-1])
async def test_a_migration_that_is_killed_again_and_again_comes_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(sqlite_migration, "_ROWS_AT_ONCE", 1)
    path = tmp_path / "golden.db"
    restore(path, number)
    statements, deaths = 3, 0
    while not lives_through(path, statements):
        statements, deaths = statements + 1, deaths + 1
    assert deaths > 5
    await assert_whole(path, number)


async def test_the_golden_files_are_those_of_all_formats() -> None:
    assert sorted(file.name for file in GOLDEN.iterdir()) == [f"format_{number}.sql" for number in FORMATS]
