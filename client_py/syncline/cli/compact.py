"""`syncline compact`: clean a store up now, and watch how far it is.

The server does the work, in small steps between the writes of others; to interrupt the command does not stop it.
"""

import sys

import click
import msgspec

from syncline.stores import Stores
from syncline.upkeep import CleanUp

from .frame import SERVER_FAILED, Stop, notice, run
from .server import Server, server_options

__all__ = ["compact"]


@click.command()
@click.argument("store")
@click.option("--dry-run", is_flag=True, help="Only say what would be dropped.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")
@server_options
def compact(server: Server, store: str, dry_run: bool, as_json: bool) -> None:
    """Drop what is left of deleted records, as far as the store's settings let it go.

    The server does so by itself when there is much of it; `syncline stores show` tells when it looks next.
    """
    run(_estimate(server, store, as_json) if dry_run else _compact(server, store, as_json))


async def _estimate(server: Server, store: str, as_json: bool) -> None:
    async with server.http() as http:
        found = await Stores(http).estimate(store)
    if as_json:
        click.echo(msgspec.json.encode(found))
        return
    click.echo(f"{found.values} values and {found.tombstones} tombstones would go, {found.bytes} bytes")


async def _compact(server: Server, store: str, as_json: bool) -> None:
    async with server.http() as http:
        done = await Stores(http).compact(store, _show_progress)
    if done.error:
        raise Stop(SERVER_FAILED, f"the clean-up of {store} failed: {done.error}; the server tries again later")
    if as_json:
        click.echo(msgspec.json.encode(done))
        return
    click.echo(f"{done.values} values and {done.tombstones} tombstones went, {done.bytes} bytes")
    if done.expired:
        click.echo(f"{done.expired} records were deleted by age")


def _show_progress(done: CleanUp) -> None:
    if not sys.stderr.isatty():
        return
    total = done.values_total + done.tombstones_total
    notice(f"{done.values + done.tombstones} of {total}" if total else "looking for what is to go")
