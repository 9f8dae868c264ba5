"""What all commands share: how a command runs, and what an error becomes.

Results go to stdout, everything else to stderr. An error is one line, "error: what happened; what to do", and an exit
code from the table. A closed pipe ends a command quietly, as whoever read it has what it wanted.
"""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, NoReturn, TypeVar

import click

from syncline.client import Client, connect
from syncline.credentials import UNAUTHORIZED
from syncline.errors import AuthRequired, ConnectionFailed, LoginFailed, Misuse, RequestRefused, SynclineError
from syncline.status import ConnectionState, Status

from .server import Server

__all__ = [
    "EXIT_CODES",
    "INTERRUPTED",
    "OK",
    "REFUSED",
    "SERVER_FAILED",
    "UNREACHABLE",
    "USAGE",
    "Stop",
    "connected",
    "fail",
    "is_login_needed",
    "notice",
    "run",
]

T = TypeVar("T")

OK = 0
REFUSED = 1
USAGE = 2
UNREACHABLE = 3
SERVER_FAILED = 4
INTERRUPTED = 130

#: Every exit code, for the help and the docs.
EXIT_CODES: dict[int, str] = {
    OK: "done",
    REFUSED: "refused or not found: conflict, gone, absent, no such store or record, not logged in",
    USAGE: "wrong usage",
    UNREACHABLE: "the server cannot be reached",
    SERVER_FAILED: "the server failed",
    INTERRUPTED: "interrupted",
}


class Stop(Exception):
    """Ends a command with an exit code and, unless the text is empty, an error message."""

    def __init__(self, code: int, message: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message


@asynccontextmanager
async def connected(server: Server) -> AsyncIterator[Client]:
    """Open a client for a command. If it needs credentials the command ends: nobody is there who could give them."""
    working = asyncio.current_task()
    assert working is not None
    refused: list[Exception] = []

    def look(status: Status) -> None:
        if status.state is ConnectionState.NEEDS_AUTH and status.last_error is not None:
            refused.append(status.last_error)
            working.cancel()

    async with connect(server.url, token=server.token, client_name="syncline-cli") as client:
        client.on_status(look)
        try:
            yield client
        except asyncio.CancelledError:
            if refused and not working.uncancel():
                raise refused[0] from None
            raise


def notice(text: str) -> None:
    """Say something that is no result."""
    click.echo(text, err=True)


def fail(code: int, message: str) -> NoReturn:
    """End the command with an error."""
    notice(f"error: {message}")
    sys.exit(code)


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a command to its end and turn what goes wrong into a message and an exit code."""
    try:
        return asyncio.run(work)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        _forget_stdout()
        sys.exit(OK)
    except Stop as stop:
        if stop.message:
            fail(stop.code, stop.message)
        sys.exit(stop.code)
    except SynclineError as error:
        fail(_code_of(error), _text_of(error))
    except OSError as error:
        fail(USAGE, f"{error.filename or 'the file'}: {error.strerror or error}; check the path and its permissions")


def is_login_needed(error: SynclineError) -> bool:
    """Whether it says that nobody is logged in, or that the token is not, or no more, accepted."""
    is_unknown = isinstance(error, RequestRefused) and error.status == UNAUTHORIZED
    return not isinstance(error, LoginFailed) and (is_unknown or isinstance(error, AuthRequired))


def _text_of(error: SynclineError) -> str:
    """Return the text of an error; what to do if nobody is logged in the server cannot know of this command line."""
    if not is_login_needed(error):
        return str(error)
    return f"{error.message}; log in with `syncline login`, or give another token"


def _code_of(error: SynclineError) -> int:
    if isinstance(error, AuthRequired):
        return REFUSED
    if isinstance(error, ConnectionFailed):
        return UNREACHABLE
    if isinstance(error, Misuse):
        return USAGE
    if isinstance(error, RequestRefused):
        return SERVER_FAILED if error.status >= 500 else REFUSED
    return REFUSED


def _forget_stdout() -> None:
    """Keep the interpreter from flushing what nobody reads, and from complaining that it could not."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):
        return
