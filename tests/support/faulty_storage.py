"""Memory storage with a switch at every point that matters: it waits there, or fails there, when a test says so."""

import asyncio
from collections.abc import Sequence

from syncline_protocol.cursor import Seq
from syncline_protocol.seq_set import SeqSet
from syncline_protocol.transaction import Transaction
from syncline_server.storage.base import Appended, Chunk, StorageFull, StorageUnavailable, StoreInfo
from syncline_server.storage.memory import MemoryStorage
from syncline_server.storage.selection import Selector

__all__ = ["FaultyStorage"]


class FaultyStorage(MemoryStorage):
    """Points are `before_append`, `after_append`, `before_create`, `after_info`, `after_read` and so on.

    After a failure to write, unless the disk was only full, nothing works until it was opened again.
    """

    def __init__(self) -> None:
        super().__init__()
        self.cannot_open = False
        self.appended: list[int] = []
        self.opened = 0
        self._failure = ""
        self._faults: dict[str, Exception] = {}
        self._gates: dict[str, asyncio.Event] = {}

    def fail(self, point: str, error: Exception | None = None) -> None:
        """Fail once when `point` is reached."""
        self._faults[point] = error or StorageUnavailable("disk I/O error")

    def hold(self, point: str) -> asyncio.Event:
        """Whoever comes to `point` waits there until the event is set."""
        gate = self._gates[point] = asyncio.Event()
        return gate

    @property
    def all_faults_fired(self) -> bool:
        """Whether nothing is left that was to fail."""
        return not self._faults

    async def _reach(self, point: str) -> None:
        if point in self._gates:
            await self._gates[point].wait()
        error = self._faults.pop(point, None)
        if error is not None:
            if not isinstance(error, StorageFull) and point not in ("after_info", "after_read"):
                self._failure = str(error)
            raise error

    def _require_open(self) -> None:
        super()._require_open()
        if self._failure:
            raise StorageUnavailable(self._failure)

    # --- the contract ---

    async def open(self) -> None:
        await self._reach("before_open")
        if self.cannot_open:
            raise StorageUnavailable("the disk is away")
        self._failure = ""
        self.opened += 1
        await super().open()

    async def create(self, store: str, now_ms: int) -> tuple[StoreInfo, bool]:
        await self._reach("before_create")
        return await super().create(store, now_ms)

    async def drop(self, store: str) -> StoreInfo:
        await self._reach("before_drop")
        return await super().drop(store)

    async def info(self, store: str) -> StoreInfo:
        info = await super().info(store)
        await self._reach("after_info")
        return info

    async def live_set(self, store: str, upto: Seq, selectors: Sequence[Selector] = ()) -> SeqSet:
        await self._reach("before_live_set")
        return await super().live_set(store, upto, selectors)

    async def append(self, transactions: Sequence[Transaction], now_ms: int) -> Appended:
        self._require_open()
        await self._reach("before_append")
        appended = await super().append(transactions, now_ms)
        self.appended.append(len(transactions))
        await self._reach("after_append")
        return appended

    async def read(
        self,
        store: str,
        after: Seq,
        upto: Seq,
        *,
        deletes_to: Seq | None = None,
        selectors: Sequence[Selector] = (),
    ) -> Chunk:
        chunk = await super().read(store, after, upto, deletes_to=deletes_to, selectors=selectors)
        await self._reach("after_read")
        return chunk
