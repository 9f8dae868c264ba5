"""A database that tests fill, in this process or in another one that they kill."""

import os
import subprocess
import sys
from collections.abc import Callable

import msgspec

from syncline.replica.database import Database
from syncline.replica.schema import Identity
from syncline.replica.step import Apply, Place, SavePlace
from syncline_protocol.cursor import Seq
from syncline_protocol.messages import Change

__all__ = ["NOTES", "added", "apply", "fill", "hold", "place", "wal_bytes"]

NOTES = Identity("notes", "")


def added(seq: int, text: str = '{"a":1}') -> Change:
    """An ADD of the key that belongs to a seq."""
    return Change(Seq(seq), "ADD", f"k{seq}", 1_795_400_000_000, msgspec.Raw(text.encode()))


def place(seq: int) -> Place:
    """Where a replica stands that shows everything up to a seq."""
    return Place("id-1", f"i:{seq}", "i", horizon=Seq(seq))


async def apply(db: Database, *changes: Change) -> None:
    """Commit changes as the feed brings them, and let them be seen."""
    here = place(changes[-1].seq)
    await db.commit([Apply(1, list(changes), None), SavePlace(here)], here)
    db.refresh()


def wal_bytes(db: Database) -> int:
    assert db.path is not None
    return os.path.getsize(db.path + "-wal")


async def fill(db: Database, size: int, after_each: Callable[[], None] = lambda: None, group: int = 256 * 1024) -> None:
    """Commit about so many bytes, in groups, as the keeper does."""
    text = '"' + "x" * 1000 + '"'
    seq = db.load().tally.count
    for _ in range(0, size, group):
        await apply(db, *[added(seq + number, text) for number in range(1, group // 1000 + 1)])
        seq += group // 1000
        await db.tidy()
        after_each()


_HOLD = """
import asyncio, sys
from syncline.replica.database import Database
from syncline.replica.entry import Entry, EntryOp
from syncline.replica.schema import Identity
from syncline.replica.step import Place, SaveEntries

async def main():
    db = await Database.open(sys.argv[1], Identity("notes", ""))
    for number in range(1, int(sys.argv[2]) + 1):
        entry = Entry(number, (EntryOp(f"e{number}", '"' + "x" * 1000 + '"'),), 0)
        await db.commit([SaveEntries([entry])], Place())
    print("holds it", flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


def hold(path: str, entries: int = 0) -> "subprocess.Popen[str]":
    """Have another process open the file, put entries into it, and keep it open."""
    command = [sys.executable, "-c", _HOLD, path, str(entries)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "holds it\n"
    return process
