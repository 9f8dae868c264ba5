"""`syncline diff`: what changed in a store between two positions.

A line is a change: `+` for a record that was added and was still there at the later position, `-` for one that was
there at the earlier one and was deleted.
"""

import sys

import click
import msgspec

from syncline.past import Difference

from .duration import parse_position
from .frame import run
from .server import Server, server_options

__all__ = ["diff"]


@click.command()
@click.argument("store")
@click.argument("since", metavar="FROM")
@click.argument("to", default="now")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line, with what deleted records held.")
@server_options
def diff(server: Server, store: str, since: str, to: str, as_json: bool) -> None:
    """Show which records came and went between two positions, by default up to now.

    FROM and TO are times, as 2026-01-31T12:00Z or 2h and 7d ago, seqs, or cursors. What came and went in between is
    left out.
    """
    run(_diff(server, store, parse_position(since), parse_position(to), as_json))


async def _diff(server: Server, store: str, since: str, to: str, as_json: bool) -> None:
    async with server.http() as http, http.diff(store, since, to) as changes:
        async for change in changes:
            sys.stdout.buffer.write(_json_of(change) if as_json else _line_of(change))
    sys.stdout.buffer.flush()


def _line_of(change: Difference) -> bytes:
    key = msgspec.json.encode(change.key)
    if change.op == "ADD":
        return b"+ %b %b\n" % (key, bytes(change.raw))
    return b"- %b%b\n" % (key, b"" if change.old is None else b" " + bytes(change.old.raw))


def _json_of(change: Difference) -> bytes:
    members = {name: value for name, value in msgspec.structs.asdict(change).items() if value is not None}
    raw = members.pop("raw")
    if change.op == "ADD":
        members["value"] = raw
    return msgspec.json.encode(members) + b"\n"
