"""A history that a server is about to lose, with what is ours and what is not; for the tests of what comes then."""

import asyncio

from syncline import Replica, Write
from tests.client.fake_server import FakeServer
from tests.client.replica.holding import caught_up, is_equal, until
from tests.client.waiting import soon

__all__ = ["AFTER", "begin", "come_back", "cut"]

#: What lives once a server that was restored to 8 has got back what is ours.
AFTER = ["old1", "old3", "old4", "old5", "old6", "old8", "ours", "ours2"]


async def cut(server: FakeServer, replica: Replica) -> None:
    """Break the connections."""
    for connection in list(server.connections):
        await connection.drop()
    await until(lambda: not replica.is_caught_up)


async def come_back(server: FakeServer, replica: Replica) -> None:
    """Wait until the replica is what the server is."""
    await until(lambda: is_equal(replica, server))


async def begin(server: FakeServer, replica: Replica) -> list[Write]:
    """Make a history of 14: six records of others, then what a restore to 8 will lose.

    Lost are an ADD and a DELETE of ours, a transaction of ours, an ADD and a DELETE of others.
    """
    for number in range(1, 9):
        server.notes.commit(f"old{number}", b"%d" % number)
    await caught_up(replica)
    await server.publish()
    ours = [await replica.add(1, "ours"), await replica.delete("old2")]
    await soon(asyncio.gather(*[write.synced() for write in ours]))
    server.notes.commit("theirs", b"1")
    server.notes.commit("old5", None)
    await server.publish()
    ours.append(await replica.replace("old7", 2, "ours2"))
    await soon(ours[-1].synced())
    await come_back(server, replica)
    assert server.notes.head == 14
    return ours
