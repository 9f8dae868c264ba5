"""Views: which records they show, when two are the same, and what is left of changes that go through one."""

from itertools import product

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncline_protocol.codec import decode_change, encode_change
from syncline_protocol.cursor import Seq, parse_cursor
from syncline_protocol.index import IndexSpec, TermRange, encode_term
from syncline_server.access.view import FULL, View, Where, key_of
from syncline_server.storage.selection import Condition, Selector
from syncline_server.storage.values import IndexInfo

from .cases import KEYS, PREFIXES, unhurried

_PREFIXES = st.lists(st.just("") | PREFIXES, min_size=1, max_size=5)

#: What a value or a name may hold that looks like a part of a change.
_TRICKS = ("1", '"\\"}"', '{"by":"eve"}', '{"key":"a"}', '"\\",\\"by\\":\\"eve\\"}"', '[",\\"key\\":\\"a\\""]', "null")


@unhurried
@given(_PREFIXES, KEYS)
def test_a_view_shows_what_any_of_its_prefixes_shows(prefixes: list[str], key: str) -> None:
    assert View.of(prefixes).shows(key) == any(key[: len(prefix)] == prefix for prefix in prefixes)


@unhurried
@given(_PREFIXES, _PREFIXES)
def test_views_are_equal_exactly_if_they_show_the_same(one: list[str], other: list[str]) -> None:
    # A character that no prefix has tells where each of them ends.
    ends = [prefix + "z" for prefix in (*one, *other)]
    same = all(View.of(one).shows(key) == View.of(other).shows(key) for key in ends)
    assert (View.of(one) == View.of(other)) == same
    assert (View.of(one).token == View.of(other).token) == same


@unhurried
@given(st.lists(PREFIXES, min_size=1, max_size=5))
def test_no_prefix_of_a_view_is_more_than_it_takes(prefixes: list[str]) -> None:
    kept = [selector.prefix for selector in View.of(prefixes).selectors]
    assert not [(a, b) for a in kept for b in kept if a != b and b.startswith(a)]
    assert set(kept) <= set(prefixes)


def test_what_shows_everything_is_the_view_of_the_whole() -> None:
    assert View.of([""]) == View.of(["a", "", "b"]) == View.of([]) == FULL
    assert FULL.is_whole
    assert FULL.token is None


def test_prefixes_that_look_alike_when_they_are_put_together_are_another_view() -> None:
    views = [View.of(prefixes) for prefixes in (["a", "b"], ["a\0b"], ["ab"], ["a", "b", "c"], ["a\0b", "c"])]
    assert len({view.token for view in views}) == len(views)


@unhurried
@given(_PREFIXES)
def test_a_token_is_one_that_cursors_carry(prefixes: list[str]) -> None:
    token = View.of(prefixes).token
    assert token is None or parse_cursor(f"a1:5~{token}").view == token


def test_whether_authors_are_shown_changes_no_cursor() -> None:
    assert View.of(["a"], shows_authors=False).token == View.of(["a"]).token
    assert View.of(["a"], shows_authors=False) != View.of(["a"])


_CHANGES = st.lists(
    st.tuples(KEYS, st.none() | st.sampled_from(_TRICKS), st.none() | st.sampled_from(["ada", 'e"}', "\\", '","by":"']))
)


@unhurried
@given(st.booleans(), _CHANGES)
def test_authors_are_told_only_to_whom_they_are_shown(
    shows_authors: bool, changes: list[tuple[str, str | None, str | None]]
) -> None:
    view = View.of(["a"], shows_authors=shows_authors)
    texts = [
        encode_change(Seq(seq), key, None if value is None else value.encode(), 1, by)
        for seq, (key, value, by) in enumerate(changes, 1)
    ]
    assert [key_of(text) for text in texts] == [key for key, _, _ in changes]
    seen = [decode_change(text) for text in view.texts(texts)]
    wanted = [
        (seq, key, None if value is None else value.encode(), by if shows_authors else None)
        for seq, (key, value, by) in enumerate(changes, 1)
    ]
    assert [
        (it.seq, it.key, None if isinstance(it.value, msgspec.UnsetType) else bytes(it.value), it.by) for it in seen
    ] == wanted


# --- filters ---

_TERMS = [encode_term(scalar) for scalar in (1, 2, "x")]
_RANGES = st.sampled_from([TermRange(term, term + b"\0") for term in _TERMS] + [TermRange(), TermRange(_TERMS[1])])
_SELECTORS = st.builds(
    Selector,
    st.just("") | PREFIXES,
    st.lists(st.builds(Condition, st.sampled_from(["i1", "i2"]), _RANGES), max_size=2).map(tuple),
)
#: Every record that the selectors can tell apart, but for its key.
_OWN: list[dict[str, tuple[bytes, ...]]] = [
    {name: terms for name, terms in zip(("i1", "i2"), both, strict=True) if terms}
    for both in product([(), (_TERMS[0],), (_TERMS[1],), (_TERMS[0], _TERMS[2])], repeat=2)
]


def _narrowed(selectors: list[Selector]) -> View:
    view = FULL
    for selector in selectors:
        view = view.narrowed(selector)
    return view


@unhurried
@given(st.lists(_SELECTORS, max_size=3), KEYS)
def test_a_narrowed_view_shows_what_both_show(selectors: list[Selector], key: str) -> None:
    view = _narrowed(selectors)
    for terms in _OWN:
        assert view.shows(key, terms) == all(selector.selects(key, terms) for selector in selectors)


@unhurried
@given(_PREFIXES, _SELECTORS, KEYS)
def test_a_filter_narrows_every_alternative_of_what_is_granted(prefixes: list[str], wanted: Selector, key: str) -> None:
    granted = View.of(prefixes)
    for terms in _OWN:
        seen = granted.narrowed(wanted).shows(key, terms)
        assert seen == (granted.shows(key) and wanted.selects(key, terms))


@unhurried
@given(st.permutations([Selector("a"), Selector("", (Condition("i1", TermRange(b"1")),)), Selector("ab", ())]))
def test_in_whatever_order_a_view_is_narrowed_it_is_the_same(selectors: list[Selector]) -> None:
    there, back = _narrowed(selectors), _narrowed(selectors[::-1])
    assert (there, there.token) == (back, back.token)


def test_views_of_indexes_that_were_declared_anew_have_other_tokens() -> None:
    terms = TermRange(_TERMS[0], _TERMS[0] + b"\0")
    tokens = {FULL.narrowed(Selector("", (Condition(uid, terms),))).token for uid in ("u1", "u2")}
    assert len(tokens) == 2


def test_a_filter_that_nothing_can_meet_shows_nothing_and_not_everything() -> None:
    for view in (
        View.of(["a/"]).narrowed(Selector("b/")),
        FULL.narrowed(Selector("", (Condition("i1", TermRange(b"2", b"1")),))),
    ):
        assert not view.is_whole
        assert not any(view.shows(key, terms) for key in ("a/1", "b/1", "") for terms in _OWN)
        assert view.selectors


# --- what is granted by an index ---

_INDEXES = (
    IndexInfo("u1", IndexSpec("room", "/room"), "ready", Seq(0), 1),
    IndexInfo("u2", IndexSpec("late", "/late"), "building", Seq(0), 1),
)


def test_what_is_granted_by_an_index_is_seen_once_its_name_is_known() -> None:
    granted = View.of(["a/"], wheres=[Where("", "room", _TERMS[0]), Where("b/", "room", _TERMS[1])])
    view = granted.resolved(_INDEXES)
    assert view.shows("a/1")
    assert view.shows("c", {"u1": (_TERMS[0],)})
    assert view.shows("b/1", {"u1": (_TERMS[1],)})
    assert not view.shows("c", {"u1": (_TERMS[1],)})
    assert not view.is_whole


@pytest.mark.parametrize("index", ["late", "nowhere"])
def test_what_is_granted_by_an_index_that_is_not_complete_or_not_there_is_not_seen(index: str) -> None:
    view = View.of([], wheres=[Where("", index, _TERMS[0])]).resolved(_INDEXES)
    assert not any(view.shows(key, {"u1": own, "u2": own}) for key in ("a", "b") for own in ((), (_TERMS[0],)))


def test_a_view_that_is_not_resolved_shows_nothing_by_mistake() -> None:
    granted = View.of([], wheres=[Where("", "room", _TERMS[0])])
    assert not granted.is_whole
    with pytest.raises(AssertionError, match="resolved"):
        assert granted.selectors


def test_who_sees_everything_sees_it_whatever_else_is_granted() -> None:
    assert View.of([""], wheres=[Where("a", "room", _TERMS[0])]) == FULL


def test_a_record_is_judged_by_the_terms_of_its_value() -> None:
    view = View.of([], wheres=[Where("", "room", encode_term("r1"))]).resolved(_INDEXES)
    texts = [encode_change(Seq(1), "k", value, 1, None) for value in (b'{"room":"r1"}', b'{"room":"r2"}', b"1")]
    assert [view.shows_record(text, _INDEXES) for text in texts] == [True, False, False]
