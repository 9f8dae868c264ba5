"""The default storage: one SQLite file in WAL mode, flushed at every commit.

The asynchronous shell around `sqlite_writer` (what writes, in one thread) and `sqlite_reader` (what reads, in two
more). Invariants: one connection writes and checkpoints, all others are read-only, so SQLite's WAL-reset bug cannot
happen; one process serves a file (`file_lock`); a store's id in the file, which readers take from the writer's
memory, is never used for another store.
"""

import os
import secrets
import sqlite3
from asyncio import Lock
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import TypeVar

from syncline_protocol.cursor import Seq
from syncline_protocol.index import IndexSpec, TermRange
from syncline_protocol.seq_set import SeqSet
from syncline_protocol.transaction import Transaction

from .base import (
    Appended,
    Chunk,
    Compacted,
    Found,
    Horizon,
    IndexInfo,
    Place,
    Record,
    Row,
    StorageUnavailable,
    StoreInfo,
    StoreSettings,
    StoreUnknown,
    Summary,
    Usage,
)
from .file_lock import FileLock
from .selection import Selector
from .sqlite_backup import back_up
from .sqlite_compaction import estimate
from .sqlite_find import count_found, find_rows
from .sqlite_link import Link
from .sqlite_reader import fetch_rows, find_record, find_usage, live_set, moment, position_at, read_chunk
from .sqlite_schema import open_reader, open_writer, read_stores, sqlite_wal_bug
from .sqlite_selected import Selection
from .sqlite_upkeep import Upkeep
from .sqlite_writer import SqliteWriter, StoreState

__all__ = ["SqliteStorage"]

T = TypeVar("T")

#: Readers beside the writer: one for a long walk, one for what comes meanwhile.
_READERS = 2


class SqliteStorage:
    """Args:
    path: the file; it is made if it is not there. The directory of a relative path is made too, that of an absolute
        path is not: it may be a disk that is not mounted.
    mint: makes incarnations and store ids.
    fault: called in the writer's thread at `before_commit` and `after_commit`; tests let it raise.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        mint: Callable[[], str] = lambda: secrets.token_hex(8),
        fault: Callable[[str], None] = lambda point: None,
    ) -> None:
        self._makes_directory = not os.path.isabs(path)
        self._path = os.path.realpath(path)
        self._mint = mint
        self._fault = fault
        self._lifecycle = Lock()
        self._lock: FileLock | None = None
        self._link: Link | None = None
        self._readers: list[Link] = []
        self._writer: SqliteWriter | None = None
        self._has_failed = False

    @property
    def description(self) -> str:
        text = f"SQLite {sqlite3.sqlite_version}, {self._path}, WAL, synchronous=FULL"
        if sqlite_wal_bug(sqlite3.sqlite_version_info):
            text += "; this SQLite has the WAL-reset bug, so no other program may write to the file"
        return text

    async def open(self) -> None:
        async with self._lifecycle:
            self._has_failed |= self._writer is not None and self._writer.failure != ""
            await self._disconnect()
            try:
                if self._lock is None:
                    self._lock = self._take_lock()
                await self._connect(must_checkpoint=self._has_failed)
                self._has_failed = False
            except BaseException as error:
                await self._disconnect()
                self._release_lock()
                if isinstance(error, (sqlite3.Error, OSError)):
                    raise StorageUnavailable(f"cannot open {self._path}: {error}", hint=_hint(error)) from error
                raise

    async def close(self) -> None:
        async with self._lifecycle:
            await self._disconnect()
            self._release_lock()

    def _take_lock(self) -> FileLock:
        directory = os.path.dirname(self._path)
        if self._makes_directory:
            os.makedirs(directory, exist_ok=True)
        elif not os.path.isdir(directory):
            raise StorageUnavailable(f"there is no directory {directory}", hint="make it, or mount its disk")
        if os.path.isdir(self._path):
            raise StorageUnavailable(f"{self._path} is a directory", hint="name a file in it")
        lock = FileLock(self._path)
        # Hashes of passwords are in it: a new file is its owner's alone, and SQLite makes those beside it alike.
        os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        return lock

    async def _connect(self, *, must_checkpoint: bool) -> None:
        self._link = await Link.connect(partial(open_writer, self._path, must_checkpoint=must_checkpoint))
        writer = await self._link.run(
            lambda connection: SqliteWriter(connection, self._path, mint=self._mint, fault=self._fault)
        )
        for _ in range(_READERS):
            self._readers.append(await Link.connect(partial(open_reader, self._path)))
        self._writer = writer

    async def _disconnect(self) -> None:
        self._writer = None
        links, self._readers, self._link = [*self._readers, self._link], [], None
        # The writer goes last: it is the one that may checkpoint, and the last to close does.
        for link in links:
            if link is not None:
                # A connection that fails to close is gone all the same, and the others have to be closed too.
                with suppress(sqlite3.Error):
                    await link.close()

    def _release_lock(self) -> None:
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    # --- what writes ---

    async def create(self, store: str, now_ms: int) -> tuple[StoreInfo, bool]:
        return await self._write(lambda writer: writer.create(store, now_ms))

    async def drop(self, store: str) -> StoreInfo:
        return await self._write(lambda writer: writer.drop(store))

    async def append(self, transactions: Sequence[Transaction], now_ms: int) -> Appended:
        return await self._write(lambda writer: writer.append(transactions, now_ms))

    async def distrust(self, store: str) -> None:
        await self._write(lambda writer: writer.distrust(store))

    async def configure(self, store: str, settings: StoreSettings) -> StoreInfo:
        return await self._write(lambda writer: Upkeep(writer).configure(store, settings))

    async def create_index(self, store: str, spec: IndexSpec, now_ms: int) -> tuple[IndexInfo, bool]:
        uid = self._mint()
        return await self._write(lambda writer: Upkeep(writer).create_index(store, spec, uid, now_ms))

    async def build_index(self, store: str, name: str, budget_s: float) -> IndexInfo:
        return await self._write(lambda writer: Upkeep(writer).build_index(store, name, budget_s))

    async def drop_index(self, store: str, name: str) -> IndexInfo:
        return await self._write(lambda writer: Upkeep(writer).drop_index(store, name))

    async def compact(self, store: str, horizon: Horizon, budget_s: float) -> Compacted:
        return await self._write(lambda writer: Upkeep(writer).compact(store, horizon, budget_s))

    async def reclaim(self, budget_s: float) -> int:
        return await self._write(lambda writer: Upkeep(writer).reclaim(budget_s))

    async def _write(self, work: Callable[[SqliteWriter], T]) -> T:
        writer = self._require_open()
        assert self._link is not None
        return await self._link.run(lambda _: work(writer))

    def _require_open(self) -> SqliteWriter:
        if self._writer is None:
            raise StorageUnavailable(f"{self._path} is not open")
        if self._writer.failure:
            raise StorageUnavailable(self._writer.failure)
        return self._writer

    # --- what reads ---

    async def stores(self) -> list[StoreInfo]:
        self._require_open()
        return [info for _, info in await self._read(read_stores)]

    async def info(self, store: str) -> StoreInfo:
        self._require_open()
        found = await self._read(lambda connection: read_stores(connection, store))
        if not found:
            raise StoreUnknown(store)
        return found[0][1]

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
        if not selectors:
            return await self._read_store(store, lambda conn, state: read_chunk(conn, state.id, after, upto, kept))
        return await self._read_selected(store, selectors, lambda selection: selection.read(after, upto, kept))

    async def fetch(self, store: str, ranges: Sequence[tuple[Seq, Seq]], upto: Seq) -> tuple[Row, ...]:
        return await self._read_store(store, lambda conn, state: fetch_rows(conn, state.id, ranges, upto))

    async def live_set(self, store: str, upto: Seq, selectors: Sequence[Selector] = ()) -> SeqSet:
        if not selectors:
            return await self._read_store(store, lambda conn, state: live_set(conn, state.id, upto))
        return await self._read_selected(store, selectors, lambda selection: selection.live_set(upto))

    async def summary(self, store: str, selectors: Sequence[Selector], upto: Seq) -> Summary:
        return await self._read_selected(store, selectors or (Selector(),), lambda selection: selection.summary(upto))

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
        return await self._read_store(
            store,
            lambda conn, state: find_rows(
                conn, state.id, store, index, terms, after, descending=descending, limit=limit
            ),
        )

    async def count(self, store: str, index: str | None, terms: TermRange) -> int:
        return await self._read_store(store, lambda conn, state: count_found(conn, state.id, store, index, terms))

    async def position_at(self, store: str, time_ms: int) -> Seq:
        return await self._read_store(store, lambda conn, state: position_at(conn, state.id, time_ms))

    async def estimate(self, store: str, horizon: Horizon) -> Compacted:
        return await self._read_store(store, lambda conn, state: estimate(conn, state.id, state.info, horizon))

    async def usage(self, store: str, author: str) -> Usage:
        return await self._read_store(store, lambda conn, state: find_usage(conn, state.id, author))

    async def get(self, store: str, key: str, at: Seq | None = None) -> Record | None:
        return await self._read_store(store, lambda conn, state: find_record(conn, state.id, key, at, store))

    async def backup(self, target: str, progress: Callable[[int, int], None] = lambda done, total: None) -> None:
        self._require_open()
        await back_up(self._path, target, progress)

    async def _read_selected(self, store: str, selectors: Sequence[Selector], work: Callable[[Selection], T]) -> T:
        return await self._read_store(
            store,
            lambda conn, state: work(Selection(conn, state.id, store, selectors)),
        )

    async def _read_store(self, store: str, work: Callable[[sqlite3.Connection, StoreState], T]) -> T:
        state = self._require_open().stores.get(store)
        if state is None:
            raise StoreUnknown(store)

        def at_one_moment(connection: sqlite3.Connection) -> T:
            # It may have been dropped while this read waited.
            with moment(connection, state.id, store):
                return work(connection, state)

        return await self._read(at_one_moment)

    async def _read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        if not self._readers:
            raise StorageUnavailable(f"{self._path} is being opened anew")
        reader = min(self._readers, key=lambda link: link.waiting)
        try:
            return await reader.run(work)
        except sqlite3.Error as error:
            raise StorageUnavailable(f"{self._path} cannot be read: {error}") from error


def _hint(error: sqlite3.Error | OSError) -> str:
    if "not a database" in str(error):
        return "the file is not SQLite's; name another one"
    if "malformed" in str(error):
        return "the file is damaged; restore a backup"
    return "the directory and the file have to be writable by this user"
