"""What grants and invitations have in common: the options that say what is granted, and how it is shown."""

import math
from collections.abc import Callable
from typing import Any, TypeVar

import click
import msgspec

from syncline.accounts import GrantLimits, ReadWhere
from syncline_protocol.filter_text import read_scalar

from .duration import expires_option

__all__ = ["above_zero", "limits_of", "terms_options", "text_of"]

F = TypeVar("F", bound=Callable[..., Any])

#: These say something of writes, so they mean nothing to who may only read.
_OF_WRITES = ("key_prefix", "add_only", "own_only", "records_max", "bytes_max", "writes_per_s")


def above_zero(context: click.Context, parameter: click.Parameter, value: float | None) -> float | None:
    """Refuse a number that limits nothing, or everything; the callback of an option."""
    if value is not None and not (value > 0 and math.isfinite(value)):
        raise click.BadParameter(f"{value:g} is no limit: say a number greater than 0")
    return value


def _read_where(context: click.Context, parameter: click.Parameter, text: str | None) -> ReadWhere | None:
    """Read `INDEX=SCALAR`; the callback of an option. The scalar is what `syncline find --eq` takes."""
    if text is None:
        return None
    index, equals, scalar = text.partition("=")
    if not (index and equals):
        raise click.BadParameter(f"'{text}' is not INDEX=SCALAR: say the name of an index, =, and what it has to find")
    return ReadWhere(index, read_scalar(scalar))


_OPTIONS = (
    click.option(
        "--role",
        type=click.Choice(["reader", "writer", "owner"]),
        default="reader",
        show_default=True,
        help="Each has what those before it have.",
    ),
    click.option("--key-prefix", metavar="TEXT", help="Only keys that begin so may be written."),
    click.option("--read-prefix", metavar="TEXT", help="Only records whose keys begin so are seen."),
    click.option(
        "--read-where",
        metavar="INDEX=SCALAR",
        callback=_read_where,
        help="Only records are seen that have this in the index; for --role reader.",
    ),
    click.option("--add-only", is_flag=True, help="Nothing may be deleted."),
    click.option("--own-only", is_flag=True, help="Only what he added himself may be deleted."),
    click.option("--records-max", type=int, callback=above_zero, metavar="N", help="So many live records may be his."),
    click.option("--bytes-max", type=int, callback=above_zero, metavar="N", help="So many bytes these may have."),
    click.option("--writes-per-s", type=float, callback=above_zero, metavar="N", help="So many writes in a second."),
    click.option("--no-authors", is_flag=True, help="He does not see who made a change."),
    expires_option,
)


def terms_options(command: F) -> F:
    """Give a command the options that say what is granted."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def limits_of(terms: dict[str, Any]) -> GrantLimits:
    """Take the limits out of the options of a command.

    Raises:
        click.UsageError: they limit writes, and the role may not write; or they are for readers, and it may.
    """
    if terms["role"] == "reader" and (idle := [name for name in _OF_WRITES if terms[name]]):
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in idle)
        raise click.UsageError(f"{flags}: a reader writes nothing that could be limited; say --role writer")
    if terms["role"] != "reader" and terms["read_where"] is not None:
        raise click.UsageError("--read-where: answers to writes would tell of what is not shown; say --role reader")
    return GrantLimits(**{name: terms.pop(name) for name in GrantLimits.__struct_fields__})


def text_of(limits: GrantLimits, authors: bool) -> str:
    """Return limits as they are shown: what there is of them."""
    set_ones = [(name, getattr(limits, name)) for name in GrantLimits.__struct_fields__ if getattr(limits, name)]
    texts = [name if value is True else f"{name}={_text_of(value)}" for name, value in set_ones]
    return " ".join([*texts, *([] if authors else ["no_authors"])]) or "-"


def _text_of(value: object) -> str:
    if isinstance(value, ReadWhere):
        return f"{value.index}={msgspec.json.encode(value.eq).decode()}"
    return str(value)
