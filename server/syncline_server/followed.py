"""A store that is followed: its tail, the feed of the whole, and those of parts that somebody holds.

Hands every commit to the feeds that show something of it, and to no other: what a filter costs does not depend on how
many others there are. A feed of a part is held by those who read it, and is forgotten with the last of them.
"""

from collections.abc import Iterable
from weakref import WeakValueDictionary, ref

from .access.view import View, key_of
from .feed import Feed
from .part import PartFeed
from .router import Router
from .storage.base import Commit, Terms

__all__ = ["Followed"]

_NO_TERMS: Terms = {}


class Followed:
    """Args:
    whole: the feed of the whole store.
    """

    def __init__(self, whole: Feed) -> None:
        self.whole = whole
        self.tail = whole.tail
        self.parts: WeakValueDictionary[View, PartFeed] = WeakValueDictionary()
        self._router: Router[ref[PartFeed]] = Router()

    def feeds(self) -> Iterable[Feed]:
        return (self.whole, *self.parts.values())

    def enter(self, part: PartFeed) -> None:
        """Hand over to a feed what its view shows of every commit from now on, as long as somebody holds it."""
        self._router.add(ref(part, self._router.remove), part.view.selectors)

    def leave(self, part: PartFeed) -> None:
        """Hand nothing more over to it."""
        self._router.remove(ref(part))
        if self.parts.get(part.view) is part:
            del self.parts[part.view]

    def extend(self, commit: Commit) -> None:
        """Hand a commit to the feeds that show something of it. It costs nothing for all others."""
        self.tail.extend(commit)
        self.whole.extended()
        if not self._router:
            return
        concerned: dict[ref[PartFeed], PartFeed] = {}
        for place, (row, partner) in enumerate(zip(commit.rows, commit.partners, strict=True)):
            key = key_of(row.text)
            for entered in self._router.select(key, commit.terms[place] if commit.terms else _NO_TERMS):
                part = entered()
                if part is not None:
                    part.take(row, key, partner)
                    concerned[entered] = part
        for part in concerned.values():
            part.extended()

    def trim(self, bytes_max: int) -> None:
        """Keep at most so much of the recent log in memory, besides what is not published yet."""
        self.tail.trim(bytes_max, self.whole.published.seq)
        for part in self.parts.values():
            part.trim()
