"""`syncline stores`: list, create, drop and look at stores."""

import sys
from contextlib import suppress
from datetime import UTC, datetime

import click
import msgspec

from syncline.errors import SynclineError
from syncline.http import HttpApi, StoreInfo

from .frame import notice, run
from .server import Server, server_options
from .store_settings import set_command, show_command
from .table import plain

__all__ = ["stores"]


@click.group(invoke_without_command=True)
@server_options
@click.pass_context
def stores(context: click.Context, server: Server) -> None:
    """List, create, drop and look at stores. Without a command: list."""
    if context.invoked_subcommand is None:
        run(_list(server, as_json=False))


@stores.command("list")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line.")
@server_options
def list_command(server: Server, as_json: bool) -> None:
    """List the stores: name, live records, last seq, when it was created."""
    run(_list(server, as_json=as_json))


@stores.command()
@click.argument("name")
@server_options
def create(server: Server, name: str) -> None:
    """Create a store. One that is there already is left as it is."""
    run(_create(server, name))


@stores.command()
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
@server_options
def drop(server: Server, name: str, yes: bool) -> None:
    """Drop a store with everything in it. Asks first if it is run on a terminal."""
    if not yes and sys.stdin.isatty():
        click.confirm(f"Drop the store {name} with all its records, for ever?", abort=True, err=True)
    run(_drop(server, name))


@stores.command()
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@server_options
def info(server: Server, name: str, as_json: bool) -> None:
    """Show a store: its id, head, number of live records and their digest."""
    run(_info(server, name, as_json))


stores.add_command(set_command)
stores.add_command(show_command)


async def _list(server: Server, *, as_json: bool) -> None:
    async with server.http() as http:
        found = await http.list_stores()
        # Where nobody has to log in no store has a role; if none is shown, only the server knows whether we have to.
        is_nobody = server.token is None and await _is_nobody(server, http, found)
    if is_nobody:
        more = "; there may be more than what everyone is shown" if found else ""
        notice(f"nobody is logged in{more}; log in with `syncline login`")
    if as_json:
        for store in found:
            click.echo(msgspec.json.encode(store))
        return
    if not found and not is_nobody:
        notice("there are no stores; create one with `syncline stores create NAME`")
    width = max((len(store.name) for store in found), default=0)
    for store in found:
        click.echo(f"{store.name:<{width}}  {store.count:>9} records  seq {store.seq:>9}  {_day_of(store.created)}")


async def _is_nobody(server: Server, http: HttpApi, found: list[StoreInfo]) -> bool:
    if found:
        return any(store.role is not None for store in found)
    with suppress(SynclineError):
        me = await server.accounts(http).me()
        return me.auth == "accounts" and me.user is None
    return False


async def _create(server: Server, name: str) -> None:
    async with server.http() as http:
        _, is_new = await http.create_store(name)
    notice(f"created {name}" if is_new else f"{name} is there already")


async def _drop(server: Server, name: str) -> None:
    async with server.http() as http:
        was = await http.drop_store(name)
    notice(f"dropped {name}, it had {was.count} records")


async def _info(server: Server, name: str, as_json: bool) -> None:
    async with server.http() as http:
        store = await http.store_info(name)
    if as_json:
        click.echo(msgspec.json.encode(store))
        return
    for label, value in _lines_of(store):
        click.echo(f"{label:<9} {value}")


def _lines_of(store: StoreInfo) -> list[tuple[str, str]]:
    return [
        ("name", store.name),
        ("store id", store.store_id),
        ("created", _day_of(store.created)),
        ("head", store.head),
        ("records", str(store.count)),
        ("digest", store.digest),
        *([("owners", ", ".join(store.owners))] if store.owners else []),
        *([("indexes", ", ".join(store.indexes))] if store.indexes else []),
        *([("says", plain(store.description))] if store.description else []),
    ]


def _day_of(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
