"""`syncline find` and `syncline follow`: records by an index or by their keys, and along references.

A line is the key, a tab and the value's own text; with `--json` one object with all there is. Keys that a terminal
would obey are shown escaped.
"""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import click
import msgspec

from syncline.find import Conditions, Found, Order, count
from syncline.find import find as question
from syncline.find import follow as followed
from syncline.record import Record
from syncline_protocol.filter_text import read_scalar

from .frame import notice, run
from .server import Server, server_options
from .table import plain

__all__ = ["find", "follow"]

C = TypeVar("C", bound=Callable[..., Any])

_json = click.option("--json", "as_json", is_flag=True, help="One JSON object per line: key, value, seq, time.")


def _scalar(name: str, text: str) -> Callable[[C], C]:
    return click.option(f"--{name}", metavar="SCALAR", help=text)


@click.command()
@click.argument("store")
@click.argument("index", required=False)
@_scalar("eq", "What the record has in the index: JSON if it is a scalar of it, else a string.")
@_scalar("ge", "The least that it has there; for an index of kind range, as the next four are.")
@_scalar("gt", "Less than it has there.")
@_scalar("le", "The most that it has there.")
@_scalar("lt", "More than it has there.")
@click.option("--prefix", metavar="TEXT", help="What the string begins with that it has there.")
@click.option("--key-prefix", metavar="TEXT", help="What its key begins with.")
@click.option("--refers-to", metavar="KEY", help="The key of a record that it names there.")
@click.option("--desc", is_flag=True, help="The last first.")
@click.option("--limit", type=click.IntRange(1), help="Show so many at most.")
@click.option("--count", "only_count", is_flag=True, help="Print only how many there are.")
@_json
@server_options
def find(server: Server, /, store: str, index: str | None, **options: Any) -> None:
    """Find live records by INDEX, in the order of what it has of them; without INDEX, in the order of their keys.

    5, true and null mean what they mean in JSON; the string 5 is written '"5"'.
    """
    if options["refers_to"] is not None and index is None:
        raise click.UsageError("--refers-to needs the INDEX in which the key stands")
    run(_find(server, store, index, options))


async def _find(server: Server, store: str, index: str | None, options: dict[str, Any]) -> None:
    conditions = _conditions_of(options)
    order: Order = "desc" if options["desc"] else "asc"
    query = question(store, index, order, conditions)
    async with server.http() as http:
        if options["only_count"]:
            click.echo(str(await count(http, query)))
            return
        shown = 0
        async for record in Found(http, query):
            _show(record, options["as_json"])
            shown += 1
            if shown == options["limit"]:
                break
    if not shown:
        notice("nothing was found")


def _conditions_of(options: dict[str, Any]) -> Conditions:
    scalars = {name: read_scalar(options[name]) for name in ("eq", "ge", "gt", "le", "lt") if options[name] is not None}
    texts = {name: options[name] for name in ("prefix", "key_prefix") if options[name] is not None}
    if options["refers_to"] is not None:
        if "eq" in scalars:
            raise click.UsageError("--refers-to says what --eq would say; give one of them")
        # A key is a string, also if it looks like a number.
        scalars["eq"] = options["refers_to"]
    return cast(Conditions, {**scalars, **texts})


@click.command()
@click.argument("store")
@click.argument("key")
@click.argument("index")
@_json
@server_options
def follow(server: Server, store: str, key: str, index: str, as_json: bool) -> None:
    """Show the records that one refers to: their keys stand in its value where INDEX looks."""
    run(_follow(server, store, key, index, as_json))


async def _follow(server: Server, store: str, key: str, index: str, as_json: bool) -> None:
    async with server.http() as http:
        found = await followed(http, store, key, index)
    for record in found:
        _show(record, as_json)
    if not found:
        notice(f"{key} refers to no live record there")


def _show(record: Record, as_json: bool) -> None:
    click.echo(msgspec.json.encode(record) if as_json else f"{plain(record.key)}\t{plain(record.text)}")
