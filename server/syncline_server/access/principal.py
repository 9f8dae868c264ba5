"""Who acts: the result of a login, a token or nothing at all, and the only thing that rights are computed from."""

from typing import Literal

import msgspec

__all__ = ["ANONYMOUS", "OPEN", "SCOPES", "Kind", "Principal", "Scope"]

Kind = Literal["user", "service", "external", "anonymous", "open"]

#: What a token may be used for. It never gives more than its user has.
Scope = Literal["read", "write", "share", "admin"]

SCOPES: frozenset[Scope] = frozenset({"read", "write", "share", "admin"})


class Principal(msgspec.Struct, frozen=True):
    """Who acts.

    `name` is what grants and `by` call him; None for `anonymous` (nobody logged in) and `open` (a server where nobody
    has to). `external` ones have their identity from an issuer or a function of the operator, and no account here.
    `scopes` and `stores` (names, or prefixes with `*`; None is all) are what his token is limited to; `token` names it.
    `expires_ms` is the end of the credentials, in ms since 1970.
    """

    name: str | None
    kind: Kind
    groups: frozenset[str] = frozenset()
    is_admin: bool = False
    scopes: frozenset[Scope] = SCOPES
    stores: tuple[str, ...] | None = None
    expires_ms: int | None = None
    token: str | None = None


#: Nobody has to log in: everything is allowed, and changes have no author.
OPEN = Principal(None, "open", is_admin=True)

#: Nobody has logged in; what is granted to everyone is all that he has.
ANONYMOUS = Principal(None, "anonymous")
