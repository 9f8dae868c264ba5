"""Writes every change of a store into a file, and goes on where it stopped: python follow.py STORE FILE."""

import asyncio
import json
import os
import sys
from pathlib import Path

import syncline


def position_of(path: Path) -> tuple[str, str | None]:
    """Return the cursor and lineage of the last whole batch in the file, and cut off what follows it."""
    last, end, size = {"to": "start", "known": None}, 0, 0
    with path.open("a+b") as file:
        file.seek(0)
        for line in file:
            size += len(line)
            if line.startswith(b'{"to":') and line.endswith(b"\n"):
                last, end = json.loads(line), size
        file.truncate(end)
    return str(last["to"]), last.get("known")


async def follow(store: str, path: Path) -> None:
    """Append the changes of each batch to the file, then a line with the position that they reach."""
    cursor, known = position_of(path)
    async with syncline.connect() as client:
        changes = client.subscribe(store, after=cursor, known=known)
        with path.open("ab") as file:
            async for change in changes:
                file.write(change.to_json() + b"\n")
                if change.ends_batch:
                    file.write(json.dumps({"to": change.cursor, "known": changes.lineage}).encode() + b"\n")
                    file.flush()
                    os.fsync(file.fileno())


asyncio.run(follow(sys.argv[1], Path(sys.argv[2])))
