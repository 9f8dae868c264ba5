"""`syncline tokens`: what programs log in with."""

from contextlib import suppress

import click
import msgspec

from syncline.accounts import NewToken, Scope, Token
from syncline.accounts.expiry import Expiry
from syncline.errors import Forbidden, RequestRefused

from .duration import expires_option
from .frame import REFUSED, Stop, notice, run
from .server import Server, server_options
from .table import json_option, show, time_of

__all__ = ["tokens"]


@click.group()
def tokens() -> None:
    """List, create and revoke tokens."""


@tokens.command("list")
@click.option("--user", metavar="NAME", help="Those of somebody else; for administrators.")
@json_option
@server_options
def list_tokens(server: Server, user: str | None, as_json: bool) -> None:
    """List tokens and sessions: id, whose, what for, what they may, when they end and were last used."""
    titles = ("id", "user", "kind", "title", "scopes", "stores", "expires", "last used")
    show(run(_tokens(server, user)), as_json, titles, _columns_of)


@tokens.command("create")
@click.argument("title")
@click.option("--user", metavar="NAME", help="For somebody else; for administrators.")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    type=click.Choice(["read", "write", "share", "admin"]),
    help="What it may be used for; may be given several times. By default everything that its user may.",
)
@click.option("--store", "stores", multiple=True, metavar="STORE", help="A store that it is for, or NAMES*; several.")
@expires_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@server_options
def create(
    server: Server,
    title: str,
    user: str | None,
    scopes: tuple[Scope, ...],
    stores: tuple[str, ...],
    expires: Expiry,
    as_json: bool,
) -> None:
    """Create a token and print it. It is not shown again. TITLE says what it is for."""
    made = run(_create(server, title, user, scopes, stores, expires))
    if as_json:
        click.echo(msgspec.json.encode(made))
        return
    click.echo(made.secret)
    notice(f"created the token {made.token.id} of {made.token.user}; its text is not shown again")


@tokens.command("revoke")
@click.argument("token_id", metavar="ID")
@server_options
def revoke(server: Server, token_id: str) -> None:
    """End a token or a session, by its id. Whoever is connected with it is disconnected."""
    was = run(_revoke(server, token_id))
    notice(f"revoked {was.id} of {was.user}")


def _columns_of(token: Token) -> tuple[str, ...]:
    stores = "all" if token.stores is None else ", ".join(token.stores)
    times = time_of(token.expires_ms), time_of(token.used_ms)
    return token.id, token.user, token.kind, token.title, ", ".join(token.scopes), stores, *times


async def _tokens(server: Server, user: str | None) -> list[Token]:
    async with server.http() as http:
        accounts = server.accounts(http)
        found = await accounts.tokens.list(user)
        if user is not None and not found:
            # Somebody who is not there has none either. Who may not know that is told of his own ones only.
            with suppress(Forbidden):
                await accounts.users.get(user)
        return found


async def _create(
    server: Server,
    title: str,
    user: str | None,
    scopes: tuple[Scope, ...],
    stores: tuple[str, ...],
    expires: Expiry,
) -> NewToken:
    async with server.http() as http:
        accounts = server.accounts(http)
        try:
            return await accounts.tokens.create(
                title, user=user, scopes=scopes or None, stores=stores or None, expires=expires
            )
        except RequestRefused as error:
            if user is None and error.code == "account_unknown" and (await accounts.me()).kind == "external":
                todo = "show what lets them in elsewhere, or have an administrator make a service"
                raise Stop(REFUSED, f"users that others vouch for have no tokens here; {todo}") from error
            raise


async def _revoke(server: Server, token_id: str) -> Token:
    async with server.http() as http:
        return await server.accounts(http).tokens.revoke(token_id)
