"""The rules for store names, keys and values, checked once at the door (PROTOCOL 3).

A value is kept as the JSON text that came. Parsers disagree about duplicate members, numbers out of range and
lone surrogates, and one such value would reach every subscriber; so what parsers disagree about is refused here.
Line breaks between tokens become spaces, so that a value is always one line of text.
"""

import json
import re
from typing import Any

import msgspec

from .errors import KeyInvalid, RemoteProtocolError, ValueInvalid
from .limits import STORE_NAME_CHARS_MAX, VALUE_DEPTH_MAX, Limits

__all__ = ["check_key", "check_store_name", "check_value"]

_STORE_NAME = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{STORE_NAME_CHARS_MAX - 1}}}", re.ASCII)
_KEY_FORBIDDEN = re.compile("[\x00-\x1f\x7f\u2028\u2029]")
_DOUBLE_MAX = int(float.fromhex("0x1.fffffffffffffp+1023"))
_decode = msgspec.json.Decoder().decode


def check_store_name(name: str) -> str:
    """Return `name` if it may name a store.

    Raises:
        RemoteProtocolError: `store_name_invalid`.
    """
    if not _STORE_NAME.fullmatch(name):
        raise RemoteProtocolError(
            "store_name_invalid",
            f"{name[:80]!r} cannot name a store",
            hint=f"use 1 to {STORE_NAME_CHARS_MAX} of A-Z a-z 0-9 . _ - and begin with a letter or digit",
        )
    return name


def check_key(key: str, limits: Limits) -> str:
    """Return `key` if a record may have it: 1 to `key_bytes_max` bytes without control characters.

    Raises:
        KeyInvalid: `key_invalid`, or `too_large`.
    """
    if not key:
        raise KeyInvalid("key_invalid", "the key is empty")
    if len(key) > limits.key_bytes_max or (not key.isascii() and len(_utf8(key)) > limits.key_bytes_max):
        raise KeyInvalid("too_large", f"the key is longer than {limits.key_bytes_max} bytes")
    if not key.isprintable() and _KEY_FORBIDDEN.search(key):
        raise KeyInvalid("key_invalid", "the key has a control character")
    return key


def _utf8(key: str) -> bytes:
    try:
        return key.encode()
    except UnicodeEncodeError as error:
        raise KeyInvalid("key_invalid", "the key has a lone surrogate") from error


def check_value(text: bytes, limits: Limits) -> bytes:
    """Return the JSON text of a value as it is kept: as it came, on one line, without blanks around it.

    Raises:
        ValueInvalid: `value_invalid` with what is wrong, or `too_large`.
    """
    # Blanks around a value belong to whatever carried it; with them the same value by HTTP would be another text.
    text = text.strip(b" \t\r\n")
    if len(text) > limits.value_bytes_max:
        raise ValueInvalid("too_large", f"the value is longer than {limits.value_bytes_max} bytes")
    try:
        value = _decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ValueInvalid("value_invalid", f"the value is not JSON that every parser reads alike: {error}") from error
    except RecursionError as error:
        raise ValueInvalid("value_invalid", f"the value is nested deeper than {VALUE_DEPTH_MAX}") from error
    members = _count_members(value, VALUE_DEPTH_MAX)
    # Each member has one colon, so equal counts rule duplicates out; strings with colons take the slow way.
    if members != text.count(b":"):
        _refuse_duplicates(text)
    if b"\n" in text or b"\r" in text:
        return text.replace(b"\n", b" ").replace(b"\r", b" ")
    return text


def _count_members(value: Any, depth_left: int) -> int:
    """Count the object members below `value`; refuse deep nesting and numbers beyond a double."""
    count, inner = 0, value
    if type(value) is dict:
        count, inner = len(value), value.values()
    elif type(value) is not list:
        if type(value) is int and not -_DOUBLE_MAX <= value <= _DOUBLE_MAX:
            raise ValueInvalid("value_invalid", "the value has a number beyond the range of a double")
        return 0
    if depth_left == 0:
        raise ValueInvalid("value_invalid", f"the value is nested deeper than {VALUE_DEPTH_MAX}")
    for item in inner:
        kind = type(item)
        if kind is dict or kind is list or kind is int:
            count += _count_members(item, depth_left - 1)
    return count


def _refuse_duplicates(text: bytes) -> None:
    def pairs(members: list[tuple[str, Any]]) -> None:
        if len({name for name, _ in members}) != len(members):
            raise ValueInvalid("value_invalid", "the value has an object with the same member twice")

    # Numbers are left as text: Python refuses to convert integers of more than 4,300 digits.
    json.loads(text, object_pairs_hook=pairs, parse_int=str, parse_float=str)
