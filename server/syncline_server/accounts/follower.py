"""The log of `_accounts` as one process follows it: where it stands, what it has folded, and when it begins anew.

Commits of this process come in through `extend`, in the turn of the event loop in which they are published; everything
else is found by `catch_up`, which compares the position with the log itself. A log that is another one, or that has
lost what was read of it, is folded from its start: rights that came from it are not kept on trust. So is one from which
clean-up has taken DELETEs that were not read yet, as one of them may have ended a right.

Hazard: a commit may come in while a read is under way. A walk leaves out what is dead at its end, so its rows only fit
onto the position that it began at; if that has moved, they are thrown away and read again.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from syncline_protocol.cursor import Cursor, Resume, Seq, decide_resume, parse_cursor
from syncline_server.access.concern import EVERYTHING, Concern
from syncline_server.storage.base import Commit, Head, Row, Storage, StoreInfo, StoreUnknown

from .entry import ACCOUNTS
from .registry import Registry

__all__ = ["Follower"]


@dataclass(frozen=True, slots=True)
class _At:
    """A position: which store, and how far it was folded."""

    store_id: str
    seq: Seq
    cursor: Cursor

    def is_in(self, store_id: str, head: Head) -> bool:
        """Return whether a log with this head has this position in its history."""
        found = decide_resume(head.lineage, head.seq, parse_cursor(self.cursor), None)
        return self.store_id == store_id and isinstance(found, Resume)


class Follower:
    """Args:
    now_ms: the wall clock, in ms since 1970.

    `registry` is replaced when the log is folded anew. `listeners` are called, in the same turn, after each change of
    what somebody may do; they must not raise. `concern` is whom that change is about. `checked_ms` is when the log was
    last compared with.
    """

    def __init__(self, storage: Storage, *, now_ms: Callable[[], int]) -> None:
        self.registry = Registry()
        self.listeners: list[Callable[[], None]] = []
        self.concern = EVERYTHING
        self.checked_ms = 0
        self.is_behind = True
        self._storage = storage
        self._now_ms = now_ms
        self._at: _At | None = None
        self._reading = asyncio.Lock()

    @property
    def store_id(self) -> str | None:
        """The id of the log that is followed; None before it was read."""
        return None if self._at is None else self._at.store_id

    def has_reached(self, seq: Seq) -> bool:
        """Return whether everything up to this seq is folded, as far as is known."""
        return self._at is not None and self._at.seq >= seq and not self.is_behind

    def extend(self, commit: Commit) -> None:
        """Take a commit, of whatever store. One that does not fit onto the position leaves `is_behind`."""
        if commit.store != ACCOUNTS or self._at is None:
            return
        if commit.store_id == self._at.store_id and commit.head.seq <= self._at.seq:
            return
        if commit.after != self._at.seq or not self._at.is_in(commit.store_id, commit.head):
            self.is_behind = True
            return
        self._fold(commit.rows, _At(commit.store_id, commit.head.seq, commit.head.cursor))

    def expire(self, now_ms: int) -> None:
        """Let time pass: who had a grant or token that has come to its end has it no more."""
        self._tell(self.registry.expire(now_ms))

    async def catch_up(self) -> None:
        """Compare with the log, and fold what is new.

        Raises:
            StorageError: it cannot be read. What is known stays, as nothing says that it is wrong; but if the log was
                found to be another one, nothing is known any more.
        """
        async with self._reading:
            while not await self._look():
                pass
        self.checked_ms = self._now_ms()

    async def _look(self) -> bool:
        """Read once. Returns whether the end was reached without a commit that came in between."""
        began = self._at
        self.is_behind = False
        try:
            info = await self._info()
            if self._at is not began:
                return False
            if began is None or not began.is_in(info.store_id, info.head):
                return await self._begin_anew(info)
            rows = await self._rows(began.seq, info.head.seq)
            if rows is None:
                return await self._begin_anew(info)
        except BaseException:
            self.is_behind = True
            raise
        if self._at is not began:
            return False
        self._fold(rows, _At(info.store_id, info.head.seq, info.head.cursor))
        return not self.is_behind

    def _fold(self, rows: Sequence[Row], at: _At) -> None:
        """Take rows, up to a position. If that fails, a loss may be among what is missing: nobody may do anything."""
        try:
            concern = self.registry.apply(rows)
        except BaseException:
            self.is_behind = True
            self._replace(None, Registry(self.registry.version + 1))
            raise
        self._at = at
        self._tell(concern)

    async def _begin_anew(self, info: StoreInfo) -> bool:
        """Fold the whole log. Until that is done, and if it fails, nobody may do anything."""
        self._replace(None, Registry(self.registry.version + 1))
        rows = await self._rows(Seq(0), info.head.seq)
        assert rows is not None, "who holds nothing misses no DELETE"
        registry = Registry(self.registry.version + 1)
        registry.apply(rows)
        self._replace(_At(info.store_id, info.head.seq, info.head.cursor), registry)
        # What was committed meanwhile was not taken, as there was no position that it could fit onto.
        return False

    def _replace(self, at: _At | None, registry: Registry) -> None:
        self._at = at
        self.registry = registry
        self._tell(EVERYTHING)

    async def _info(self) -> StoreInfo:
        try:
            return await self._storage.info(ACCOUNTS)
        except StoreUnknown:
            info, _ = await self._storage.create(ACCOUNTS, self._now_ms())
            return info

    async def _rows(self, after: Seq, upto: Seq) -> list[Row] | None:
        """Return what is above a position; None if DELETEs of it are gone."""
        rows: list[Row] = []
        began = after
        while after < upto:
            chunk = await self._storage.read(ACCOUNTS, after, upto)
            if 0 < began < chunk.floor:
                return None
            rows += chunk.rows
            after = chunk.to
        return rows

    def _tell(self, concern: Concern | None) -> None:
        """Call the listeners, if something has changed."""
        if concern is None:
            return
        self.concern = concern
        for listener in self.listeners:
            listener()
