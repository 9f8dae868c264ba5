"""Times as commands take them: `30m`, `12h`, `7d`, `4w`, or a day or moment of the calendar."""

import re
from datetime import UTC, datetime, timedelta

import click

from syncline.accounts.expiry import Expiry

__all__ = ["expires_option"]

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def _expiry(context: click.Context, parameter: click.Parameter, text: str | None) -> Expiry:
    if text is None:
        return None
    if found := re.fullmatch(r"(\d{1,6})([smhdw])", text):
        return timedelta(**{_UNITS[found[2]]: int(found[1])})
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
