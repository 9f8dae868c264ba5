"""`syncline tail`: follow the changes of a store on stdout.

With `--json` stdout has one change a line, as it is on the wire, and nothing else: what happens to the connection goes
to stderr. Lines are written by a thread, so that a slow reader of the pipe does not keep the client from answering
the server; then the subscription's buffer fills, and it waits.
"""

import asyncio
import os
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import click

from syncline.client import Client
from syncline.errors import SubscriptionEnded
from syncline.event import Behind, CaughtUp, Change, Ended, Restarted, Rewound, SubscriptionEvent
from syncline.status import ConnectionState

from .frame import REFUSED, Stop, connected, notice, run
from .server import Server, server_options

__all__ = ["tail"]

#: Lines are handed to the pipe at the end of a batch, or when so many have come together.
_LINES_MAX = 1000


@click.command()
@click.argument("store")
@click.option("--after", default="start", show_default=True, metavar="CURSOR|start|now", help="Where to begin.")
@click.option("--json", "as_json", is_flag=True, help="One change per line, as JSON; nothing else on stdout.")
@server_options
def tail(server: Server, store: str, after: str, as_json: bool) -> None:
    """Follow the changes of a store, from its start or from a cursor, until it is interrupted.

    Connects again by itself, and goes on without a gap and without a repeat. Notices go to stderr.
    """
    run(_tail(server, store, after, as_json))


async def _tail(server: Server, store: str, after: str, as_json: bool) -> None:
    async with connected(server) as client:
        printing = asyncio.current_task()
        assert printing is not None
        reporting = asyncio.create_task(_report(client))
        try:
            with _watched_pipe(printing) as is_closed:
                await _print(client, store, after, as_json)
        except asyncio.CancelledError:
            if is_closed():
                raise BrokenPipeError from None
            raise
        finally:
            reporting.cancel()


async def _print(client: Client, store: str, after: str, as_json: bool) -> None:
    lines: list[bytes] = []
    async for event in client.subscribe(store, after=after).events():
        if not isinstance(event, Change):
            _tell(store, event)
            continue
        lines.append(event.to_json() if as_json else _columns_of(event))
        if event.ends_batch or len(lines) >= _LINES_MAX:
            await asyncio.to_thread(_write, b"\n".join(lines) + b"\n")
            lines.clear()


def _write(text: bytes) -> None:
    sys.stdout.buffer.write(text)
    sys.stdout.buffer.flush()


@contextmanager
def _watched_pipe(printing: asyncio.Task[object]) -> Iterator[Callable[[], bool]]:
    """Cancel `printing` when whoever reads from our stdout is gone.

    Without this, `syncline tail notes | head -1` would only end with the next change, which may never come.
    """
    closed = False

    def gone() -> None:
        nonlocal closed
        closed = True
        printing.cancel()

    loop = asyncio.get_running_loop()
    pipe = _stdout_pipe()
    if pipe is not None:
        # The end of a pipe that one writes to is never readable, except to say that nobody reads any more.
        loop.add_reader(pipe, gone)
    try:
        yield lambda: closed
    finally:
        if pipe is not None:
            loop.remove_reader(pipe)


def _stdout_pipe() -> int | None:
    """Return the descriptor of stdout if it is a pipe."""
    try:
        descriptor = sys.stdout.fileno()
        return descriptor if stat.S_ISFIFO(os.fstat(descriptor).st_mode) else None
    except (OSError, ValueError):
        return None


def _columns_of(change: Change) -> bytes:
    time = datetime.fromtimestamp(change.time / 1000, UTC).isoformat(sep=" ", timespec="milliseconds")[:-6]
    return f"{change.seq:>8}  {time}Z  {change.op:<6}  {change.key}  {change.text or ''}".rstrip().encode()


def _tell(store: str, event: SubscriptionEvent) -> None:
    match event:
        case CaughtUp(at, count):
            notice(f"{store}: caught up at {at}, {count} records")
        case Behind():
            notice(f"{store}: fell behind, catching up")
        case Rewound(keep_to):
            notice(f"{store}: the server's history changed; what was shown above seq {keep_to} is void")
        case Restarted(how="reconcile"):
            notice(f"{store}: what may be seen of it has changed; from here on all of that is shown again")
        case Restarted():
            notice(f"{store}: the server's history changed; from here on the whole store is shown again")
        case Ended(reason):
            raise Stop(REFUSED, str(SubscriptionEnded(store, reason)))


async def _report(client: Client) -> None:
    """Say when the connection is lost and when it is back."""
    was_lost = False
    async for status in client.statuses():
        if status.state is ConnectionState.OFFLINE and not was_lost:
            notice(f"offline: {status.reason}; trying again until it is back")
            was_lost = True
        elif status.state is ConnectionState.LIVE and was_lost:
            notice("connected again")
            was_lost = False
