"""The router: it finds exactly the selectors that select a record, whatever comes and goes."""

from collections.abc import Mapping
from unittest import mock

from hypothesis import given, settings
from hypothesis import strategies as st

from syncline_protocol.index import TermRange
from syncline_server import router as routers
from syncline_server.router import Router
from syncline_server.storage.selection import Condition, Selector

unhurried = settings(deadline=None)

_TERM = st.binary(max_size=2)
_EQUAL = _TERM.map(lambda term: TermRange(term, term + b"\0"))
_RANGE = st.builds(TermRange, _TERM, st.none() | _TERM)
_CONDITIONS = st.lists(st.builds(Condition, st.sampled_from(["i", "j"]), _EQUAL | _RANGE), max_size=2).map(tuple)
_TEXT = st.text("ab", max_size=3)
_SELECTORS = st.lists(st.builds(Selector, _TEXT, _CONDITIONS), max_size=3)
_RECORDS = st.tuples(
    _TEXT, st.dictionaries(st.sampled_from(["i", "j", "k"]), st.lists(_TERM, min_size=1, max_size=2).map(tuple))
)


def _selected(filed: dict[int, list[Selector]], key: str, terms: dict[str, tuple[bytes, ...]]) -> list[int]:
    return sorted(
        target
        for target, selectors in filed.items()
        if not selectors or any(selector.selects(key, terms) for selector in selectors)
    )


@unhurried
@given(
    st.lists(_SELECTORS, max_size=12),
    st.lists(_RECORDS, min_size=1, max_size=6),
    st.sampled_from([-10, 0, 2, 64]),
    st.data(),
)
def test_it_finds_what_trying_all_of_them_finds(
    many: list[list[Selector]],
    records: list[tuple[str, dict[str, tuple[bytes, ...]]]],
    loose: int,
    data: st.DataObject,
) -> None:
    router: Router[int] = Router()
    filed: dict[int, list[Selector]] = {}

    def check() -> None:
        for key, terms in records:
            assert sorted(router.select(key, terms)) == _selected(filed, key, terms)

    with mock.patch.object(routers, "_LOOSE_MAX", loose):
        for target, selectors in enumerate(many):
            router.add(target, selectors)
            filed[target] = selectors
            check()
        while filed:
            gone = data.draw(st.sampled_from(sorted(filed)))
            again = filed.pop(gone)
            router.remove(gone)
            check()
            if data.draw(st.booleans()):
                router.add(gone, again)
                filed[gone] = again
                check()
                router.remove(gone)
                del filed[gone]
                check()
    assert not router
    assert list(router.select("a", {"i": (b"",)})) == []


def test_a_target_that_several_of_its_selectors_select_is_found_once() -> None:
    router: Router[str] = Router()
    equal = Condition("i", TermRange(b"1", b"1\0"))
    router.add("t", [Selector("a"), Selector("", (equal,)), Selector("ab")])
    assert list(router.select("abc", {"i": (b"1",)})) == ["t"]


def test_who_is_removed_twice_or_never_came_is_no_matter() -> None:
    router: Router[str] = Router()
    router.add("t", [Selector("a"), Selector("a", (Condition("i", TermRange(b"1")),))])
    for target in ("t", "t", "stranger"):
        router.remove(target)
    assert not router


class _Untried(Selector, frozen=True):
    """A selector that must not be tried."""

    def selects(self, key: str, terms: Mapping[str, tuple[bytes, ...]]) -> bool:
        raise AssertionError(f"{self.conditions or self.prefix} was tried against {key}")


def test_a_record_is_tried_against_no_selector_of_one_term_one_range_or_one_prefix() -> None:
    router: Router[int] = Router()
    for number in range(1000):
        term = b"%03d" % number
        router.add(number, [_Untried("", (Condition("i", TermRange(term, term + b"\0")),))])
        router.add(1000 + number, [_Untried(f"{number}/")])
        router.add(2000 + number, [_Untried("", (Condition("j", TermRange(term, term + b"~")),))])
    assert set(router.select("7/x", {"i": (b"012",)})) == {12, 1007}
    assert set(router.select("x", {"j": (b"123x",)})) == {2123}


def test_filters_that_come_and_go_do_not_make_a_commit_sort_all_of_them() -> None:
    router: Router[int] = Router()
    for number in range(2000):
        router.add(number, [Selector("", (Condition("i", TermRange(b"%04d" % number)),))])
    assert len(list(router.select("a", {"i": (b"1000",)}))) == 1001
    with mock.patch.object(routers._Ranges, "_build", side_effect=AssertionError("all of them were sorted")):
        for number in range(20):
            router.remove(number)
            router.add(number + 5000, [Selector("", (Condition("i", TermRange(b"0000")),))])
            assert len(list(router.select("a", {"i": (b"1000",)}))) == 1001
