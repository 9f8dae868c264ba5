"""What the system store `_accounts` holds: a struct for each kind of entity, and the keys of its records.

An entity is one live record `KIND/ID/VERSION`. It is made by an ADD of version 0, changed by one transaction that
deletes its version and adds the next, and ended by a DELETE. So of two rivals that change it one is refused, and an ID
that has ended is never taken again. Versions to come may add fields, which are ignored here; a record that cannot be
understood counts as none, so that nothing is ever allowed by half a grant.
"""

from typing import Literal

import msgspec

from syncline_server.access.grant import Grant, GrantLimits, Role
from syncline_server.access.principal import Scope

__all__ = [
    "ACCOUNTS",
    "Entry",
    "Group",
    "Guard",
    "Invitation",
    "KindOfEntry",
    "Token",
    "User",
    "decode_entry",
    "encode_entry",
    "id_of",
    "key_of",
    "kind_of",
    "parse_key",
]

#: The system store. No client can name it, as names of stores begin with a letter or digit.
ACCOUNTS = "_accounts"

KindOfEntry = Literal["user", "group", "token", "grant", "invitation", "guard"]


class User(msgspec.Struct, frozen=True, omit_defaults=True):
    """An account of a person or a program (`kind`). `oidc` is (issuer, subject) of who may log in as this user.

    Times are ms since 1970. Without a `password_hash` nobody logs in by password.
    """

    name: str
    kind: Literal["user", "service"]
    created_ms: int
    title: str = ""
    password_hash: str | None = None
    is_admin: bool = False
    is_disabled: bool = False
    login_ms: int | None = None
    oidc: tuple[str, str] | None = None


class Group(msgspec.Struct, frozen=True, omit_defaults=True):
    """A group; `members` are names of users in ascending order."""

    name: str
    created_ms: int
    members: tuple[str, ...] = ()


class Token(msgspec.Struct, frozen=True, omit_defaults=True):
    """A personal token or the session of a login. `stores` are names or prefixes with `*`; None is all."""

    id: str
    user: str
    title: str
    kind: Literal["personal", "session"]
    secret_hash: str
    scopes: tuple[Scope, ...]
    created_ms: int
    stores: tuple[str, ...] | None = None
    expires_ms: int | None = None
    used_ms: int | None = None


class Invitation(msgspec.Struct, frozen=True, omit_defaults=True):
    """What somebody gets who accepts it: a grant with these members. `by` made it; None is the operator himself.

    `accepted` are those who did: each may once, so that whoever was removed or narrowed since does not come back by it.
    """

    id: str
    store: str
    role: Role
    code_hash: str
    by: str | None
    created_ms: int
    limits: GrantLimits = GrantLimits()
    authors: bool = True
    expires_ms: int | None = None
    uses_max: int | None = None
    uses: int = 0
    accepted: tuple[str, ...] = ()


class Guard(msgspec.Struct, frozen=True, omit_defaults=True):
    """What rivals collide at whose changes concern different entities but one rule. Its content means nothing."""

    name: str


Entry = User | Group | Token | Grant | Invitation | Guard

_TYPES: dict[str, type[Entry]] = {
    "user": User,
    "group": Group,
    "token": Token,
    "grant": Grant,
    "invitation": Invitation,
    "guard": Guard,
}
_KINDS: dict[type, str] = {type_: kind for kind, type_ in _TYPES.items()}
_DECODERS = {kind: msgspec.json.Decoder(type_) for kind, type_ in _TYPES.items()}


def kind_of(entry: Entry) -> str:
    """Return the kind that stands in the key of an entity."""
    return _KINDS[type(entry)]


def id_of(entry: Entry) -> str:
    """Return the ID that stands in the key of an entity."""
    return entry.name if isinstance(entry, (User, Group, Guard)) else entry.id


def key_of(entry: Entry, version: int) -> str:
    """Return the key of the record that holds this version of an entity."""
    return f"{kind_of(entry)}/{id_of(entry)}/{version}"


def parse_key(key: str) -> tuple[str, str, int] | None:
    """Return kind, ID and version, or None if the key has another form."""
    kind, _, rest = key.partition("/")
    entry_id, _, version = rest.rpartition("/")
    if not entry_id or not (version.isascii() and version.isdecimal() and len(version) < 16):
        return None
    return kind, entry_id, int(version)


def encode_entry(entry: Entry) -> bytes:
    """Return the value of a record, JSON."""
    return msgspec.json.encode(entry)


def decode_entry(kind: str, text: bytes) -> Entry | None:
    """Return the entity of this kind that the value of a record holds, or None if it cannot be understood."""
    decoder = _DECODERS.get(kind)
    if decoder is None:
        return None
    try:
        return decoder.decode(text)
    except msgspec.ValidationError:
        return None
