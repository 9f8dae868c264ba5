"""Random principals, grants and keys, and the plainest answer to what they allow.

The model looks at one key and one grant at a time and knows nothing of normal forms, marks on ops or bounds: a grant
allows something or it does not, and what any grant allows is allowed.
"""

from hypothesis import settings
from hypothesis import strategies as st

from syncline_server.access.grant import Grant, GrantLimits
from syncline_server.access.principal import ANONYMOUS, OPEN, SCOPES, Principal

__all__ = ["KEYS", "PREFIXES", "STORES", "grants", "may_add", "may_delete", "principals", "sees", "unhurried", "uses"]

#: How long an example takes is no matter.
unhurried = settings(deadline=None)

#: Few characters, so that prefixes of prefixes are common; the odd ones sort, encode and escape in their own ways.
_CHARACTERS = 'ab/é\U0010ffff"\\'
PREFIXES = st.text(_CHARACTERS, min_size=1, max_size=3)
KEYS = st.text(_CHARACTERS, min_size=1, max_size=5)

STORES = ("notes", "notes.a", "other")
_PATTERNS = ("notes", "notes*", "notes.*", "other", "*")

_LIMITS = st.builds(
    GrantLimits,
    key_prefix=st.none() | PREFIXES,
    read_prefix=st.none() | PREFIXES,
    add_only=st.booleans(),
    own_only=st.booleans(),
    records_max=st.none() | st.integers(0, 3),
    bytes_max=st.none() | st.integers(0, 30),
    writes_per_s=st.none() | st.sampled_from([0.5, 2.0]),
)

grants = st.lists(
    st.builds(
        Grant,
        id=st.just("g_1"),
        to=st.just("user:ada"),
        store=st.just("notes"),
        role=st.sampled_from(["reader", "writer", "owner"]),
        by=st.none(),
        created_ms=st.just(1),
        limits=st.just(GrantLimits()) | _LIMITS,
        authors=st.booleans(),
    ),
    max_size=3,
)

_SCOPES = st.just(SCOPES) | st.frozensets(st.sampled_from(sorted(SCOPES)))
_NAMED = st.builds(
    Principal,
    name=st.sampled_from(["ada", "bob"]),
    kind=st.sampled_from(["user", "service", "external"]),
    is_admin=st.booleans(),
    scopes=_SCOPES,
    stores=st.none() | st.lists(st.sampled_from(_PATTERNS), max_size=2).map(tuple),
)
principals = st.one_of(st.just(ANONYMOUS), st.just(OPEN), _NAMED)


def uses(principal: Principal, store: str) -> bool:
    """Return whether his credentials are for this store, and for looking at it."""
    if principal.kind == "open":
        return True
    bounds = principal.stores
    covered = bounds is None or any(
        store == bound or (bound[-1:] == "*" and store[: len(bound) - 1] == bound[:-1]) for bound in bounds
    )
    return covered and "read" in principal.scopes


def sees(principal: Principal, store: str, granted: list[Grant], key: str) -> bool:
    """Return whether he sees a record of this key."""
    if principal.kind == "open":
        return True
    if not uses(principal, store):
        return False
    return principal.is_admin or any(_begins(key, grant.limits.read_prefix) for grant in granted)


def may_add(principal: Principal, store: str, granted: list[Grant], key: str) -> bool:
    """Return whether he may add a record of this key, if there is room for it."""
    if principal.kind == "open" or (principal.is_admin and uses(principal, store) and "write" in principal.scopes):
        return True
    return bool(_writing(principal, store, granted, key))


def may_delete(principal: Principal, store: str, granted: list[Grant], key: str, added_by: str | None) -> bool:
    """Return whether he may delete a record of this key that somebody has added."""
    if principal.kind == "open" or (principal.is_admin and uses(principal, store) and "write" in principal.scopes):
        return True
    return any(
        not grant.limits.add_only
        and _begins(key, grant.limits.read_prefix)
        and (not grant.limits.own_only or added_by == principal.name)
        for grant in _writing(principal, store, granted, key)
    )


def _writing(principal: Principal, store: str, granted: list[Grant], key: str) -> list[Grant]:
    if not uses(principal, store) or "write" not in principal.scopes:
        return []
    return [
        grant
        for grant in granted
        if grant.role in ("writer", "owner")
        and _begins(key, grant.limits.read_prefix if grant.limits.key_prefix is None else grant.limits.key_prefix)
        and (principal.name is not None or not _counts(grant.limits))
    ]


def _begins(key: str, prefix: str | None) -> bool:
    return prefix is None or key[: len(prefix)] == prefix


def _counts(limits: GrantLimits) -> bool:
    """Return whether it matters who writes."""
    return limits.own_only or limits.records_max is not None or limits.bytes_max is not None
