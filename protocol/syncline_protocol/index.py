"""Indexes: by which terms a record is found, worked out from its value. Pure, and the same for server and replica.

An index is declared on a path of the value, a JSON Pointer (RFC 6901). What stands there is turned into *terms*, bytes
whose order is that of the values: null, false, true, numbers, strings by code point. A record without a scalar there
has no term and is not in the index. Records never change, so neither do their terms.

Invariants: equal scalars have equal terms, as JSON means equality (1 and 1.0 and 1e0 are one number). Different ones
have different terms: strings always, whole numbers that are written without fraction or exponent up to 2^116, also
beyond the 2^53 of a double, other numbers as far as a double tells them apart. A value that a store took has terms:
nothing here raises for it.
"""

import re
import struct
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from math import inf, isinf
from typing import Any, Literal

import msgspec

from .errors import RemoteProtocolError

__all__ = [
    "INDEXES_MAX",
    "IndexKind",
    "IndexSet",
    "IndexSpec",
    "Scalar",
    "TermRange",
    "check_index",
    "encode_term",
    "end_of",
    "kind_range",
    "prefix_range",
    "references_of",
    "terms_of",
]

IndexKind = Literal["equality", "range", "multi"]
Scalar = None | bool | int | float | str

#: Indexes of one store. Each costs about as much of an append as the record of used keys.
INDEXES_MAX = 16

#: Terms of one record in a `multi` index; what stands behind them in an array is not found.
_TERMS_MAX = 64
_PATH_CHARS_MAX = 256

#: A string of more bytes is told from others by a hash behind its beginning, and ordered by its beginning only.
_TEXT_BYTES_MAX = 256

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
# A lone surrogate has no UTF-8, so no value has a member of such a name.
_POINTER = re.compile(r"(/([^/~\ud800-\udfff]|~[01])*)*")

# The first byte of a term says what it is of, in the order of the kinds.
_NULL, _FALSE, _TRUE, _NEGATIVE, _NUMBER, _TEXT = b"\x01", b"\x02", b"\x03", b"\x04", b"\x05", b"\x06"

#: Below this, whole numbers are doubles exactly; the one above it has the same double.
_EXACT_END = 2**53
#: How far a whole number may lie from its double to be told apart.
_REST_MAX = 1 << 62
#: Behind a double: the number is below it, is it, is above it.
_BELOW, _EXACT, _ABOVE = b"\x00", b"\x01", b"\x02"
_pack_double = struct.Struct(">cdc").pack
_pack_rest = struct.Struct(">Q").pack
#: What turns the bytes of doubles below zero into the order of their values.
_INVERTED = bytes(range(255, -1, -1))

#: What a path finds where there is nothing: it is no scalar, and nothing is below it.
_NOTHING: dict[str, Any] = {}


class IndexSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is indexed: `path` is a JSON Pointer into the value, empty for the value itself.

    Attributes:
        name: as of a store.
        kind: `equality` has one term; `range` is also asked for ranges, prefixes and order; `multi` has a term for each
            element of an array.
    """

    name: str
    path: str
    kind: IndexKind = "equality"


class TermRange(msgspec.Struct, frozen=True):
    """The terms from `first` on and below `end`; without an end all that follow."""

    first: bytes = b""
    end: bytes | None = None

    def has(self, term: bytes) -> bool:
        """Return whether the term is in the range."""
        return self.first <= term and (self.end is None or term < self.end)

    @property
    def is_empty(self) -> bool:
        """Whether no term can be in it."""
        return self.end is not None and self.first >= self.end


def check_index(spec: IndexSpec) -> IndexSpec:
    """Return the index, if it can be declared. Raises RemoteProtocolError `index_invalid`."""
    if not _NAME.fullmatch(spec.name):
        raise RemoteProtocolError(
            "index_invalid",
            f"{spec.name[:80]!r} is no name of an index",
            hint="1 to 64 of A-Z a-z 0-9 . _ - with a letter or digit first",
        )
    if len(spec.path) > _PATH_CHARS_MAX or not _POINTER.fullmatch(spec.path):
        raise RemoteProtocolError(
            "index_invalid",
            f"{spec.path[:80]!r} is no path",
            hint='a JSON Pointer of at most 256 characters, as in "/author/name"',
        )
    return spec


def encode_term(scalar: Scalar) -> bytes:
    """Return the term of a scalar."""
    if type(scalar) is str:
        text = scalar.encode()
        if len(text) <= _TEXT_BYTES_MAX:
            return _TEXT + text
        # No text has the byte 0xff, so no shorter one is taken for this.
        return _TEXT + text[:_TEXT_BYTES_MAX] + b"\xff" + blake2b(text, digest_size=16).digest()
    if scalar is None:
        return _NULL
    if scalar is True:
        return _TRUE
    if scalar is False:
        return _FALSE
    assert isinstance(scalar, (int, float)), "a scalar of JSON is null, a boolean, a number or a string"
    return _encode_number(scalar)


def _encode_number(number: int | float) -> bytes:
    """Return bytes that sort as numbers do: the nearest double, then how far a whole number is from it."""
    try:
        double = float(number)
    except OverflowError:
        double = inf if number > 0 else -inf
    rest = 0
    if not -_EXACT_END < double < _EXACT_END and isinstance(number, int) and not isinf(double):
        # Half of the way to the next double is at most 2^62 below 2^116; beyond, what is farther off is not told apart.
        rest = max(-_REST_MAX, min(_REST_MAX, number - int(double)))
    place = _EXACT if rest == 0 else _ABOVE if rest > 0 else _BELOW
    if double >= 0:
        # Minus zero is zero.
        term = _pack_double(_NUMBER, double + 0.0, place)
    else:
        term = _NEGATIVE + _pack_double(_NEGATIVE, double, place)[1:-1].translate(_INVERTED) + place
    return term if rest == 0 else term + _pack_rest(rest + _REST_MAX)


def prefix_range(text: str) -> TermRange:
    """Return the range of all strings that begin so. `text` has at most 256 bytes."""
    first = _TEXT + text.encode()
    return TermRange(first, end_of(first))


def kind_range(scalar: Scalar) -> TermRange:
    """Return the range of all scalars that are compared with this one: numbers with numbers, strings with strings."""
    if isinstance(scalar, bool):
        return TermRange(_FALSE, _NEGATIVE)
    if isinstance(scalar, (int, float)):
        return TermRange(_NEGATIVE, _TEXT)
    first = encode_term(scalar)[:1]
    return TermRange(first, end_of(first))


def end_of(first: bytes) -> bytes | None:
    """Return the least bytes above everything that begins with `first`."""
    stem = first.rstrip(b"\xff")
    return stem[:-1] + bytes((stem[-1] + 1,)) if stem else None


def terms_of(spec: IndexSpec, value: Any) -> tuple[bytes, ...]:
    """Return the terms of a decoded value, without repeats."""
    return _terms_at(_find(_steps_of(spec.path), value), spec.kind)


def references_of(spec: IndexSpec, value: Any) -> tuple[str, ...]:
    """Return the keys of other records that a decoded value names where the index looks: the strings there."""
    found = _find(_steps_of(spec.path), value)
    items = found if isinstance(found, list) and spec.kind == "multi" else [found]
    return tuple(dict.fromkeys([item for item in items if isinstance(item, str)]))[:_TERMS_MAX]


def _steps_of(path: str) -> tuple[str, ...]:
    return tuple([step.replace("~1", "/").replace("~0", "~") for step in path.split("/")[1:]])


def _find(steps: tuple[str, ...], value: Any) -> Any:
    """Return what the steps lead to."""
    for step in steps:
        if type(value) is dict:
            value = value.get(step, _NOTHING)
        elif type(value) is list:
            value = _element(value, step)
        else:
            return _NOTHING
    return value


def _element(items: list[Any], step: str) -> Any:
    is_index = step == "0" or (step.isdecimal() and step.isascii() and step[0] != "0" and len(step) < 10)
    return items[int(step)] if is_index and int(step) < len(items) else _NOTHING


def _terms_at(found: Any, kind: IndexKind) -> tuple[bytes, ...]:
    if isinstance(found, dict):
        return ()
    if not isinstance(found, list):
        return (encode_term(found),)
    if kind != "multi":
        return ()
    terms = [encode_term(item) for item in found if not isinstance(item, (dict, list))]
    return tuple(dict.fromkeys(terms))[:_TERMS_MAX]


class IndexSet:
    """The indexes of one store, ready to work out the terms of its records.

    Args:
        specs: what each index is on, by a name of the caller's for it.
    """

    __slots__ = ("_decode", "_indexes")

    def __init__(self, specs: Mapping[str, IndexSpec] | Iterable[tuple[str, IndexSpec]]) -> None:
        self._indexes = [(uid, _steps_of(spec.path), spec.kind) for uid, spec in dict(specs).items()]
        self._decode = msgspec.json.Decoder().decode

    def __bool__(self) -> bool:
        return bool(self._indexes)

    def terms(self, value: bytes | msgspec.Raw) -> dict[str, tuple[bytes, ...]]:
        """Return the terms of a value, of those indexes in which it has any. `value` is the JSON text."""
        decoded = self._decode(value)
        terms: dict[str, tuple[bytes, ...]] = {}
        for uid, steps, kind in self._indexes:
            # Most paths are one name in an object and lead to a scalar; each append pays for this line by line.
            found = decoded
            for step in steps:
                found = found.get(step, _NOTHING) if type(found) is dict else _find((step,), found)
            if type(found) is str or type(found) is float:
                terms[uid] = (encode_term(found),)
            elif found is not _NOTHING and (own := _terms_at(found, kind)):
                terms[uid] = own
        return terms
