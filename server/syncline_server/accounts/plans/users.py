"""Users: made, changed, logged in, deleted. The last administrator stays; with a password its sessions end."""

from typing import Literal

import msgspec

from syncline_server.accounts.account_name import check_account_name, check_title
from syncline_server.accounts.entry import Token, User
from syncline_server.accounts.error import AccountError
from syncline_server.accounts.plan import ADMINS, Edit, Plan, drop, fitting, put
from syncline_server.accounts.registry import Registry

from .groups import without_member
from .tokens import add_token, ended_sessions

__all__ = [
    "Proof",
    "UserChange",
    "add_user",
    "change_password",
    "change_user",
    "delete_user",
    "login",
    "new_user",
    "rehash",
    "require_user",
]


#: What was verified at a login: the hash of the password, or (issuer, subject).
Proof = str | tuple[str, str]


class UserChange(msgspec.Struct, frozen=True):
    """What of a user shall be different; what is not named stays."""

    password_hash: str | msgspec.UnsetType = msgspec.UNSET
    is_admin: bool | msgspec.UnsetType = msgspec.UNSET
    is_disabled: bool | msgspec.UnsetType = msgspec.UNSET
    title: str | msgspec.UnsetType = msgspec.UNSET
    kind: Literal["user", "service"] | msgspec.UnsetType = msgspec.UNSET
    oidc: tuple[str, str] | msgspec.UnsetType | None = msgspec.UNSET


def require_user(registry: Registry, name: str) -> User:
    """Return a user. Raises AccountError: there is none of this name."""
    user = registry.users.get(name)
    if user is None:
        raise AccountError("account_unknown", "there is no such user")
    return user


def new_user(registry: Registry, user: User) -> Edit:
    """Return the edit that makes a user. Raises AccountError."""
    check_account_name(user.name)
    check_title(user.title)
    if user.name in registry.users:
        raise AccountError("name_taken", "there is a user of this name")
    _check_oidc(registry, user)
    return put(user)


def add_user(registry: Registry, user: User, *, only_first_admin: bool = False) -> Plan[User]:
    """Make a user; `only_first_admin`: only if there is no administrator yet, who he then is."""
    if not only_first_admin:
        return Plan((new_user(registry, user),), user)
    if registry.has_admin:
        raise AccountError("forbidden", "there is an administrator already", hint="ask him for an account")
    return Plan((new_user(registry, user), put(ADMINS)), user)


def change_user(registry: Registry, name: str, change: UserChange, keep_session: str | None) -> Plan[User]:
    """Change a user. His sessions end, but for `keep_session`, with a new password, and all when he is disabled."""
    old = require_user(registry, name)
    fields = {field: value for field, value in msgspec.structs.asdict(change).items() if value is not msgspec.UNSET}
    user: User = msgspec.structs.replace(old, **fields)
    check_title(user.title)
    if user.oidc != old.oidc:
        _check_oidc(registry, user)
    edits = [put(user)] if user != old else []
    if _is_active_admin(old) and not _is_active_admin(user):
        edits.append(_one_admin_less(registry, name))
    if user.is_disabled and not old.is_disabled:
        edits += ended_sessions(registry, name, None)
    elif user.password_hash != old.password_hash:
        edits += ended_sessions(registry, name, keep_session)
    return Plan(tuple(edits), user)


def change_password(registry: Registry, name: str, old_hash: str, new_hash: str, keep: str | None) -> Plan[User]:
    """Replace the password that was verified; all sessions but `keep` end."""
    _require_proof(registry, name, old_hash)
    return change_user(registry, name, UserChange(password_hash=new_hash), keep)


def rehash(registry: Registry, name: str, old_hash: str, new_hash: str) -> Plan[User]:
    """Replace the hash of a password by another one of the same."""
    old = require_user(registry, name)
    user = msgspec.structs.replace(old, password_hash=new_hash)
    return Plan((put(user),), user) if old.password_hash == old_hash else Plan((), old)


def login(registry: Registry, token: Token, proof: Proof) -> Plan[Token]:
    """Begin a session of a user whose password or identity was verified, and note the time."""
    user = _require_proof(registry, token.user, proof)
    begun = add_token(registry, token)
    return Plan((put(msgspec.structs.replace(user, login_ms=token.created_ms)), *begun.edits), token)


def _require_proof(registry: Registry, name: str, proof: Proof) -> User:
    user = registry.active_user(name)
    if user is None or proof not in (user.password_hash, user.oidc):
        raise AccountError("login_failed", "the user and the password do not belong together")
    return user


def delete_user(registry: Registry, name: str) -> Plan[User]:
    """Delete a user with everything that names him.

    If that does not fit into a transaction, the first one disables him, so that nothing he has gives anything, and the
    last one, when the rest is gone, deletes him: what names him is never there without him.
    """
    user = require_user(registry, name)
    guard = [_one_admin_less(registry, name)] if _is_active_admin(user) else []
    ends = [
        *(drop(token) for token in registry.tokens_of(name)),
        *(drop(grant) for grant in registry.grants_to(f"user:{name}")),
        *(without_member(registry.groups[group], name) for group in registry.member_of(name)),
        *(drop(invitation) for invitation in registry.invitations.values() if invitation.by == name),
    ]
    whole = (drop(user), *guard, *ends)
    if len(fitting(registry, whole)) == len(whole):
        return Plan(whole, user)
    disabled = msgspec.structs.replace(user, is_disabled=True, is_admin=False)
    first = [put(disabled)] if disabled != user else []
    return Plan(fitting(registry, [*first, *guard, *ends]), user, done=False)


def _is_active_admin(user: User) -> bool:
    return user.is_admin and not user.is_disabled


def _one_admin_less(registry: Registry, name: str) -> Edit:
    if registry.is_last_admin(name):
        raise AccountError(
            "forbidden", "this is the last administrator", hint="make somebody else an administrator first"
        )
    return put(ADMINS)


def _check_oidc(registry: Registry, user: User) -> None:
    if user.oidc is not None:
        other = registry.user_by_oidc(*user.oidc)
        if other is not None and other.name != user.name:
            raise AccountError("name_taken", "another user logs in with this identity")
