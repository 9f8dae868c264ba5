"""Rights against the plainest model: what any grant allows is allowed, by every key, author, scope and bound.

What a write may do is not asked of the rights but of what becomes of it: guarded, and then decided as the log does.
"""

from collections.abc import Sequence

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from syncline_protocol.cursor import Seq
from syncline_protocol.index import IndexSpec, encode_term
from syncline_protocol.messages import OpResult
from syncline_protocol.transaction import Op, Transaction, hash_value
from syncline_server.access.grant import Grant, GrantLimits, ReadWhere, Role
from syncline_server.access.principal import ANONYMOUS, Principal
from syncline_server.access.rights import OPEN_RIGHTS, Rights, rights_of
from syncline_server.storage.decide import UsedKey, decide
from syncline_server.storage.values import IndexInfo

from .cases import KEYS, STORES, grants, may_add, may_delete, principals, sees, unhurried, uses

_STORES = st.sampled_from(STORES)
_AUTHORS = st.sampled_from([None, "ada", "bob"])
_ops = st.lists(st.tuples(KEYS, st.sampled_from(["add", "delete"]), _AUTHORS), min_size=1, max_size=4)


def made(key: str, kind: str) -> Op:
    """Return an op that breaks no rule."""
    return Op(key, b"1", hash_value(b"1")) if kind == "add" else Op(key)


def results(rights: Rights, ops: Sequence[tuple[str, str, str | None]], *, atomic: bool) -> tuple[OpResult, ...]:
    """Write to a log in which what is deleted was added by its author."""
    used = {key: UsedKey(Seq(1), None, hash_value(b"1"), by, 2) for key, kind, by in ops if kind == "delete"}
    transaction = Transaction("notes", tuple(made(key, kind) for key, kind, _ in ops), atomic=atomic)
    return decide(rights.guard(transaction), used, Seq(10)).results


@unhurried
@given(principals, _STORES, grants, KEYS)
def test_seen_is_what_any_grant_shows(principal: Principal, store: str, granted: list[Grant], key: str) -> None:
    view = rights_of(principal, store, granted).view
    assert (view is not None and view.shows(key)) == sees(principal, store, granted, key)
    if not granted and not principal.is_admin:
        assert view is None


@unhurried
@given(principals, _STORES, grants)
def test_authors_are_shown_if_any_grant_says_so(principal: Principal, store: str, granted: list[Grant]) -> None:
    view = rights_of(principal, store, granted).view
    if view is not None:
        assert view.shows_authors == (principal.is_admin or any(grant.authors for grant in granted))


@unhurried
@given(principals, _STORES, grants, KEYS, _AUTHORS)
def test_written_is_what_any_grant_allows(
    principal: Principal, store: str, granted: list[Grant], key: str, by: str | None
) -> None:
    rights = rights_of(principal, store, granted)
    for kind, allowed in (
        ("add", may_add(principal, store, granted, key)),
        ("delete", may_delete(principal, store, granted, key, by)),
    ):
        (result,) = results(rights, [(key, kind, by)], atomic=False)
        assert (result.status, result.code) == (("ok", None) if allowed else ("denied", "forbidden"))
        if allowed:
            assert rights.may_write
            assert sees(principal, store, granted, key)


@unhurried
@given(principals, grants, _ops, st.booleans())
def test_each_op_of_a_batch_is_judged_as_if_it_came_alone(
    principal: Principal, granted: list[Grant], ops: list[tuple[str, str, str | None]], atomic: bool
) -> None:
    ops = list({key: (key, kind, by) for key, kind, by in ops}.values())
    rights = rights_of(principal, "notes", granted)
    denied = [
        not (
            may_add(principal, "notes", granted, key)
            if kind == "add"
            else may_delete(principal, "notes", granted, key, by)
        )
        for key, kind, by in ops
    ]
    told = results(rights, ops, atomic=atomic)
    assert [it.status == "denied" for it in told] == denied
    rest = {it.status for it in told if it.status != "denied"}
    assert rest <= ({"skipped"} if atomic and any(denied) else {"ok"})


@unhurried
@given(principals, grants, grants, KEYS, _AUTHORS)
def test_a_write_that_waits_needs_the_rights_of_both_moments(
    principal: Principal, before: list[Grant], after: list[Grant], key: str, by: str | None
) -> None:
    if principal.kind == "open":
        return
    used = {key: UsedKey(Seq(1), None, hash_value(b"1"), by, 2)}
    transaction = Transaction("notes", (Op(key),), atomic=False)
    for granted in (before, after):
        transaction = rights_of(principal, "notes", granted).guard(transaction)
    (result,) = decide(transaction, used, Seq(10)).results
    allowed = [may_delete(principal, "notes", granted, key, by) for granted in (before, after)]
    if result.status == "ok":
        assert all(allowed)
    else:
        assert not all(allowed)


@unhurried
@given(principals, _STORES, grants)
def test_what_an_op_broke_before_stays_its_fault(principal: Principal, store: str, granted: list[Grant]) -> None:
    fault = OpResult("invalid", code="key_invalid")
    transaction = Transaction(store, (Op("\ud800", fault=fault),))
    assert rights_of(principal, store, granted).guard(transaction).ops[0].fault == fault


@unhurried
@given(principals, _STORES, grants)
def test_of_bounds_the_widest_counts(principal: Principal, store: str, granted: list[Grant]) -> None:
    rights = rights_of(principal, store, granted)
    writing = [
        grant.limits
        for grant in granted
        if grant.role != "reader" and uses(principal, store) and "write" in principal.scopes
    ]
    if principal.kind == "open" or principal.is_admin or principal.name is None or not writing:
        assert rights.quota is None
        return
    for bound, found in (
        ([it.records_max for it in writing], rights.quota and rights.quota.records_max),
        ([it.bytes_max for it in writing], rights.quota and rights.quota.bytes_max),
        ([it.writes_per_s for it in writing], rights.writes_per_s),
    ):
        assert found == (None if None in bound else max(it for it in bound if it is not None))


@unhurried
@given(principals, _STORES, grants)
def test_owners_are_those_who_may_share(principal: Principal, store: str, granted: list[Grant]) -> None:
    owns = any(grant.role == "owner" for grant in granted)
    shares = uses(principal, store) and "share" in principal.scopes and (principal.is_admin or owns)
    assert rights_of(principal, store, granted).is_owner == (principal.kind == "open" or shares)


@unhurried
@given(principals, _STORES, grants, grants, KEYS, _AUTHORS)
def test_another_grant_takes_nothing_away(
    principal: Principal, store: str, granted: list[Grant], more: list[Grant], key: str, by: str | None
) -> None:
    few, many = rights_of(principal, store, granted), rights_of(principal, store, granted + more)
    assert many.view is not None or few.view is None
    assert many.is_owner >= few.is_owner
    for kind in ("add", "delete"):
        (before,), (after,) = (results(rights, [(key, kind, by)], atomic=False) for rights in (few, many))
        assert before.status == "denied" or after.status == "ok"


@unhurried
@given(_STORES, grants, KEYS)
def test_nobody_has_no_name_to_write_under(store: str, granted: list[Grant], key: str) -> None:
    rights = rights_of(ANONYMOUS, store, granted)
    guarded = rights.guard(Transaction(store, (made(key, "delete"),)))
    assert guarded.by is None
    assert guarded.quota is None
    assert guarded.ops[0].only_by is None


@unhurried
@given(principals, _STORES, grants)
def test_changes_bear_the_name_of_who_acts_whatever_they_came_with(
    principal: Principal, store: str, granted: list[Grant]
) -> None:
    if principal.kind != "open":
        forged = Transaction(store, (made("a", "add"),), by="eve")
        rights = rights_of(principal, store, granted)
        assert rights.guard(forged).by == (principal.name if rights.view is not None else None)


def test_nothing_is_marked_where_nobody_has_to_log_in() -> None:
    transaction = Transaction("notes", (made("a", "add"), made("b", "delete")))
    assert OPEN_RIGHTS.guard(transaction) is transaction


def _told(grants: Sequence[GrantLimits], key: str, kind: str, by: str | None = "bob") -> str | None:
    """Return what is said of one op to who has these grants."""
    granted = [
        Grant(f"g_{n}", "user:ada", "notes", "writer", None, n, limits) for n, limits in enumerate(grants)
    ]  # fmt: skip
    rights = rights_of(Principal("ada", "user"), "notes", granted)
    return results(rights, [(key, kind, by)], atomic=False)[0].message


def test_what_is_not_allowed_is_refused_with_the_rule_that_it_breaks() -> None:
    add_only, part, other = GrantLimits(add_only=True), GrantLimits(key_prefix="a/"), GrantLimits(read_prefix="b/")
    assert _told([add_only], "x", "delete") == "the grant allows adding only"
    assert _told([part], "x", "add") == "the grant allows keys that begin with 'a/' only"
    assert _told([part], "x", "delete") == "the grant allows keys that begin with 'a/' only"
    assert _told([part, other], "x", "add") == "the grant allows keys that begin with 'a/' or 'b/' only"
    assert _told([GrantLimits(key_prefix="a" * 120)], "x", "add") == "the grant allows keys with other beginnings only"
    box = GrantLimits(key_prefix="in/", read_prefix="out/")
    assert _told([box], "in/1", "delete") == "the grant allows deleting only what it shows"
    assert _told([GrantLimits(own_only=True)], "x", "delete") == "only who added this record may delete it"
    nothing = rights_of(ANONYMOUS, "notes", [])
    assert results(nothing, [("x", "add", None)], atomic=False)[0].message == "no grant allows this change"


def test_a_mailbox_takes_what_its_giver_does_not_see_and_gives_nothing_back() -> None:
    limits = GrantLimits(key_prefix="a/", read_prefix="b/")
    rights = rights_of(
        Principal("ada", "user"), "notes", [Grant("g_1", "user:ada", "notes", "writer", None, 1, limits)]
    )
    for key, kind in (("a/1", "delete"), ("b/1", "add"), ("b/1", "delete"), ("c", "add"), ("c", "delete")):
        assert results(rights, [(key, kind, "ada")], atomic=False)[0].status == "denied"
    assert results(rights, [("a/1", "add", None)], atomic=False)[0].status != "denied"


# --- what is seen by an index ---


def _reader(limits: GrantLimits, role: Role = "reader") -> Grant:
    return Grant("g_1", "user:ada", "notes", role, None, 1, limits)


def test_a_reader_by_an_index_sees_what_it_finds_and_nothing_before_it_is_there() -> None:
    ada = Principal("ada", "user")
    view = rights_of(ada, "notes", [_reader(GrantLimits(read_where=ReadWhere("room", "r1")))]).view
    assert view is not None
    ready = IndexInfo("u1", IndexSpec("room", "/room"), "ready", Seq(0), 1)
    terms = {"u1": (encode_term("r1"),)}
    assert view.resolved([ready]).shows("k", terms)
    assert not view.resolved([ready]).shows("k", {"u1": (encode_term("r2"),)})
    assert not view.resolved([msgspec.structs.replace(ready, state="building")]).shows("k", terms)
    assert not view.resolved([]).shows("k", terms)


def test_grants_by_an_index_and_by_a_prefix_are_alternatives() -> None:
    ada = Principal("ada", "user")
    granted = [
        _reader(GrantLimits(read_where=ReadWhere("room", "r1"), read_prefix="a/")),
        _reader(GrantLimits(read_prefix="b/")),
    ]
    view = rights_of(ada, "notes", granted).view
    assert view is not None
    view = view.resolved([IndexInfo("u1", IndexSpec("room", "/room"), "ready", Seq(0), 1)])
    terms = {"u1": (encode_term("r1"),)}
    assert [view.shows(key, terms) for key in ("a/1", "b/1", "c")] == [True, True, False]
    assert [view.shows(key) for key in ("a/1", "b/1", "c")] == [False, True, False]


def test_who_sees_by_an_index_writes_nothing_whatever_his_role() -> None:
    rights = rights_of(
        Principal("ada", "user"), "notes", [_reader(GrantLimits(read_where=ReadWhere("room", "r1")), "writer")]
    )
    assert not rights.may_write
