"""Values on their way to the server."""

from dataclasses import dataclass
from datetime import UTC, datetime

import pytest

from syncline import Json
from syncline.value import encode_value
from syncline_protocol import DEFAULT_LIMITS, ValueInvalid


@dataclass
class Point:
    x: int
    label: str | None = None


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, b"null"),
        ({"a": [1, 2.5, "ü", True, None]}, '{"a":[1,2.5,"ü",true,null]}'.encode()),
        (2**70, b"1180591620717411303424"),
        (Point(1), b'{"x":1,"label":null}'),
        (datetime(2026, 1, 2, tzinfo=UTC), b'"2026-01-02T00:00:00Z"'),
        (Json('{"n": 12345678901234567890.50}'), b'{"n": 12345678901234567890.50}'),
        (Json(" [1,\n2] \n"), b"[1, 2]"),
    ],
)
def test_a_value_becomes_the_text_that_the_server_keeps(value: object, text: bytes) -> None:
    assert encode_value(value, DEFAULT_LIMITS) == text


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("wrap", [lambda n: n, lambda n: {"a": [n]}, lambda n: ("null", {n}), lambda n: Point(n)])
def test_a_number_that_json_does_not_have_is_refused_and_never_becomes_null(number: float, wrap: object) -> None:
    assert callable(wrap)
    with pytest.raises(ValueInvalid, match=r"the number -?(nan|inf)"):
        encode_value(wrap(number), DEFAULT_LIMITS)


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        (object(), "cannot be written as JSON"),
        ({("a", "b"): 1}, "cannot be written as JSON"),
        ("\ud800", "lone surrogate"),
        (Json('"\ud800"'), "lone surrogate"),
        (Json("{'a': 1}"), "not JSON"),
        (Json("NaN"), "not JSON"),
        (Json('{"a":1,"a":2}'), "same member twice"),
        (Json(""), "not JSON"),
        (10**400, "range of a double"),
    ],
)
def test_what_cannot_be_said_in_json_is_refused_with_the_reason(value: object, fault: str) -> None:
    with pytest.raises(ValueInvalid, match=fault):
        encode_value(value, DEFAULT_LIMITS)


def test_a_value_that_holds_itself_is_refused() -> None:
    endless: list[object] = []
    endless.append(endless)
    with pytest.raises(ValueInvalid, match="value_invalid"):
        encode_value(endless, DEFAULT_LIMITS)
