"""Times as commands take them: `30m`, `12h`, `7d`, `4w`, or a day or moment of the calendar; and positions."""

import re
from datetime import UTC, datetime, timedelta

import click

from syncline.accounts.expiry import Expiry

__all__ = ["at_option", "expires_option", "parse_age", "parse_position"]

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def parse_age(text: str) -> timedelta | None:
    """Read an age as `7d`; None if it is none."""
    found = re.fullmatch(r"(\d{1,6})([smhdw])", text)
    return None if found is None else timedelta(**{_UNITS[found[2]]: int(found[1])})


def parse_position(text: str) -> str:
    """Return a position of the past as the server takes it; `2h` is two hours ago, a day begins at midnight in UTC."""
    if (age := parse_age(text)) is not None:
        return (datetime.now(UTC) - age).isoformat()
    try:
        moment = datetime.fromisoformat(text) if text[4:5] == "-" else None
    except ValueError:
        moment = None
    if moment is None:
        return text
    return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).isoformat()


def _at(context: click.Context, parameter: click.Parameter, text: str | None) -> str | None:
    return None if text is None else parse_position(text)


def _expiry(context: click.Context, parameter: click.Parameter, text: str | None) -> Expiry:
    if text is None:
        return None
    if (age := parse_age(text)) is not None:
        return age
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise click.BadParameter(f"{text!r} is no time: say 7d, 12h, or 2030-01-31") from error
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


#: Gives a command the option `--expires`.
expires_option = click.option(
    "--expires",
    callback=_expiry,
    metavar="WHEN",
    help="When it ends: 30m, 12h, 7d, 4w, or a day. By default never.",
)

#: Gives a command the option `--at`.
at_option = click.option(
    "--at",
    callback=_at,
    metavar="WHEN",
    help="As it was then: a time, 2h or 7d ago, a seq, or a cursor. By default now.",
)
