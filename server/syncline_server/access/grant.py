"""What is granted: to whom, where, as what, within which limits. The structs are those of the REST bodies too."""

from typing import Annotated, Literal

import msgspec

__all__ = ["EVERYONE", "Grant", "GrantLimits", "ReadWhere", "Role", "covers"]

#: Each role has what those before it have. A reader reads; a writer adds and deletes; an owner shares and drops.
Role = Literal["reader", "writer", "owner"]

#: The grantee that everybody is, also who has not logged in.
EVERYONE = "everyone"

Prefix = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
Count = Annotated[int, msgspec.Meta(ge=0, le=2**53 - 1)]


class ReadWhere(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Records that have this term in the index of this name."""

    index: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
    eq: bool | int | float | Annotated[str, msgspec.Meta(max_length=256)] | None


class GrantLimits(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What narrows a grant.

    `key_prefix`: only keys that begin so may be written; `read_prefix`: only records whose keys begin so are seen, and
    only such are written if there is no `key_prefix`, and deleted whether there is one or not; `read_where`: only
    records are seen that an index finds so, and nothing may be written;
    `add_only`: nothing may be deleted; `own_only`: only what he added may be deleted. `records_max` and `bytes_max`
    bound the live records that he has added and their keys and values in UTF-8; `writes_per_s` his writes.
    """

    key_prefix: Prefix | None = None
    read_prefix: Prefix | None = None
    add_only: bool = False
    own_only: bool = False
    records_max: Count | None = None
    bytes_max: Count | None = None
    writes_per_s: Annotated[float, msgspec.Meta(gt=0, le=1e6)] | None = None
    read_where: ReadWhere | None = None


class Grant(msgspec.Struct, frozen=True, omit_defaults=True):
    """One grant. `to` is `user:NAME`, `group:NAME` or `everyone`; `store` a name, or a prefix with `*` at its end.

    `authors`: whether he sees who made a change. `by` granted it; it ends at `expires_ms`, in ms since 1970.
    """

    id: str
    to: str
    store: str
    role: Role
    by: str | None
    created_ms: int
    limits: GrantLimits = GrantLimits()
    authors: bool = True
    expires_ms: int | None = None


def covers(pattern: str, store: str) -> bool:
    """Return whether a grant or token for `pattern` concerns this store."""
    return store.startswith(pattern[:-1]) if pattern.endswith("*") else store == pattern
