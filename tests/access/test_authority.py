"""The authority: each action against the plainest rule, the words of refusals, and rights that become stale."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncline_protocol.errors import RemoteProtocolError
from syncline_server.access import authority as module
from syncline_server.access.authority import Action, Authority
from syncline_server.access.grant import Grant
from syncline_server.access.principal import ANONYMOUS, OPEN, Principal
from syncline_server.access.rights import NO_RIGHTS, OPEN_RIGHTS
from syncline_server.storage.base import StoreUnknown

from .cases import STORES, grants, principals, unhurried, uses

_READ = Grant("g_1", "user:ada", "notes", "reader", None, 1)
_ADA = Principal("ada", "user")


def answer(ask: Callable[[], None]) -> str:
    """Return the code of a refusal, or `ok`."""
    try:
        ask()
    except RemoteProtocolError as error:
        return error.code
    except StoreUnknown:
        return "store_unknown"
    return "ok"


def wanted(who: Principal, action: Action, store: str, granted: list[Grant], *, creators: str) -> str:
    """Say what the rules say."""
    no = "unauthenticated" if who.name is None else "forbidden"
    if who.kind == "open" or action in (Action.ANYTHING, Action.LIST):
        return "ok"
    if action is Action.LOG_IN:
        return "ok" if who.name is not None else no
    if action is Action.ADMINISTER:
        return "ok" if who.is_admin and who.stores is None else no
    usable = uses(who, store)
    owns = usable and "share" in who.scopes and (who.is_admin or any(it.role == "owner" for it in granted))
    if action is Action.CREATE:
        free = who.name is not None and {"write", "share"} <= who.scopes and who.stores is None and creators == "users"
        return "ok" if owns or free else no
    if not (usable and (who.is_admin or granted)):
        return "unauthenticated" if who.name is None else "store_unknown"
    if action is Action.READ:
        return "ok"
    if action is Action.WRITE:
        some = who.is_admin or any(
            it.role != "reader"
            and (
                who.name is not None
                or not (it.limits.own_only or it.limits.records_max is not None or it.limits.bytes_max is not None)
            )
            for it in granted
        )
        return "ok" if some and "write" in who.scopes else no
    if action is Action.DROP and "write" not in who.scopes:
        return no
    return "ok" if owns else no


def test_a_token_that_may_share_and_not_write_drops_nothing() -> None:
    sharing = Principal("ada", "user", scopes=frozenset({"read", "share"}))
    owned = [Grant("g_1", "user:ada", "notes", "owner", None, 1)]
    authority = Authority(lambda principal, store: owned)
    assert answer(lambda: authority.authorize(sharing, Action.SHARE, "notes")) == "ok"
    assert answer(lambda: authority.authorize(sharing, Action.DROP, "notes")) == "forbidden"


@unhurried
@given(
    principals,
    st.sampled_from(Action),
    st.sampled_from(STORES),
    grants,
    st.sampled_from(["users", "admins"]),
)
def test_every_action_is_let_pass_by_its_rule_alone(
    who: Principal, action: Action, store: str, granted: list[Grant], creators: str
) -> None:
    authority = Authority(lambda principal, name: granted, creators)  # type: ignore[arg-type]
    for _ in range(2):
        told = answer(lambda: authority.authorize(who, action, store))
        assert told == wanted(who, action, store, granted, creators=creators)


def test_rights_are_of_one_principal_in_one_store() -> None:
    granted = {("ada", "notes"): [_READ]}
    authority = Authority(lambda principal, store: granted.get((principal.name or "", store), []))
    everybody = [_ADA, Principal("bob", "user"), ANONYMOUS, Principal("ada", "user", scopes=frozenset())]
    for who in everybody:
        for store in STORES:
            shown = authority.rights(who, store).view is not None
            assert shown == (who == _ADA and store == "notes"), (who, store)


def test_a_store_that_nobody_may_see_is_not_even_looked_for() -> None:
    authority = Authority(lambda principal, store: [])
    texts = set()
    for store in ("notes", "_accounts"):
        with pytest.raises(StoreUnknown) as caught:
            authority.authorize(_ADA, Action.READ, store)
        texts.add(str(caught.value).replace(store, "it"))
    assert len(texts) == 1


def test_a_change_makes_all_rights_stale_that_were_given_out() -> None:
    granted: list[Grant] = []
    authority = Authority(lambda principal, store: granted)
    before = [authority.rights(who, store) for who in (_ADA, ANONYMOUS) for store in STORES]
    granted.append(_READ)
    assert authority.rights(_ADA, "notes").view is None, "nothing was said of a change"
    authority.forget()
    assert all(rights.is_stale for rights in before)
    assert authority.rights(_ADA, "notes").view is not None
    assert not authority.rights(_ADA, "notes").is_stale


def test_what_is_shared_by_all_never_becomes_stale() -> None:
    authority = Authority(lambda principal, store: [])
    assert authority.rights(OPEN, "notes") is OPEN_RIGHTS
    assert authority.rights(_ADA, "notes") is not NO_RIGHTS
    authority.forget()
    assert not OPEN_RIGHTS.is_stale
    assert not NO_RIGHTS.is_stale


def test_who_asks_for_the_rights_in_many_stores_makes_others_ask_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_KEPT_MAX", 10)
    asked: list[str] = []

    def look(principal: Principal, store: str) -> list[Grant]:
        asked.append(store)
        return [_READ]

    authority = Authority(look)
    first = authority.rights(_ADA, "notes")
    for number in range(25):
        assert authority.rights(_ADA, f"s{number}").view is not None
    assert first.is_stale
    assert authority.rights(_ADA, "notes") == first
    assert asked.count("notes") == 2


def test_what_is_for_administrators_is_refused_in_these_words() -> None:
    authority = Authority(lambda principal, store: [])
    for principal in (Principal("ada", "user"), Principal("root", "user", is_admin=True, stores=("notes",))):
        with pytest.raises(RemoteProtocolError, match="this is for administrators") as caught:
            authority.authorize(principal, Action.ADMINISTER)
        assert caught.value.code == "forbidden"
    with pytest.raises(RemoteProtocolError, match="unauthenticated"):
        authority.authorize(ANONYMOUS, Action.ADMINISTER)
