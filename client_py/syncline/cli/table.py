"""How lists are printed: in columns for people, one JSON object a line for programs."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TypeVar

import click
import msgspec

__all__ = ["json_option", "plain", "show", "time_of"]

T = TypeVar("T")

#: Gives a command the option `--json`.
json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object per line, for programs.")


def show(items: Sequence[T], as_json: bool, titles: Sequence[str], columns: Callable[[T], Sequence[str]]) -> None:
    """Print items: their columns under the titles, or all there is of each as JSON."""
    if as_json:
        for item in items:
            click.echo(msgspec.json.encode(item))
        return
    rows = [list(titles), *[[plain(text) for text in columns(item)] for item in items]]
    if len(rows) == 1:
        return
    widths = [max(len(row[index]) for row in rows) for index in range(len(titles))]
    for row in rows:
        click.echo("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())


def plain(text: str) -> str:
    """Return a text that a terminal shows and does not obey: somebody else may have chosen it."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def time_of(time_ms: int | None) -> str:
    """Return a moment as people read it; a dash for none."""
    if time_ms is None:
        return "-"
    try:
        return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    except (ValueError, OverflowError):
        return f"{time_ms} ms"
