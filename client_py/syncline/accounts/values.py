"""What the server says of accounts, as frozen values. Times are in ms since 1970.

Secrets (a new token, an invitation code, a session) are members like any other, but never in a `repr`: that ends up in
logs and in notebooks.
"""

from typing import Literal

import msgspec

from syncline_protocol.index import Scalar

__all__ = [
    "Accepted",
    "Grant",
    "GrantLimits",
    "Group",
    "Invitation",
    "Login",
    "Me",
    "NewInvitation",
    "NewToken",
    "ReadWhere",
    "Role",
    "Scope",
    "Ticket",
    "Token",
    "User",
]

#: Each role has what those before it have. A reader reads; a writer adds and deletes; an owner shares and drops.
Role = Literal["reader", "writer", "owner"]

#: What a token may be used for. It never gives more than its user has.
Scope = Literal["read", "write", "share", "admin"]


_SECRETS = frozenset({"token", "secret", "code", "link", "ticket"})


class _Secret(msgspec.Struct, frozen=True):
    """A value of which one member is a secret."""

    def __repr__(self) -> str:
        members = [(name, getattr(self, name)) for name in self.__struct_fields__]
        shown = [f"{name}={'…' if name in _SECRETS and isinstance(it, str) else repr(it)}" for name, it in members]
        return f"{type(self).__name__}({', '.join(shown)})"


class Me(msgspec.Struct, frozen=True):
    """Who the server takes us for.

    Attributes:
        user: the name, or None for nobody.
        kind: `user`, `service`, `external` (known by a token of somebody else), `anonymous`, or `open` on a server
            where nobody has to log in.
        admin: whether everything is allowed.
        groups: those that the user is in.
        scopes: what the token may be used for.
        expires_ms: when the token ends.
        auth: `accounts`, or `none` on a server where nobody has to log in.
        oidc: the server also lets in by a login of somebody else, in a browser.
        setup: there is no administrator yet: see `Accounts.setup`.
    """

    user: str | None = None
    kind: str = "anonymous"
    admin: bool = False
    groups: tuple[str, ...] = ()
    scopes: tuple[str, ...] = ()
    expires_ms: int | None = None
    auth: str = "none"
    oidc: bool = False
    setup: bool = False


class Login(_Secret, frozen=True):
    """A session. `token` is what the client shows from now on."""

    user: str
    expires_ms: int | None = None
    token: str | None = None


class Ticket(_Secret, frozen=True):
    """A ticket: lets in once, soon, where no header can be sent."""

    ticket: str
    expires_ms: int


class User(msgspec.Struct, frozen=True):
    """An account. `login_ms` is when somebody last logged in with it, `oidc` whether that goes over somebody else."""

    user: str
    kind: str = "user"
    title: str = ""
    admin: bool = False
    disabled: bool = False
    created_ms: int = 0
    login_ms: int | None = None
    oidc: bool = False


class Group(msgspec.Struct, frozen=True):
    """A group of users."""

    group: str
    members: tuple[str, ...] = ()
    created_ms: int = 0


class Token(msgspec.Struct, frozen=True):
    """A token as it is listed: everything but its text, which nobody knows any more.

    `kind` is `personal` or `session`; `stores` names the stores that it is limited to, as in grants.
    """

    id: str
    user: str
    title: str = ""
    kind: str = "personal"
    scopes: tuple[str, ...] = ()
    stores: tuple[str, ...] | None = None
    created_ms: int = 0
    expires_ms: int | None = None
    used_ms: int | None = None


class NewToken(_Secret, frozen=True):
    """A token that was made just now. `secret` is its text, which is shown this once."""

    secret: str
    token: Token


class ReadWhere(msgspec.Struct, frozen=True):
    """Records that have the scalar `eq` in the index of this name."""

    index: str
    eq: Scalar


class GrantLimits(msgspec.Struct, frozen=True, omit_defaults=True):
    """What narrows a grant.

    Attributes:
        key_prefix: only keys that begin so may be written.
        read_prefix: only records whose keys begin so are seen.
        add_only: nothing may be deleted.
        own_only: only what he added himself may be deleted.
        records_max: so many live records may be his.
        bytes_max: so many bytes, in keys and values of these.
        writes_per_s: so many writes in a second.
        read_where: only records are seen that an index finds so; for readers only.
    """

    key_prefix: str | None = None
    read_prefix: str | None = None
    add_only: bool = False
    own_only: bool = False
    records_max: int | None = None
    bytes_max: int | None = None
    writes_per_s: float | None = None
    read_where: ReadWhere | None = None


class Grant(msgspec.Struct, frozen=True):
    """What was granted to whom.

    Attributes:
        id: names it, to take it back.
        to: `user:NAME`, `group:NAME` or `everyone`.
        store: a name, or the beginning of names with `*` at its end.
        role: `reader`, `writer` or `owner`.
        by: who granted it.
        authors: whether he sees who made a change.
    """

    id: str
    to: str
    store: str
    role: Role
    by: str | None = None
    created_ms: int = 0
    limits: GrantLimits = GrantLimits()
    authors: bool = True
    expires_ms: int | None = None


class Invitation(msgspec.Struct, frozen=True):
    """An invitation as it is listed: everything but its code. `uses` of `uses_max` were accepted."""

    id: str
    store: str
    role: Role
    limits: GrantLimits = GrantLimits()
    authors: bool = True
    by: str | None = None
    created_ms: int = 0
    expires_ms: int | None = None
    uses_max: int | None = None
    uses: int = 0


class NewInvitation(_Secret, frozen=True):
    """An invitation that was made just now. `link` opens it in a browser, `code` is for `Client.accept`."""

    code: str
    link: str
    invitation: Invitation


class Accepted(msgspec.Struct, frozen=True):
    """What came of an invitation: a grant, and a session if an account was made with it."""

    grant: Grant
    login: Login | None = None
