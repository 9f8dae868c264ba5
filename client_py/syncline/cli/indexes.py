"""`syncline indexes STORE`: what is indexed of a store; declare an index and watch it being built; drop one.

The server does the work behind everything else; to interrupt the command does not stop it.
"""

import sys

import click

from syncline.find import Index
from syncline.stores import Stores
from syncline_protocol.index import IndexKind

from .frame import notice, run
from .server import Server, server_options
from .table import json_option, show, time_of

__all__ = ["indexes"]


@click.group(invoke_without_command=True, subcommand_metavar="[list|declare|drop] ...")
@click.argument("store")
@server_options
@click.pass_context
def indexes(context: click.Context, server: Server, store: str) -> None:
    """List, declare and drop the indexes of a store. Without a command: list."""
    context.ensure_object(dict)["store"] = store
    if context.invoked_subcommand is None:
        run(_list(server, store, as_json=False))


@indexes.command("list")
@json_option
@server_options
@click.pass_context
def list_command(context: click.Context, server: Server, as_json: bool) -> None:
    """List the indexes: name, kind, path, how far it is."""
    run(_list(server, context.obj["store"], as_json))


@indexes.command()
@click.argument("name")
@click.argument("path")
@click.option(
    "--kind",
    type=click.Choice(["equality", "range", "multi"]),
    default="equality",
    show_default=True,
    help="range: also for ranges, prefixes and order; multi: each element of an array.",
)
@server_options
@click.pass_context
def declare(context: click.Context, server: Server, name: str, path: str, kind: IndexKind) -> None:
    """Declare an index on a PATH of the value, and wait until it has everything.

    PATH is a JSON Pointer: /author/name is "name" in "author". One that is there already is left as it is.
    """
    run(_declare(server, context.obj["store"], name, path, kind))


@indexes.command()
@click.argument("name")
@server_options
@click.pass_context
def drop(context: click.Context, server: Server, name: str) -> None:
    """Drop an index. The records stay."""
    run(_drop(server, context.obj["store"], name))


async def _list(server: Server, store: str, as_json: bool) -> None:
    async with server.http() as http:
        found = await Stores(http).indexes(store)
    if not found and not as_json:
        notice(f"{store} has no index; `syncline indexes {store} declare NAME PATH` makes one")
    show(found, as_json, ("NAME", "KIND", "PATH", "STATE", "DECLARED"), _columns)


def _columns(index: Index) -> tuple[str, ...]:
    return index.name, index.kind, index.path or '""', _state_of(index), time_of(index.created)


def _state_of(index: Index) -> str:
    return "ready" if index.state == "ready" else f"building, {index.done} of {index.total}"


async def _declare(server: Server, store: str, name: str, path: str, kind: IndexKind) -> None:
    is_shown = sys.stderr.isatty()
    async with server.http() as http:
        index = await Stores(http).declare_index(store, name, path, kind, _show_progress if is_shown else None)
    # The line of the progress is written over.
    clear = "\r\x1b[K" if is_shown else ""
    notice(f"{clear}the index {name} of {store} is ready, on {index.path or 'the whole value'}, kind {index.kind}")


def _show_progress(index: Index) -> None:
    percent = 100 * index.done // index.total if index.total else 0
    bar = "#" * (percent * 30 // 100)
    click.echo(f"\r\x1b[K{index.name}  [{bar:<30}] {percent:>3} %  {index.done} of {index.total}", err=True, nl=False)


async def _drop(server: Server, store: str, name: str) -> None:
    async with server.http() as http:
        was = await Stores(http).drop_index(store, name)
    notice(f"dropped the index {name} of {store}, it was on {was.path or 'the whole value'}")
