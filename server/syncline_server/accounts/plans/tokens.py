"""Tokens: made, used, revoked, and cleared away when their time is long over."""

from collections.abc import Mapping

import msgspec

from syncline_server.accounts.account_name import check_pattern, check_title
from syncline_server.accounts.entry import Entry, Token
from syncline_server.accounts.error import AccountError
from syncline_server.accounts.plan import Edit, Plan, drop, fitting, put
from syncline_server.accounts.registry import Registry

__all__ = [
    "PERSONAL_MAX",
    "SESSIONS_MAX",
    "add_token",
    "ended_sessions",
    "note_uses",
    "remove_expired",
    "revoke_sessions",
    "revoke_token",
]

#: More than anybody keeps apart by title; and so many that a script which makes one at each start is noticed.
PERSONAL_MAX = 100

#: A person has a few devices; beyond this the oldest login ends.
SESSIONS_MAX = 50

_STORES_MAX = 100

#: A token that has expired is kept for so long, so that whoever comes with it is told what has happened.
_EXPIRED_KEPT_MS = 7 * 24 * 3600 * 1000


def add_token(registry: Registry, token: Token) -> Plan[Token]:
    """Make a token; the oldest sessions of its user beyond the bound end."""
    if registry.active_user(token.user) is None:
        raise AccountError("account_unknown", "there is no such user")
    check_title(token.title)
    if token.stores is not None and len([check_pattern(store) for store in token.stores]) > _STORES_MAX:
        raise AccountError("account_invalid", f"a token names at most {_STORES_MAX} stores")
    if token.expires_ms is not None and token.expires_ms <= token.created_ms:
        raise AccountError("account_invalid", "the token would have expired before it is made")
    same = [other for other in registry.tokens_of(token.user) if other.kind == token.kind]
    if token.kind == "personal" and len(same) >= PERSONAL_MAX:
        raise AccountError(
            "account_invalid", f"a user has at most {PERSONAL_MAX} personal tokens", hint="revoke one that is not used"
        )
    over = same[: max(0, len(same) + 1 - SESSIONS_MAX)] if token.kind == "session" else []
    return Plan((put(token), *map(drop, over)), token)


def revoke_token(registry: Registry, token_id: str) -> Plan[Token]:
    """End a token."""
    token = registry.tokens.get(token_id)
    if token is None:
        raise AccountError("account_unknown", "there is no such token")
    return Plan((drop(token),), token)


def ended_sessions(registry: Registry, user: str, keep: str | None) -> list[Edit]:
    """Return the edits that end all sessions of a user but one."""
    return [drop(token) for token in registry.tokens_of(user) if token.kind == "session" and token.id != keep]


def revoke_sessions(registry: Registry, user: str, keep: str | None) -> Plan[int]:
    """End all sessions of a user but one. The result is how many that were."""
    edits = ended_sessions(registry, user, keep)
    return Plan(tuple(edits), len(edits))


def note_uses(registry: Registry, uses: Mapping[str, int]) -> Plan[None]:
    """Note when tokens were last used (id -> ms); those that are gone, or were noted already, are left out."""
    tokens = [(registry.tokens[key], used_ms) for key, used_ms in uses.items() if key in registry.tokens]
    used = [
        put(msgspec.structs.replace(token, used_ms=used_ms))
        for token, used_ms in tokens
        if token.used_ms is None or token.used_ms < used_ms
    ]
    edits = fitting(registry, used)
    return Plan(edits, None, done=len(edits) == len(used))


def remove_expired(registry: Registry, now_ms: int) -> Plan[int]:
    """Clear away tokens, grants and invitations whose end is past. The result is how many there are.

    So are tokens without a user: two processes may have made the one and deleted the other at the same time.
    """
    ended: list[Entry] = [
        *(
            token
            for token in registry.tokens.values()
            if _is_past(token.expires_ms, now_ms - _EXPIRED_KEPT_MS) or token.user not in registry.users
        ),
        *(grant for grant in registry.grants.values() if _is_past(grant.expires_ms, now_ms)),
        *(
            invitation
            for invitation in registry.invitations.values()
            if _is_past(invitation.expires_ms, now_ms) or invitation.uses == invitation.uses_max
        ),
    ]
    edits = fitting(registry, [drop(entry) for entry in ended])
    return Plan(edits, len(ended), done=len(edits) == len(ended))


def _is_past(expires_ms: int | None, now_ms: int) -> bool:
    return expires_ms is not None and expires_ms <= now_ms
