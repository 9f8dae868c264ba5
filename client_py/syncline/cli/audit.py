"""`syncline audit`: look at the audit log of a server, take a copy of it, and check that nobody altered it.

The check is made here, of the exact texts that were kept or that the server sent, and needs no trust in the server
beyond the head that somebody noted elsewhere. A line of an export is one entry, as it is in the log.
"""

import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, BinaryIO

import click
import msgspec

from syncline.http import HttpApi
from syncline_protocol.audit import (
    ENTRY_BYTES_MAX,
    AuditBroken,
    AuditHead,
    Verified,
    Verifier,
    decode_entry,
    parse_head,
)

from .frame import REFUSED, Stop, fail, notice, run
from .server import Server, server_options
from .table import plain, time_of
from .whole_file import whole_file

__all__ = ["audit"]

#: So many entries `show` shows if it is not told where to begin, and asks for at once.
_SHOWN = 50
_PAGE = 500


class _Page(msgspec.Struct):
    """An answer of the server: entries as their exact texts, and the end of the log."""

    entries: tuple[msgspec.Raw, ...]
    head: AuditHead


def _heads_of(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> tuple[AuditHead, ...]:
    try:
        return tuple(parse_head(value) for value in values)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


@click.group()
def audit() -> None:
    """Look at the audit log, copy it, and check that it was not altered."""


@audit.command()
@click.argument("file", type=click.File("rb"), required=False)
@click.option(
    "--head",
    "heads",
    callback=_heads_of,
    multiple=True,
    metavar="N:HASH",
    help="A head that was noted elsewhere; the log has to hold it. May be given several times.",
)
@server_options
def verify(server: Server, file: BinaryIO | None, heads: tuple[AuditHead, ...]) -> None:
    """Check that no entry was altered, left out, put in or moved.

    FILE is an export, - is stdin; without it the log is read from the server. Prints how many entries there are, from
    when to when, and the head. If the log is broken, names the first entry that is, with the exit code 1.
    """
    verified = _verified(_verify_file(file, heads) if file else _verify_served(server, heads))
    for line in _lines_of(verified):
        click.echo(line)
    if not heads:
        notice("whether the newest entries were cut off only shows against a head that was noted elsewhere: see --head")


@audit.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, allow_dash=True))
@server_options
def export(server: Server, file: Path) -> None:
    """Write the whole log to FILE, or - for stdout, one entry a line, and verify it on the way.

    The file appears under its name only when it is whole. A log that is broken is written too, as it is evidence; the
    exit code is 1 then.
    """
    verified = _verified(_export(server, file))
    notice("exported " + ", ".join(_lines_of(verified)))


@audit.command()
@click.option("--after", type=int, metavar="N", help=f"Begin behind this entry; by default with the newest {_SHOWN}.")
@click.option("--json", "as_json", is_flag=True, help="The exact text of each entry, one per line.")
@server_options
def show(server: Server, after: int | None, as_json: bool) -> None:
    """Print entries: number, time, outcome, action, who, to what, from where, and details."""
    run(_show(server, after, as_json))


async def _verify_file(file: BinaryIO, heads: tuple[AuditHead, ...]) -> Verified:
    verifier = Verifier(*heads)
    while line := file.readline(ENTRY_BYTES_MAX + 2):
        if text := line.rstrip(b"\r\n"):
            verifier.take(text)
    return verifier.finish()


async def _verify_served(server: Server, heads: tuple[AuditHead, ...]) -> Verified:
    async with server.http() as http:
        # The head comes before the entries, so that it is among them whatever is recorded meanwhile.
        verifier = Verifier((await _page(http, None, 1)).head, *heads)
        async with http.lines("audit") as lines:
            async for text in lines:
                verifier.take(text)
    return verifier.finish()


async def _export(server: Server, path: Path) -> Verified:
    async with server.http() as http:
        verifier = Verifier((await _page(http, None, 1)).head)
        if str(path) == "-":
            broken = await _copy(http, verifier, sys.stdout.buffer)
        else:
            with whole_file(path) as file:
                broken = await _copy(http, verifier, file)
    if broken is not None:
        raise broken
    return verifier.finish()


async def _copy(http: HttpApi, verifier: Verifier, file: BinaryIO) -> AuditBroken | None:
    """Write all entries, and go on behind one that is broken. Returns how the first one is."""
    broken: AuditBroken | None = None
    async with http.lines("audit") as lines:
        async for text in lines:
            file.write(text + b"\n")
            try:
                if broken is None:
                    verifier.take(text)
            except AuditBroken as error:
                broken = error
    file.flush()
    return broken


async def _show(server: Server, after: int | None, as_json: bool) -> None:
    async with server.http() as http:
        end = (await _page(http, None, 1)).head.n
        at = end - _SHOWN if after is None else after
        # What is recorded while we look, be it that we look, is not waited for.
        while at < end:
            for text in (await _page(http, at, min(_PAGE, end - at))).entries:
                click.echo(bytes(text) if as_json else _columns_of(bytes(text)))
            at += _PAGE


async def _page(http: HttpApi, after: int | None, limit: int) -> _Page:
    # A number below 0 is before the first entry, which is where the server begins without one.
    query = {"after": str(after) if after is not None and after >= 0 else None, "limit": str(limit)}
    return await http.request("GET", "audit", query=query, kind=_Page)


def _verified(work: Coroutine[Any, Any, Verified]) -> Verified:
    try:
        return run(work)
    except AuditBroken as error:
        fail(REFUSED, str(error))


def _lines_of(verified: Verified) -> list[str]:
    span = ""
    if verified.first_ms is not None and verified.last_ms is not None:
        span = f" from {time_of(verified.first_ms)} to {time_of(verified.last_ms)}"
    return [f"{verified.count} entries{span}", f"head {verified.head}"]


def _columns_of(text: bytes) -> str:
    try:
        entry = decode_entry(text)
    except ValueError as error:
        raise Stop(REFUSED, f"{error}; see `syncline audit verify`") from error
    columns = [f"{entry.n:>6}", time_of(entry.time), f"{entry.outcome:<7}", f"{entry.action:<17}"]
    columns.append(plain(entry.actor or "-"))
    columns += [plain(entry.subject)] if entry.subject is not None else []
    columns += [f"from {plain(entry.address)}"] if entry.address else []
    columns += [f"{plain(name)}={plain(value)}" for name, value in entry.detail.items()]
    return "  ".join(columns)
