"""`syncline load`: add records from NDJSON, many at a time; with `--all` a whole dump (`load_all`).

Each line is `{"key":…,"value":…}`. The key makes it safe to run again: what is there already is not added twice, so
after an interruption or an error the same command goes on. A server that restarts meanwhile is waited for.
"""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import click
import msgspec

from syncline.client import Client
from syncline.errors import SynclineError, WriteRefused
from syncline.value import Json

from .frame import INTERRUPTED, REFUSED, Stop, connected, notice, run
from .server import Server, server_options

__all__ = ["Tally", "add_lines", "load"]

#: So many adds are under way at once: enough to fill the server's commits, little enough to say where it stopped.
_IN_FLIGHT = 256

_READ_BYTES = 256 * 1024

#: No line that a server takes is longer: a value has at most 512 KiB, but blanks and escapes may surround it.
_LINE_BYTES_MAX = 8 * 1024 * 1024


class _Line(msgspec.Struct, forbid_unknown_fields=True):
    """What a line has to be."""

    key: str
    value: msgspec.Raw


_decode_line = msgspec.json.Decoder(_Line).decode


@dataclass
class Tally:
    """What became of the lines so far."""

    added: int = 0
    present: int = 0
    deleted: int = 0
    conflicts: int = 0

    def __str__(self) -> str:
        text = f"added {self.added}, already there {self.present}"
        if self.deleted:
            text += f" ({self.deleted} of them deleted since)"
        if self.conflicts:
            text += f", conflicts {self.conflicts}"
        return text


@click.command()
@click.argument("store")
@click.argument("file", type=click.File("rb"), required=False)
@click.option(
    "--all", "is_all", is_flag=True, help="Load the directory that `dump --all` wrote: syncline load --all DIR."
)
@server_options
def load(server: Server, store: str, file: BinaryIO | None, is_all: bool) -> None:
    """Add the records of FILE to a store; - is stdin.

    FILE has a line {"key":…,"value":…} for each record, as `dump` writes it. The store is created if it is missing.
    What is there already is left alone, so a load that was interrupted is simply run again. A line whose key holds
    another value is reported and counted as a conflict. A line that is wrong ends the load.
    """
    if is_all == (file is not None):
        raise click.UsageError("name a store and a file, or say --all and a directory")
    tally = Tally()
    if file is None:
        from .load_all import load_all  # which is made of what is here

        with _telling(tally):
            run(load_all(server, Path(store), tally))
        return
    size = _size_of(file)
    with (
        _telling(tally),
        click.progressbar(
            length=size or 1, label=f"loading {store}", hidden=not size or not sys.stderr.isatty(), file=sys.stderr
        ) as bar,
    ):
        run(_load(server, store, file, tally, bar.update))


@contextmanager
def _telling(tally: Tally) -> Iterator[None]:
    """Say at the end what was loaded, however that comes: it is loaded."""
    try:
        yield
    except SystemExit as end:
        notice(f"{tally}{'; run it again to go on' if end.code == INTERRUPTED else ''}")
        raise
    notice(str(tally))
    if tally.conflicts:
        sys.exit(REFUSED)


def _size_of(file: BinaryIO) -> int | None:
    """Return the bytes of a regular file."""
    try:
        return os.fstat(file.fileno()).st_size if file.seekable() else None
    except (OSError, ValueError):
        return None


async def _load(server: Server, store: str, file: BinaryIO, tally: Tally, progressed: Callable[[int], None]) -> None:
    async with server.http() as http:
        _, is_new = await http.create_store(store)
    if is_new:
        notice(f"created the store {store}")
    async with connected(server) as client:
        faults = await add_lines(client, store, file, tally, progressed)
    if faults:
        raise faults[0]


async def add_lines(
    client: Client, store: str, file: BinaryIO, tally: Tally, progressed: Callable[[int], None]
) -> list[Stop | SynclineError]:
    """Add line after line, up to the first fault. What is under way by then is waited for, so the tally is true."""
    faults: list[Stop | SynclineError] = []
    room = asyncio.Semaphore(_IN_FLIGHT)

    async def add(record: _Line, where: str) -> None:
        try:
            await _add(client, store, record, where, tally)
        except (Stop, SynclineError) as fault:
            faults.append(fault)
        finally:
            room.release()

    async with asyncio.TaskGroup() as adding:
        try:
            async for number, line in _lines_of(file, progressed):
                await room.acquire()
                if faults:
                    break
                where = f"{file.name}:{number}"
                adding.create_task(add(_record_of(line, where), where))
        except Stop as fault:
            faults.append(fault)
    return faults


async def _add(client: Client, store: str, record: _Line, where: str, tally: Tally) -> None:
    try:
        written = await client.add(store, Json(bytes(record.value).decode()), record.key)
    except WriteRefused as error:
        if error.status not in ("conflict", "gone"):
            raise Stop(REFUSED, f"{where}: {error}") from error
        was = "holds another value" if error.status == "conflict" else "held another value and was deleted"
        notice(f"{where}: conflict: the key {record.key!r} {was}")
        tally.conflicts += 1
        return
    tally.added += written.status == "ok"
    tally.present += written.status == "dup"
    tally.deleted += written.deleted is not None


def _record_of(line: bytes, where: str) -> _Line:
    try:
        return _decode_line(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        fault = str(error).partition(" - at `$")[0]
        raise Stop(REFUSED, f'{where}: {fault}; a line is {{"key":…,"value":…}}') from error


async def _lines_of(file: BinaryIO, progressed: Callable[[int], None]) -> AsyncIterator[tuple[int, bytes]]:
    """Yield the lines that are not empty, with their numbers."""
    number, rest = 0, b""
    while chunk := await _read(file):
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            number += 1
            if line.strip():
                yield number, line
        if len(rest) > _LINE_BYTES_MAX:
            raise Stop(REFUSED, f"{file.name}:{number + 1}: the line is longer than {_LINE_BYTES_MAX} bytes")
        progressed(len(chunk))
    if rest.strip():
        yield number + 1, rest


async def _read(file: BinaryIO) -> bytes:
    """Return what is there, rather than wait until a whole piece is.

    A pipe or terminal is only read when it has something: a thread that waits in a read cannot be interrupted, and
    would keep the command from ending.
    """
    try:
        descriptor = file.fileno()
    except (OSError, ValueError):
        return file.read(_READ_BYTES)
    readable = asyncio.Event()
    loop = asyncio.get_running_loop()
    try:
        loop.add_reader(descriptor, readable.set)
    except PermissionError:
        # Regular files cannot be waited for, and always have something.
        return os.read(descriptor, _READ_BYTES)
    try:
        await readable.wait()
    finally:
        loop.remove_reader(descriptor)
    return os.read(descriptor, _READ_BYTES)
