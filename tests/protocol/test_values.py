"""What may be a store name, a key, a value."""

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from syncline_protocol.errors import KeyInvalid, RemoteProtocolError, ValueInvalid
from syncline_protocol.limits import DEFAULT_LIMITS, VALUE_DEPTH_MAX, Limits
from syncline_protocol.values import check_key, check_store_name, check_value

_LIMITS = Limits(key_bytes_max=16, value_bytes_max=2000)


def check(text: bytes) -> bytes:
    return check_value(text, DEFAULT_LIMITS)


@pytest.mark.parametrize("name", ["a", "0", "notes", "tenant.app_part-1", "A" * 64, "a..b"])
def test_store_names_of_letters_digits_dot_dash_and_underscore_are_taken(name: str) -> None:
    assert check_store_name(name) == name


@pytest.mark.parametrize("name", ["", ".", ".a", "-a", "_a", "a b", "a/b", "a\n", "ä", "A" * 65, "a\x00", "../a", "٣"])
def test_other_store_names_are_refused(name: str) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        check_store_name(name)
    assert caught.value.code == "store_name_invalid"


@pytest.mark.parametrize("key", ["k", " ", "a b", "/", '"\\', "ключ", "🙂" * 4, "x" * 16, "\u00a0", "\u200b"])
def test_printable_keys_up_to_the_limit_are_taken(key: str) -> None:
    assert check_key(key, _LIMITS) == key


@pytest.mark.parametrize("key", ["", "\x00", "a\x00", "\n", "a\tb", "\x7f", "\u2028", "\u2029", "\ud800", "ä\udc00"])
def test_keys_with_control_characters_or_lone_surrogates_are_refused(key: str) -> None:
    with pytest.raises(KeyInvalid) as caught:
        check_key(key, _LIMITS)
    assert caught.value.code == "key_invalid"


@pytest.mark.parametrize("key", ["x" * 17, "é" * 9, "🙂" * 5])
def test_a_key_is_measured_in_bytes(key: str) -> None:
    with pytest.raises(KeyInvalid) as caught:
        check_key(key, _LIMITS)
    assert caught.value.code == "too_large"


@pytest.mark.parametrize(
    "text",
    [
        *(b"null", b"true", b"0", b"-0", b"1.0", b"1E5", b"1e-400", b'""', b"[]", b"{}", b'"\\u0000"', b'"\x7f"'),
        *(b"9007199254740993", b"18446744073709551616", b"9" * 308, b"0." + b"1" * 5000, b"1.7976931348623157e308"),
        *(b'{"a":{"a":1}}', b'{"a:b":"c:d"}', b'"\\ud83d\\ude42"', b'{"b":1, "a":2}', b'[{"a":1},{"a":1}]'),
        b"[" * VALUE_DEPTH_MAX + b"]" * VALUE_DEPTH_MAX,
        "{'ü'}".encode().replace(b"'", b'"').replace(b"}", b":1}"),
    ],
)
def test_a_value_that_all_parsers_read_alike_is_kept_as_it_came(text: bytes) -> None:
    assert check(text) == text


@pytest.mark.parametrize(
    "text",
    [
        *(
            b"",
            b" ",
            b"nul",
            b"NaN",
            b"Infinity",
            b"-Infinity",
            b"01",
            b"+1",
            b".5",
            b"1.",
            b"-",
            b"1e",
            b"0x1",
            b"'a'",
        ),
        *(b"[1,]", b'{"a":1,}', b"{a:1}", b"{1:2}", b"/**/1", b"1 2", b"[1", b'"\t"', b'"\x00"', b'"\\x"', b'"\\u12"'),
        *(b"1e400", b"-1e400", b"9" * 309, b"9" * 5000, b'{"a":1e999}', b"\xef\xbb\xbf1", b"[1]\x00", b"\x0b[1]"),
        *(b'"\xff"', b'"\xc0\x80"', b'"\xed\xa0\x80"', b'"\xf4\x90\x80\x80"', b'{"\xff":1}'),
        *(b'"\\ud800"', b'"\\udc00"', b'"\\udc00\\ud800"', b'"\\ud800x"', b'{"\\ud800":1}'),
        *(b'{"a":1,"a":1}', b'{"a":1,"\\u0061":2}', b'[{"x":{"a:":1,"a:":2}}]', b'{"":1,"":2}'),
        b"[" * (VALUE_DEPTH_MAX + 1) + b"]" * (VALUE_DEPTH_MAX + 1),
        b'{"a":' * (VALUE_DEPTH_MAX + 1) + b"1" + b"}" * (VALUE_DEPTH_MAX + 1),
        b"[" * 200_000 + b"]" * 200_000,
        b"[" * 200_000,
    ],
    ids=lambda text: repr(text[:30]),
)
def test_a_value_that_parsers_disagree_about_is_refused(text: bytes) -> None:
    with pytest.raises(ValueInvalid) as caught:
        check(text)
    assert caught.value.code == "value_invalid"
    assert len(caught.value.message) < 200


def test_a_value_above_the_limit_is_too_large_and_one_at_the_limit_is_not() -> None:
    at_limit = b'"' + b"x" * (_LIMITS.value_bytes_max - 2) + b'"'
    assert check_value(at_limit, _LIMITS) == at_limit
    with pytest.raises(ValueInvalid) as caught:
        check_value(at_limit[:-1] + b'x"', _LIMITS)
    assert caught.value.code == "too_large"


def test_a_value_is_kept_on_one_line_and_without_blanks_around_it() -> None:
    assert check(b' \r\n{\n  "a": 1,\r\n\t"b": "x\\n"\n}\n') == b'{   "a": 1,  \t"b": "x\\n" }'


def _reading(text: bytes) -> Any:
    """Read a value as the strictest common reader would, or raise ValueError."""

    def once(members: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(members)) != len(members):
            raise ValueError("a member twice")
        return dict(members)

    def number(digits: str) -> float:
        if float(digits) in (float("inf"), float("-inf")):
            raise ValueError("out of range")
        return float(digits)

    def constant(name: str) -> Any:
        raise ValueError(name)

    value = json.loads(
        text.decode(), object_pairs_hook=once, parse_float=number, parse_int=number, parse_constant=constant
    )
    json.dumps(value, ensure_ascii=False).encode()
    return value


_PIECES = st.sampled_from(
    [
        *(b"{", b"}", b"[", b"]", b",", b":", b'"', b'"a"', b'"b:"', b"1", b"-1.5e3", b"1e400", b"null", b"true", b" "),
        *(b"\n", b'"\\u0061"', b'"\\ud800"', b'"\xc3\xa9"', b"\xff", b'{"a":1', b',"a":2', b"NaN", b"\\", b"9" * 310),
    ]
)


@given(st.lists(_PIECES, max_size=12).map(b"".join))
@example(b'{"a":1,"b:":{"a":1}}')
def test_exactly_those_values_are_taken_that_a_strict_reader_reads(text: bytes) -> None:
    try:
        expected = _reading(text)
    except ValueError:
        with pytest.raises(ValueInvalid):
            check(text)
    else:
        kept = check(text)
        assert _reading(kept) == expected
        assert b"\n" not in kept
        assert check(kept) == kept


@given(st.binary(max_size=60))
def test_any_bytes_are_a_value_or_refused(text: bytes) -> None:
    try:
        kept = check(text)
    except ValueInvalid as error:
        assert error.code == "value_invalid"  # noqa: PT017
        error.message.encode()
    else:
        json.loads(kept)
