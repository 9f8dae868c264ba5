"""`syncline doctor`: looks at everything between here and the server, and says what to do about what is wrong.

Each check is one line: ok, warn or fail, what was found, and what to do. The checks go from near to far, and stop at
the first one that the others depend on.
"""

import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from importlib.metadata import version
from typing import Literal

import click

from syncline.client import connect
from syncline.errors import RequestRefused, SynclineError
from syncline.http import HttpApi
from syncline_protocol import SUBPROTOCOL

from .frame import OK, SERVER_FAILED, UNREACHABLE, run
from .server import Server, server_options

__all__ = ["doctor"]

#: The Date header has whole seconds, and the way takes some time too.
_CLOCK_DIFFERENCE_OK_S = 3.0


@dataclass(frozen=True)
class _Finding:
    """One line of the report; `code` is the exit code that it leads to, if it is a `fail`."""

    level: Literal["ok", "warn", "fail"]
    text: str
    todo: str = ""
    code: int = SERVER_FAILED


@click.command()
@server_options
def doctor(server: Server) -> None:
    """Check the way to the server, its storage and its clock."""
    sys.exit(run(_examine(server)))


async def _examine(server: Server) -> int:
    code = OK
    async with server.http() as http:
        async for finding in _findings(server, http):
            click.echo(f"{finding.level:<5} {finding.text}" + (f"; {finding.todo}" if finding.todo else ""))
            if finding.level == "fail":
                code = code or finding.code
    return code


async def _findings(server: Server, http: HttpApi) -> AsyncIterator[_Finding]:
    yield _libraries()
    try:
        served_at = await http.health("live")
    except SynclineError as error:
        yield _Finding("fail", str(error), code=UNREACHABLE)
        return
    yield _Finding("ok", f"{server.url} can be reached")
    yield _clock(served_at)
    yield await _readiness(http)
    for finding in await _about(http):
        yield finding
    yield await _socket(server)


def _libraries() -> _Finding:
    names = ("syncline", "websockets", "httpx2", "msgspec")
    python = ".".join(map(str, sys.version_info[:3]))
    return _Finding("ok", f"python {python}, " + ", ".join(f"{name} {version(name)}" for name in names))


def _clock(served_at: float | None) -> _Finding:
    if served_at is None:
        return _Finding("warn", "the server does not tell its time", "times of changes cannot be compared")
    difference_s = served_at - time.time()
    if abs(difference_s) <= _CLOCK_DIFFERENCE_OK_S:
        return _Finding("ok", "the clocks agree")
    text = f"the server's clock is {abs(difference_s):.0f} s {'ahead of' if difference_s > 0 else 'behind'} this one"
    return _Finding("warn", text, "set both by NTP; positions do not depend on it, times of changes do")


async def _readiness(http: HttpApi) -> _Finding:
    try:
        await http.health("ready")
    except RequestRefused as error:
        return _Finding("fail", f"the server is not ready: {error}", "look at its log")
    return _Finding("ok", "the server is ready")


async def _about(http: HttpApi) -> list[_Finding]:
    try:
        about = await http.server()
    except SynclineError as error:
        return [_Finding("fail", f"the server does not say what it is: {error}")]
    return [_version(str(about.get("server", ""))), _storage(str(about.get("storage", "")))]


def _version(server: str) -> _Finding:
    here = version("syncline")
    name, _, there = server.partition("/")
    if name != "syncline":
        return _Finding("warn", f"the server calls itself {server!r}", "check the URL")
    if there != here:
        return _Finding("warn", f"the server is {there}, this client {here}", "update the older one")
    return _Finding("ok", f"the server is {there}, as this client")


def _storage(description: str) -> _Finding:
    if not description:
        return _Finding("warn", "the server does not say where it keeps its stores", "update it")
    if description.startswith("memory"):
        return _Finding("warn", f"storage: {description}", "everything is lost when the server ends; give it --store")
    return _Finding("ok", f"storage: {description}")


async def _socket(server: Server) -> _Finding:
    try:
        began_at = time.monotonic()
        async with connect(server.url, token=server.token, client_name="syncline-doctor") as client:
            assert client.welcome is not None
            took_ms = (time.monotonic() - began_at) * 1000
            return _Finding("ok", f"WebSocket: {SUBPROTOCOL}, welcomed after {took_ms:.0f} ms")
    except SynclineError as error:
        todo = "a proxy in between has to pass on WebSocket upgrades"
        return _Finding("fail", f"WebSocket: {error}", todo)
