"""A to-do list that several terminals share, also offline: python todo.py FILE.

Each terminal has a file of its own. Type a line to add an item, `x 2` to tick the second one, `d 2` to delete it.
"""

import asyncio
import contextlib
import sys
from typing import Any

import syncline


def show(items: list[syncline.Document[Any]], status: syncline.ReplicaStatus) -> None:
    """Print the list, with a star at what the server does not have yet."""
    print(f"--- {status.state.value}, {status.pending} to be sent", flush=True)
    for number, item in enumerate(items, 1):
        tick = "x" if item.get("done") else " "
        star = "*" if item.state is syncline.SyncState.PENDING else ""
        print(f"{number:3} [{tick}] {item['text']}{star}", flush=True)


async def follow(replica: syncline.Replica, shown: list[syncline.Document[Any]]) -> None:
    """Print the list at first and after each change, whoever makes it."""
    async for items in replica.collection("todo").watch(order_by="place"):
        shown[:] = items
        show(shown, replica.status)


async def obey(line: str, replica: syncline.Replica, shown: list[syncline.Document[Any]]) -> None:
    """Do what one line asks for."""
    verb, _, number = line.partition(" ")
    if verb in ("x", "d") and number.isdigit() and 1 <= int(number) <= len(shown):
        item = shown[int(number) - 1]
        await (item.set(done=not item.get("done")) if verb == "x" else item.delete())
    elif line:
        last = shown[-1].get("place") if shown else None
        await replica.collection("todo").create(text=line, place=syncline.between(last, None))


async def main(path: str) -> None:
    """Run until the input ends."""
    async with syncline.connect(wait=False) as client, await client.replica("todo", path) as replica:
        shown: list[syncline.Document[Any]] = []
        following = asyncio.create_task(follow(replica, shown))
        while line := await asyncio.to_thread(sys.stdin.readline):
            with contextlib.suppress(syncline.DocumentGone):  # somebody else was faster with the delete
                await obey(line.strip(), replica, shown)
        following.cancel()
        with contextlib.suppress(syncline.FlushTimeout):  # what is left is sent the next time
            await replica.flush(timeout=2)


asyncio.run(main(sys.argv[1]))
