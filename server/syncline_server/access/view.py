"""What part of a store somebody sees: the keys that begin so, and whether changes tell who made them.

A view is a value: whoever has the same view of a store shares one feed, its frames and its digest. As records never
change, a record never enters or leaves a view. `token` names what is seen, and travels in the cursors of the view
(PROTOCOL 5.7.2), so that a cursor that was got in another one is recognised.
"""

from collections.abc import Iterable, Sequence
from functools import cached_property
from hashlib import blake2b

import msgspec

from syncline_protocol.codec import without_author
from syncline_server.storage.selection import Selector

__all__ = ["FULL", "View", "key_of"]


class _Keyed(msgspec.Struct):
    key: str


_decode_keyed = msgspec.json.Decoder(_Keyed).decode


def key_of(change: bytes) -> str:
    """Return the key of a change as BATCH carries it."""
    return _decode_keyed(change).key


class View(msgspec.Struct, frozen=True, dict=True):
    """One view of a store. Make it with `of`.

    `prefixes`: keys that begin with one of them are seen, in their shortest form; none of them: every key.
    """

    prefixes: tuple[str, ...] = ()
    shows_authors: bool = True

    @classmethod
    def of(cls, prefixes: Iterable[str], *, shows_authors: bool = True) -> "View":
        """Return the view of these prefixes; equal views are equal values, however they are put."""
        kept: list[str] = []
        for prefix in sorted(set(prefixes)):
            if not kept or not prefix.startswith(kept[-1]):
                kept.append(prefix)
        return cls(() if kept == [""] else tuple(kept), shows_authors)

    @property
    def is_whole(self) -> bool:
        """Whether every record is seen."""
        return not self.prefixes

    @cached_property
    def token(self) -> str | None:
        """What its cursors carry, None for the whole store. Authors are left out: they change no record."""
        if self.is_whole:
            return None
        # As JSON, so that no prefix can pass for two of another view.
        return blake2b(msgspec.json.encode(self.prefixes), digest_size=6).hexdigest()

    @cached_property
    def selectors(self) -> tuple[Selector, ...]:
        """What storages are asked for; none of them: everything."""
        return tuple([Selector(prefix) for prefix in self.prefixes])

    def shows(self, key: str) -> bool:
        """Return whether a record of this key is seen."""
        return self.is_whole or key.startswith(self.prefixes)

    def texts(self, changes: Sequence[bytes]) -> Sequence[bytes]:
        """Return what is seen of these changes, as BATCH carries it."""
        if not self.is_whole:
            prefixes = self.prefixes
            changes = [change for change in changes if key_of(change).startswith(prefixes)]
        return changes if self.shows_authors else [without_author(change) for change in changes]


#: Everything.
FULL = View()
