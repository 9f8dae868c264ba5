"""Grants: made or replaced, taken back, and all of a store at once when it is dropped."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from syncline_server.access.grant import EVERYONE, Grant, GrantLimits, covers
from syncline_server.accounts.account_name import check_grantee, check_pattern, is_external
from syncline_server.accounts.entry import Entry
from syncline_server.accounts.error import AccountError
from syncline_server.accounts.plan import Plan, drop, fitting, put
from syncline_server.accounts.registry import Registry

__all__ = [
    "GRANTS_MAX",
    "Owned",
    "add_grant",
    "check_role",
    "is_owner",
    "make_room",
    "owned_by",
    "remove_grant",
    "remove_store_grants",
]

#: Grants for one store or prefix. More people share it through a group.
GRANTS_MAX = 10_000


def add_grant(registry: Registry, grant: Grant, *, must_exist: bool) -> Plan[tuple[Grant, bool]]:
    """Grant something; what the grantee had for the same store or prefix is replaced. The result says if it is new.

    `must_exist`: a user or group has to be there, unless an issuer vouches for the user.
    """
    kind, name = check_grantee(grant.to)
    check_pattern(grant.store)
    check_role(grant.role, grant.limits)
    if kind == EVERYONE and grant.role == "owner":
        raise AccountError("account_invalid", "a store cannot belong to everyone", hint="grant the role writer")
    if must_exist and not _exists(registry, kind, name):
        raise AccountError("account_unknown", f"there is no such {kind}")
    if grant.expires_ms is not None and grant.expires_ms <= grant.created_ms:
        raise AccountError("account_invalid", "the grant would have ended before it is made")
    replaced = [old for old in registry.grants_on(grant.store) if old.to == grant.to]
    if not replaced:
        make_room(registry, grant.store)
    return Plan((put(grant), *map(drop, replaced)), (grant, not replaced))


def remove_grant(registry: Registry, grant_id: str) -> Plan[Grant]:
    """Take a grant back."""
    grant = registry.grants.get(grant_id)
    if grant is None:
        raise AccountError("account_unknown", "there is no such grant")
    return Plan((drop(grant),), grant)


def remove_store_grants(registry: Registry, store: str) -> Plan[int]:
    """Take back everything that is granted or offered for exactly this store. Prefixes stay.

    The owners go last, so that somebody can see to the rest if this is interrupted. The result is how much there is.
    """
    grants = sorted(registry.grants_on(store), key=lambda grant: grant.role == "owner")
    invitations = [invitation for invitation in registry.invitations.values() if invitation.store == store]
    ended: Sequence[Entry] = [*invitations, *grants]
    edits = fitting(registry, [drop(entry) for entry in ended])
    return Plan(edits, len(ended), done=len(edits) == len(ended))


def make_room(registry: Registry, store: str) -> None:
    """Refuse another grant for a store that has as many as it may have."""
    if len(registry.grants_on(store)) >= GRANTS_MAX:
        raise AccountError("account_invalid", f"a store has at most {GRANTS_MAX} grants", hint="grant to a group")


def check_role(role: str, limits: GrantLimits) -> None:
    """Refuse limits for an owner, who could grant himself the same without them, and what a writer cannot have."""
    if role == "owner" and limits != GrantLimits():
        raise AccountError("account_invalid", "an owner has no limits", hint="grant the role writer with these limits")
    if role != "reader" and limits.read_where is not None:
        raise AccountError("account_invalid", "read_where is for readers only", hint="grant the role reader with it")


def _exists(registry: Registry, kind: str, name: str) -> bool:
    if kind == EVERYONE or is_external(name):
        return True
    return name in (registry.users if kind == "user" else registry.groups)


def is_owner(registry: Registry, name: str, pattern: str, now_ms: int) -> bool:
    """Return whether an account owns a store, or every store with a prefix, or is an administrator."""
    user = registry.active_user(name)
    if user is not None and user.is_admin:
        return True
    known = user is not None or is_external(name)
    return known and owned_by(registry, name, registry.groups_of(name), now_ms).has(pattern)


@dataclass(frozen=True, slots=True)
class Owned:
    """What somebody owns: stores and prefixes as grants name them, and of these the prefixes."""

    patterns: frozenset[str]
    prefixes: tuple[str, ...]

    def has(self, pattern: str) -> bool:
        """Return whether he owns a store, or every store with a prefix."""
        return pattern in self.patterns or any(covers(own, pattern.removesuffix("*")) for own in self.prefixes)


def owned_by(registry: Registry, name: str | None, groups: Iterable[str], now_ms: int) -> Owned:
    """Return what somebody of this name and in these groups owns now."""
    patterns = frozenset(
        grant.store
        for to in [*([] if name is None else [f"user:{name}"]), *(f"group:{group}" for group in groups)]
        for grant in registry.grants_to(to)
        if grant.role == "owner" and (grant.expires_ms is None or grant.expires_ms > now_ms)
    )
    return Owned(patterns, tuple(pattern for pattern in patterns if pattern.endswith("*")))
