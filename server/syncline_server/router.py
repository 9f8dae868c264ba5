"""Which of many selectors a record meets, found by what the record has, never by trying them one by one.

Every selector is filed under the one thing that tells it apart best: an equal term of an index, a range of terms, or
the beginning of the key. A record is looked up once under each of its terms, in one tree per index that has ranges, and
under each length of prefix that is there. What is found is tried in full only if it asks for more than that one thing.

Pure. Targets are whatever the caller files; they are compared by identity or as they are hashed.
"""

import bisect
from collections.abc import Hashable, Iterable, Mapping, Sequence
from math import isqrt
from typing import Generic, TypeVar

from .storage.selection import Selector

__all__ = ["Router"]

#: Ranges that came or went since the order of the others was worked out, besides the root of how many there are.
_LOOSE_MAX = 64

T = TypeVar("T", bound=Hashable)
K = TypeVar("K", str, bytes)


class _Entry(Generic[T]):
    """One selector of one target. `is_exact`: whoever is found under it is selected, without another look.

    `is_gone`: it was removed, from an order that is not worked out anew for it.
    """

    __slots__ = ("is_exact", "is_gone", "selector", "target")

    def __init__(self, selector: Selector, target: T) -> None:
        self.selector = selector
        self.target = target
        self.is_gone = False
        self.is_exact = not selector.conditions or (len(selector.conditions) == 1 and not selector.prefix)


class _Ranges(Generic[T]):
    """Ranges of terms, asked which of them a term lies in: an interval tree, and a few ranges that are not in it yet.

    Filters come and go while others write, and a tree for each of them would cost more than all the rest.
    """

    __slots__ = ("_entries", "_firsts", "_fresh", "_gone", "_reach", "_sorted")

    def __init__(self) -> None:
        self._entries: list[_Entry[T]] = []
        self._sorted: list[_Entry[T]] = []
        self._firsts: list[bytes] = []
        self._fresh: list[_Entry[T]] = []
        self._gone = 0
        # The highest end in each half of the order, by the middle of it; None: there is one without an end.
        self._reach: list[bytes | None] = []

    def __bool__(self) -> bool:
        return bool(self._entries)

    def add(self, entry: _Entry[T]) -> None:
        self._entries.append(entry)
        self._fresh.append(entry)

    def remove(self, target: T) -> None:
        kept: list[_Entry[T]] = []
        for entry in self._entries:
            if entry.target == target:
                entry.is_gone = True
                self._gone += 1
            else:
                kept.append(entry)
        self._entries = kept

    def having(self, term: bytes) -> list[_Entry[T]]:
        """Return the ranges that have the term."""
        if len(self._fresh) + self._gone > _LOOSE_MAX + isqrt(len(self._entries)):
            self._build()
        found: list[_Entry[T]] = []
        self._collect(term, bisect.bisect_right(self._firsts, term), 0, len(self._firsts), found)
        found += [entry for entry in self._fresh if _range_has(entry, term)]
        return [entry for entry in found if not entry.is_gone] if self._gone else found

    def _build(self) -> None:
        self._fresh, self._gone = [], 0
        self._sorted = sorted(self._entries, key=lambda entry: _range_of(entry)[0])
        self._firsts = [_range_of(entry)[0] for entry in self._sorted]
        self._reach = [b""] * len(self._sorted)
        self._measure(0, len(self._sorted))

    def _measure(self, start: int, end: int) -> bytes | None:
        """Note how far the ranges of [start, end) reach, for each half of it."""
        if start >= end:
            return b""
        middle = (start + end) // 2
        ends = (_range_of(self._sorted[middle])[1], self._measure(start, middle), self._measure(middle + 1, end))
        self._reach[middle] = _farthest(ends)
        return self._reach[middle]

    def _collect(self, term: bytes, upto: int, low: int, high: int, found: list[_Entry[T]]) -> None:
        """Find those of [low, high) that begin at or below the term, which `upto` of them do, and end above it."""
        if low >= high or low >= upto:
            return
        middle = (low + high) // 2
        reach = self._reach[middle]
        if reach is not None and reach <= term:
            return
        self._collect(term, upto, low, middle, found)
        if middle < upto:
            if _range_has(self._sorted[middle], term):
                found.append(self._sorted[middle])
            self._collect(term, upto, middle + 1, high, found)


class Router(Generic[T]):
    """Selectors of targets, filed so that a record finds the targets that select it."""

    __slots__ = ("_equal", "_lengths", "_prefixes", "_ranges", "_selectors", "_whole")

    def __init__(self) -> None:
        self._selectors: dict[T, tuple[Selector, ...]] = {}
        self._whole: dict[T, None] = {}
        self._equal: dict[str, dict[bytes, list[_Entry[T]]]] = {}
        self._ranges: dict[str, _Ranges[T]] = {}
        self._prefixes: dict[str, list[_Entry[T]]] = {}
        #: How many prefixes there are of each length.
        self._lengths: dict[int, int] = {}

    def __bool__(self) -> bool:
        return bool(self._selectors)

    def add(self, target: T, selectors: Sequence[Selector]) -> None:
        """File a target. It selects what one of the selectors does; none of them select everything."""
        assert target not in self._selectors, "a target is filed once"
        self._selectors[target] = tuple(selectors)
        if not selectors:
            self._whole[target] = None
        for selector in selectors:
            self._file(_Entry(selector, target))

    def remove(self, target: T) -> None:
        """Forget a target, unless that was done."""
        self._whole.pop(target, None)
        for selector in self._selectors.pop(target, ()):
            self._unfile(selector, target)

    def select(self, key: str, terms: Mapping[str, tuple[bytes, ...]]) -> Iterable[T]:
        """Return the targets that select a record of this key, with these terms by the uid of the index. Each once."""
        found = [entry for length in self._lengths for entry in self._prefixes.get(key[:length], ())]
        for index, own in terms.items():
            equal, ranges = self._equal.get(index), self._ranges.get(index)
            if equal is not None:
                found += [entry for term in own for entry in equal.get(term, ())]
            if ranges is not None:
                found += [entry for term in own for entry in ranges.having(term)]
        if not found:
            return self._whole
        chosen = dict(self._whole)
        for entry in found:
            if entry.is_exact or entry.selector.selects(key, terms):
                chosen[entry.target] = None
        return chosen

    def _file(self, entry: _Entry[T]) -> None:
        selector = entry.selector
        if not selector.conditions:
            prefix = selector.prefix
            if prefix not in self._prefixes:
                self._lengths[len(prefix)] = self._lengths.get(len(prefix), 0) + 1
            self._prefixes.setdefault(prefix, []).append(entry)
            return
        index, term = _place_of(selector)
        if term is not None:
            self._equal.setdefault(index, {}).setdefault(term, []).append(entry)
        else:
            self._ranges.setdefault(index, _Ranges()).add(entry)

    def _unfile(self, selector: Selector, target: T) -> None:
        if not selector.conditions:
            prefix = selector.prefix
            if _without(self._prefixes, prefix, target):
                self._lengths[len(prefix)] -= 1
                if not self._lengths[len(prefix)]:
                    del self._lengths[len(prefix)]
            return
        index, term = _place_of(selector)
        if term is not None:
            filed = self._equal.get(index, {})
            if _without(filed, term, target) and not filed:
                del self._equal[index]
        elif index in self._ranges:
            self._ranges[index].remove(target)
            if not self._ranges[index]:
                del self._ranges[index]


def _without(filed: dict[K, list[_Entry[T]]], place: K, target: T) -> bool:
    """Take a target out of a place. Returns whether the place is empty now, and gone."""
    kept = [entry for entry in filed.get(place, ()) if entry.target != target]
    if kept:
        filed[place] = kept
        return False
    return filed.pop(place, None) is not None


def _place_of(selector: Selector) -> tuple[str, bytes | None]:
    """Return the index and, if it asks for one term, the term under which a selector is filed."""
    for condition in selector.conditions:
        if condition.terms.end == condition.terms.first + b"\0":
            return condition.index, condition.terms.first
    return selector.conditions[0].index, None


def _range_of(entry: _Entry[T]) -> tuple[bytes, bytes | None]:
    terms = entry.selector.conditions[0].terms
    return terms.first, terms.end


def _range_has(entry: _Entry[T], term: bytes) -> bool:
    return entry.selector.conditions[0].terms.has(term)


def _farthest(ends: Iterable[bytes | None]) -> bytes | None:
    known = [end for end in ends if end is not None]
    return max(known) if len(known) == 3 else None
