"""Filters: which records of a store a reader wants, by one index and by the beginning of the key (PROTOCOL 15).

The same object stands in SUBSCRIBE, in FIND, in the query of a URL and in a replica. Pure. As a record never changes,
it never enters or leaves what a filter selects.
"""

from math import isfinite

import msgspec

from .errors import RemoteProtocolError
from .index import IndexKind, Scalar, TermRange, encode_term, kind_range, prefix_range

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
    def bounds(self) -> tuple[Scalar, ...]:
        """Those of ge, gt, le and lt that are given."""
        asked = (self.ge, self.gt, self.le, self.lt)
        return tuple([bound for bound in asked if not isinstance(bound, msgspec.UnsetType)])

    @property
    def has_bounds(self) -> bool:
        """Whether it asks for more than an equal term or the presence of one."""
        return bool(self.bounds) or self.prefix is not msgspec.UNSET

    def term_range(self) -> TermRange:
        """Return the terms that it selects in its index."""
        if self.eq is not msgspec.UNSET:
            term = encode_term(self.eq)
            return TermRange(term, _following(term))
        if self.prefix is not msgspec.UNSET:
            return prefix_range(self.prefix)
        bounds = self.bounds
        if not bounds:
            return TermRange()
        # A bound of one kind says nothing of others: what is below 5 are numbers, not null.
        whole = kind_range(bounds[0])
        first, end = whole.first, whole.end
        if self.ge is not msgspec.UNSET:
            first = max(first, encode_term(self.ge))
        if self.gt is not msgspec.UNSET:
            first = max(first, _following(encode_term(self.gt)))
        if self.le is not msgspec.UNSET:
            end = _lower(end, _following(encode_term(self.le)))
        if self.lt is not msgspec.UNSET:
            end = _lower(end, encode_term(self.lt))
        return TermRange(first, end)


def _following(term: bytes) -> bytes:
    """Return the least bytes above a term."""
    return term + b"\x00"


def _lower(end: bytes | None, other: bytes) -> bytes:
    return other if end is None else min(end, other)


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
    _check_scalars(wanted)
    bounds = wanted.bounds
    conditions = (wanted.eq is not msgspec.UNSET) + (wanted.prefix is not msgspec.UNSET) + bool(bounds)
    if wanted.index is None and conditions:
        raise _invalid("it has a condition but names no index")
    if wanted.index is None and not wanted.key_prefix:
        raise _invalid("it selects everything", "name an index or a key_prefix, or leave the filter out")
    if conditions > 1:
        raise _invalid("it has more than one of eq, prefix and bounds")
    if kind is not None and kind != "range" and wanted.has_bounds:
        raise _invalid(f"an index of kind {kind} answers eq only", "declare it with kind range")
    if len({kind_range(bound).first for bound in bounds}) > 1:
        raise _invalid("its bounds are of different kinds", "number and number, or string and string")
    return wanted


def _check_scalars(wanted: Filter) -> None:
    """Refuse what no value can have, and a prefix that is longer than what is kept of a long string."""
    for scalar in (wanted.index, wanted.eq, wanted.prefix, wanted.key_prefix, *wanted.bounds):
        if isinstance(scalar, str) and _has_surrogate(scalar):
            raise _invalid("it has a lone surrogate, of which there is no UTF-8")
        if isinstance(scalar, float) and not isfinite(scalar):
            raise _invalid(f"{scalar} is no number of JSON")
    for prefix in (wanted.prefix, wanted.key_prefix):
        if isinstance(prefix, str) and len(prefix.encode()) > _PREFIX_BYTES_MAX:
            raise _invalid(f"a prefix has at most {_PREFIX_BYTES_MAX} bytes")


def _has_surrogate(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def _invalid(message: str, hint: str = "") -> RemoteProtocolError:
    return RemoteProtocolError("filter_invalid", message, hint=hint)
