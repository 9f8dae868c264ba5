"""Places in an order that people make by hand: always between, short, and with room left whoever inserts."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syncline import Misuse, between


def _between(before: str | None, after: str | None) -> str:
    """Return a place, of which it is checked that it is strictly between."""
    place = between(before, after)
    assert before is None or before < place, (before, place)
    assert after is None or place < after, (place, after)
    return place


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 10_000), min_size=1, max_size=60))
def test_whatever_is_inserted_where_the_order_is_the_one_that_was_meant(positions: list[int]) -> None:
    places: list[str] = []
    for position in positions:
        at = position % (len(places) + 1)
        before, after = (places[at - 1] if at else None), (places[at] if at < len(places) else None)
        places.insert(at, _between(before, after))
    assert places == sorted(set(places))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.booleans(), min_size=1, max_size=120))
def test_however_narrow_the_gap_becomes_there_is_room(lower: list[bool]) -> None:
    low, high = between(None, None), between(between(None, None), None)
    low, high = min(low, high), max(low, high)
    for goes_lower in lower:
        place = _between(low, high)
        low, high = (low, place) if goes_lower else (place, high)


@pytest.mark.parametrize("at_the_end", [True, False])
def test_ten_thousand_that_are_put_at_one_end_have_short_places(at_the_end: bool) -> None:
    place = between(None, None)
    for _ in range(10_000):
        place = _between(place, None) if at_the_end else _between(None, place)
    assert len(place) <= 7


def test_a_thousand_that_are_put_at_the_same_place_in_the_middle_grow_slowly() -> None:
    low = between(None, None)
    place = between(low, None)
    for _ in range(1000):
        place = _between(low, place)
    assert len(place) < 400


@pytest.mark.parametrize("where", ["nowhere", "after", "before", "middle"])
def test_two_who_insert_at_the_same_place_leave_room_between_them(where: str) -> None:
    low = between(None, None)
    high = between(low, None)
    before, after = {"nowhere": (None, None), "after": (high, None), "before": (None, low), "middle": (low, high)}[
        where
    ]
    # Of 30 all are different, unless with a chance of less than one in two hundred thousand tries with 30 each.
    places = sorted({_between(before, after) for _ in range(30)})
    assert len(places) >= 28
    for lower, higher in itertools.pairwise(places):
        _between(lower, higher)


def test_there_is_nothing_between_two_that_are_the_same_or_the_wrong_way_round() -> None:
    low = between(None, None)
    high = between(low, None)
    for before, after in ((low, low), (high, low)):
        with pytest.raises(Misuse, match="nothing between"):
            between(before, after)


@pytest.mark.parametrize("text", ["", "a", "5", "b1", "a00", "a1V0", "ä1", "a1 ", "A" + "0" * 26, "title"])
def test_what_is_no_place_is_said(text: str) -> None:
    for before, after in ((text, None), (None, text)):
        with pytest.raises(Misuse, match="is no place"):
            between(before, after)


def test_at_either_end_of_the_integers_the_fractions_go_on() -> None:
    first, last = "A" + "0" * 26 + "1", "z" + "z" * 26
    for _ in range(50):
        first, last = _between(None, first), _between(last, None)
    assert (first[0], last[0]) == ("A", "z")


def test_the_integer_goes_through_zero_and_gains_digits_in_both_directions() -> None:
    assert between("az", None)[:3] == "b00"
    assert between(None, "a0")[:2] == "Zz"
    assert between(None, "Z0")[:3] == "Yzz"
    assert between("Zz", None)[:2] == "a0"
