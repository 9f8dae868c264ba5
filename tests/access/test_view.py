"""Views: which keys they show, when two are the same, and what is left of changes that go through one."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from syncline_protocol.codec import decode_change, encode_change
from syncline_protocol.cursor import Seq, parse_cursor
from syncline_server.access.view import FULL, View, key_of

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
    kept = View.of(prefixes).prefixes
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
@given(_PREFIXES, st.booleans(), _CHANGES)
def test_of_changes_exactly_those_are_left_that_are_shown_and_authors_only_for_whom_they_are(
    prefixes: list[str], shows_authors: bool, changes: list[tuple[str, str | None, str | None]]
) -> None:
    view = View.of(prefixes, shows_authors=shows_authors)
    texts = [
        encode_change(Seq(seq), key, None if value is None else value.encode(), 1, by)
        for seq, (key, value, by) in enumerate(changes, 1)
    ]
    assert [key_of(text) for text in texts] == [key for key, _, _ in changes]
    seen = [decode_change(text) for text in view.texts(texts)]
    wanted = [
        (seq, key, None if value is None else value.encode(), by if shows_authors else None)
        for seq, (key, value, by) in enumerate(changes, 1)
        if view.shows(key)
    ]
    assert [
        (it.seq, it.key, None if isinstance(it.value, msgspec.UnsetType) else bytes(it.value), it.by) for it in seen
    ] == wanted
