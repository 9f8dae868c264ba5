"""What is read from the outbox of a file that lies there: whole, in use, left by a crash, or damaged."""

import asyncio
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from syncline.errors import LocalFileError, LocalFileFailed, LocalFileInvalid, LocalFileTooNew
from syncline.replica.database import Database
from syncline.replica.entry import Entry, EntryOp
from syncline.replica.salvage import Salvage, salvage
from syncline.replica.schema import FORMAT_VERSION, Identity
from syncline.replica.step import DropEntry, Place, SaveEntries
from tests.client.replica.golden import format_1

PAGE = 4096
COUNT = 600


def entry(number: int) -> Entry:
    """An entry; one in fifty takes several pages."""
    text = '"%s"' % (f"{number} " * (5000 if number % 50 == 0 else 30))
    return Entry(number, (EntryOp(f"e{number}", text),), 1_795_400_000_000)


ALL = {number: entry(number) for number in range(1, COUNT + 1) if number % 7}


async def _make(path: str) -> None:
    db = await Database.open(path, Identity("notes", ""))
    await db.commit([SaveEntries([entry(number) for number in range(1, COUNT + 1)])], Place())
    await db.commit([DropEntry(number) for number in range(1, COUNT + 1) if number % 7 == 0], Place())
    await db.close()


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A file with an outbox of some hundred pages."""
    path = tmp_path_factory.mktemp("sound") / "notes.db"
    asyncio.run(_make(str(path)))
    return path.read_bytes()


def entries(result: Salvage, *, loose: bool) -> dict[int, Entry]:
    return {number: found.entry for number, found in result.found.items() if found.is_loose is loose}


def read(path: Path) -> Salvage:
    """Salvage a file; nothing in its directory changes."""
    before = contents(path.parent)
    try:
        return salvage(str(path))
    finally:
        assert contents(path.parent) == before


def contents(directory: Path) -> dict[str, bytes]:
    """Return every file; of the memory that SQLite shares there may be a newer version."""
    files = [file for file in directory.iterdir() if file.is_file() and not file.name.endswith("-shm")]
    return {file.name: file.read_bytes() for file in files}


def root_page(content: bytes, tmp_path: Path) -> int:
    path = tmp_path / "root.db"
    path.write_bytes(content)
    db = sqlite3.connect(path)
    (page,) = db.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'outbox'").fetchone()
    db.close()
    return int(page)


def damaged(content: bytes, page: int, filling: bytes = b"\xff") -> bytes:
    """Return a file with one page overwritten."""
    return content[: (page - 1) * PAGE] + filling * PAGE + content[page * PAGE :]


# --- whole files ---


def test_a_file_of_format_1_is_read_whole(tmp_path: Path) -> None:
    result = read(Path(shutil.copy(format_1.FILE, tmp_path / "notes.db")))
    assert result.identity == format_1.IDENTITY
    assert result.faults == []
    assert list(entries(result, loose=False).values()) == format_1.ENTRIES + format_1.SYNCED
    assert entries(result, loose=True) == {}


def test_a_file_in_a_directory_that_nobody_may_write_to_is_read(sound: bytes, tmp_path: Path) -> None:
    path = tmp_path / "what?mode=rw #1.db"
    path.write_bytes(sound)
    path.chmod(0o444)
    tmp_path.chmod(0o555)
    result = read(path)
    tmp_path.chmod(0o755)
    assert (entries(result, loose=False), result.faults) == (ALL, [])


_WRITE_ON = """
import asyncio, sys
from syncline.replica.database import Database
from syncline.replica.entry import Entry, EntryOp
from syncline.replica.schema import Identity
from syncline.replica.step import Place, SaveEntries

async def main():
    db = await Database.open(sys.argv[1], Identity("notes", ""))
    number = 0
    while True:
        number += 2
        pair = [Entry(each, (EntryOp(f"e{each}", "1"),), 0) for each in (number - 1, number)]
        await db.commit([SaveEntries(pair)], Place())
        await db.tidy()
        if number == 100:
            print("writes", flush=True)

asyncio.run(main())
"""


def test_a_file_that_a_program_writes_to_is_read_as_it_is_at_one_moment(tmp_path: Path) -> None:
    path = tmp_path / "notes.db"
    process = subprocess.Popen([sys.executable, "-c", _WRITE_ON, str(path)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "writes\n"
        before = 100
        for _ in range(50):
            result = salvage(str(path))
            numbers = sorted(entries(result, loose=False))
            assert (numbers, result.faults) == (list(range(1, len(numbers) + 1)), [])
            assert len(numbers) >= before
            assert len(numbers) % 2 == 0
            before = len(numbers)
        assert process.poll() is None
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    left = {file.name for file in tmp_path.iterdir()}
    result = read(path)
    assert len(entries(result, loose=False)) >= before, "also what is only in the log of the crash"
    assert {file.name for file in tmp_path.iterdir()} == left
    db = asyncio.run(Database.open(str(path), Identity("notes", "")))
    assert len(db.load().entries) == len(result.found)
    asyncio.run(db.close())


def test_an_empty_file_has_nothing(tmp_path: Path) -> None:
    (tmp_path / "notes.db").touch()
    result = read(tmp_path / "notes.db")
    assert (result.found, result.faults, result.identity) == ({}, [], None)


# --- damaged files ---


def test_what_one_lost_page_takes_with_it_is_no_more_than_what_was_in_it(sound: bytes, tmp_path: Path) -> None:
    path = tmp_path / "notes.db"
    most = 0
    for page in range(1, len(sound) // PAGE + 1):
        path.write_bytes(damaged(sound, page))
        result = read(path)
        found = entries(result, loose=False) | entries(result, loose=True)
        lost = ALL.keys() - found.keys()
        most = max(most, len(lost))
        assert all(found[number] == ALL[number] for number in found if number in ALL)
        assert not lost or result.faults
        for number in lost:
            assert is_named(number, result.faults), (page, number, result.faults)
    assert 5 < most < 40


def is_named(number: int, faults: list[str]) -> bool:
    """Whether the faults say that an entry may be missing."""
    for fault in faults:
        words = fault.split()
        if words[0] == "entry" and int(words[1]) == number:
            return True
        if words[0] == "entries" and words[1] == "from" and int(words[2]) <= number:
            return True
        if words[0] == "entries" and words[2] == "to" and int(words[1]) <= number <= int(words[3]):
            return True
    return False


@pytest.mark.parametrize("filling", [b"\0", b"\xff"])
def test_without_the_first_page_everything_is_found_loose(sound: bytes, tmp_path: Path, filling: bytes) -> None:
    path = tmp_path / "notes.db"
    path.write_bytes(damaged(sound, 1, filling))
    result = read(path)
    found = entries(result, loose=True)
    assert ALL.items() <= found.items()
    assert entries(result, loose=False) == {}
    assert result.faults[0].startswith("the file is damaged or no replica")
    assert "entries from 1 on may be missing" in result.faults


def test_without_the_root_of_the_outbox_everything_is_found_loose(sound: bytes, tmp_path: Path) -> None:
    path = tmp_path / "notes.db"
    path.write_bytes(damaged(sound, root_page(sound, tmp_path)))
    (tmp_path / "root.db").unlink()
    result = read(path)
    assert result.identity == Identity("notes", "")
    assert ALL.items() <= entries(result, loose=True).items()


def test_of_a_file_that_was_cut_off_the_rest_is_found(sound: bytes, tmp_path: Path) -> None:
    path = tmp_path / "notes.db"
    path.write_bytes(sound[: len(sound) // PAGE // 2 * PAGE])
    result = read(path)
    found = entries(result, loose=False) | entries(result, loose=True)
    assert len(found) > COUNT // 4
    assert all(found[number] == ALL[number] for number in found if number in ALL)
    assert result.faults


async def test_what_is_only_in_the_log_is_found_though_the_file_is_lost(tmp_path: Path) -> None:
    db = await Database.open(str(tmp_path / "notes.db"), Identity("notes", ""))
    await db.commit([SaveEntries([entry(number) for number in range(1, 101)])], Place())
    copy = tmp_path / "copy"
    copy.mkdir()
    log = bytearray((tmp_path / "notes.db-wal").read_bytes())
    # The part of a transaction that was not committed is none.
    log += log[32 : 32 + 24 + PAGE]
    (copy / "notes.db-wal").write_bytes(log)
    (copy / "notes.db").write_bytes(b"\xff" * 2 * PAGE)
    await db.close()
    result = read(copy / "notes.db")
    found = entries(result, loose=False) | entries(result, loose=True)
    assert found == {number: entry(number) for number in range(1, 101)}


@pytest.mark.parametrize("text", [b'{"id":5,"ops":{', b'{"id":5,"ops":\xff', b'{"id":4,"ops":[', b'{"id":5,"opt":['])
def test_a_damaged_entry_is_left_out_and_named(sound: bytes, tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "notes.db"
    path.write_bytes(sound.replace(b'{"id":5,"ops":[', text))
    result = read(path)
    assert ALL.keys() - result.found.keys() == {5}
    assert result.faults == ["entry 5 may be missing"]
    assert entries(result, loose=True) == {}


def test_random_damage_costs_entries_and_nothing_else(sound: bytes, tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    path = tmp_path / "notes.db"
    for _ in range(60):
        content = bytearray(sound)
        for _ in range(chance.choice([1, 20, 500])):
            content[chance.randrange(len(content))] = chance.randrange(256)
        path.write_bytes(content)
        try:
            result = read(path)
        except (LocalFileInvalid, LocalFileTooNew):
            continue
        assert all(number == found.entry.id for number, found in result.found.items())


# --- what is none ---


def test_what_is_no_database_has_nothing_and_says_so(tmp_path: Path) -> None:
    for content in (b"hello", b"x" * 100_000, random.randbytes(50_000), b"SQLite format 3\0" + b"\xff" * 90_000):
        path = tmp_path / "notes.db"
        path.write_bytes(content)
        result = read(path)
        assert (result.found, bool(result.faults)) == ({}, True)


def refusal(path: Path) -> LocalFileError:
    with pytest.raises(LocalFileError) as caught:
        read(path)
    assert str(path) in str(caught.value)
    return caught.value


def test_files_of_other_programs_and_later_versions_and_missing_ones_are_refused(sound: bytes, tmp_path: Path) -> None:
    path = tmp_path / "notes.db"
    path.write_bytes(sound)
    db = sqlite3.connect(path)
    db.execute(f"PRAGMA user_version = {FORMAT_VERSION + 1}")
    db.commit()
    db.close()
    assert isinstance(refusal(path), LocalFileTooNew)
    other = tmp_path / "other.db"
    db = sqlite3.connect(other)
    db.execute("CREATE TABLE outbox (id INTEGER PRIMARY KEY)")
    db.close()
    assert isinstance(refusal(other), LocalFileInvalid)
    assert isinstance(refusal(tmp_path / "missing.db"), LocalFileFailed)
    (tmp_path / "empty").mkdir()
    assert isinstance(refusal(tmp_path / "empty"), LocalFileFailed)
