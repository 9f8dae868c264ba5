"""Stores in memory: the readable reference of the contract, for tests and for trying things out.

Nothing survives the object; between `close` and `open` it keeps what it has, so that one suite can run against
every backend. `_Log` is one store, synchronous; `MemoryStorage` is the contract around a dictionary of them.
Every method runs without a pause, so the event loop alone keeps appends one by one and reads consistent.
"""

import secrets
from collections import ChainMap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from syncline_protocol.cursor import Entry, Lineage, Seq
from syncline_protocol.digest import digest_term
from syncline_protocol.limits import BATCH_BYTES_TARGET
from syncline_protocol.transaction import Transaction

from .base import (
    Appended,
    Chunk,
    Commit,
    Head,
    Outcome,
    Record,
    Row,
    StorageError,
    StorageUnavailable,
    StoreInfo,
    StoreMismatch,
    StoreUnknown,
    Summary,
    Usage,
)
from .decide import UsedKey
from .selection import seq_ranges
from .staging import SCAN_SEQS_MAX, StagedStore, is_walked

__all__ = ["MemoryStorage"]


class MemoryStorage:
    """Args:
    mint: makes incarnations and store ids.
    """

    def __init__(self, mint: Callable[[], str] = lambda: secrets.token_hex(8)) -> None:
        self._mint = mint
        self._logs: dict[str, _Log] = {}
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
        log = self._logs[store] = _Log(StoreInfo(store, self._mint(), now_ms, head))
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

    async def read(self, store: str, after: Seq, upto: Seq, *, records_only: bool = False) -> Chunk:
        return self._log(store).read(after, upto, deletes_to=Seq(0) if records_only else after)

    async def fetch(self, store: str, ranges: Sequence[tuple[Seq, Seq]], upto: Seq) -> tuple[Row, ...]:
        return self._log(store).fetch(ranges, upto)

    async def live_ranges(self, store: str, upto: Seq, prefixes: Sequence[str] = ()) -> list[tuple[Seq, Seq]]:
        return seq_ranges(sorted(seq for seq, _ in self._log(store).living(prefixes, upto)))

    async def summary(self, store: str, prefixes: Sequence[str], upto: Seq) -> Summary:
        terms = [digest_term(seq, key) for seq, key in self._log(store).living(prefixes, upto)]
        return Summary(len(terms), sum(terms) % 2**32)

    async def usage(self, store: str, author: str) -> Usage:
        return self._log(store).usage.get(author, Usage())

    async def get(self, store: str, key: str) -> Record | None:
        return self._log(store).get(key)

    async def distrust(self, store: str) -> None:
        self._log(store).mint_due = True

    def _log(self, store: str) -> "_Log":
        self._require_open()
        log = self._logs.get(store)
        if log is None:
            raise StoreUnknown(store)
        return log

    def _require_open(self) -> None:
        if not self._is_open:
            raise StorageUnavailable("the storage is not open")


class _Log:
    """One store. Row `seq` stands at index `seq - 1`; `partners` runs parallel."""

    def __init__(self, info: StoreInfo) -> None:
        self.info = info
        self.mint_due = False
        self.rows: list[Row] = []
        self.partners: list[Seq | None] = []
        self.used: dict[str, UsedKey] = {}
        self.usage: dict[str, Usage] = {}

    def stage(self, mint: Callable[[], str], now_ms: int) -> StagedStore:
        used = ChainMap({}, self.used)
        return StagedStore(self.info.head, used, mint if self.mint_due else None, now_ms, self.usage)

    def write(self, staged: StagedStore) -> Commit:
        for add_seq, delete_seq in staged.deaths:
            self.partners[add_seq - 1] = delete_seq
        self.rows += staged.rows
        self.partners += staged.partners
        self.used.update(staged.keys)
        for author, change in staged.usage_changes.items():
            self.usage[author] = self.usage.get(author, Usage()) + change
        self.info = replace(self.info, head=staged.head)
        self.mint_due = False
        rows, partners = tuple(staged.rows), tuple(staged.partners)
        return Commit(self.info.name, self.info.store_id, staged.after, rows, partners, staged.head)

    def read(self, after: Seq, upto: Seq, *, deletes_to: Seq) -> Chunk:
        rows: list[Row] = []
        size = 0
        end = self.rows[min(upto, after + SCAN_SEQS_MAX) - 1].last_seq if upto > after else after
        for row, partner in zip(self.rows[after:end], self.partners[after:end], strict=True):
            if row.seq > end:
                break
            if is_walked(partner, deletes_to, upto):
                rows.append(row)
                size += len(row.text)
                if size >= BATCH_BYTES_TARGET:
                    end = row.last_seq
        return Chunk(after, end, tuple(rows))

    def fetch(self, ranges: Sequence[tuple[Seq, Seq]], upto: Seq) -> tuple[Row, ...]:
        rows: list[Row] = []
        size = 0
        for first, last in ranges:
            for row in self.rows[first - 1 : min(last, upto)]:
                if size >= BATCH_BYTES_TARGET:
                    return tuple(rows)
                if self._lives(row.seq, upto):
                    rows.append(row)
                    size += len(row.text)
        return tuple(rows)

    def living(self, prefixes: Sequence[str], upto: Seq) -> Iterable[tuple[Seq, str]]:
        starts = tuple(prefixes) or ""
        for key, used in self.used.items():
            if used.add_seq <= upto and is_walked(used.delete_seq, Seq(0), upto) and key.startswith(starts):
                yield used.add_seq, key

    def get(self, key: str) -> Record | None:
        known = self.used.get(key)
        if known is None or known.delete_seq is not None:
            return None
        return Record(known.add_seq, self.rows[known.add_seq - 1].text)

    def _lives(self, seq: Seq, upto: Seq) -> bool:
        return is_walked(self.partners[seq - 1], Seq(0), upto)
