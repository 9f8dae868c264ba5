"""Files of earlier formats: they open, with everything that is in their outbox, and can be written to."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

import syncline
from syncline import SyncState
from syncline.replica.database import Database
from syncline.replica.schema import FORMAT_VERSION
from syncline_protocol.cursor import Seq
from tests.client.replica.golden import format_1, format_2

NOWHERE = "http://127.0.0.1:1"

each_format = pytest.mark.parametrize("file", [format_1.FILE, format_2.FILE], ids=lambda file: file.stem)


def copy(file: Path, tmp_path: Path) -> str:
    return str(shutil.copy(file, tmp_path / "notes.db"))


@each_format
async def test_a_file_of_each_format_is_read_to_the_letter(file: Path, tmp_path: Path) -> None:
    db = await Database.open(copy(file, tmp_path), format_1.IDENTITY)
    saved = db.load()
    assert saved.place == format_1.PLACE
    assert saved.entries == format_1.ENTRIES
    assert db.synced_entries() == format_1.SYNCED
    assert saved.last_entry_id == 7
    assert {row.key: row.text for row in db.page(Seq(0), 100)} == format_1.SHOWN
    authors = {row.key: row.by for row in db.page(Seq(0), 100) if row.by is not None}
    assert authors == (format_2.AUTHORS if file is format_2.FILE else {})
    assert (saved.tally.count, saved.tally.shown_count) == (4, 4)
    assert not db.holds_built("k2")
    assert db.holds_built("k6")
    await db.close()


@each_format
async def test_a_replica_of_each_format_goes_on_with_its_outbox(file: Path, tmp_path: Path) -> None:
    path = copy(file, tmp_path)
    async with syncline.connect(NOWHERE, wait=False) as client:
        replica = await client.replica("notes", path)
        assert [write.id for write in replica.pending] == [1, 2, 3, 4]
        assert [write.id for write in replica.rejections] == [6]
        assert {key: replica.state(key) for key in ("e2", "e5", "k4")} == {
            "e2": SyncState.PENDING,
            "e5": SyncState.ACKED,
            "k4": SyncState.SYNCED,
        }
        assert {record.key for record in replica} == {"k2", "k4", "e1", "e2", "d/a/4", "e5"}
        assert (await replica.add("later", "e8")).id == 8
    async with syncline.connect(NOWHERE, wait=False) as client:
        replica = await client.replica("notes", path)
        assert "e8" in replica


async def test_the_tables_of_a_format_never_change(tmp_path: Path) -> None:
    assert FORMAT_VERSION == 2, "keep a file of the new format too, and what leads from the old one to it"
    new = str(tmp_path / "new.db")
    await format_2.write(new)
    assert tables(new) == tables(copy(format_2.FILE, tmp_path)), "another table is another format: a new FORMAT_VERSION"


async def test_a_file_of_an_earlier_format_becomes_one_of_this_and_no_earlier_version_opens_it(tmp_path: Path) -> None:
    path = copy(format_1.FILE, tmp_path)
    for _ in range(2):
        await (await Database.open(path, format_1.IDENTITY)).close()
    assert tables(path) == tables(str(format_2.FILE))
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (2,)


def tables(path: str) -> dict[str, str]:
    with closing(sqlite3.connect(path)) as db:
        return dict(db.execute("SELECT name, sql FROM sqlite_schema"))
