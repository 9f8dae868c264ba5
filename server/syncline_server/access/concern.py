"""Whom a change of accounts or grants is about, so that not everybody who is there has to be judged anew. Pure.

It may name too many, and never too few: whoever is left out keeps what he had. Whom grants call `user:NAME` and
`group:NAME` may also be external, so all principals of the name and with the group are meant.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from .grant import EVERYONE, covers
from .principal import Principal

__all__ = ["EVERYTHING", "NOTHING", "Concern"]


@dataclass(frozen=True, slots=True)
class Concern:
    """Who is concerned, and where. Unions name everybody of either in all places of either.

    Attributes:
        names, groups: who has this name, or is in this group.
        is_everybody: also all others.
        stores: names, and prefixes with `*`, in which they may do something else than before; None if who they are has
            changed, which is about every store.
    """

    names: frozenset[str] = frozenset()
    groups: frozenset[str] = frozenset()
    is_everybody: bool = False
    stores: frozenset[str] | None = frozenset()

    @classmethod
    def of_users(cls, names: Iterable[str]) -> "Concern":
        """Return that these users are somebody else now, or nobody."""
        return cls(names=frozenset(names), stores=None)

    @classmethod
    def of_grant(cls, to: str, store: str) -> "Concern":
        """Return that a grant has begun or ended."""
        kind, _, name = to.partition(":")
        named = frozenset({name})
        return cls(
            named if kind == "user" else frozenset(),
            named if kind == "group" else frozenset(),
            to == EVERYONE,
            frozenset({store}),
        )

    def __or__(self, other: "Concern") -> "Concern":
        return Concern(
            self.names | other.names,
            self.groups | other.groups,
            self.is_everybody or other.is_everybody,
            None if self.stores is None or other.stores is None else self.stores | other.stores,
        )

    @property
    def is_nobody(self) -> bool:
        """Whether nobody is concerned."""
        return not (self.is_everybody or self.names or self.groups)

    def is_about(self, principal: Principal) -> bool:
        """Return whether somebody is concerned."""
        return self.is_everybody or principal.name in self.names or not self.groups.isdisjoint(principal.groups)

    def changes_identity(self, principal: Principal) -> bool:
        """Return whether he may be somebody else now, or nobody.

        Who has not logged in is let in as long as something is granted to everyone, so any such grant may be his end.
        """
        return self.stores is None or principal.name is None

    def is_in(self, store: str) -> bool:
        """Return whether those who are concerned may do something else in this store."""
        return self.stores is None or any(covers(pattern, store) for pattern in self.stores)


#: Nobody is concerned.
NOTHING = Concern()

#: Everybody may be somebody else.
EVERYTHING = Concern(is_everybody=True, stores=None)
