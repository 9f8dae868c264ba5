"""A client with a replica that writes until it is killed, and notes what it does in a journal.

`python -m benchmarks.mortal_client URL REPLICA JOURNAL SEED WRITES [NUMBER…]` makes so many writes, one after the other
in each lane; a NUMBER is where a lane goes on. A line of the journal is written before a write is asked for (`intent`),
and another one once it is stored (`returned`); what is in the journal survives the end of the process. Then it waits.
With `finish` in place of WRITES it writes nothing, waits until the server has everything, and notes what it shows.
"""

import asyncio
import os
import random
import sys
import time
from collections.abc import Iterator

import msgspec

import syncline
from syncline import Add, Delete, Json, Replica

__all__ = ["LANES", "Line", "Op"]

LANES = 4

#: How long a lane rests between two writes, at most.
_PAUSE_MAX_S = 0.04

_TIMEOUT_S = 120.0

#: Operation, key, and of an ADD the text of the value.
Op = tuple[str, str, str | None]


class Line(msgspec.Struct, omit_defaults=True):
    """A line of the journal: one of its fields is there.

    Attributes:
        opened_s: how long the replica took to open.
        intent: lane and number of a write that is about to be asked for; `ops` are its ops.
        returned: lane and number of a write that is stored.
        shown: key and text of a record at the end.
        ended: everything is written, or was noted.
        rejected: how many writes were rejected, at the end.
    """

    opened_s: float | None = None
    intent: tuple[int, int] | None = None
    ops: list[Op] = []
    returned: tuple[int, int] | None = None
    shown: tuple[str, str] | None = None
    ended: bool = False
    rejected: int | None = None


class Journal:
    """The journal. A line is one call to the kernel, so it is there whole or not at all."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def note(self, line: Line) -> None:
        os.write(self._file, msgspec.json.encode(line) + b"\n")


class Lane:
    """Writes one after the other, and deletes only what it has added itself."""

    def __init__(self, lane: int, number: int, replica: Replica, journal: Journal, chance: random.Random) -> None:
        self._lane = lane
        self._number = number
        self._replica = replica
        self._journal = journal
        self._chance = chance
        self._keys = [record.key for record in replica.find(prefix=f"w{lane}.")]

    async def write(self) -> None:
        """Make the next write."""
        ops = self._next_ops()
        name = (self._lane, self._number)
        self._number += 1
        self._journal.note(Line(intent=name, ops=ops))
        await self._replica.write([Delete(key) if text is None else Add(key, Json(text)) for _, key, text in ops])
        self._journal.note(Line(returned=name))
        self._keys += [key for op, key, _ in ops if op == "ADD"]
        await asyncio.sleep(self._chance.uniform(0, _PAUSE_MAX_S))

    def _next_ops(self) -> list[Op]:
        kind = self._chance.random()
        if kind < 0.55 or not self._keys:
            return [self._add(0)]
        if kind < 0.7:
            return [self._add(part) for part in range(3)]
        delete: Op = ("DELETE", self._keys.pop(self._chance.randrange(len(self._keys))), None)
        return [delete] if kind < 0.85 else [delete, self._add(0)]

    def _add(self, part: int) -> Op:
        text = f'{{"n": {self._number}.{part}0, "pad": "{"x" * self._chance.randrange(300)}"}}'
        return ("ADD", f"w{self._lane}.{self._number}.{part}", text)


async def main(url: str, path: str, journal_path: str, seed: str, writes: str, *numbers: str) -> None:
    journal = Journal(journal_path)
    async with syncline.connect(url, wait=False) as client:
        began = time.perf_counter()
        replica = await client.replica("bench", path)
        len(replica)
        journal.note(Line(opened_s=time.perf_counter() - began))
        if writes == "finish":
            await _finish(replica, journal)
            return
        left = iter(range(int(writes)))
        lanes = [
            Lane(lane, int(number), replica, journal, random.Random(f"{seed}.{lane}"))
            for lane, number in enumerate(numbers)
        ]
        await asyncio.gather(*[_write_on(lane, left) for lane in lanes])
        journal.note(Line(ended=True))
        await asyncio.Event().wait()


async def _write_on(lane: Lane, left: Iterator[int]) -> None:
    # All lanes take from the same.
    for _ in left:
        await lane.write()


async def _finish(replica: Replica, journal: Journal) -> None:
    await replica.wait_caught_up(_TIMEOUT_S)
    await replica.flush(_TIMEOUT_S)
    # What is acknowledged has still to come back with the feed.
    async with asyncio.timeout(_TIMEOUT_S):
        async for _ in replica.watch():
            if all(record.state is syncline.SyncState.SYNCED for record in replica):
                break
    for record in replica:
        journal.note(Line(shown=(record.key, record.text)))
    journal.note(Line(rejected=len(replica.rejections), ended=True))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
