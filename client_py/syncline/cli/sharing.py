"""`syncline grants` and `syncline invite`: who may use a store."""

from typing import Any

import click
import msgspec

from syncline.accounts import Grant, GrantLimits, Invitation, NewInvitation
from syncline.errors import RequestRefused, SynclineError
from syncline.http import HttpApi

from .frame import notice, run
from .server import Server, server_options
from .table import json_option, plain, show, time_of
from .terms import above_zero, limits_of, terms_options, text_of

__all__ = ["grants", "invite"]


@click.group()
def grants() -> None:
    """List, add and remove grants: who may use which store, and how."""


@grants.command("list")
@click.argument("store", required=False)
@click.option("--to", metavar="WHO", help="Those to a user, to group:NAME or to everyone.")
@json_option
@server_options
def list_grants(server: Server, store: str | None, to: str | None, as_json: bool) -> None:
    """List the grants, for a store or for all that we may see."""
    titles = ("id", "to", "store", "role", "limits", "by", "expires")
    show(run(_grants(server, store, to)), as_json, titles, _columns_of_grant)


@grants.command("add")
@click.argument("store")
@click.argument("to", metavar="WHO")
@terms_options
@server_options
def add_grant(server: Server, /, store: str, to: str, **terms: Any) -> None:
    """Grant a store to WHO: a user, group:NAME or everyone. STORE is a name, or NAMES* for all that begin so.

    It takes the place of what was granted to the same for the same store.
    """
    grant, is_there = run(_add_grant(server, store, to, terms, limits_of(terms)))
    notice(f"granted {grant.store} to {plain(grant.to)} as {grant.role}: {grant.id}")
    if not is_there:
        notice(f"warning: there is no store {store} yet; check its name, or make it with `syncline stores create`")


@grants.command("remove")
@click.argument("grant_id", metavar="ID")
@server_options
def remove_grant(server: Server, grant_id: str) -> None:
    """Take a grant back, by its id."""
    was = run(_remove_grant(server, grant_id))
    notice(f"took {was.store} back from {plain(was.to)}")


class _InviteGroup(click.Group):
    """Takes what is no name of a command for the store to invite to."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in self.commands:
            return "create", self.commands["create"], args
        return super().resolve_command(ctx, args)


@click.group(cls=_InviteGroup, subcommand_metavar="STORE [OPTIONS] | COMMAND [ARGS]...")
def invite() -> None:
    """Invite somebody to a store: `syncline invite STORE` makes a link that lets in whoever opens it."""


@invite.command("create")
@click.argument("store")
@terms_options
@click.option("--uses", "uses_max", type=int, callback=above_zero, metavar="N", help="How many may accept it.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@server_options
def create(server: Server, /, store: str, uses_max: int | None, as_json: bool, **terms: Any) -> None:
    """Make an invitation to STORE and print its link. It is not shown again."""
    made = run(_invite(server, store, uses_max, terms, limits_of(terms)))
    if as_json:
        click.echo(msgspec.json.encode(made))
        return
    click.echo(made.link)
    notice(f"invited to {store} as {made.invitation.role}: {made.invitation.id}; the link is not shown again")


@invite.command("list")
@click.argument("store", required=False)
@json_option
@server_options
def list_invitations(server: Server, store: str | None, as_json: bool) -> None:
    """List the invitations that can still be accepted."""
    titles = ("id", "store", "role", "limits", "by", "uses", "expires")
    show(run(_invitations(server, store)), as_json, titles, _columns_of_invitation)


@invite.command("remove")
@click.argument("invitation_id", metavar="ID")
@server_options
def remove(server: Server, invitation_id: str) -> None:
    """Withdraw an invitation, by its id. What was granted by it stays."""
    was = run(_remove_invitation(server, invitation_id))
    notice(f"withdrew the invitation {was.id} to {was.store}")


def _columns_of_grant(grant: Grant) -> tuple[str, ...]:
    limits = text_of(grant.limits, grant.authors)
    return grant.id, grant.to, grant.store, grant.role, limits, grant.by or "-", time_of(grant.expires_ms)


def _columns_of_invitation(each: Invitation) -> tuple[str, ...]:
    uses = f"{each.uses} of {each.uses_max}" if each.uses_max is not None else str(each.uses)
    limits = text_of(each.limits, each.authors)
    return each.id, each.store, each.role, limits, each.by or "-", uses, time_of(each.expires_ms)


async def _grants(server: Server, store: str | None, to: str | None) -> list[Grant]:
    async with server.http() as http:
        return await server.accounts(http).grants.list(store, to=to)


async def _add_grant(
    server: Server, store: str, to: str, terms: dict[str, Any], limits: GrantLimits
) -> tuple[Grant, bool]:
    """Return the grant, and whether its store is there, or may be as the name stands for many."""
    async with server.http() as http:
        grant = await server.accounts(http).grants.add(
            to, store, terms["role"], limits=limits, authors=not terms["no_authors"], expires=terms["expires"]
        )
        return grant, store.endswith("*") or await _is_there(http, store)


async def _is_there(http: HttpApi, store: str) -> bool:
    try:
        await http.store_info(store)
    except SynclineError as error:
        # Anything else says nothing of the store, and the grant is made.
        return not (isinstance(error, RequestRefused) and error.code == "store_unknown")
    return True


async def _remove_grant(server: Server, grant_id: str) -> Grant:
    async with server.http() as http:
        return await server.accounts(http).grants.remove(grant_id)


async def _invite(
    server: Server, store: str, uses_max: int | None, terms: dict[str, Any], limits: GrantLimits
) -> NewInvitation:
    async with server.http() as http:
        return await server.accounts(http).invitations.create(
            store,
            terms["role"],
            limits=limits,
            authors=not terms["no_authors"],
            expires=terms["expires"],
            uses_max=uses_max,
        )


async def _invitations(server: Server, store: str | None) -> list[Invitation]:
    async with server.http() as http:
        return await server.accounts(http).invitations.list(store)


async def _remove_invitation(server: Server, invitation_id: str) -> Invitation:
    async with server.http() as http:
        return await server.accounts(http).invitations.remove(invitation_id)
