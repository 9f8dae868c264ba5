"""Invitations: made, taken back, accepted. Whatever is wrong with a code, who comes with it learns only that it is."""

import msgspec

from syncline_server.access.grant import Grant
from syncline_server.accounts.account_name import check_pattern
from syncline_server.accounts.entry import Invitation, User
from syncline_server.accounts.error import AccountError
from syncline_server.accounts.plan import Edit, Plan, drop, put
from syncline_server.accounts.registry import Registry

from .grants import check_role, is_owner, make_room
from .users import new_user

__all__ = ["INVITATIONS_MAX", "accept", "accept_as_new_user", "add_invitation", "find", "remove_invitation"]

#: Open invitations to one store or prefix; one for everybody is as good as many.
INVITATIONS_MAX = 1000

#: An invitation that names no number is used up too: it remembers who has accepted it.
_USES_MAX = 5000


def add_invitation(registry: Registry, invitation: Invitation) -> Plan[Invitation]:
    """Offer a grant to whoever comes with the code."""
    check_pattern(invitation.store)
    check_role(invitation.role, invitation.limits)
    if invitation.expires_ms is not None and invitation.expires_ms <= invitation.created_ms:
        raise AccountError("account_invalid", "the invitation would have ended before it is made")
    if invitation.uses_max is not None and invitation.uses_max < 1:
        raise AccountError("account_invalid", "an invitation can be used once or more")
    if sum(other.store == invitation.store for other in registry.invitations.values()) >= INVITATIONS_MAX:
        raise AccountError("account_invalid", f"a store has at most {INVITATIONS_MAX} invitations")
    return Plan((put(invitation),), invitation)


def remove_invitation(registry: Registry, invitation_id: str) -> Plan[Invitation]:
    """Take an invitation back. What was granted through it stays."""
    invitation = registry.invitations.get(invitation_id)
    if invitation is None:
        raise AccountError("account_unknown", "there is no such invitation")
    return Plan((drop(invitation),), invitation)


def find(registry: Registry, code_hash: str, now_ms: int) -> Invitation:
    """Return the invitation with this code if it can be accepted now. Raises AccountError, one for all reasons."""
    invitation = registry.invitation_by_hash(code_hash)
    if (
        invitation is None
        or (invitation.expires_ms is not None and invitation.expires_ms <= now_ms)
        or invitation.uses >= min(invitation.uses_max or _USES_MAX, _USES_MAX)
        or (invitation.by is not None and not is_owner(registry, invitation.by, invitation.store, now_ms))
    ):
        raise _unusable()
    return invitation


def _unusable() -> AccountError:
    return AccountError(
        "invitation_invalid", "this invitation cannot be used", hint="ask the person who sent it for another one"
    )


def accept(registry: Registry, code_hash: str, name: str, grant_id: str, now_ms: int) -> Plan[Grant]:
    """Grant to a principal what the invitation offers, and count the use.

    It comes beside what he has for the same store; if he has exactly this already, nothing is changed or counted. Who
    has accepted it before gets nothing by it a second time.
    """
    invitation = find(registry, code_hash, now_ms)
    grant = _granted(invitation, name, grant_id, now_ms)
    his = [old for old in registry.grants_on(invitation.store) if old.to == grant.to]
    for old in his:
        if msgspec.structs.replace(old, id=grant.id, by=grant.by, created_ms=grant.created_ms) == grant:
            return Plan((), old)
    if name in invitation.accepted:
        if not his:
            raise _unusable()
        return Plan((), his[0])
    return Plan(tuple(_accepted(registry, invitation, grant)), grant)


def accept_as_new_user(
    registry: Registry, code_hash: str, user: User, grant_id: str, now_ms: int
) -> Plan[tuple[User, Grant]]:
    """Make an account and grant to it what the invitation offers, both or nothing."""
    invitation = find(registry, code_hash, now_ms)
    grant = _granted(invitation, user.name, grant_id, now_ms)
    return Plan((new_user(registry, user), *_accepted(registry, invitation, grant)), (user, grant))


def _granted(invitation: Invitation, name: str, grant_id: str, now_ms: int) -> Grant:
    return Grant(
        grant_id,
        f"user:{name}",
        invitation.store,
        invitation.role,
        invitation.by,
        now_ms,
        invitation.limits,
        invitation.authors,
    )


def _accepted(registry: Registry, invitation: Invitation, grant: Grant) -> list[Edit]:
    make_room(registry, grant.store)
    accepted = (*invitation.accepted, grant.to.partition(":")[2])
    return [put(msgspec.structs.replace(invitation, uses=invitation.uses + 1, accepted=accepted)), put(grant)]
