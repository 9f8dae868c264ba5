"""A process that builds an index in the smallest steps until it is killed.

Run as a module it is given the path of a file. Between the steps it deletes a record and adds one, and after each it
prints a line: how far the index is.
"""

import asyncio
import sys

from syncline_protocol import DEFAULT_LIMITS, Transaction
from syncline_protocol.index import IndexSpec
from syncline_protocol.transaction import make_op
from syncline_server.storage.sqlite import SqliteStorage

ROOM = IndexSpec("room", "/room")


async def build_for_ever(path: str) -> None:
    """Build the index `room` of the store `notes`, whose records are `k0`, `k1` and so on."""
    storage = SqliteStorage(path)
    await storage.open()
    await storage.create_index("notes", ROOM, 1)
    while True:
        info = await storage.build_index("notes", ROOM.name, 0.0)
        head = (await storage.info("notes")).head
        ops = (
            make_op(f"k{2 * info.done}", None, DEFAULT_LIMITS),
            make_op(f"new{head.seq}", b'{"room":"new"}', DEFAULT_LIMITS),
        )
        await storage.append([Transaction("notes", (op,), False, None, True) for op in ops], 1)
        print(info.done, flush=True)


if __name__ == "__main__":
    asyncio.run(build_for_ever(sys.argv[1]))
