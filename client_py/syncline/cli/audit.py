"""`syncline audit`: look at the audit log of a server, take a copy of it, and check that nobody altered it.

The check is made here, of the exact texts that were kept or that the server sent, and needs no trust in the server
beyond the head that somebody noted elsewhere. A line of an export is one entry, as it is in the log.
"""

import sys
from collections.abc import Coroutine
from datetime import UTC, datetime
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

from .credentials import http_of, token_option
from .frame import REFUSED, Stop, fail, notice, run, url_option
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
@url_option
@token_option
def verify(url: str, token: str | None, file: BinaryIO | None, heads: tuple[AuditHead, ...]) -> None:
    """Check that no entry was altered, left out, put in or moved.

    FILE is an export, - is stdin; without it the log is read from the server. Prints how many entries there are, from
    when to when, and the head. If the log is broken, names the first entry that is, with the exit code 1.
    """
    verified = _verified(_verify_file(file, heads) if file else _verify_served(url, token, heads))
    for line in _lines_of(verified):
        click.echo(line)
    if not heads:
        notice("whether the newest entries were cut off only shows against a head that was noted elsewhere: see --head")


@audit.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, allow_dash=True))
@url_option
@token_option
def export(url: str, token: str | None, file: Path) -> None:
    """Write the whole log to FILE, or - for stdout, one entry a line, and verify it on the way.

    The file appears under its name only when it is whole. A log that is broken is written too, as it is evidence; the
    exit code is 1 then.
    """
    verified = _verified(_export(url, token, file))
    notice("exported " + ", ".join(_lines_of(verified)))


@audit.command()
@click.option("--after", type=int, metavar="N", help=f"Begin behind this entry; by default with the newest {_SHOWN}.")
@click.option("--json", "as_json", is_flag=True, help="The exact text of each entry, one per line.")
@url_option
@token_option
def show(url: str, token: str | None, after: int | None, as_json: bool) -> None:
    """Print entries: number, time, outcome, action, who, to what, from where, and details."""
    run(_show(url, token, after, as_json))


async def _verify_file(file: BinaryIO, heads: tuple[AuditHead, ...]) -> Verified:
    verifier = Verifier(*heads)
    while line := file.readline(ENTRY_BYTES_MAX + 2):
        if text := line.rstrip(b"\r\n"):
            verifier.take(text)
    return verifier.finish()


async def _verify_served(url: str, token: str | None, heads: tuple[AuditHead, ...]) -> Verified:
    async with http_of(url, token) as http:
        # The head comes before the entries, so that it is among them whatever is recorded meanwhile.
        verifier = Verifier((await _page(http, None, 1)).head, *heads)
        async with http.lines("audit") as lines:
            async for text in lines:
                verifier.take(text)
    return verifier.finish()


async def _export(url: str, token: str | None, path: Path) -> Verified:
    async with http_of(url, token) as http:
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


async def _show(url: str, token: str | None, after: int | None, as_json: bool) -> None:
    async with http_of(url, token) as http:
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
        span = f" from {_time_of(verified.first_ms)} to {_time_of(verified.last_ms)}"
    return [f"{verified.count} entries{span}", f"head {verified.head}"]


def _columns_of(text: bytes) -> str:
    try:
        entry = decode_entry(text)
    except ValueError as error:
        raise Stop(REFUSED, f"{error}; see `syncline audit verify`") from error
    columns = [f"{entry.n:>6}", _time_of(entry.time), f"{entry.outcome:<7}", f"{entry.action:<17}"]
    columns.append(_plain(entry.actor or "-"))
    columns += [_plain(entry.subject)] if entry.subject is not None else []
    columns += [f"from {_plain(entry.address)}"] if entry.address else []
    columns += [f"{_plain(name)}={_plain(value)}" for name, value in entry.detail.items()]
    return "  ".join(columns)


def _plain(text: str) -> str:
    """Return a text that a terminal shows and does not obey: whoever tried to log in may have chosen it."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _time_of(time_ms: int) -> str:
    try:
        return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    except (ValueError, OverflowError):
        return f"{time_ms} ms"
