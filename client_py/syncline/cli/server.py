"""Which server a command speaks to, and as whom: the options `--url` and `--token`, and what stands in for them.

Both may be given before or after the name of the command; the one nearer to the end counts. Without a token it is the
one of the variable, else the one that `syncline login` has kept for this server.
"""

import functools
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Concatenate, ParamSpec, TypeVar

import click

from syncline.accounts import Accounts
from syncline.address import DEFAULT_URL, URL_VARIABLE, Address, parse_address
from syncline.clock import Clock
from syncline.credentials import Credentials
from syncline.http import HttpApi

from .token_file import TokenFile

__all__ = ["TOKEN_VARIABLE", "Server", "server_options"]

P = ParamSpec("P")
T = TypeVar("T")

TOKEN_VARIABLE = "SYNCLINE_TOKEN"


@dataclass(frozen=True)
class Server:
    """A server, as it was named. `given` is the token of the command line or the environment."""

    url: str
    given: str | None = None

    @property
    def address(self) -> Address:
        """Its address. Raises `AddressInvalid`."""
        return parse_address(self.url)

    @property
    def token(self) -> str | None:
        """What to log in with."""
        if self.given is not None:
            return self.given
        kept = TokenFile().get(self.address.url)
        return None if kept is None else kept.token

    def http(self) -> HttpApi:
        """Return the HTTP side of it."""
        address = self.address
        return HttpApi(address, credentials=Credentials(address.url, self.token), user_agent="syncline-cli")

    @staticmethod
    def accounts(http: HttpApi) -> Accounts:
        """Return its accounts. A session that begins is for the caller to keep."""
        return Accounts(http, Clock(), lambda token: None)


def server_options(command: Callable[Concatenate[Server, P], T]) -> Callable[P, T]:
    """Give a command the options `--url` and `--token`; it takes the server as its first argument."""

    @functools.wraps(command)
    def with_server(*arguments: P.args, **options: P.kwargs) -> T:
        return command(_server_of(click.get_current_context()), *arguments, **options)

    url_text = f"Address of the server. [env: {URL_VARIABLE}; default: {DEFAULT_URL}]"
    token_text = f"What to log in with. Better kept in the variable, which others do not see. [env: {TOKEN_VARIABLE}]"
    with_token = click.option("--token", metavar="TOKEN", expose_value=False, callback=_keep, help=token_text)
    with_url = click.option("--url", metavar="URL", expose_value=False, callback=_keep, help=url_text)
    return with_url(with_token(with_server))


def _keep(context: click.Context, parameter: click.Parameter, value: str | None) -> None:
    keep: dict[str, Any] = context.ensure_object(dict)
    if value is not None:
        keep[str(parameter.name)] = value


def _server_of(context: click.Context) -> Server:
    keep: dict[str, Any] = context.ensure_object(dict)
    url = keep.get("url") or os.environ.get(URL_VARIABLE) or DEFAULT_URL
    return Server(url, keep.get("token") or os.environ.get(TOKEN_VARIABLE) or None)
