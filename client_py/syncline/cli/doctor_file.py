"""`syncline doctor FILE`: a complete check of a file, by whoever knows what is in it.

The command line knows no file of a server. Packages offer a check by the entry point group `syncline.checks`: a
function of a path that yields findings, each a level, a text and what to do.
"""

import sys
import time
from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from typing import Literal, Protocol, cast

import click

from .frame import OK, REFUSED, USAGE, fail
from .table import plain

__all__ = ["examine_file"]

_ENTRY_POINTS = "syncline.checks"

#: Progress is shown so often at most, in seconds.
_EVERY_S = 0.1

Level = Literal["ok", "warn", "fail"]


class _Check(Protocol):
    """What an entry point is. It yields level, text, and what to do."""

    def __call__(
        self, path: str, *, must_repair: bool, progress: Callable[[str, int, int], None]
    ) -> Iterator[tuple[Level, str, str]]: ...


def examine_file(file: str, *, must_repair: bool) -> int:
    """Check a file, a line for each finding. Returns the exit code."""
    path = file.removeprefix("sqlite:///")
    check = _check_of("store")
    progress = _Progress()
    code = OK
    for level, text, todo in check(path, must_repair=must_repair, progress=progress.show):
        progress.clear()
        click.echo(f"{level:<5} {plain(text)}" + (f"; {todo}" if todo else ""))
        if level == "fail":
            code = REFUSED
    return code


def _check_of(name: str) -> _Check:
    missing: str | None = "its check"
    for offer in entry_points(group=_ENTRY_POINTS, name=name):
        try:
            return cast(_Check, offer.load())
        except ModuleNotFoundError as error:
            missing = error.name
    return fail(USAGE, f"the server is not installed, {missing} is missing; install it: pip install 'syncline[server]'")


class _Progress:
    """A line on the terminal that is overwritten; nothing where nobody watches."""

    def __init__(self) -> None:
        self._is_shown = False
        self._shown_at = 0.0

    def show(self, what: str, done: int, total: int) -> None:
        if not sys.stderr.isatty() or time.monotonic() - self._shown_at < _EVERY_S:
            return
        self._shown_at, self._is_shown = time.monotonic(), True
        click.echo(f"\r\x1b[K{plain(what)}" + (f" {100 * done // total} %" if total else ""), err=True, nl=False)

    def clear(self) -> None:
        if self._is_shown:
            click.echo("\r\x1b[K", err=True, nl=False)
            self._is_shown = False
