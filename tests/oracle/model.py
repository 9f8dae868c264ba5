"""The plainest model of a server: for each store the list of its changes, and what follows from it by definition.

Nothing here knows how the server keeps anything. The status of a write, what lives at a position, what a filter selects
and what an index finds are worked out anew from the list each time.
"""

import copy
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from syncline_protocol.cursor import Seq
from syncline_protocol.digest import digest_term, digest_text

__all__ = ["INDEXES", "Fact", "Model", "ModelStore", "Wanted", "digest_of"]


#: The indexes that a store may have, as (path, kind). One that was dropped is declared anew as it was.
INDEXES = {"n": ("/n", "range"), "t": ("/t", "multi"), "e": ("/n", "equality")}


@dataclass(frozen=True)
class Fact:
    """One change: an ADD has a value, as JSON text. `last` is the last seq of its transaction."""

    seq: int
    key: str
    value: str | None
    last: int


@dataclass(frozen=True)
class Wanted:
    """What a reader asks for: the filter as the wire has it, or None."""

    filter: dict[str, Any] | None

    def shows(self, key: str, value: str) -> bool:
        """Return whether a record is selected, by a reading of the filter that shares nothing with the server's."""
        wanted = self.filter
        if wanted is None:
            return True
        if not key.startswith(wanted.get("key_prefix", "")):
            return False
        if "index" not in wanted:
            return True
        return any(_meets(wanted, scalar) for scalar in scalars_at(json.loads(value), *INDEXES[wanted["index"]]))


def scalars_at(value: Any, path: str, kind: str) -> list[Any]:
    """Return what an index on this path of a value holds: paths of the oracle are one name, or empty."""
    found = value if path == "" else value.get(path[1:], ...) if isinstance(value, dict) else ...
    if kind == "multi" and isinstance(found, list):
        return [item for item in found if not isinstance(item, (list, dict))]
    return [] if found is ... or isinstance(found, (list, dict)) else [found]


def _meets(wanted: dict[str, Any], scalar: Any) -> bool:
    if "eq" in wanted:
        return type_of(scalar) == type_of(wanted["eq"]) and scalar == wanted["eq"]
    if "prefix" in wanted:
        return isinstance(scalar, str) and scalar.startswith(wanted["prefix"])
    for name, holds in (("ge", scalar_ge), ("lt", scalar_lt)):
        if name in wanted and not holds(scalar, wanted[name]):
            return False
    return True


def scalar_ge(scalar: Any, bound: Any) -> bool:
    """Return whether a scalar is of the type of the bound and not below it."""
    return type_of(scalar) == type_of(bound) and scalar >= bound


def scalar_lt(scalar: Any, bound: Any) -> bool:
    """Return whether a scalar is of the type of the bound and below it."""
    return type_of(scalar) == type_of(bound) and scalar < bound


def type_of(scalar: Any) -> str:
    """Return the JSON type; 1 and true are not of one type, 1 and 1.0 are."""
    if isinstance(scalar, bool) or scalar is None:
        return str(scalar)
    return "text" if isinstance(scalar, str) else "number"


@dataclass
class ModelStore:
    """One store: its changes, and the names of its indexes."""

    store_id: str
    changes: list[Fact] = field(default_factory=list)
    indexes: set[str] = field(default_factory=set)

    @property
    def head(self) -> int:
        """The seq of the newest change."""
        return len(self.changes)

    def living(self, at: int | None = None) -> dict[str, Fact]:
        """Return the records that live at a position, by key."""
        held: dict[str, Fact] = {}
        for fact in self.changes[: self.head if at is None else at]:
            if fact.value is None:
                del held[fact.key]
            else:
                held[fact.key] = fact
        return held

    def seen(self, wanted: Wanted, at: int | None = None) -> dict[str, int]:
        """Return the seqs of the living records that a filter selects, by key."""
        living = self.living(at)
        return {key: fact.seq for key, fact in living.items() if wanted.shows(key, fact.value or "")}

    def is_boundary(self, seq: int) -> bool:
        """Return whether a position is between transactions."""
        return seq == 0 or self.changes[seq - 1].last == seq

    # --- writes ---

    def write(self, ops: list[tuple[str, str | None]], *, single: bool) -> tuple[str, list[str]]:
        """Take a transaction; return its status and those of its ops, and note what it commits."""
        if single:
            status = self._alone(*ops[0])
            if status == "ok":
                self._commit(ops)
            return status, [status]
        if self._is_repeated(ops):
            return "dup", ["dup"] * len(ops)
        statuses = [self._within(key, value) for key, value in ops]
        if set(statuses) == {"ok"}:
            self._commit(ops)
            return "ok", statuses
        return "refused", ["skipped" if status == "ok" else status for status in statuses]

    def _commit(self, ops: list[tuple[str, str | None]]) -> None:
        last = self.head + len(ops)
        for key, value in ops:
            self.changes.append(Fact(self.head + 1, key, value, last))

    def _of(self, key: str) -> tuple[Fact | None, Fact | None]:
        """Return the ADD and the DELETE of a key."""
        of_key = [fact for fact in self.changes if fact.key == key]
        return (of_key[0] if of_key else None), (of_key[1] if len(of_key) > 1 else None)

    def _alone(self, key: str, value: str | None) -> str:
        added, deleted = self._of(key)
        if value is None:
            return "absent" if added is None else "ok" if deleted is None else "dup"
        if added is None:
            return "ok"
        if added.value == value:
            return "dup"
        return "conflict" if deleted is None else "gone"

    def _within(self, key: str, value: str | None) -> str:
        added, deleted = self._of(key)
        if value is None:
            return "absent" if added is None else "ok" if deleted is None else "gone"
        if added is None:
            return "ok"
        if deleted is not None:
            return "gone"
        return "exists" if added.value == value else "conflict"

    def _is_repeated(self, ops: list[tuple[str, str | None]]) -> bool:
        seqs = []
        for key, value in ops:
            added, deleted = self._of(key)
            fact = deleted if value is None else added
            if fact is None or fact.value != value:
                return False
            seqs.append(fact.seq)
        return seqs == list(range(seqs[0], seqs[0] + len(seqs)))


class Model:
    """All stores by name, and the copies that `backup` made of them."""

    def __init__(self) -> None:
        self.stores: dict[str, ModelStore] = {}

    def copy(self) -> dict[str, ModelStore]:
        """Return everything as it is now."""
        return copy.deepcopy(self.stores)


def digest_of(held: dict[str, int] | Iterable[tuple[str, int]]) -> str:
    """Return the digest of records, keys with their seqs."""
    return digest_text(sum(digest_term(Seq(seq), key) for key, seq in dict(held).items()))
