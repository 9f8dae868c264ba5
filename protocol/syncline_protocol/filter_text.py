"""A filter as texts: the query of a URL, the options of a command. Pure.

`eq`, `ge`, `gt`, `le` and `lt` are JSON where they are a scalar of JSON, and a string otherwise: `5`, `true` and `null`
mean what they mean in JSON, `red` means "red", and the string "5" is written with its quotes. `prefix` and
`key_prefix` are strings as they stand.
"""

from collections.abc import Mapping

import msgspec

from .filter import Filter, check_filter
from .index import Scalar

__all__ = ["FILTER_TEXTS", "filter_of", "read_scalar", "texts_of"]

_SCALARS = ("eq", "ge", "gt", "le", "lt")

#: The names of the texts, each with what it says.
FILTER_TEXTS: dict[str, str] = {
    "index": "the name of an index",
    "eq": 'what the record has there: a scalar of JSON, or else a string; the string "5" is written with its quotes',
    "ge": "the least that it has there, as `eq`; needs an index of kind range, as the next four do",
    "gt": "less than it has there",
    "le": "the most that it has there",
    "lt": "more than it has there",
    "prefix": "what the string begins with that it has there",
    "key_prefix": "what its key begins with",
}


def filter_of(texts: Mapping[str, str | None]) -> Filter | None:
    """Return the filter of these texts, None if they say nothing; what has another name is left alone.

    Raises:
        RemoteProtocolError: `filter_invalid`.
    """
    given = {name: text for name in FILTER_TEXTS if (text := texts.get(name)) is not None}
    if not given:
        return None
    scalars = {name: read_scalar(given[name]) if name in given else msgspec.UNSET for name in _SCALARS}
    prefix = given.get("prefix", msgspec.UNSET)
    return check_filter(Filter(given.get("index"), **scalars, prefix=prefix, key_prefix=given.get("key_prefix", "")))


def read_scalar(text: str) -> Scalar:
    """Return what a text means: the scalar whose JSON it is, or itself."""
    if text != text.strip():
        return text
    try:
        scalar: Scalar = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return text
    return text if isinstance(scalar, (dict, list)) else scalar


def texts_of(wanted: Filter | None) -> dict[str, str]:
    """Return the texts of which `filter_of` makes this filter."""
    if wanted is None:
        return {}
    members: dict[str, object] = msgspec.to_builtins(wanted)
    return {name: _text_of(name, member) for name, member in members.items()}


def _text_of(name: str, member: object) -> str:
    return msgspec.json.encode(member).decode() if name in _SCALARS else str(member)
