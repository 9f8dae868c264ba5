"""Grants and invitations: how a store is shared."""

from collections.abc import Callable

import msgspec

from syncline.clock import Clock
from syncline.http import HttpApi

from .expiry import Expiry, expires_ms_of
from .values import Accepted, Grant, GrantLimits, Invitation, NewInvitation, Role

__all__ = ["Grants", "Invitations"]

_NO_LIMITS = GrantLimits()


class _GrantList(msgspec.Struct):
    grants: tuple[Grant, ...]


class _InvitationList(msgspec.Struct):
    invitations: tuple[Invitation, ...]


class _Made(msgspec.Struct):
    code: str
    invitation: Invitation


class Grants:
    """What is granted: `client.accounts.grants`. The owners of a store share it; an administrator shares every one."""

    def __init__(self, http: HttpApi, clock: Clock) -> None:
        self._http = http
        self._clock = clock

    async def list(self, store: str | None = None, *, to: str | None = None) -> list[Grant]:
        """Return the grants for a store, or to somebody, or all that we may see."""
        query = {"store": store, "to": None if to is None else grantee_of(to)}
        return list((await self._http.request("GET", "grants", query=query, kind=_GrantList)).grants)

    async def add(
        self,
        to: str,
        store: str,
        role: Role,
        *,
        limits: GrantLimits = _NO_LIMITS,
        authors: bool = True,
        expires: Expiry = None,
    ) -> Grant:
        """Grant something. It takes the place of what was granted to the same for the same store.

        Args:
            to: the name of a user, or `user:NAME`, `group:NAME` or `everyone`.
            store: a name, or the beginning of names with `*` at its end.
            role: `reader`, `writer` or `owner`.
            limits: what narrows it.
            authors: whether he sees who made a change.
            expires: a `datetime` with a time zone, or a `timedelta` from now on.
        """
        body: dict[str, object] = {"to": grantee_of(to)}
        body |= terms_of(store, role, limits, authors, expires_ms_of(expires, self._clock.time()))
        return await self._http.request("POST", "grants", kind=Grant, body=body)

    async def remove(self, grant_id: str) -> Grant:
        """Take a grant back, by its id. Returns what it was."""
        return await self._http.request("DELETE", "grants", grant_id, kind=Grant)


class Invitations:
    """Invitations: `client.accounts.invitations`. Whoever has the code of one gets what it grants."""

    def __init__(self, http: HttpApi, clock: Clock, take_token: Callable[[str | None], None]) -> None:
        self._http = http
        self._clock = clock
        self._take_token = take_token

    async def list(self, store: str | None = None) -> "list[Invitation]":
        """Return the invitations that can still be accepted, to a store, or all that we may see."""
        found = await self._http.request("GET", "invitations", query={"store": store}, kind=_InvitationList)
        return list(found.invitations)

    async def create(
        self,
        store: str,
        role: Role,
        *,
        limits: GrantLimits = _NO_LIMITS,
        authors: bool = True,
        expires: Expiry = None,
        uses_max: int | None = None,
    ) -> NewInvitation:
        """Make an invitation. Its code is in the result, and is not shown again. Otherwise as `Grants.add`.

        Args:
            uses_max: how many may accept it; the server has a default.
        """
        body = terms_of(store, role, limits, authors, expires_ms_of(expires, self._clock.time()))
        if uses_max is not None:
            body["uses_max"] = uses_max
        made = await self._http.request("POST", "invitations", kind=_Made, body=body)
        return NewInvitation(made.code, f"{self._http.url}/#invite={made.code}", made.invitation)

    async def remove(self, invitation_id: str) -> Invitation:
        """Withdraw an invitation, by its id. What was granted by it stays. Returns what it was."""
        return await self._http.request("DELETE", "invitations", invitation_id, kind=Invitation)

    async def accept(self, code: str, *, user: str | None = None, password: str | None = None) -> Accepted:
        """Accept an invitation.

        Args:
            code: as it was sent to us.
            user, password: make an account with these, and be that user from now on. Without them it is granted to whom
                we are.

        Raises:
            RequestRefused: it is used up, withdrawn or out of date (`invitation_invalid`), or the name is taken.
        """
        body = {"code": code}
        if user is not None and password is not None:
            body |= {"user": user, "password": password}
        accepted = await self._http.request(
            "POST", "invitations", "accept", kind=Accepted, body=body, as_nobody=user is not None
        )
        if accepted.login is not None and accepted.login.token is not None:
            self._take_token(accepted.login.token)
        return accepted


def grantee_of(to: str) -> str:
    """Return whom a grant is for, as the server says it. A bare name is that of a user, but for `everyone`."""
    return to if to == "everyone" or ":" in to else f"user:{to}"


def terms_of(store: str, role: Role, limits: GrantLimits, authors: bool, expires_ms: int | None) -> dict[str, object]:
    """Return what grants and invitations have in common, without what is by default."""
    body: dict[str, object] = {"store": store, "role": role}
    if limits != _NO_LIMITS:
        body["limits"] = limits
    if not authors:
        body["authors"] = False
    if expires_ms is not None:
        body["expires_ms"] = expires_ms
    return body
