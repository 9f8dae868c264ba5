"""Stores in memory: the readable reference of the contract, for tests and for trying things out.

Nothing survives the object; between `close` and `open` it keeps what it has, so that one suite can run against
every backend. `MemoryLog` is one store, synchronous; `MemoryStorage` is the contract around a dictionary of them.
Every method runs without a pause, so the event loop alone keeps appends one by one and reads consistent.
"""

import secrets
from collections.abc import Callable, Sequence
from dataclasses import replace

from syncline_protocol.cursor import Entry, Lineage, Seq
from syncline_protocol.index import IndexSpec, TermRange
from syncline_protocol.seq_set import SeqSet
from syncline_protocol.transaction import Transaction

from .base import (
    Appended,
    Chunk,
    Compacted,
    Found,
    Head,
    Horizon,
    IndexInfo,
    Outcome,
    Place,
    Record,
    Row,
    StorageError,
    StorageUnavailable,
    StoreInfo,
    StoreMismatch,
    StoreSettings,
    StoreUnknown,
    Summary,
    Unsupported,
    Usage,
)
from .memory_log import MemoryLog
from .selection import Selector
from .staging import StagedStore

__all__ = ["MemoryStorage"]


class MemoryStorage:
    """Args:
    mint: makes incarnations and store ids.
    """

    def __init__(self, mint: Callable[[], str] = lambda: secrets.token_hex(8)) -> None:
        self._mint = mint
        self._logs: dict[str, MemoryLog] = {}
        self._is_open = False

    @property
    def description(self) -> str:
        return "memory (nothing survives the process)"

    async def open(self) -> None:
        self._is_open = True
        for log in self._logs.values():
            log.mint_due = True

    async def close(self) -> None:
        self._is_open = False

    async def create(self, store: str, now_ms: int) -> tuple[StoreInfo, bool]:
        self._require_open()
        log = self._logs.get(store)
        if log is not None:
            return log.info, False
        head = Head(Seq(0), 0, 0, Lineage((Entry(self._mint(), Seq(0)),)))
        log = self._logs[store] = MemoryLog(StoreInfo(store, self._mint(), now_ms, head))
        return log.info, True

    async def drop(self, store: str) -> StoreInfo:
        info = self._log(store).info
        del self._logs[store]
        return info

    async def stores(self) -> list[StoreInfo]:
        self._require_open()
        return [self._logs[name].info for name in sorted(self._logs)]

    async def info(self, store: str) -> StoreInfo:
        return self._log(store).info

    async def append(self, transactions: Sequence[Transaction], now_ms: int) -> Appended:
        self._require_open()
        staged: dict[str, StagedStore] = {}
        outcomes: list[Outcome | StorageError] = []
        for transaction in transactions:
            name = transaction.store
            log = self._logs.get(name)
            if log is None:
                outcomes.append(StoreUnknown(name))
            elif transaction.store_id not in (None, log.info.store_id):
                outcomes.append(StoreMismatch(name))
            else:
                if name not in staged:
                    staged[name] = log.stage(self._mint, now_ms)
                outcomes.append(staged[name].take(transaction))
        commits = [self._logs[name].write(store) for name, store in staged.items() if store.rows]
        return Appended(tuple(outcomes), tuple(commits))

    async def read(
        self,
        store: str,
        after: Seq,
        upto: Seq,
        *,
        deletes_to: Seq | None = None,
        selectors: Sequence[Selector] = (),
    ) -> Chunk:
        kept = after if deletes_to is None else deletes_to
        return self._log(store).read(after, upto, deletes_to=kept, selectors=selectors)

    async def fetch(self, store: str, ranges: Sequence[tuple[Seq, Seq]], upto: Seq) -> tuple[Row, ...]:
        return self._log(store).fetch(ranges, upto)

    async def live_set(self, store: str, upto: Seq, selectors: Sequence[Selector] = ()) -> SeqSet:
        return self._log(store).live_set(upto, selectors)

    async def summary(self, store: str, selectors: Sequence[Selector], upto: Seq) -> Summary:
        return self._log(store).summary(selectors, upto)

    async def position_at(self, store: str, time_ms: int) -> Seq:
        return self._log(store).position_at(time_ms)

    async def configure(self, store: str, settings: StoreSettings) -> StoreInfo:
        log = self._log(store)
        log.info = replace(log.info, settings=settings)
        return log.info

    async def create_index(self, store: str, spec: IndexSpec, now_ms: int) -> tuple[IndexInfo, bool]:
        return self._log(store).create_index(spec, self._mint, now_ms)

    async def build_index(self, store: str, name: str, budget_s: float) -> IndexInfo:
        return self._log(store).info.index(name)

    async def drop_index(self, store: str, name: str) -> IndexInfo:
        return self._log(store).drop_index(name)

    async def find(
        self,
        store: str,
        index: str | None,
        terms: TermRange,
        *,
        after: Place | None = None,
        descending: bool = False,
        limit: int = 100,
    ) -> Found:
        return self._log(store).find(index, terms, after, descending=descending, limit=limit)

    async def count(self, store: str, index: str | None, terms: TermRange) -> int:
        return self._log(store).count(index, terms)

    async def compact(self, store: str, horizon: Horizon, budget_s: float) -> Compacted:
        return self._log(store).compact(horizon)

    async def estimate(self, store: str, horizon: Horizon) -> Compacted:
        return self._log(store).estimate(horizon)

    async def reclaim(self, budget_s: float) -> int:
        return 0

    async def backup(self, target: str, progress: Callable[[int, int], None] = lambda done, total: None) -> None:
        raise Unsupported("stores in memory have no file to copy", hint="dump them, or serve a SQLite file")

    async def usage(self, store: str, author: str) -> Usage:
        return self._log(store).usage.get(author, Usage())

    async def get(self, store: str, key: str, at: Seq | None = None) -> Record | None:
        return self._log(store).get(key, at)

    async def distrust(self, store: str) -> None:
        self._log(store).mint_due = True

    def _log(self, store: str) -> MemoryLog:
        self._require_open()
        log = self._logs.get(store)
        if log is None:
            raise StoreUnknown(store)
        return log

    def _require_open(self) -> None:
        if not self._is_open:
            raise StorageUnavailable("the storage is not open")
