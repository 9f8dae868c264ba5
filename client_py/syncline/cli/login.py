"""`syncline login`, `logout`, `whoami`, `password`, `setup`, `accept`: who we are at a server.

A session that begins here is kept for this server in the user's folder of settings, and used by all commands that are
not given another token.
"""

import sys

import click
import msgspec

from syncline.accounts import Login, Me
from syncline.accounts.values import Accepted
from syncline.errors import RequestRefused

from .frame import REFUSED, Stop, is_login_needed, notice, run
from .secret import password_of, password_stdin_option
from .server import Server, server_options
from .table import plain, time_of
from .token_file import Kept, TokenFile

__all__ = ["accept", "login", "logout", "password", "setup", "whoami"]

_user_option = click.option("--user", metavar="NAME", help="The name of the account; asked for if it is missing.")


@click.command()
@_user_option
@password_stdin_option
@server_options
def login(server: Server, user: str | None, from_stdin: bool) -> None:
    """Log in with a name and a password, and keep the session for later commands."""
    run(_require_accounts(server))
    name = user or click.prompt("User", err=True)
    _keep(server, run(_login(server, name, password_of(from_stdin))))


@click.command()
@server_options
def logout(server: Server) -> None:
    """End the session that `login` has kept for this server."""
    run(_logout(server))


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@server_options
def whoami(server: Server, as_json: bool) -> None:
    """Say who the server takes us for."""
    run(_whoami(server, as_json))


@click.command()
@click.option("--password-stdin", "from_stdin", is_flag=True, help="Read the old and the new one from two lines.")
@server_options
def password(server: Server, from_stdin: bool) -> None:
    """Give our account another password. All its other sessions end."""
    old = password_of(from_stdin, "Old password")
    new = password_of(from_stdin, "New password", is_new=True)
    session = run(_change_password(server, old, new))
    _keep(server, session)
    notice(f"changed the password of {session.user}; all other sessions have ended")


@click.command()
@click.argument("code")
@_user_option
@password_stdin_option
@server_options
def setup(server: Server, code: str, user: str | None, from_stdin: bool) -> None:
    """Make the first administrator of a new server, with the CODE or the link that it printed."""
    name = user or click.prompt("Name of the administrator", err=True)
    chosen = password_of(from_stdin, is_new=True)
    _keep(server, run(_setup(server, code.rpartition("#setup=")[2], name, chosen)))


@click.command()
@click.argument("code")
@click.option("--user", metavar="NAME", help="Make an account of this name with it, and log in.")
@password_stdin_option
@server_options
def accept(server: Server, code: str, user: str | None, from_stdin: bool) -> None:
    """Accept an invitation: CODE is its code or its link."""
    chosen = None if user is None else password_of(from_stdin, is_new=True)
    accepted = run(_accept(server, code.rpartition("#invite=")[2], user, chosen))
    if accepted.login is not None:
        _keep(server, accepted.login)
    grant = accepted.grant
    notice(f"{plain(grant.to)} is {grant.role} of {grant.store} now")


def _keep(server: Server, session: Login) -> None:
    if session.token is None:
        # The session that there was goes on.
        return
    TokenFile().put(server.address.url, Kept(session.token, session.user, session.expires_ms))
    until = "" if session.expires_ms is None else f", until {time_of(session.expires_ms)}"
    notice(f"logged in at {server.address.url} as {session.user}{until}")


async def _require_accounts(server: Server) -> None:
    async with server.http() as http:
        me = await http.request("GET", "me", kind=Me, as_nobody=True)
    if me.auth == "none":
        raise Stop(REFUSED, f"nobody has to log in at {server.address.url}: it has no accounts")
    if me.setup:
        raise Stop(REFUSED, "the server has no administrator yet; make one with `syncline setup CODE`, see its output")


async def _login(server: Server, user: str, chosen: str) -> Login:
    async with server.http() as http:
        return await server.accounts(http).login(user, chosen)


async def _setup(server: Server, code: str, user: str, chosen: str) -> Login:
    async with server.http() as http:
        return await server.accounts(http).setup(code, user, chosen)


async def _change_password(server: Server, old: str, new: str) -> Login:
    async with server.http() as http:
        return await server.accounts(http).change_password(old, new)


async def _accept(server: Server, code: str, user: str | None, chosen: str | None) -> Accepted:
    async with server.http() as http:
        try:
            return await server.accounts(http).invitations.accept(code, user=user, password=chosen)
        except RequestRefused as error:
            if user is not None or not is_login_needed(error):
                raise
            todo = "`--user NAME` makes an account with it; who has one logs in first, with `syncline login`"
            raise Stop(REFUSED, f"{error.message}; {todo}") from error


async def _logout(server: Server) -> None:
    file, url = TokenFile(), server.address.url
    kept = file.get(url)
    if kept is None:
        raise Stop(REFUSED, f"nobody is logged in at {url}")
    try:
        async with Server(server.url, kept.token).http() as http:
            await server.accounts(http).logout()
    except RequestRefused as error:
        # A session that is over already needs no end.
        if error.status != 401:
            raise
    file.forget(url)
    notice(f"logged out {kept.user} at {url}")


async def _whoami(server: Server, as_json: bool) -> None:
    async with server.http() as http:
        me = await server.accounts(http).me()
    if as_json:
        sys.stdout.write(msgspec.json.encode(me).decode() + "\n")
        return
    if me.auth == "none":
        notice(f"nobody has to log in at {server.address.url}: it has no accounts")
        return
    if me.user is None:
        raise Stop(REFUSED, f"nobody is logged in at {server.address.url}; log in with `syncline login`")
    click.echo(plain(me.user))
    what = [me.kind, *(["administrator"] if me.admin else []), *[f"in {group}" for group in me.groups]]
    until = [] if me.expires_ms is None else [f"until {time_of(me.expires_ms)}"]
    notice(plain(", ".join([*what, *until])))
