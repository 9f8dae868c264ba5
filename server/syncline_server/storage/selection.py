"""Parts of a store: which keys begin with one of some prefixes, and seqs as the ranges they form.

Pure, and the same for every backend. Keys are compared by code point, as Python compares `str`; the order of their
UTF-8 bytes, in which SQLite compares text, is the same.
"""

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from syncline_protocol.cursor import Seq
from syncline_protocol.index import TermRange

__all__ = ["Condition", "Selector", "key_ranges", "key_terms", "seq_ranges"]

_LAST = "\U0010ffff"


class Condition(msgspec.Struct, frozen=True):
    """What a record has to have in one index, which is named by its uid: a term in the range."""

    index: str
    terms: TermRange


class Selector(msgspec.Struct, frozen=True):
    """Records whose key begins with `prefix`, and that meet every condition. Several selectors are alternatives."""

    prefix: str = ""
    conditions: tuple[Condition, ...] = ()

    def selects(self, key: str, terms: Mapping[str, tuple[bytes, ...]]) -> bool:
        """Return whether a record of this key, with these terms by the uid of the index, is one of them."""
        if not key.startswith(self.prefix):
            return False
        return all(
            any(condition.terms.has(term) for term in terms.get(condition.index, ())) for condition in self.conditions
        )


def key_ranges(prefixes: Sequence[str]) -> list[tuple[str, str | None]]:
    """Return the keys that begin with one of the prefixes, as ranges [first, end) in order and without overlap.

    An end of None is the end of all keys. No prefixes select every key.
    """
    chosen: list[str] = []
    for prefix in sorted(prefixes or ("",)):
        # In this order a prefix comes right before what begins with it.
        if not chosen or not prefix.startswith(chosen[-1]):
            chosen.append(prefix)
    return [(prefix, _end_of(prefix)) for prefix in chosen]


def key_terms(prefix: str) -> TermRange:
    """Return the keys that begin so as a range of terms, for a find by key."""
    ((first, end),) = key_ranges([prefix])
    return TermRange(first.encode(), None if end is None else end.encode())


def _end_of(prefix: str) -> str | None:
    """Return the least text that is above everything that begins with `prefix`."""
    # Nothing follows the last code point, so what ends with it is followed by what follows the rest.
    stem = prefix.rstrip(_LAST)
    if not stem:
        return None
    following = ord(stem[-1]) + 1
    # Between these two are the surrogates, which are no characters and have no UTF-8.
    return stem[:-1] + chr(0xE000 if following == 0xD800 else following)


def seq_ranges(seqs: Iterable[Seq]) -> list[tuple[Seq, Seq]]:
    """Return seqs, which ascend, as inclusive ranges."""
    ranges: list[tuple[Seq, Seq]] = []
    first = last = None
    for seq in seqs:
        if last is None or seq != last + 1:
            if first is not None and last is not None:
                ranges.append((first, last))
            first = seq
        last = seq
    if first is not None and last is not None:
        ranges.append((first, last))
    return ranges
