"""Tokens: what programs show instead of a name and a password."""

from collections.abc import Iterable

import msgspec

from syncline.clock import Clock
from syncline.http import HttpApi

from .expiry import Expiry, expires_ms_of
from .values import NewToken, Scope, Token

__all__ = ["Tokens"]


class _TokenList(msgspec.Struct):
    tokens: tuple[Token, ...]


class Tokens:
    """The tokens: `client.accounts.tokens`. Everybody has his own; an administrator has everybody's."""

    def __init__(self, http: HttpApi, clock: Clock) -> None:
        self._http = http
        self._clock = clock

    async def list(self, user: str | None = None) -> "list[Token]":
        """Return the personal tokens and the sessions of a user; our own without a name."""
        found = await self._http.request("GET", "tokens", query={"user": user}, kind=_TokenList)
        return list(found.tokens)

    async def create(
        self,
        title: str,
        *,
        user: str | None = None,
        scopes: Iterable[Scope] | None = None,
        stores: Iterable[str] | None = None,
        expires: Expiry = None,
    ) -> NewToken:
        """Make a token. Its text is in the result, and is not shown again.

        Args:
            title: what it is for.
            user: whose it is; our own without a name.
            scopes: what it may be used for; by default everything that its user may.
            stores: the stores that it is limited to: names, or beginnings of names with `*` at the end.
            expires: a `datetime` with a time zone, or a `timedelta` from now on.
        """
        body: dict[str, object] = {"title": title}
        if user is not None:
            body["user"] = user
        if scopes is not None:
            body["scopes"] = list(scopes)
        if stores is not None:
            body["stores"] = list(stores)
        if expires is not None:
            body["expires_ms"] = expires_ms_of(expires, self._clock.time())
        return await self._http.request("POST", "tokens", kind=NewToken, body=body)

    async def revoke(self, token_id: str) -> Token:
        """End a token or a session, by its id. Whoever is connected with it is disconnected. Returns what it was."""
        return await self._http.request("DELETE", "tokens", token_id, kind=Token)
