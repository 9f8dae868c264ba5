"""Who a command acts as: the option `--token`, and what sends it.

A token on the command line can be seen by every user of the machine, so the variable is the better place for one.
"""

import os
from collections.abc import Callable
from typing import Any, TypeVar

import click

from syncline.address import parse_address
from syncline.credentials import Credentials
from syncline.http import HttpApi

__all__ = ["TOKEN_VARIABLE", "http_of", "token_option"]

F = TypeVar("F", bound=Callable[..., Any])

TOKEN_VARIABLE = "SYNCLINE_TOKEN"


def _keep_token(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """Let the token be given before or after the name of the command, as the URL."""
    keep = context.ensure_object(dict)
    if value is not None:
        keep["token"] = value
    token: str | None = keep.get("token") or os.environ.get(TOKEN_VARIABLE) or None
    return token


def token_option(command: F) -> F:
    """Give a command the option `--token`."""
    text = f"What to log in with. Better kept in the variable, which others do not see. [env: {TOKEN_VARIABLE}]"
    return click.option("--token", metavar="TOKEN", callback=_keep_token, help=text)(command)


def http_of(url: str, token: str | None) -> HttpApi:
    """Return the HTTP side of a server for a command, with the token that it was given."""
    address = parse_address(url)
    return HttpApi(address, credentials=Credentials(address.url, token))
