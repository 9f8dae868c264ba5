"""`syncline dump`: all live records of a store, as they are at one position; with `--all` those of every store.

A line is exactly `{"key":…,"value":…}` with the value's own text, which is what `load` takes. A file appears under its
name only when it is whole.
"""

import sys
from pathlib import Path
from typing import BinaryIO

import click
import msgspec

from .dump_all import dump_all
from .duration import at_option
from .frame import notice, run
from .server import Server, server_options
from .whole_file import whole_file

__all__ = ["dump"]

_FLUSH_BYTES = 256 * 1024


@click.command()
@click.argument("store", required=False)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Write to this file, or not at all; with --all a directory."
)
@click.option("--all", "is_all", is_flag=True, help="Every store, with its settings and indexes, into a directory.")
@at_option
@server_options
def dump(server: Server, store: str | None, output: Path | None, is_all: bool, at: str | None) -> None:
    """Write the live records of a store as NDJSON, for `load` or any other program.

    With --all, a dump that was interrupted goes on where it stopped when it is run again. Accounts are not in it.
    """
    if is_all == (store is not None):
        raise click.UsageError("name a store, or say --all")
    if is_all and at is not None:
        raise click.UsageError("--at names a position of one store, so it does not go with --all")
    if store is None:
        if output is None:
            raise click.UsageError("--all needs -o with a directory")
        run(dump_all(server, output))
        return
    if output is None:
        stdout = sys.stdout.buffer
        count, cursor = run(_dump(server, store, stdout, at))
    else:
        count, cursor = run(_dump_to_file(server, store, output, at))
    notice(f"dumped {count} records of {store} as they were at {cursor}")


async def _dump_to_file(server: Server, store: str, path: Path, at: str | None) -> tuple[int, str]:
    with whole_file(path) as file:
        return await _dump(server, store, file, at)


async def _dump(server: Server, store: str, file: BinaryIO, at: str | None) -> tuple[int, str]:
    """Write the records; returns how many, and of which position."""
    count = 0
    lines = bytearray()
    async with server.http() as http, http.records(store, at) as records:
        async for record in records:
            lines += b'{"key":%b,"value":%b}\n' % (msgspec.json.encode(record.key), bytes(record.raw))
            count += 1
            if len(lines) >= _FLUSH_BYTES:
                file.write(lines)
                lines.clear()
        file.write(lines)
        file.flush()
        return count, await records.cursor() or "an unknown position"
