"""What the collections make of the writes of a replica, as the keeper has to know it.

A replica by itself knows records. An entry with `edits` means more: if somebody else was first it is made anew, and
when it has arrived, it may have left something behind that nobody can see any more.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from .database import Row
from .entry import Edit, Entry, EntryId, EntryOp, Refusal
from .report import Report

__all__ = ["Base", "Conflict", "Leftovers", "Meaning", "Postponed", "Remade", "Remaking"]


class Base(Protocol):
    """The records that the server has, without what the outbox says of them; and what the outbox will add."""

    def get(self, key: str) -> Row | None:
        """Return the record of a key."""

    def with_prefix(self, prefix: str) -> list[Row]:
        """Return the records whose keys begin so, in the order of their keys."""

    def coming(self, prefix: str, before: EntryId | None = None) -> list[str]:
        """Return the keys that begin so and that entries of the outbox add, rejected ones among them.

        Args:
            before: only entries that are older than this one.
        """


@dataclass(frozen=True, slots=True)
class Remade:
    """The entry as it is to be sent now; without ops there is nothing left to do.

    Attributes:
        renamed: keys that it adds under another name now, or that somebody else's record stands for, for the entries
            that build on them.
        merged: the values that it adds under these new keys, if they are not those that were written.
        dropped: keys that it adds no more: what builds on them is without a ground too.
        reports: what happened to its edits.
    """

    ops: tuple[EntryOp, ...]
    edits: tuple[Edit, ...]
    renamed: dict[str, str] = field(default_factory=dict)
    merged: dict[str, str] = field(default_factory=dict)
    dropped: frozenset[str] = frozenset()
    reports: tuple[Report, ...] = ()


@dataclass(frozen=True, slots=True)
class Conflict:
    """The application wants to decide itself: the entry is rejected for this."""

    refusal: Refusal


@dataclass(frozen=True, slots=True)
class Postponed:
    """It cannot be made anew yet.

    Attributes:
        given_up: of one that builds on what the server lost: what to reject it for, if that does not come back.
    """

    given_up: Refusal | None = None


Remaking = Remade | Conflict | Postponed


@dataclass(frozen=True, slots=True)
class Leftovers:
    """What an entry that has arrived left behind: records that belong to nothing that can be seen."""

    keys: tuple[str, ...] = ()
    reports: tuple[Report, ...] = ()


class Meaning(Protocol):
    """What the collections know."""

    def remake(self, entry: Entry, base: Base, new_key: Callable[[], str]) -> Remaking:
        """Make an entry anew whose edits somebody else has forestalled."""

    def follow(self, entry: Entry, before: Remade) -> Remade | Conflict:
        """Make an entry that was not sent yet anew, since one that it builds on was."""

    def leftovers(self, entry: Entry, base: Base) -> Leftovers:
        """Return what belongs to no document any more, now that this entry has arrived."""
