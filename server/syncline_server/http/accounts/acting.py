"""Who acts on accounts: what he may, from where, and what is written down of it.

An account is in full only in the hands of a login: a token that is limited, in scopes or stores, makes no other token
and changes no password, so that it never becomes more than it is.
"""

from collections.abc import Callable, Iterable
from urllib.parse import unquote_to_bytes

import msgspec

from syncline_protocol.audit import AuditOutcome
from syncline_server.access.grant import Grant, GrantLimits, covers
from syncline_server.access.principal import SCOPES, Principal
from syncline_server.accounts.changes import Before, Changes
from syncline_server.accounts.entry import Invitation, Token
from syncline_server.accounts.error import AccountError
from syncline_server.accounts.password import HashingOverloaded, PasswordRefused, check_password
from syncline_server.accounts.plans.grants import owned_by
from syncline_server.http.call import Call
from syncline_server.http.problem import Refusal
from syncline_server.storage.base import StorageUnavailable, StoreMismatch, StoreUnknown

from .bodies import GrantPost, InvitationPost

__all__ = [
    "address_of",
    "changes",
    "is_admin",
    "judged",
    "may_share",
    "new_hash",
    "noted",
    "path_text",
    "record",
    "require_admin",
    "require_admin_still",
    "require_full",
    "require_login",
    "require_share",
    "shared_of",
    "told_of",
]


# --- what he may ---


def require_login(principal: Principal) -> str:
    """Return the name of who acts. Raises Refusal: he has none."""
    if principal.name is None:
        raise Refusal("unauthenticated", "this needs a login", hint="log in, or send a token")
    return principal.name


def is_admin(principal: Principal) -> bool:
    """Return whether he administers the server; with a token for some stores he does not."""
    return principal.is_admin and principal.stores is None


def require_admin(principal: Principal) -> None:
    """Let administrators pass."""
    if not is_admin(principal):
        require_login(principal)
        raise Refusal("forbidden", "this is for administrators")


def require_admin_still(call: Call) -> None:
    """Let pass who is an administrator now."""
    require_admin(call.principal)


def require_full(principal: Principal) -> str:
    """Let those pass who have all of their account in hand. Returns its name."""
    name = require_login(principal)
    if principal.scopes != SCOPES or principal.stores is not None:
        raise Refusal("forbidden", "a token that is limited cannot do this", hint="log in with the password")
    return name


def may_share(call: Call, pattern: str) -> bool:
    """Return whether he may say who uses a store, or the stores with a prefix; whether they are there plays no part."""
    return bool(shared_of(call, [pattern]))


def shared_of(call: Call, patterns: Iterable[str]) -> set[str]:
    """Return of which of these `may_share` is true. What he owns is gathered once, however many they are."""
    principal: Principal = call.principal
    if "share" not in principal.scopes:
        return set()
    bounds = principal.stores
    within = {it for it in patterns if bounds is None or any(_is_within(it, bound) for bound in bounds)}
    if principal.is_admin:
        return within
    owned = owned_by(call.accounts.directory.registry, principal.name, principal.groups, call.hub.now_ms())
    return set(filter(owned.has, within))


def require_share(call: Call, pattern: str) -> None:
    """Let those pass who may share a store. What he is told is the same for one that is not there."""
    if not may_share(call, pattern):
        require_login(call.principal)
        raise Refusal("forbidden", "this is for owners of the store", hint="ask one of them, or an administrator")


def _is_within(pattern: str, bound: str) -> bool:
    """Return whether every store that a name or prefix stands for is one that `bound` stands for."""
    return pattern == bound or (bound.endswith("*") and covers(bound, pattern.removesuffix("*")))


# --- what is written down ---


def address_of(call: Call) -> str:
    """Return the address that the request came from."""
    return call.visitor.address or "unknown"


def noted(call: Call, action: str, subject: str | None = None, *, actor: str | None = None, **detail: str) -> Before:
    """Return what writes the entry of a change into the audit log; without a `subject` it is the id of what changes."""

    async def note(result: object) -> None:
        who = actor or call.principal.name
        await record(call, action, subject or _id_in(result), actor=who, outcome="ok", **detail)

    return note


async def record(
    call: Call, action: str, subject: str | None, *, actor: str | None, outcome: AuditOutcome = "ok", **detail: str
) -> None:
    """Write an entry into the audit log. Raises StorageUnavailable: it could not be, so nothing must be done."""
    try:
        await call.accounts.audit.record(
            action, actor=actor, subject=subject, outcome=outcome, address=address_of(call), **detail
        )
    except (StoreUnknown, StoreMismatch) as error:
        # That a store of the system is gone is no answer to a request that names none.
        raise StorageUnavailable("the audit log is not there", hint="restart the server") from error


def judged(allowed: Callable[[], object], note: Before) -> Before:
    """Return what does `note`, if the change is allowed when its turn has come.

    It may have waited for others, and for its body, since the request was let in; one of those others may have taken
    his right away from who asks.

    Args:
        allowed: raises what he is refused with if he may not do this any more.
    """

    async def judge(result: object) -> None:
        allowed()
        await note(result)

    return judge


def changes(
    call: Call, action: str, subject: str | None = None, *, allowed: Callable[[], object], **detail: str
) -> Changes:
    """Return the changes of the accounts, each of which is judged again and written down before it is made."""
    note = judged(allowed, noted(call, action, subject, **detail))
    found: Changes = call.accounts.directory.noting(note, whose=call.principal.name)
    return found


def told_of(offer: GrantPost | InvitationPost) -> dict[str, str]:
    """Return what the audit log has of what is granted or offered; the limits as JSON."""
    told: dict[str, str] = {"store": offer.store, "role": offer.role}
    if offer.limits != GrantLimits():
        told["limits"] = msgspec.json.encode(offer.limits).decode()
    if not offer.authors:
        told["authors"] = "false"
    return told if offer.expires_ms is None else told | {"expires_ms": str(offer.expires_ms)}


def _id_in(result: object) -> str | None:
    first = result[0] if isinstance(result, tuple) and result else result
    return first.id if isinstance(first, Token | Grant | Invitation) else None


# --- what he sent ---


def path_text(call: Call, name: str) -> str:
    """Return a part of the path."""
    return unquote_to_bytes(call.request.path_params[name]).decode(errors="replace")


async def new_hash(call: Call, password: str | msgspec.UnsetType, user: str) -> str | None:
    """Return the hash of a password that a user shall have, if one is named. Raises AccountError, Refusal."""
    if isinstance(password, msgspec.UnsetType):
        return None
    try:
        check_password(password, user)
        found: str = await call.accounts.hasher.hash(password)
    except PasswordRefused as error:
        raise AccountError("account_invalid", str(error)) from error
    except HashingOverloaded as error:
        raise Refusal("overloaded", str(error), hint="try again in a moment") from error
    return found
