"""From a token to a principal, and from a principal to what he is now. Pure.

Whoever holds a `Principal` for longer than a moment asks `current` again after each change of the registry and once a
second: a principal is what was true when it was made.
"""

from enum import Enum

import msgspec

from syncline_server.access.principal import Principal

from .entry import Token, User
from .registry import Registry
from .secret import hash_secret

__all__ = ["TokenFault", "current", "principal_of"]


class TokenFault(Enum):
    """Why a token gives nobody. `UNKNOWN` is also that of a revoked token and of a user who is disabled."""

    UNKNOWN = "unknown"
    EXPIRED = "expired"


def principal_of(registry: Registry, text: str, now_ms: int) -> Principal | TokenFault:
    """Return who comes with this text. It is looked up by its hash, so the time it takes says nothing about others."""
    token = registry.token_by_hash(hash_secret(text))
    return TokenFault.UNKNOWN if token is None else _bearer(registry, token, now_ms)


def current(registry: Registry, principal: Principal, now_ms: int) -> Principal | None:
    """Return what a principal is now, or None if his token or account gives him nothing any more.

    Who has no account here (external, anonymous, open) stays what he is until his credentials end.
    """
    if principal.expires_ms is not None and principal.expires_ms <= now_ms:
        return None
    if principal.kind not in ("user", "service") or principal.name is None:
        return principal
    if principal.token is not None:
        token = registry.tokens.get(principal.token)
        bearer = None if token is None else _bearer(registry, token, now_ms)
        return bearer if isinstance(bearer, Principal) else None
    user = registry.active_user(principal.name)
    if user is None:
        return None
    return msgspec.structs.replace(
        principal,
        kind=user.kind,
        groups=registry.groups_of(user.name),
        is_admin=user.is_admin and "admin" in principal.scopes,
    )


def _bearer(registry: Registry, token: Token, now_ms: int) -> Principal | TokenFault:
    user = registry.active_user(token.user)
    if user is None:
        return TokenFault.UNKNOWN
    if token.expires_ms is not None and token.expires_ms <= now_ms:
        return TokenFault.EXPIRED
    return _principal(registry, user, token)


def _principal(registry: Registry, user: User, token: Token) -> Principal:
    scopes = frozenset(token.scopes)
    return Principal(
        user.name,
        user.kind,
        registry.groups_of(user.name),
        # An administrator's token that is not for administration does what he could do without being one.
        user.is_admin and "admin" in scopes,
        scopes,
        token.stores,
        token.expires_ms,
        token.id,
    )
