"""Filters: which records of a store a reader wants, by one index and by the beginning of the key (PROTOCOL 15).

The same object stands in SUBSCRIBE, in FIND, in the query of a URL and in a replica. Pure. As a record never changes,
it never enters or leaves what a filter selects.
"""

from typing import Any

import msgspec

from .errors import RemoteProtocolError
from .index import IndexKind, Scalar, TermRange, encode_term, end_of, prefix_range

__all__ = ["Filter", "check_filter", "parse_filter"]

_PREFIX_BYTES_MAX = 256


class Filter(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What a record has to have.

    Attributes:
        index: the name of an index.
        eq: the term that the record has in it, or ...
        ge, gt, le, lt: ... the bounds of its term, in an index of kind `range`, or ...
        prefix: ... what its term, a string, begins with. With none of them every record of the index is meant.
        key_prefix: what its key begins with.
    """

    index: str | None = None
    eq: Scalar | msgspec.UnsetType = msgspec.UNSET
    ge: Scalar | msgspec.UnsetType = msgspec.UNSET
    gt: Scalar | msgspec.UnsetType = msgspec.UNSET
    le: Scalar | msgspec.UnsetType = msgspec.UNSET
    lt: Scalar | msgspec.UnsetType = msgspec.UNSET
    prefix: str | msgspec.UnsetType = msgspec.UNSET
    key_prefix: str = ""

    @property
    def has_bounds(self) -> bool:
        """Whether it asks for more than an equal term or the presence of one."""
        return any(bound is not msgspec.UNSET for bound in (self.ge, self.gt, self.le, self.lt, self.prefix))

    def term_range(self) -> TermRange:
        """Return the terms that it selects in its index."""
        if self.eq is not msgspec.UNSET:
            term = encode_term(self.eq)
            return TermRange(term, term + b"\x00")
        if self.prefix is not msgspec.UNSET:
            return prefix_range(self.prefix)
        first, end = b"", None
        if self.ge is not msgspec.UNSET:
            first = encode_term(self.ge)
        if self.gt is not msgspec.UNSET:
            first = max(first, encode_term(self.gt) + b"\x00")
        if self.le is not msgspec.UNSET:
            end = encode_term(self.le) + b"\x00"
        if self.lt is not msgspec.UNSET:
            below = encode_term(self.lt)
            end = below if end is None else min(end, below)
        # A bound of one type says nothing of others: what is below 5 are numbers, not null.
        if first == b"" and end is not None:
            first = end[:1]
        if end is None and first:
            end = end_of(first[:1])
        return TermRange(first, end)


def parse_filter(text: bytes | msgspec.Raw) -> Filter:
    """Return the filter that a JSON text says. Raises RemoteProtocolError `filter_invalid`."""
    try:
        return check_filter(msgspec.json.decode(text, type=Filter))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RemoteProtocolError("filter_invalid", f"the filter is not understood: {str(error)[:160]}") from error


def check_filter(wanted: Filter, kind: IndexKind | None = None) -> Filter:
    """Return the filter, if it can be asked.

    Args:
        kind: that of the index, once it is known.

    Raises:
        RemoteProtocolError: `filter_invalid`.
    """
    asked: list[Any] = [wanted.eq, wanted.prefix, *((True,) if _has_range(wanted) else ())]
    conditions = sum(bound is not msgspec.UNSET for bound in asked)
    if wanted.index is None and conditions:
        raise _invalid("it has a condition but names no index")
    if wanted.index is None and not wanted.key_prefix:
        raise _invalid("it selects everything", "name an index or a key_prefix, or leave the filter out")
    if conditions > 1:
        raise _invalid("it has more than one of eq, prefix and bounds")
    if kind is not None and kind != "range" and wanted.has_bounds:
        raise _invalid(f"an index of kind {kind} answers eq only", "declare it with kind range")
    prefix = "" if wanted.prefix is msgspec.UNSET else wanted.prefix
    if max(len(prefix.encode()), len(wanted.key_prefix.encode())) > _PREFIX_BYTES_MAX:
        raise _invalid(f"a prefix has at most {_PREFIX_BYTES_MAX} bytes")
    return wanted


def _has_range(wanted: Filter) -> bool:
    return any(bound is not msgspec.UNSET for bound in (wanted.ge, wanted.gt, wanted.le, wanted.lt))


def _invalid(message: str, hint: str = "") -> RemoteProtocolError:
    return RemoteProtocolError("filter_invalid", message, hint=hint)
