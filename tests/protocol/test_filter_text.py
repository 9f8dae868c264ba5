"""Filters in URLs and commands: what a text means, and that nothing is lost on the way there and back."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncline_protocol.errors import RemoteProtocolError
from syncline_protocol.filter import Filter
from syncline_protocol.filter_text import FILTER_TEXTS, filter_of, read_scalar, texts_of
from syncline_protocol.index import Scalar

_SCALARS = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)
_TEXTS = st.text(st.characters(codec="utf-8"), max_size=40)


@pytest.mark.parametrize(
    ("text", "scalar"),
    [
        ("5", 5),
        ("-1.5e3", -1500.0),
        ('"5"', "5"),
        ("true", True),
        ("null", None),
        ('""', ""),
        ("red", "red"),
        ("", ""),
        ("05", "05"),
        (" 5", " 5"),
        ("NaN", "NaN"),
        ("True", "True"),
        ("[1]", "[1]"),
        ('{"a":1}', '{"a":1}'),
        ('"open', '"open'),
    ],
)
def test_a_text_is_the_scalar_whose_json_it_is_or_else_a_string(text: str, scalar: Scalar) -> None:
    read = read_scalar(text)
    assert (type(read), read) == (type(scalar), scalar)


@given(_SCALARS | _TEXTS, st.sampled_from(["eq", "ge", "gt", "le", "lt"]), _TEXTS)
def test_every_filter_comes_back_from_its_texts(scalar: Scalar, bound: str, key_prefix: str) -> None:
    wanted = msgspec.structs.replace(Filter("room", key_prefix=key_prefix), **{bound: scalar})
    assert filter_of(texts_of(wanted)) == wanted


@given(_TEXTS)
def test_prefixes_are_strings_as_they_stand(prefix: str) -> None:
    wanted = Filter("room", prefix=prefix)
    assert texts_of(wanted)["prefix"] == prefix
    assert filter_of(texts_of(wanted)) == wanted


def test_texts_that_say_nothing_are_no_filter() -> None:
    assert filter_of({}) is None
    assert filter_of({"limit": "5", "eq": None}) is None
    assert texts_of(None) == {}


def test_a_condition_that_is_null_is_a_condition() -> None:
    assert filter_of({"index": "a", "eq": "null"}) == Filter("a", eq=None)
    assert texts_of(Filter("a", eq=None)) == {"index": "a", "eq": "null"}


@pytest.mark.parametrize(
    "texts", [{"eq": "1"}, {"index": "a", "eq": "1", "ge": "1"}, {"index": "a", "ge": "1", "lt": "x"}]
)
def test_what_no_filter_can_ask_is_refused(texts: dict[str, str]) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        filter_of(texts)
    assert caught.value.code == "filter_invalid"


def test_every_member_of_a_filter_has_a_text() -> None:
    assert set(FILTER_TEXTS) == set(Filter.__struct_fields__)
