"""`syncline users` and `syncline groups`: the accounts of a server; for administrators."""

import sys

import click

from syncline.accounts import Group, User

from .frame import notice, run
from .secret import password_of, password_stdin_option
from .server import Server, server_options
from .table import json_option, plain, show, time_of

__all__ = ["groups", "users"]


@click.group()
def users() -> None:
    """List, add, change and remove accounts."""


@users.command("list")
@json_option
@server_options
def list_users(server: Server, as_json: bool) -> None:
    """List the accounts: name, what it is, when somebody last logged in, title."""
    show(run(_users(server)), as_json, ("user", "is", "last login", "title"), _columns_of)


@users.command("add")
@click.argument("name")
@click.option("--admin", is_flag=True, help="Everything is allowed to it.")
@click.option("--service", is_flag=True, help="It is a program's: without a password, it has tokens.")
@click.option("--title", default="", help="What people call it.")
@password_stdin_option
@server_options
def add_user(server: Server, name: str, admin: bool, service: bool, title: str, from_stdin: bool) -> None:
    """Add an account. Asks for its password."""
    password = None if service and not from_stdin else password_of(from_stdin, is_new=True)
    run(_add_user(server, name, password, admin=admin, service=service, title=title))
    notice(f"added {name}")


@users.command("set")
@click.argument("name")
@click.option("--password", "new_password", is_flag=True, help="Ask for a new password.")
@click.option("--admin/--no-admin", default=None, help="Whether everything is allowed to it.")
@click.option("--disable/--enable", "disabled", default=None, help="Whether nobody can log in with it.")
@click.option("--title", help="What people call it.")
@password_stdin_option
@server_options
def set_user(
    server: Server,
    name: str,
    new_password: bool,
    admin: bool | None,
    disabled: bool | None,
    title: str | None,
    from_stdin: bool,
) -> None:
    """Change an account; what is not named stays as it is."""
    password = password_of(from_stdin, "New password", is_new=True) if new_password or from_stdin else None
    if (password, admin, disabled, title) == (None, None, None, None):
        raise click.UsageError("say what to change: --password, --admin, --disable, --title")
    run(_set_user(server, name, password=password, admin=admin, disabled=disabled, title=title))
    notice(f"changed {name}")


@users.command("remove")
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
@server_options
def remove_user(server: Server, name: str, yes: bool) -> None:
    """Remove an account with its tokens and grants. Nobody else ever gets its name. Asks first on a terminal."""
    if not yes and sys.stdin.isatty():
        click.confirm(f"Remove the account {name}, for ever?", abort=True, err=True)
    run(_remove_user(server, name))
    notice(f"removed {name}")


@click.group()
def groups() -> None:
    """List, add and remove groups, and who is in them."""


@groups.command("list")
@json_option
@server_options
def list_groups(server: Server, as_json: bool) -> None:
    """List the groups and their members."""
    show(run(_groups(server)), as_json, ("group", "members"), lambda each: (each.group, ", ".join(each.members)))


@groups.command("add")
@click.argument("group")
@click.argument("members", nargs=-1)
@server_options
def add_group(server: Server, group: str, members: tuple[str, ...]) -> None:
    """Add a group with these members. One that is there already gets exactly these."""
    run(_add_group(server, group, members))
    notice(f"added {group}")


@groups.command("remove")
@click.argument("group")
@server_options
def remove_group(server: Server, group: str) -> None:
    """Remove a group with what is granted to it."""
    run(_remove_group(server, group))
    notice(f"removed {group}")


@groups.command("join")
@click.argument("group")
@click.argument("user")
@server_options
def join(server: Server, group: str, user: str) -> None:
    """Put USER into GROUP."""
    _tell(run(_join(server, group, user)))


@groups.command("leave")
@click.argument("group")
@click.argument("user")
@server_options
def leave(server: Server, group: str, user: str) -> None:
    """Take USER out of GROUP."""
    _tell(run(_leave(server, group, user)))


def _columns_of(user: User) -> tuple[str, ...]:
    kind = [user.kind, *(["admin"] if user.admin else []), *(["disabled"] if user.disabled else [])]
    return user.user, ", ".join(kind), time_of(user.login_ms), user.title


def _tell(group: Group) -> None:
    notice(plain(f"{group.group} has {', '.join(group.members) or 'no members'}"))


async def _users(server: Server) -> list[User]:
    async with server.http() as http:
        return await server.accounts(http).users.list()


async def _add_user(server: Server, name: str, password: str | None, *, admin: bool, service: bool, title: str) -> User:
    async with server.http() as http:
        return await server.accounts(http).users.add(name, password, admin=admin, service=service, title=title)


async def _set_user(
    server: Server, name: str, *, password: str | None, admin: bool | None, disabled: bool | None, title: str | None
) -> User:
    async with server.http() as http:
        users = server.accounts(http).users
        return await users.set(name, password=password, admin=admin, disabled=disabled, title=title)


async def _remove_user(server: Server, name: str) -> User:
    async with server.http() as http:
        return await server.accounts(http).users.remove(name)


async def _groups(server: Server) -> list[Group]:
    async with server.http() as http:
        return await server.accounts(http).groups.list()


async def _add_group(server: Server, group: str, members: tuple[str, ...]) -> Group:
    async with server.http() as http:
        return await server.accounts(http).groups.add(group, *members)


async def _remove_group(server: Server, group: str) -> Group:
    async with server.http() as http:
        return await server.accounts(http).groups.remove(group)


async def _join(server: Server, group: str, user: str) -> Group:
    async with server.http() as http:
        return await server.accounts(http).groups.join(group, user)


async def _leave(server: Server, group: str, user: str) -> Group:
    async with server.http() as http:
        return await server.accounts(http).groups.leave(group, user)
