"""Files that are damaged: whatever is in them, what comes of it is a named error, and nothing is invented."""

import asyncio
import random
import shutil
import sqlite3
from pathlib import Path

import msgspec
import pytest

from syncline.errors import LocalFileCorrupt, LocalFileError, LocalFileFailed, LocalFileInvalid, LocalFileTooNew
from syncline.replica.database import Contradiction, Database
from syncline.replica.entry import Entry, EntryOp, SyncState
from syncline.replica.schema import Identity
from syncline.replica.step import Apply, Place, SaveEntries, SavePlace
from syncline_protocol.cursor import Seq
from syncline_protocol.messages import Change

NOTES = Identity("notes", "")
PAGE = 4096
RECORDS = 150
ENTRIES = 60


def place(seq: int) -> Place:
    """Where a replica stands that shows everything up to a seq."""
    return Place("id-1", f"i:{seq}", "i", horizon=Seq(seq))


def added(seq: int) -> Change:
    return Change(Seq(seq), "ADD", f"k{seq}", 1_795_400_000_000, msgspec.Raw(b'"%b"' % (b"v" * 200)))


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sound file of about thirty pages."""
    path = tmp_path_factory.mktemp("sound") / "notes.db"
    asyncio.run(_make(str(path)))
    return path


async def _make(path: str) -> None:
    db = await Database.open(path, NOTES)
    entries = [Entry(number, (EntryOp(f"e{number}", '"%s"' % ("t" * 300)),), 0) for number in range(1, ENTRIES + 1)]
    entries[1] = entries[1].with_state(SyncState.SYNCED, at="i:1", seqs=(Seq(1),))
    here = place(RECORDS)
    changes = [added(seq) for seq in range(1, RECORDS + 1)]
    await db.commit([Apply(1, changes, None), SaveEntries(entries), SavePlace(here)], here)
    await db.close()


async def use(path: Path) -> None:
    """Open a file, read everything, write a little."""
    db = await Database.open(str(path), NOTES)
    try:
        db.load()
        db.synced_entries()
        db.synced_entry(2)
        for row in db.page(Seq(0), RECORDS):
            db.get(row.key)
        db.with_prefix("k")
        db.has("k1")
        db.holds_built("k2")
        here = place(RECORDS + 1)
        await db.commit([Apply(1, [added(RECORDS + 1)], None), SavePlace(here)], here)
        await db.commit([SaveEntries([Entry(99, (EntryOp("e99", "1"),), 0)])], here)
        db.load()
    except Contradiction:
        # What is held is taken for wrong, and the replica reads everything anew.
        pass
    finally:
        await db.close()


#: In the first page there is also what the file is, of which version, and whether it may be written to.
NAMED = (LocalFileCorrupt, LocalFileInvalid, LocalFileTooNew, LocalFileFailed)


async def outcome(path: Path) -> LocalFileError | None:
    """Use a damaged file; what goes wrong has a name and names the file."""
    try:
        await use(path)
    except NAMED as error:
        # In the text, and not only in `path`, which a log does not show.
        if str(path) in str(error):
            return error
        raise
    return None


async def test_a_sound_file_is_used_without_an_error(sound: Path, tmp_path: Path) -> None:
    path = Path(shutil.copy(sound, tmp_path))
    assert await outcome(path) is None


@pytest.mark.parametrize("filling", [b"\0", b"\xff", b"a"])
async def test_a_page_that_was_overwritten_is_found_when_it_is_needed(
    sound: Path, tmp_path: Path, filling: bytes
) -> None:
    content = sound.read_bytes()
    found = 0
    for at in range(0, len(content), PAGE):
        path = tmp_path / f"{at // PAGE}.db"
        path.write_bytes(content[:at] + filling * PAGE + content[at + PAGE :])
        found += await outcome(path) is not None
    assert found >= len(content) // PAGE * 3 // 4, "most of the pages are needed"


async def test_a_file_that_was_cut_off_is_damaged_wherever_it_ends(sound: Path, tmp_path: Path) -> None:
    content = sound.read_bytes()
    for size in [50, 100, PAGE - 1, *range(PAGE, len(content), PAGE), len(content) - 1]:
        path = tmp_path / f"{size}.db"
        path.write_bytes(content[:size])
        error = await outcome(path)
        assert isinstance(error, LocalFileCorrupt) or size == len(content) - 1, size


async def test_random_bytes_at_random_places_have_a_name_or_do_no_harm(sound: Path, tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    content = sound.read_bytes()
    found = 0
    for number in range(150):
        damaged = bytearray(content)
        for _ in range(chance.choice([1, 5, 50, 500])):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        path = tmp_path / f"{number}.db"
        path.write_bytes(damaged)
        found += await outcome(path) is not None
    assert found > 20


async def test_damaged_texts_of_the_replicas_own_are_damage_too(sound: Path, tmp_path: Path) -> None:
    content = sound.read_bytes()
    for name, (before, after) in enumerate(
        {
            b'{"store_id"': b'{"store_xx"',
            b'"horizon":150': b'"horizon":"no"'[:13],
            b'{"id":1,"ops"': b'{"id":1,\xff\xff\xff\xff\xff',
            b'{"id":3,"ops"': b'{"id":"3,ops"',
            b"CREATE TABLE generation": b"CREATE TABLE generatiox",
            b"CREATE TABLE outbox": b"CREATE TABLE outbux",
        }.items()
    ):
        assert content.count(before) >= 1, before
        assert len(before) == len(after)
        path = tmp_path / f"{name}.db"
        path.write_bytes(content.replace(before, after))
        error = await outcome(path)
        # An unknown field is none, as in every message.
        assert isinstance(error, LocalFileCorrupt) or before == b'{"store_id"', (before, error)


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM meta WHERE name = 'place'",
        "DELETE FROM meta WHERE name = 'store'",
        "UPDATE meta SET value = '{' WHERE name = 'place'",
        "DELETE FROM generation",
        "UPDATE generation SET missing = '5-3'",
        "DROP TABLE generation",
        "DROP TABLE outbox",
        "DROP TABLE records_1",
        "DROP TABLE meta",
        "UPDATE outbox SET entry = '[]' WHERE id = 5",
        "UPDATE outbox SET entry = CAST(x'ff' AS TEXT) WHERE id = 5",
        "UPDATE outbox SET entry = x'ff' WHERE id = 5",
        "PRAGMA user_version = 0",
    ],
)
async def test_a_file_that_lacks_what_every_replica_has_is_damaged(sound: Path, tmp_path: Path, statement: str) -> None:
    path = Path(shutil.copy(sound, tmp_path))
    with sqlite3.connect(path) as db:
        db.execute(statement)
    db.close()
    assert isinstance(await outcome(path), LocalFileCorrupt)
