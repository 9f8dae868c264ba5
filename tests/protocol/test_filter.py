"""A filter selects by terms what an independent reading of its conditions selects, or says why it cannot be asked."""

import operator
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncline_protocol.errors import RemoteProtocolError
from syncline_protocol.filter import Filter, check_filter, parse_filter
from syncline_protocol.index import IndexKind, Scalar, encode_term

_texts = st.text("ab\x00\U0010ffff", max_size=4)
_numbers = st.integers(-3, 3) | st.sampled_from([-0.5, 0.0, 0.5, 2.0**60, -1e300]) | st.integers(2**60 - 2, 2**60 + 2)
_scalars: st.SearchStrategy[Scalar] = st.none() | st.booleans() | _numbers | _texts

_COMPARED: dict[str, Callable[[Any, Any], bool]] = {
    "ge": operator.ge,
    "gt": operator.gt,
    "le": operator.le,
    "lt": operator.lt,
}


def _kind(scalar: Scalar) -> str:
    if scalar is None or isinstance(scalar, bool):
        return "null" if scalar is None else "boolean"
    return "string" if isinstance(scalar, str) else "number"


def _meets(scalar: Scalar, name: str, bound: Scalar) -> bool:
    if _kind(scalar) != _kind(bound):
        return False
    if scalar is None:
        return name in ("ge", "le")
    return _COMPARED[name](scalar, bound)


def refusal(wanted: Filter, kind: IndexKind | None = None) -> str:
    with pytest.raises(RemoteProtocolError) as caught:
        check_filter(wanted, kind)
    assert caught.value.code == "filter_invalid"
    return caught.value.message


@given(_scalars, _scalars)
def test_eq_selects_equal_scalars(wanted: Scalar, scalar: Scalar) -> None:
    is_equal = _kind(wanted) == _kind(scalar) and wanted == scalar
    assert Filter("n", eq=wanted).term_range().has(encode_term(scalar)) == is_equal


@given(st.lists(_scalars, min_size=1, max_size=4), st.permutations(list(_COMPARED)), _scalars)
def test_bounds_select_what_is_between_them(bounds: list[Scalar], names: list[str], scalar: Scalar) -> None:
    asked = dict(zip(names, bounds, strict=False))
    wanted = msgspec.structs.replace(Filter("n"), **asked)
    if len({_kind(bound) for bound in bounds}) > 1:
        assert refusal(wanted) == "its bounds are of different kinds"
    else:
        expected = all(_meets(scalar, name, bound) for name, bound in asked.items())
        assert check_filter(wanted, "range").term_range().has(encode_term(scalar)) == expected


@given(_texts, _scalars)
def test_a_prefix_selects_the_strings_that_begin_so(prefix: str, scalar: Scalar) -> None:
    expected = isinstance(scalar, str) and scalar.startswith(prefix)
    assert check_filter(Filter("n", prefix=prefix), "range").term_range().has(encode_term(scalar)) == expected


@given(_scalars)
def test_an_index_alone_selects_all_that_is_in_it(scalar: Scalar) -> None:
    assert check_filter(Filter("n"), "equality").term_range().has(encode_term(scalar))


def test_bounds_that_cross_select_nothing() -> None:
    assert Filter("n", ge=5, lt=5).term_range().is_empty
    assert Filter("n", gt="b", le="a").term_range().is_empty
    assert not Filter("n", ge=5, le=5).term_range().is_empty


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (b'{"index":"room","eq":"r1"}', Filter("room", eq="r1")),
        (b'{"index":"room","eq":null}', Filter("room", eq=None)),
        (b'{"index":"price","ge":1,"lt":5}', Filter("price", ge=1, lt=5)),
        (b'{"index":"price","eq":123456789012345678901234567890}', Filter("price", eq=123456789012345678901234567890)),
        (b'{"index":"name","prefix":"A"}', Filter("name", prefix="A")),
        (b'{"key_prefix":"a/"}', Filter(key_prefix="a/")),
        (b'{"index":"room","key_prefix":"a/","eq":true}', Filter("room", eq=True, key_prefix="a/")),
    ],
)
def test_a_filter_is_read_from_its_json_and_written_as_it_was(text: bytes, wanted: Filter) -> None:
    assert parse_filter(text) == wanted
    assert parse_filter(msgspec.Raw(text)) == wanted
    assert msgspec.json.decode(msgspec.json.encode(wanted)) == msgspec.json.decode(text)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[]",
        b'"room"',
        b"null",
        b"{}",
        b'{"index":"room","equals":1}',
        b'{"index":"room","eq":{}}',
        b'{"index":"room","eq":[1]}',
        b'{"index":"room","prefix":1}',
        b'{"index":"room","prefix":null}',
        b'{"index":1}',
        b'{"index":"room","eq":1e400}',
        b'{"index":"room","eq":' + b"9" * 5000 + b"}",
        b'{"index":"room","eq":"\\ud800"}',
        b'{"index":"\xff"}',
        b'{"index":"room","eq":' + b"[" * 5000,
        b'{"index":"room","other":' + b"[" * 5000,
    ],
)
def test_what_is_no_filter_is_refused_by_name(text: bytes) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        parse_filter(text)
    assert caught.value.code == "filter_invalid"
    assert len(caught.value.message) < 300


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (Filter(), "selects everything"),
        (Filter(eq=1), "names no index"),
        (Filter(lt=1, key_prefix="a"), "names no index"),
        (Filter("n", eq=1, prefix="a"), "more than one"),
        (Filter("n", eq=None, ge=None), "more than one"),
        (Filter("n", prefix="a", lt="b"), "more than one"),
        (Filter("n", ge=1, lt="b"), "different kinds"),
        (Filter("n", prefix="a" * 257), "at most 256 bytes"),
        (Filter(key_prefix="ü" * 129), "at most 256 bytes"),
        (Filter("n", eq="\ud800"), "lone surrogate"),
        (Filter("n", le="\udfff"), "lone surrogate"),
        (Filter("n", prefix="\ud800"), "lone surrogate"),
        (Filter(key_prefix="\ud800"), "lone surrogate"),
        (Filter("n", eq=float("nan")), "no number of JSON"),
        (Filter("n", ge=float("inf")), "no number of JSON"),
    ],
)
def test_a_filter_that_cannot_be_asked_says_why(wanted: Filter, message: str) -> None:
    assert message in refusal(wanted)


@pytest.mark.parametrize("kind", ["equality", "multi"])
def test_only_an_index_for_ranges_is_asked_for_bounds_and_prefixes(kind: IndexKind) -> None:
    for wanted in (Filter("n", ge=1), Filter("n", prefix="a")):
        assert wanted.has_bounds
        assert f"kind {kind} answers eq only" in refusal(wanted, kind)
        assert check_filter(wanted, "range") is wanted
        # As long as the kind is not known, nothing is wrong with it.
        assert check_filter(wanted) is wanted
    assert check_filter(Filter("n", eq=1), kind) == Filter("n", eq=1)
    assert not Filter("n", eq=1).has_bounds


def test_prefixes_up_to_the_bound_are_taken() -> None:
    wanted = Filter("n", prefix="a" * 256, key_prefix="ü" * 128)
    assert check_filter(wanted, "range") is wanted
