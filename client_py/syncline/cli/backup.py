"""`syncline backup`: lets the server make a backup of itself, and takes it away.

The backup is the server's own file, for `syncline restore`; administrators only. What any program can read is `dump`.
"""

import asyncio
import os
import sys
from pathlib import Path

import click
import msgspec

from syncline.errors import SynclineError
from syncline.http import HttpApi

from .frame import REFUSED, SERVER_FAILED, Stop, notice, run
from .server import Server, server_options
from .table import json_option, plain, show, time_of

__all__ = ["backup"]

#: How often it is looked at.
_EVERY_S = 0.25


class _Backup(msgspec.Struct, frozen=True):
    name: str
    kind: str
    state: str
    time: int
    done: int = 0
    total: int = 0
    bytes: int = 0
    error: str = ""


class _Backups(msgspec.Struct, frozen=True):
    backups: tuple[_Backup, ...]


_OUTPUT = click.option(
    "-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="Download it to this file, or not at all."
)


@click.group(invoke_without_command=True)
@_OUTPUT
@server_options
@click.pass_context
def backup(context: click.Context, server: Server, output: Path | None) -> None:
    """Make a backup of the whole server, and wait until it was checked. Administrators only.

    It stays in the server's directory for backups. Put it back with `syncline restore`.
    """
    if context.invoked_subcommand is None:
        run(_make(server, output))


@backup.command("list")
@json_option
@server_options
def list_command(server: Server, as_json: bool) -> None:
    """List the backups that the server keeps, the newest first."""
    found = run(_list(server))
    show(
        found,
        as_json,
        ("NAME", "MADE", "STATE", "BYTES"),
        lambda it: (it.name, time_of(it.time), f"{it.state} {it.error}".strip(), str(it.bytes or "-")),
    )


@backup.command()
@click.argument("name")
@_OUTPUT
@server_options
def download(server: Server, name: str, output: Path | None) -> None:
    """Download a backup. One that was broken off goes on where it stopped."""
    run(_download(server, name, output or Path(Path(name).name)))


async def _list(server: Server) -> tuple[_Backup, ...]:
    async with server.http() as http:
        return (await http.request("GET", "backups", kind=_Backups)).backups


async def _make(server: Server, output: Path | None) -> None:
    async with server.http() as http:
        made = await http.request("POST", "backups", kind=_Backup)
        shown = ""
        while made.state in ("copying", "checking"):
            if made.state != shown:
                shown = made.state
                notice(f"{made.name}: {shown}")
            _show_progress(made)
            await asyncio.sleep(_EVERY_S)
            made = await http.request("GET", "backups", made.name, kind=_Backup)
        _clear()
    if made.state != "ready":
        raise Stop(SERVER_FAILED, f"there is no backup: {plain(made.error)}")
    if output is not None:
        await _download(server, made.name, output)
    else:
        notice(f"made and checked: {made.bytes} bytes")
        click.echo(made.name)


def _show_progress(made: _Backup) -> None:
    if sys.stderr.isatty() and made.total:
        click.echo(f"\r\x1b[K{made.state} {100 * made.done // made.total} %", err=True, nl=False)


def _clear() -> None:
    if sys.stderr.isatty():
        click.echo("\r\x1b[K", err=True, nl=False)


async def _download(server: Server, name: str, output: Path) -> None:
    part = _Part(output, name)
    try:
        async with server.http() as http:
            await _fetch(http, name, part)
        notice(f"downloaded {name}: {part.finish()} bytes")
    finally:
        part.close()


async def _fetch(http: HttpApi, name: str, part: "_Part") -> None:
    async with http.pieces("backups", name, "file", first=part.size) as (first, total, pieces):
        part.begin_at(first)
        try:
            async for piece in pieces:
                part.write(piece)
        except SynclineError as error:
            raise Stop(SERVER_FAILED, f"broken off after {part.size} bytes: {error}; run it again to go on") from error
    if part.size != total:
        raise Stop(SERVER_FAILED, f"broken off after {part.size} of {total} bytes; run it again to go on")


class _Part:
    """A file that is being downloaded beside its place. It stays if that breaks off, for the next try.

    Raises Stop: there is a file in its place.
    """

    def __init__(self, output: Path, name: str) -> None:
        if output.exists():
            raise Stop(REFUSED, f"{output} is there already; name another file, or remove it")
        self._output = output
        self._path = output.with_name(f".{output.name}.{name}.part")
        # Hashes of passwords are in it.
        self._descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self.size = os.fstat(self._descriptor).st_size

    def begin_at(self, first: int) -> None:
        """Forget what is there from this byte on."""
        os.ftruncate(self._descriptor, first)
        os.lseek(self._descriptor, first, os.SEEK_SET)
        self.size = first

    def write(self, piece: bytes) -> None:
        """Append."""
        rest = memoryview(piece)
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]
        self.size += len(piece)

    def finish(self) -> int:
        """Give it its name. Returns its size."""
        os.fsync(self._descriptor)
        os.rename(self._path, self._output)
        return self.size

    def close(self) -> None:
        """Let go of it."""
        os.close(self._descriptor)
