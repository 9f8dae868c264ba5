"""A replica's file of format 2, kept so that later versions show that they open it; and what is in it.

`python -m tests.client.replica.golden.format_2` made the file. It is not to be made again once the format is in use:
what a later version writes is another file. It has what that of format 1 has, and authors.
"""

import asyncio
from pathlib import Path

import msgspec

from syncline.replica.database import Database
from syncline.replica.step import Apply, Place, SaveEntries, SavePlace, Step
from syncline_protocol.cursor import Seq
from syncline_protocol.messages import Change
from tests.client.replica.golden.format_1 import ENTRIES, IDENTITY, PLACE, SHOWN, SYNCED, TIME

__all__ = ["AUTHORS", "FILE", "write"]

FILE = Path(__file__).with_name("format-2.replica")
AUTHORS = {"k1": "alice", "k4": "jwt:bob"}


async def write(path: str) -> None:
    """Write the file with the code as it is now."""
    db = await Database.open(path, IDENTITY)
    added = [
        Change(Seq(n), "ADD", key, TIME + n, _raw(text), AUTHORS.get(key))
        for n, (key, text) in enumerate(SHOWN.items(), 1)
    ]
    shown = Place("store-1", "inc1:4", "inc1:0", horizon=Seq(4))
    await _commit(db, shown, Apply(1, added, None), SaveEntries(ENTRIES + SYNCED))
    staged = [Change(Seq(5), "DELETE", "k2", TIME + 5), Change(Seq(6), "ADD", "k6", TIME + 6, _raw("6"))]
    await _commit(db, PLACE, Apply(1, staged, Seq(4)))
    await db.close()


async def _commit(db: Database, place: Place, *steps: Step) -> None:
    await db.commit([*steps, SavePlace(place)], place)
    db.refresh()


def _raw(text: str) -> msgspec.Raw:
    return msgspec.Raw(text.encode())


if __name__ == "__main__":
    assert not FILE.exists(), f"{FILE} is not to be made again"
    asyncio.run(write(str(FILE)))
    FILE.with_name(FILE.name + "-lock").unlink()
