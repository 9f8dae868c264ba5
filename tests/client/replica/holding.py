"""What the tests of a replica share: opening one, waiting for it, looking at all of it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import syncline
from syncline import Client, Replica
from syncline.client import OUTBOX_BYTES_MAX
from syncline.replica.replica import Restores
from syncline.replica.report import Report
from tests.client.fake_clock import FakeClock
from tests.client.fake_server import FakeServer
from tests.client.waiting import soon, turn

__all__ = ["Shown", "caught_up", "held", "is_equal", "keys", "reports_of", "shown", "turns", "until"]

Shown = list[tuple[str, int | None, str]]


@contextlib.asynccontextmanager
async def held(
    server: FakeServer,
    path: str | None,
    *,
    clock: FakeClock | None = None,
    prefix: str = "",
    outbox_bytes_max: int | None = None,
    restores: Restores = "own",
) -> AsyncIterator[Replica]:
    """A replica of `notes` on a client of its own, which connects when it can, and again at once.

    By default it puts back its own writes only: what others do after a restore is then up to the test.
    """
    clock = clock or FakeClock(chance=0.0)
    async with syncline.connect(server.url, wait=False, clock=clock) as client:
        yield await open_on(client, path, prefix=prefix, outbox_bytes_max=outbox_bytes_max, restores=restores)


async def open_on(
    client: Client,
    path: str | None,
    *,
    prefix: str = "",
    outbox_bytes_max: int | None = None,
    restores: Restores = "own",
) -> Replica:
    """Open a replica of `notes`; the fake server has no HTTP, so it is never created."""
    size = OUTBOX_BYTES_MAX if outbox_bytes_max is None else outbox_bytes_max
    return await client.replica("notes", path, prefix=prefix, create=False, outbox_bytes_max=size, restores=restores)


async def caught_up(replica: Replica) -> None:
    """Wait until the replica has caught up and every write has come back."""
    await soon(replica.wait_caught_up())


async def until(condition: Callable[[], object]) -> None:
    """Let the loop turn until something is so; fails if that takes too long."""
    async with asyncio.timeout(15):
        while not condition():
            await turn()


async def turns(count: int) -> None:
    """Let the loop turn so many times: enough for anything that is under way in it to happen."""
    for _ in range(count):
        await asyncio.sleep(0)


def shown(replica: Replica) -> Shown:
    """Return key, seq and text of every record, in the order of iteration."""
    return [(record.key, record.seq, record.text) for record in replica]


def keys(replica: Replica) -> list[str]:
    """Return the keys in the order of iteration."""
    return [record.key for record in replica]


def is_equal(replica: Replica, server: FakeServer) -> bool:
    """Say whether the replica shows what the server has, and has nothing under way."""
    return replica.is_caught_up and not replica.pending and shown(replica) == server.notes.contents()


def reports_of(replica: Replica) -> list[Report]:
    """Return a list that the reports come to."""
    reports: list[Report] = []
    replica.on_report(reports.append)
    return reports
