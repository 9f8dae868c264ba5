"""Terms sort as their values do, equal values have equal terms, and what is indexed is what the path names."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncline_protocol.errors import RemoteProtocolError
from syncline_protocol.index import (
    IndexKind,
    IndexSet,
    IndexSpec,
    Scalar,
    TermRange,
    check_index,
    encode_term,
    end_of,
    kind_range,
    prefix_range,
    references_of,
    terms_of,
)
from syncline_protocol.limits import DEFAULT_LIMITS
from syncline_protocol.values import check_value

_texts = st.text(max_size=300)
#: Where doubles begin to leave numbers out, and where each has its own sign, exponent and rest.
_near_powers = st.builds(
    lambda sign, power, step: sign * 2**power + step, st.sampled_from([-1, 1]), st.integers(0, 115), st.integers(-3, 3)
)
_whole = st.integers(-(2**115), 2**115) | _near_powers
_numbers = _whole | st.floats(allow_nan=False, allow_infinity=False) | _near_powers.map(float)
_scalars = st.none() | st.booleans() | _numbers | _texts


def _place(scalar: Scalar) -> tuple[int, Any]:
    """Where a scalar stands among all, as an independent model has it. Python compares int and float exactly."""
    if scalar is None:
        return 0, 0
    if isinstance(scalar, bool):
        return 1, scalar
    return (2, scalar) if isinstance(scalar, (int, float)) else (3, scalar)


@given(_scalars, _scalars)
def test_terms_are_in_the_order_of_their_values(one: Scalar, other: Scalar) -> None:
    short = [scalar[:64] if isinstance(scalar, str) else scalar for scalar in (one, other)]
    (first, second), (low, high) = map(encode_term, short), map(_place, short)
    assert (first < second, first == second) == (low < high, low == high)


@given(_whole, st.integers(-3, 3))
def test_whole_numbers_that_are_neighbours_are_told_apart(number: int, step: int) -> None:
    first, second = encode_term(number), encode_term(number + step)
    assert (first < second, first == second) == (step > 0, step == 0)


@given(st.integers(-(2**1023), 2**1023), st.integers(-(2**1023), 2**1023))
def test_huge_whole_numbers_are_never_in_the_wrong_order(one: int, other: int) -> None:
    low, high = sorted((one, other))
    assert encode_term(low) <= encode_term(high)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_whole_number_has_one_term_however_it_is_written(number: float) -> None:
    if number.is_integer():
        assert encode_term(int(number)) == encode_term(number)


@pytest.mark.parametrize("texts", [("1", "1.0", "1e0", "10E-1"), ("0", "-0", "0.0", "-0.0", "0e5"), ("1e2", "100")])
def test_numbers_that_json_means_as_one_have_one_term(texts: tuple[str, ...]) -> None:
    indexes = IndexSet({"u": IndexSpec("n", "")})
    assert len({indexes.terms(text.encode())["u"] for text in texts}) == 1


def test_whole_numbers_beyond_a_double_are_told_apart() -> None:
    assert encode_term(2**53) < encode_term(2**53 + 1) < encode_term(2**53 + 2)
    assert encode_term(2**64 - 1) < encode_term(2**64) == encode_term(float(2**64)) < encode_term(2**64 + 1)
    assert encode_term(-(2**53) - 1) < encode_term(-(2**53))


def test_the_largest_numbers_that_a_value_may_have_have_terms() -> None:
    largest = int(float.fromhex("0x1.fffffffffffffp1023"))
    text = check_value(str(largest).encode(), DEFAULT_LIMITS)
    assert IndexSet({"u": IndexSpec("n", "")}).terms(text)["u"] == (encode_term(float(largest)),)
    # Bounds of a filter may be larger than any value.
    assert encode_term(-(10**400)) < encode_term(-largest) < encode_term(largest) < encode_term(10**400)


@given(_texts, _texts)
def test_long_strings_are_told_apart_and_sort_by_their_beginning(one: str, other: str) -> None:
    stem = "ü" * 127
    first, second = encode_term(stem + one), encode_term(stem + other)
    assert (first == second) == (one == other)
    bytes_one, bytes_other = (stem + one).encode()[:256], (stem + other).encode()[:256]
    if bytes_one != bytes_other:
        assert (first < second) == (bytes_one < bytes_other)


@pytest.mark.parametrize("length", [255, 256, 257, 258, 512, 100_000])
def test_a_long_string_costs_a_bounded_term_above_all_shorter_ones_of_its_beginning(length: int) -> None:
    terms = [encode_term("a" * shorter) for shorter in range(257)]
    term = encode_term("a" * length)
    assert len(term) <= 1 + 256 + 1 + 16
    assert [shorter for shorter, other in enumerate(terms) if other >= term] == [*range(length, 257)]


# --- ranges ---


@given(_texts, st.text(max_size=60))
def test_the_range_of_a_prefix_has_the_strings_that_begin_so(text: str, prefix: str) -> None:
    assert prefix_range(prefix).has(encode_term(text)) == text.startswith(prefix)
    assert prefix_range(prefix).has(encode_term(prefix + text))


@given(st.none() | st.booleans() | _numbers)
def test_nothing_but_a_string_is_in_the_range_of_a_prefix(scalar: Scalar) -> None:
    assert not prefix_range("").has(encode_term(scalar))


@given(_scalars, _scalars)
def test_scalars_of_one_kind_are_in_one_range(one: Scalar, other: Scalar) -> None:
    assert kind_range(one).has(encode_term(other)) == (_place(one)[0] == _place(other)[0])


@given(st.binary(max_size=4), st.binary(max_size=4))
def test_the_end_of_a_beginning_is_the_least_above_all_that_begin_so(first: bytes, other: bytes) -> None:
    end = end_of(first)
    assert TermRange(first, end).has(other) == other.startswith(first)


def test_only_the_beginning_that_nothing_is_above_has_no_end() -> None:
    assert end_of(b"\xff\xff") is None
    assert end_of(b"a\xff") == b"b"


def test_a_range_whose_end_is_not_above_its_beginning_is_empty() -> None:
    assert TermRange(b"b", b"b").is_empty
    assert TermRange(b"b", b"a").is_empty
    assert not TermRange(b"b", b"b\x00").is_empty
    assert not TermRange(b"b").is_empty


# --- paths ---

_DOCUMENT = {"a": {"b": "deep"}, "": {"": 1}, "x/y": 2, "m~n": 3, "~1": 4, "list": [10, {"k": 11}, [12]], "7": 5}


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/a/b", "deep"),
        ("//", 1),
        ("/x~1y", 2),
        ("/m~0n", 3),
        ("/~01", 4),
        ("/list/0", 10),
        ("/list/1/k", 11),
        ("/list/2/0", 12),
        ("/7", 5),
    ],
)
def test_a_pointer_leads_to_a_scalar(path: str, found: Scalar) -> None:
    assert terms_of(check_index(IndexSpec("n", path)), _DOCUMENT) == (encode_term(found),)


@pytest.mark.parametrize(
    "path",
    [
        "",  # an object is no scalar
        "/a",
        "/list",
        "/missing",
        "/a/b/c",  # below a scalar there is nothing
        "/list/3",
        "/list/-",
        "/list/00",
        "/list/01",
        "/list/+1",
        "/list/٣",  # a digit, though none of JSON Pointer
        "/list/99999999999999999999",
        "/list/k",
        "/",
    ],
)
def test_where_no_scalar_stands_there_is_no_term(path: str) -> None:
    assert terms_of(check_index(IndexSpec("n", path)), _DOCUMENT) == ()


@pytest.mark.parametrize("value", [None, True, 0, 1.5, "", "text"])
def test_the_empty_path_is_the_value_itself(value: Scalar) -> None:
    assert terms_of(IndexSpec("n", ""), value) == (encode_term(value),)


def test_a_multi_index_has_a_term_for_each_scalar_of_an_array_once() -> None:
    value = {"tags": ["red", "blue", "red", 1, 1.0, None, {"no": 1}, ["no"]]}
    spec = IndexSpec("tags", "/tags", "multi")
    assert terms_of(spec, value) == tuple(map(encode_term, ("red", "blue", 1, None)))


def test_a_multi_index_takes_a_scalar_as_an_array_of_one() -> None:
    assert terms_of(IndexSpec("tags", "/tags", "multi"), {"tags": "red"}) == (encode_term("red"),)
    assert terms_of(IndexSpec("tags", "/tags", "multi"), {"tags": []}) == ()
    assert terms_of(IndexSpec("tags", "/tags", "multi"), {"tags": {"red": 1}}) == ()


def test_a_multi_index_has_the_first_64_terms_of_an_array() -> None:
    found = terms_of(IndexSpec("n", "", "multi"), [0, *range(200)])
    assert found == tuple(map(encode_term, range(64)))


# --- the indexes of a store ---

_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | _texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["a", "b", "0"]) | _texts, inner),
    max_leaves=12,
)
_paths = st.lists(st.sampled_from(["a", "b", "0", "1", "x~1y"]), max_size=3).map(
    lambda steps: "".join("/" + step for step in steps)
)
_kinds: st.SearchStrategy[IndexKind] = st.sampled_from(["equality", "range", "multi"])


@given(_json, st.lists(st.builds(IndexSpec, st.just("n"), _paths, _kinds), max_size=4))
def test_a_set_finds_the_terms_of_each_index_in_the_text(value: object, specs: list[IndexSpec]) -> None:
    named = {f"u{number}": spec for number, spec in enumerate(specs)}
    text = check_value(json.dumps(value).encode(), DEFAULT_LIMITS)
    expected = {uid: terms for uid, spec in named.items() if (terms := terms_of(spec, json.loads(text)))}
    assert IndexSet(named).terms(text) == expected
    assert IndexSet(named.items()).terms(msgspec.Raw(text)) == expected


def test_a_set_knows_whether_it_has_indexes() -> None:
    assert not IndexSet({})
    assert IndexSet({"u": IndexSpec("n", "/a")})


# --- declarations ---


@pytest.mark.parametrize("name", ["a", "by-room", "A.b_c", "0", "x" * 64])
@pytest.mark.parametrize("path", ["", "/a", "//", "/a~0b~1c", "/" + "x" * 255, "/ключ/🙂"])
def test_an_index_with_a_sound_name_and_path_is_taken(name: str, path: str) -> None:
    assert check_index(IndexSpec(name, path)).path == path


@pytest.mark.parametrize("name", ["", "-a", ".a", "a b", "ключ", "a/b", "x" * 65, "a\n"])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        check_index(IndexSpec(name, "/a"))
    assert caught.value.code == "index_invalid"


@pytest.mark.parametrize("path", ["a", "a/b", "/a~", "/a~2", "/~", "$.a", "/" + "x" * 256, "/\ud800"])
def test_a_path_that_is_no_pointer_is_refused(path: str) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        check_index(IndexSpec("n", path))
    assert caught.value.code == "index_invalid"


def test_a_kind_that_there_is_not_is_refused_by_the_type() -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(b'{"name":"n","path":"/a","kind":"full-text"}', type=IndexSpec)


# --- references ---


def test_the_strings_where_an_index_looks_are_the_keys_of_other_records() -> None:
    value = {"author": "u1", "tags": ["t2", "t1", "t2", 3, None, {"k": 1}], "count": 7}
    assert references_of(IndexSpec("author", "/author"), value) == ("u1",)
    assert references_of(IndexSpec("tags", "/tags", "multi"), value) == ("t2", "t1")
    assert references_of(IndexSpec("tags", "/tags"), value) == ()
    assert references_of(IndexSpec("tag", "/tags/0"), value) == ("t2",)
    assert references_of(IndexSpec("count", "/count"), value) == ()
    assert references_of(IndexSpec("none", "/none"), value) == ()
