"""`syncline doctor`: looks at everything between here and the server, and says what to do about what is wrong.

With a file it is `doctor_file` that looks at it, completely.

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

from syncline.accounts import Me
from syncline.client import connect
from syncline.errors import RequestRefused, SynclineError
from syncline.http import HttpApi
from syncline_protocol import SUBPROTOCOL

from .doctor_file import examine_file
from .frame import OK, REFUSED, SERVER_FAILED, UNREACHABLE, is_login_needed, run
from .server import Server, server_options
from .table import plain

__all__ = ["doctor"]

#: The Date header has whole seconds, and the way takes some time too.
_CLOCK_DIFFERENCE_OK_S = 3.0

_LOG_IN = "log in with `syncline login`, or give a token"


@dataclass(frozen=True)
class _Finding:
    """One line of the report; `code` is the exit code that it leads to, if it is a `fail`."""

    level: Literal["ok", "warn", "fail"]
    text: str
    todo: str = ""
    code: int = SERVER_FAILED


@click.command()
@click.argument("file", required=False)
@click.option("--repair", is_flag=True, help="Work out again what is derived and wrong. No server may have the file.")
@server_options
def doctor(server: Server, file: str | None, repair: bool) -> None:
    """Check the way to the server, its storage and its clock; or, with a FILE, a store file or a backup completely.

    The file is only read, so it may be served meanwhile. The exit code is 1 if something is wrong with it.
    """
    if file is not None:
        sys.exit(examine_file(file, must_repair=repair))
    if repair:
        raise click.UsageError("--repair needs a file")
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
        yield _refusal(error) if is_login_needed(error) else _Finding("fail", str(error), code=UNREACHABLE)
        return
    yield _Finding("ok", f"{server.url} can be reached")
    yield _clock(served_at)
    yield await _readiness(http)
    me = await _me(server, http)
    if isinstance(me, _Finding):
        yield me
        return
    if me is not None:
        yield _who(me)
    for finding in await _about(http, is_told_all=me is None or me.auth == "none" or me.admin):
        yield finding
    yield await _socket(server)


async def _me(server: Server, http: HttpApi) -> Me | _Finding | None:
    """Return who we are; that the server does not let us in, on which the rest depends; or None if it does not say."""
    try:
        me = await server.accounts(http).me()
    except SynclineError as error:
        return _refusal(error) if is_login_needed(error) else None
    if me.auth == "accounts" and me.user is None and server.token is not None:
        # This question is answered to anybody, so nothing else says that the token was of no use.
        text = "the server does not accept the token: it is wrong, has expired or was revoked"
        return _Finding("fail", text, _LOG_IN + " that is valid", REFUSED)
    return me


def _refusal(error: SynclineError) -> _Finding:
    return _Finding("fail", f"the server does not let us in: {error.message}", _LOG_IN + " that is valid", REFUSED)


def _who(me: Me) -> _Finding:
    if me.auth == "none":
        return _Finding("ok", "the server has no accounts, nobody has to log in")
    if me.user is None:
        return _Finding("warn", "nobody is logged in", _LOG_IN)
    return _Finding("ok", f"logged in as {plain(me.user)}")


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


async def _about(http: HttpApi, *, is_told_all: bool) -> list[_Finding]:
    try:
        about = await http.server()
    except SynclineError as error:
        return [_Finding("fail", f"the server does not say what it is: {error}")]
    storage = str(about.get("storage", ""))
    found = _storage(storage) if storage or is_told_all else _Finding("ok", "storage: shown to administrators only")
    return [_version(str(about.get("server", ""))), found]


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
        if is_login_needed(error):
            return _Finding("fail", f"WebSocket: {error.message}", _LOG_IN + " that is valid", REFUSED)
        todo = "a proxy in between has to pass on WebSocket upgrades"
        return _Finding("fail", f"WebSocket: {error}", todo)
