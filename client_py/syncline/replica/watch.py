"""Live queries: what fits, now and after each change, always as it was between two local transactions.

A watch keeps what fits and looks again at the keys that were touched, so it costs what changes, not what the replica
holds. While nobody asks for the next view, touched keys are only noted: a slow reader sees fewer views, never a
wrong one.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from .record import LocalRecord

__all__ = ["Predicate", "Query", "RecordsQuery", "Source", "View", "Watch"]

V_co = TypeVar("V_co", covariant=True)
V = TypeVar("V")

Predicate = Callable[[LocalRecord], bool]


@dataclass(frozen=True, slots=True)
class View:
    """The records that fit, at one moment.

    Attributes:
        records: by seq, then those that the server does not have yet, as they were written.
        added: those of them that did not fit, or were not there, in the view before.
        removed: those of the view before that are gone.
        changed: those whose state or seq is another one than in the view before.
    """

    records: tuple[LocalRecord, ...]
    added: tuple[LocalRecord, ...] = ()
    removed: tuple[LocalRecord, ...] = ()
    changed: tuple[LocalRecord, ...] = ()

    def __iter__(self) -> Iterator[LocalRecord]:
        return iter(self.records)

    def __len__(self) -> int:
        return len(self.records)


class Source(Protocol):
    """Where a query looks; a replica is one."""

    def get(self, key: str) -> LocalRecord | None:
        """Return the record of a key."""

    def find(self, predicate: Predicate | None = None, *, prefix: str = "") -> list[LocalRecord]:
        """Return the records that fit."""

    def written_order(self, key: str) -> tuple[bool, int, int]:
        """Return the place of a key among those that the server does not have yet."""


class Query(Protocol[V_co]):
    """What fits, kept up from the keys that were touched."""

    def touch(self, keys: frozenset[str] | None) -> bool:
        """Note touched keys, any with None; returns whether the query may look different."""

    def first(self) -> V_co:
        """Look for the first time."""

    def next(self) -> V_co | None:
        """Look again; None if nothing looks different."""


class RecordsQuery:
    """A query over records."""

    def __init__(self, source: Source, predicate: Predicate | None, prefix: str) -> None:
        self._source = source
        self._predicate = predicate
        self._prefix = prefix
        self._found: dict[str, LocalRecord] = {}
        self._dirty: set[str] | None = None

    def touch(self, keys: frozenset[str] | None) -> bool:
        if self._dirty is None:
            return True
        if keys is None:
            self._dirty = None
            return True
        self._dirty.update(keys if not self._prefix else [key for key in keys if key.startswith(self._prefix)])
        return bool(self._dirty)

    def first(self) -> View:
        self._dirty = set()
        self._found = {record.key: record for record in self._look()}
        records = tuple(self._found.values())
        return View(records, added=records)

    def next(self) -> View | None:
        before = self._found
        if self._dirty is None:
            now = {record.key: record for record in self._look()}
            keys: Iterable[str] = before.keys() | now.keys()
        else:
            now, keys = dict(before), self._dirty
            for key in keys:
                record = self._source.get(key)
                if record is not None and (self._predicate is None or self._predicate(record)):
                    now[key] = record
                else:
                    now.pop(key, None)
        self._dirty = set()
        added, removed, changed = self._differences(before, now, keys)
        if not (added or removed or changed):
            return None
        self._found = dict(sorted(now.items(), key=lambda item: self._order(item[1])))
        return View(tuple(self._found.values()), added, removed, changed)

    def _look(self) -> list[LocalRecord]:
        return self._source.find(self._predicate, prefix=self._prefix)

    def _differences(
        self, before: dict[str, LocalRecord], now: dict[str, LocalRecord], keys: Iterable[str]
    ) -> tuple[tuple[LocalRecord, ...], tuple[LocalRecord, ...], tuple[LocalRecord, ...]]:
        added, removed, changed = [], [], []
        for key in keys:
            old, new = before.get(key), now.get(key)
            if old is None and new is not None:
                added.append(new)
            elif old is not None and new is None:
                removed.append(old)
            elif old is not None and new is not None and old != new:
                changed.append(new)
        return self._sorted(added), self._sorted(removed), self._sorted(changed)

    def _sorted(self, records: list[LocalRecord]) -> tuple[LocalRecord, ...]:
        return tuple(sorted(records, key=self._order))

    def _order(self, record: LocalRecord) -> tuple[bool, int, tuple[bool, int, int]]:
        return (record.seq is None, record.seq or 0, self._source.written_order(record.key))


class Watch(Generic[V]):
    """The views of one query; use it with `async for`. It ends when the replica is closed."""

    def __init__(self, query: Query[V]) -> None:
        self._query = query
        self._changed = asyncio.Event()
        self._is_first = True
        self._is_over = False

    def __aiter__(self) -> "Watch[V]":
        return self

    async def __anext__(self) -> V:
        if self._is_over:
            raise StopAsyncIteration
        if self._is_first:
            self._is_first = False
            return self._query.first()
        while True:
            await self._changed.wait()
            self._changed.clear()
            if self._is_over:
                raise StopAsyncIteration
            view = self._query.next()
            if view is not None:
                return view

    async def aclose(self) -> None:
        """End it."""
        self.end()

    # --- for the replica ---

    def touched(self, keys: frozenset[str] | None) -> None:
        """Records of these keys look different now; of any with None."""
        if not self._is_first and self._query.touch(keys):
            self._changed.set()

    def end(self) -> None:
        """Let whoever iterates stop."""
        self._is_over = True
        self._changed.set()
