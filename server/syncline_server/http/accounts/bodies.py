"""The JSON objects of the routes of accounts. No answer has a secret but the one that was made for its reader.

Members that a request leaves out stay as they are, or are as the server has them by default.
"""

from typing import Annotated, Literal

import msgspec

from syncline_protocol.audit import AuditEntry
from syncline_protocol.limits import SEQ_MAX
from syncline_protocol.messages import Milliseconds
from syncline_server.access.grant import Grant, GrantLimits, Role
from syncline_server.access.principal import Kind, Principal, Scope
from syncline_server.accounts.entry import Group, Invitation, Token, User

__all__ = [
    "AcceptBody",
    "AcceptedBody",
    "AuditHeadBody",
    "AuditPage",
    "Empty",
    "GrantBody",
    "GrantPost",
    "GrantsBody",
    "GroupBody",
    "GroupPut",
    "GroupsBody",
    "InvitationBody",
    "InvitationPost",
    "InvitationsBody",
    "LoginBody",
    "LoginPost",
    "MeBody",
    "NewInvitationBody",
    "NewTokenBody",
    "PasswordPost",
    "SetupPost",
    "TicketBody",
    "TokenBody",
    "TokenPost",
    "TokensBody",
    "UserBody",
    "UserPut",
    "UsersBody",
    "grant_body",
    "group_body",
    "invitation_body",
    "me_body",
    "token_body",
    "user_body",
]

Count = Annotated[int, msgspec.Meta(ge=0, le=SEQ_MAX)]
Name = Annotated[str, msgspec.Meta(max_length=300)]

#: Longer ones are no passwords; this only keeps them from being worked on.
Password = Annotated[str, msgspec.Meta(max_length=2048)]
Secret = Annotated[str, msgspec.Meta(max_length=256)]


class _Answer(msgspec.Struct, frozen=True):
    """What the server answers; every member is always there."""


class _Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a client asks for."""


class Empty(_Request, frozen=True):
    """Nothing."""


# --- who one is ---


class MeBody(_Answer, frozen=True):
    """Who the server takes one for. `auth` `none`: nobody has to log in; `setup`: there is no administrator yet."""

    user: str | None
    kind: Kind
    admin: bool
    groups: tuple[str, ...]
    scopes: tuple[Scope, ...]
    expires_ms: Milliseconds | None
    auth: Literal["accounts", "none"]
    oidc: bool
    setup: bool


class LoginPost(_Request, frozen=True):
    """A login. With `cookie` the session is kept by the browser, where no script can read it."""

    user: Name
    password: Password
    cookie: bool = False


class LoginBody(_Answer, frozen=True):
    """A session. `token` is null if it is in a cookie, or goes on as it was."""

    user: str
    expires_ms: Milliseconds | None
    token: str | None


class PasswordPost(_Request, frozen=True):
    """The password as it is, and as it shall be."""

    password: Password
    new_password: Password


class SetupPost(_Request, frozen=True):
    """The code that the server printed, and the first administrator."""

    code: Secret
    user: Name
    password: Password
    cookie: bool = False


class TicketBody(_Answer, frozen=True):
    """A ticket for one use."""

    ticket: str
    expires_ms: Milliseconds


# --- users and groups ---


class UserBody(_Answer, frozen=True):
    """An account. `oidc`: he logs in through a provider."""

    user: str
    kind: Literal["user", "service"]
    title: str
    admin: bool
    disabled: bool
    created_ms: Milliseconds
    login_ms: Milliseconds | None
    oidc: bool


class UsersBody(_Answer, frozen=True):
    """All accounts, in the order of their names."""

    users: tuple[UserBody, ...]


class UserPut(_Request, frozen=True):
    """An account as it shall be, as far as members are named."""

    password: Password | msgspec.UnsetType = msgspec.UNSET
    admin: bool | msgspec.UnsetType = msgspec.UNSET
    service: bool | msgspec.UnsetType = msgspec.UNSET
    disabled: bool | msgspec.UnsetType = msgspec.UNSET
    title: str | msgspec.UnsetType = msgspec.UNSET


class GroupBody(_Answer, frozen=True):
    """A group, with the names of its members in order."""

    group: str
    members: tuple[str, ...]
    created_ms: Milliseconds


class GroupsBody(_Answer, frozen=True):
    """All groups, in the order of their names."""

    groups: tuple[GroupBody, ...]


class GroupPut(_Request, frozen=True):
    """A group; `members` replaces those that it has."""

    members: tuple[Name, ...] | msgspec.UnsetType = msgspec.UNSET


# --- tokens ---


class TokenBody(_Answer, frozen=True):
    """A token without its text. `stores` are names or prefixes with `*`; null is all."""

    id: str
    user: str
    title: str
    kind: Literal["personal", "session"]
    scopes: tuple[Scope, ...]
    stores: tuple[str, ...] | None
    created_ms: Milliseconds
    expires_ms: Milliseconds | None
    used_ms: Milliseconds | None


class TokensBody(_Answer, frozen=True):
    """The tokens of a user, the oldest first."""

    tokens: tuple[TokenBody, ...]


class TokenPost(_Request, frozen=True):
    """A token that shall be made; by default one's own, for everything, for ever."""

    title: str
    user: Name | None = None
    scopes: tuple[Scope, ...] | None = None
    stores: tuple[str, ...] | None = None
    expires_ms: Milliseconds | None = None


class NewTokenBody(_Answer, frozen=True):
    """A token that was made. `secret` is its text, which is shown this once."""

    secret: str
    token: TokenBody


# --- sharing ---


class GrantBody(_Answer, frozen=True):
    """A grant. `store` is a name, or a prefix with `*` at its end."""

    id: str
    to: str
    store: str
    role: Role
    limits: GrantLimits
    authors: bool
    by: str | None
    created_ms: Milliseconds
    expires_ms: Milliseconds | None


class GrantsBody(_Answer, frozen=True):
    """Grants, the oldest first."""

    grants: tuple[GrantBody, ...]


class GrantPost(_Request, frozen=True):
    """A grant that shall be made. `to` is `user:NAME`, `group:NAME` or `everyone`."""

    to: Name
    store: Name
    role: Role
    limits: GrantLimits = GrantLimits()
    authors: bool = True
    expires_ms: Milliseconds | None = None


class InvitationBody(_Answer, frozen=True):
    """An invitation without its code. `uses` of `uses_max` were accepted; null is any number."""

    id: str
    store: str
    role: Role
    limits: GrantLimits
    authors: bool
    by: str | None
    created_ms: Milliseconds
    expires_ms: Milliseconds | None
    uses_max: Count | None
    uses: Count


class InvitationsBody(_Answer, frozen=True):
    """Invitations, the oldest first."""

    invitations: tuple[InvitationBody, ...]


class InvitationPost(_Request, frozen=True):
    """An invitation that shall be made."""

    store: Name
    role: Role
    limits: GrantLimits = GrantLimits()
    authors: bool = True
    expires_ms: Milliseconds | None = None
    uses_max: Count | None = None


class NewInvitationBody(_Answer, frozen=True):
    """An invitation that was made, with its code, which is shown this once, and the path that a browser opens."""

    code: str
    path: str
    invitation: InvitationBody


class AcceptBody(_Request, frozen=True):
    """The code of an invitation; with `user` and `password` an account is made for whoever has none."""

    code: Secret
    user: Name | None = None
    password: Password | None = None
    cookie: bool = False


class AcceptedBody(_Answer, frozen=True):
    """What was granted; `login` if an account was made."""

    grant: GrantBody
    login: LoginBody | None


# --- the audit log ---


class AuditHeadBody(_Answer, frozen=True):
    """Number and hash of the newest entry; -1 and zeros if there is none."""

    n: Annotated[int, msgspec.Meta(ge=-1, le=SEQ_MAX)]
    hash: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]


class AuditPage(_Answer, frozen=True):
    """Entries in their order, exactly as they are stored, and the end of the log."""

    entries: tuple[AuditEntry, ...]
    head: AuditHeadBody


# --- from what is known to what is shown ---


def me_body(principal: Principal, *, auth: Literal["accounts", "none"], oidc: bool, setup: bool) -> MeBody:
    """Return who somebody is."""
    return MeBody(
        principal.name,
        principal.kind,
        principal.is_admin,
        tuple(sorted(principal.groups)),
        tuple(sorted(principal.scopes)),
        principal.expires_ms,
        auth,
        oidc,
        setup,
    )


def user_body(user: User) -> UserBody:
    """Return what is shown of an account."""
    return UserBody(
        user.name,
        user.kind,
        user.title,
        user.is_admin,
        user.is_disabled,
        user.created_ms,
        user.login_ms,
        user.oidc is not None,
    )


def group_body(group: Group) -> GroupBody:
    """Return what is shown of a group."""
    return GroupBody(group.name, group.members, group.created_ms)


def token_body(token: Token) -> TokenBody:
    """Return what is shown of a token."""
    return TokenBody(
        token.id,
        token.user,
        token.title,
        token.kind,
        token.scopes,
        token.stores,
        token.created_ms,
        token.expires_ms,
        token.used_ms,
    )


def grant_body(grant: Grant) -> GrantBody:
    """Return what is shown of a grant."""
    return GrantBody(
        grant.id,
        grant.to,
        grant.store,
        grant.role,
        grant.limits,
        grant.authors,
        grant.by,
        grant.created_ms,
        grant.expires_ms,
    )


def invitation_body(invitation: Invitation) -> InvitationBody:
    """Return what is shown of an invitation."""
    return InvitationBody(
        invitation.id,
        invitation.store,
        invitation.role,
        invitation.limits,
        invitation.authors,
        invitation.by,
        invitation.created_ms,
        invitation.expires_ms,
        invitation.uses_max,
        invitation.uses,
    )
