"""What part of a store somebody sees: what a record has to have, and whether changes tell who made them.

A view is a value: whoever has the same view of a store shares one feed, its frames and its digest. As records never
change, a record never enters or leaves a view. `token` names what is seen, and travels in the cursors of the view
(PROTOCOL 5.7.2), so that a cursor that was got in another one is recognised.

Grants say what may be seen by names of indexes, the log knows them by uid: a view that has a `Where` is made ready for
use by `resolved`, and shows nothing before.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from hashlib import blake2b

import msgspec

from syncline_protocol.codec import without_author
from syncline_protocol.index import IndexSet, TermRange
from syncline_server.storage.selection import Condition, Selector
from syncline_server.storage.values import IndexInfo

__all__ = ["FULL", "NOTHING", "View", "Where", "key_of"]

#: No key has this character, so no record is selected.
NOTHING = Selector("\0")

_NO_TERMS: Mapping[str, tuple[bytes, ...]] = {}


class _Keyed(msgspec.Struct):
    key: str


class _Added(msgspec.Struct):
    key: str
    value: msgspec.Raw


_decode_keyed = msgspec.json.Decoder(_Keyed).decode
_decode_added = msgspec.json.Decoder(_Added).decode


def key_of(change: bytes) -> str:
    """Return the key of a change as BATCH carries it."""
    return _decode_keyed(change).key


class Where(msgspec.Struct, frozen=True, order=True):
    """Records whose key begins with `prefix` and that have the term in the index of this name."""

    prefix: str
    index: str
    term: bytes


class View(msgspec.Struct, frozen=True, dict=True):
    """One view of a store. Make it with `of`.

    `alternatives`: what any of them selects is seen; none of them, and no `wheres`: everything.
    """

    alternatives: tuple[Selector, ...] = ()
    shows_authors: bool = True
    wheres: tuple[Where, ...] = ()

    @classmethod
    def of(cls, prefixes: Iterable[str], *, shows_authors: bool = True, wheres: Iterable[Where] = ()) -> "View":
        """Return the view of these prefixes; equal views are equal values, however they are put.

        Args:
            wheres: what is seen besides. Without any of both everything is.
        """
        plain = [Selector(prefix) for prefix in prefixes]
        named = sorted(set(wheres))
        if not plain and named:
            return cls((), shows_authors, tuple(named))
        shown = _simplified(plain)
        kept = [] if not shown else [where for where in named if not where.prefix.startswith(_prefixes(shown))]
        return cls(shown, shows_authors, tuple(kept))

    @property
    def is_whole(self) -> bool:
        """Whether every record is seen."""
        return not self.alternatives and not self.wheres

    @cached_property
    def token(self) -> str | None:
        """What its cursors carry, None for the whole store. Authors are left out: they change no record."""
        if self.is_whole:
            return None
        selectors = self.selectors
        plain = not any(selector.conditions for selector in selectors)
        # As JSON, so that no prefix can pass for two of another view.
        told = msgspec.json.encode(_prefixes(selectors) if plain else selectors)
        return blake2b(told, digest_size=6).hexdigest()

    @property
    def selectors(self) -> tuple[Selector, ...]:
        """What storages are asked for; none of them: everything."""
        assert not self.wheres, "a view is resolved before it is used: what it does not know it would show"
        return self.alternatives

    @cached_property
    def indexes(self) -> frozenset[str]:
        """The uids of the indexes that it needs."""
        return frozenset([condition.index for selector in self.alternatives for condition in selector.conditions])

    def resolved(self, indexes: Sequence[IndexInfo]) -> "View":
        """Return the view with the uids of the indexes in the place of their names.

        What is named by an index that is not there, or not complete, is not seen.
        """
        if not self.wheres:
            return self
        uids = {info.spec.name: info.uid for info in indexes if info.state == "ready"}
        found = [
            Selector(where.prefix, (Condition(uids[where.index], TermRange(where.term, where.term + b"\0")),))
            for where in self.wheres
            if where.index in uids
        ]
        return View(_simplified([*self.alternatives, *found] or [NOTHING]), self.shows_authors)

    def narrowed(self, wanted: Selector) -> "View":
        """Return the view of what is seen in this one and selected."""
        if any(condition.terms.is_empty for condition in wanted.conditions):
            return View((NOTHING,), self.shows_authors)
        both = [_both(own, wanted) for own in self.selectors or (Selector(),)]
        return View(_simplified([one for one in both if one is not None] or [NOTHING]), self.shows_authors)

    def shows(self, key: str, terms: Mapping[str, tuple[bytes, ...]] = _NO_TERMS) -> bool:
        """Return whether a record is seen. `terms` are its own, by the uid of each index that the view needs."""
        return self.is_whole or any(selector.selects(key, terms) for selector in self.selectors)

    def shows_record(self, change: bytes, indexes: Sequence[IndexInfo]) -> bool:
        """Return whether the record is seen that this ADD adds.

        Args:
            indexes: those of the store.
        """
        return self.sieve(indexes)(change)

    def sieve(self, indexes: Sequence[IndexInfo]) -> Callable[[bytes], bool]:
        """Return `shows_record` for many of them, made ready once."""
        if self.is_whole:
            return lambda change: True
        needed = {info.uid: info.spec for info in indexes if info.uid in self.indexes}
        if not needed:
            return lambda change: self.shows(key_of(change))
        terms_of = IndexSet(needed).terms

        def shows(change: bytes) -> bool:
            added = _decode_added(change)
            return self.shows(added.key, terms_of(added.value))

        return shows

    def texts(self, changes: Sequence[bytes]) -> Sequence[bytes]:
        """Return changes that the view shows, as BATCH carries them to whom it is shown."""
        return changes if self.shows_authors else [without_author(change) for change in changes]


def _prefixes(selectors: Iterable[Selector]) -> tuple[str, ...]:
    return tuple([selector.prefix for selector in selectors])


def _both(one: Selector, other: Selector) -> Selector | None:
    """Return what selects what both select; None if nothing can be both."""
    if one.prefix.startswith(other.prefix):
        prefix = one.prefix
    elif other.prefix.startswith(one.prefix):
        prefix = other.prefix
    else:
        return None
    conditions = {*one.conditions, *other.conditions}
    return Selector(prefix, tuple(sorted(conditions, key=repr)))


def _simplified(selectors: Iterable[Selector]) -> tuple[Selector, ...]:
    """Return the selectors without those that select nothing more, in one order; none of them select everything."""
    kept: list[Selector] = []
    # What takes more comes first: it has the shorter prefix and fewer conditions.
    for selector in sorted(set(selectors), key=lambda it: (len(it.conditions), it.prefix, repr(it.conditions))):
        if not any(_takes(one, selector) for one in kept):
            kept.append(selector)
    kept.sort(key=lambda it: (it.prefix, repr(it.conditions)))
    return () if kept == [Selector()] else tuple(kept)


def _takes(one: Selector, other: Selector) -> bool:
    """Return whether `one` selects everything that `other` selects, as far as their form tells."""
    return other.prefix.startswith(one.prefix) and set(one.conditions) <= set(other.conditions)


#: Everything.
FULL = View()
