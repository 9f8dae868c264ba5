"""A process that appends until it is killed, again and again.

For each line on its standard input, `PATH NAME`, it forks a child that opens the file, prints `ready PID` and then,
one line each, the keys of each append that was acknowledged. When the child is dead it prints `gone`. A line is one
write to a pipe, so a kill never cuts one. The forks save starting Python for every kill.
"""

import asyncio
import os
import sys

from syncline_protocol import DEFAULT_LIMITS, Transaction
from syncline_protocol.transaction import make_op
from syncline_server.storage.base import Outcome
from syncline_server.storage.sqlite import SqliteStorage


async def append_for_ever(path: str, name: str) -> None:
    """Append to the store `notes`, in batches of 1 to 40 WRITEs of two ADDs each."""
    storage = SqliteStorage(path)
    await storage.open()
    await storage.create("notes", 1)
    print("ready", os.getpid(), flush=True)
    for number in range(1_000_000):
        keys = [f"{name}-{number}-{n}" for n in range(1 + number % 40)]
        writes = [
            Transaction("notes", tuple(make_op(key + half, b'"' + b"y" * 200 + b'"', DEFAULT_LIMITS) for half in "ab"))
            for key in keys
        ]
        appended = await storage.append(writes, number)
        assert all(isinstance(outcome, Outcome) and outcome.status == "ok" for outcome in appended.outcomes)
        print(*keys, flush=True)


if __name__ == "__main__":
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            asyncio.run(append_for_ever(*line.split()))
        os.waitpid(child, 0)
        print("gone", flush=True)
