"""The one connection that writes: appends, creates and drops, each as one SQLite transaction in the writer's thread.

Owns what the process knows of the heads. That is authoritative, because no other connection writes, and it changes
only after COMMIT has returned. After any failure but a full disk nobody can say what is on the medium: the writer
refuses everything from then on and is replaced by a new one.

Few steps, many rows (`sqlite_rows`): keys are looked up by one statement and rows go in by the hundred. `OR ROLLBACK`
belongs to it: else SQLite copies each page before a statement of many rows touches it, to be able to undo that
statement alone.
"""

import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import chain
from typing import TypeVar

import msgspec

from syncline_protocol.cursor import Entry, Lineage, Seq
from syncline_protocol.transaction import Transaction

from .base import (
    Appended,
    Commit,
    Head,
    StorageError,
    StorageFull,
    StorageUnavailable,
    StoreInfo,
    StoreMismatch,
    StoreUnknown,
    Usage,
)
from .decide import UsedKey
from .sqlite_compaction import Sweep
from .sqlite_gone import mark_gone
from .sqlite_index import NO_TABLES, IndexTables, packed_terms, settle_deletes, write_terms
from .sqlite_rows import write_rows
from .sqlite_schema import (
    CHECKPOINT_PAGES,
    UNHURRIED_CHECKPOINT_PAGES,
    create_store,
    drop_store,
    read_stores,
)
from .staging import StagedStore

__all__ = ["SqliteWriter", "StoreState"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class StoreState:
    """What the writer knows of a store: its id in the file, its state, whether the next commit mints, its indexes."""

    id: int
    info: StoreInfo
    mint_due: bool
    indexes: IndexTables


#: What a piece of work changes, by store name, once it is committed; None is a store that was dropped.
_Changes = dict[str, StoreState | None]


class SqliteWriter:
    """Args:
    connection: the only one that writes to this file.
    path: the file.
    mint: makes incarnations and store ids.
    fault: called at `before_commit` and `after_commit` of each transaction; tests let it raise.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        path: str,
        *,
        mint: Callable[[], str],
        fault: Callable[[str], None],
    ) -> None:
        self.connection = connection
        self._path = path
        self._mint = mint
        self._fault = fault
        self._file = _identity(path)
        self.failure = ""
        #: By the id of the store, what clean-up is about to drop.
        self.sweeps: dict[int, Sweep] = {}
        self.stores = {
            info.name: StoreState(store, info, True, IndexTables.read(connection, store, info))
            for store, info in read_stores(connection)
        }
        for state in self.stores.values():
            self._check_head(state)

    # --- the pieces of work, all called in the writer's thread ---

    def create(self, name: str, now_ms: int) -> tuple[StoreInfo, bool]:
        """Carry out `Storage.create`."""
        self._require_sound()
        state = self.stores.get(name)
        if state is not None:
            return state.info, False
        head = Head(Seq(0), 0, 0, Lineage((Entry(self._mint(), Seq(0)),)))
        info = StoreInfo(name, self._mint(), now_ms, head)

        def work() -> tuple[StoreInfo, _Changes]:
            return info, {name: StoreState(create_store(self.connection, info), info, False, NO_TABLES)}

        return self._commit(work), True

    def drop(self, name: str) -> StoreInfo:
        """Carry out `Storage.drop`."""
        self._require_sound()
        state = self._state(name)

        def work() -> tuple[StoreInfo, _Changes]:
            drop_store(self.connection, state.id)
            return state.info, {name: None}

        return self._commit(work)

    def distrust(self, name: str) -> None:
        """Carry out `Storage.distrust`."""
        self._require_sound()
        self.stores[name] = replace(self._state(name), mint_due=True)

    def change(self, name: str, work: Callable[[StoreState], tuple[T, StoreInfo]]) -> T:
        """Carry out something else that changes one store, as one transaction: it returns its result and the store."""
        self._require_sound()
        state = self._state(name)

        def all_of_it() -> tuple[T, _Changes]:
            result, info = work(state)
            own = state.indexes
            if info.indexes != state.info.indexes:
                own = IndexTables.read(self.connection, state.id, info, own)
            return result, {name: replace(state, info=info, indexes=own)}

        return self._commit(all_of_it)

    def carry_out(self, work: Callable[[], T]) -> T:
        """Carry out what changes no store, as one transaction."""
        self._require_sound()
        return self._commit(lambda: (work(), {}))

    @contextmanager
    def unhurried(self) -> Iterator[None]:
        """Let what is committed inside reach the disk with the next append, or with a checkpoint, which then are small.

        For clean-up alone: a flush for each of its steps would take longer than the steps. The WAL keeps the order, so
        a loss of power takes back the last steps, and never one that came before an append that was acknowledged.
        """
        self._require_sound()
        try:
            self._set_pace("NORMAL", UNHURRIED_CHECKPOINT_PAGES)
            yield
        finally:
            self._set_pace("FULL", CHECKPOINT_PAGES)

    def _set_pace(self, synchronous: str, checkpoint_pages: int) -> None:
        try:
            self.connection.execute(f"PRAGMA synchronous = {synchronous}")
            self.connection.execute(f"PRAGMA wal_autocheckpoint = {checkpoint_pages}").fetchall()
        except sqlite3.Error as error:
            # An append must not be acknowledged without a flush.
            self.failure = self.failure or f"{self._path}: durability cannot be set: {error}"
            raise StorageUnavailable(self.failure) from error

    def append(self, transactions: Sequence[Transaction], now_ms: int) -> Appended:
        """Carry out `Storage.append`."""
        self._require_sound()
        return self._commit(lambda: self._append(transactions, now_ms))

    def _append(self, transactions: Sequence[Transaction], now_ms: int) -> tuple[Appended, _Changes]:
        errors = [self._refusal(transaction) for transaction in transactions]
        keys: dict[str, list[str]] = {}
        limited: dict[str, set[str]] = {}
        for transaction, error in zip(transactions, errors, strict=True):
            if error is None:
                named = keys.setdefault(transaction.store, [])
                named += [op.key for op in transaction.ops if op.fault is None]
                if transaction.quota is not None and transaction.by is not None:
                    limited.setdefault(transaction.store, set()).add(transaction.by)
        staged = {
            name: self._stage(self.stores[name], named, limited.get(name), now_ms) for name, named in keys.items()
        }
        outcomes = [
            error or staged[transaction.store].take(transaction)
            for transaction, error in zip(transactions, errors, strict=True)
        ]
        commits: list[Commit] = []
        changes: _Changes = {}
        for name, store in staged.items():
            if store.rows:
                state = self.stores[name]
                info = self._write(state, store)
                changes[name] = replace(state, info=info, mint_due=False)
                rows, partners, terms = tuple(store.rows), tuple(store.partners), tuple(store.terms)
                commits.append(Commit(name, info.store_id, store.after, rows, partners, info.head, terms))
        return Appended(tuple(outcomes), tuple(commits)), changes

    def _refusal(self, transaction: Transaction) -> StorageError | None:
        state = self.stores.get(transaction.store)
        if state is None:
            return StoreUnknown(transaction.store)
        if transaction.store_id is not None and transaction.store_id != state.info.store_id:
            return StoreMismatch(transaction.store)
        return None

    def _stage(self, state: StoreState, keys: list[str], limited: set[str] | None, now_ms: int) -> StagedStore:
        """Look up what is known of the keys, and what is kept where a quota bounds it."""
        sql = f"""SELECT used.key, add_seq, delete_seq, hash, author, size FROM json_each(?) AS asked
                  CROSS JOIN keys_{state.id} AS used ON used.key = asked.value"""
        rows = self.connection.execute(sql, (msgspec.json.encode(keys).decode(),)).fetchall()
        used = {row[0]: UsedKey(*row[1:]) for row in rows}
        usage: dict[str, Usage] = {}
        if limited:
            sql = f"""SELECT author, records, bytes FROM json_each(?) AS asked
                      CROSS JOIN usage_{state.id} ON author = asked.value"""
            rows = self.connection.execute(sql, (msgspec.json.encode(limited).decode(),)).fetchall()
            usage = {row[0]: Usage(*row[1:]) for row in rows}
        sizes: dict[Seq, int] = {}
        if state.info.settings.bytes_max is not None:
            sql = f"""SELECT seq, length(CAST(change AS BLOB)) FROM json_each(?) AS asked
                      CROSS JOIN log_{state.id} ON seq = asked.value"""
            living = [known.add_seq for known in used.values() if known.delete_seq is None]
            sizes = dict(self.connection.execute(sql, (msgspec.json.encode(living).decode(),)).fetchall())
        mint = self._mint if state.mint_due else None
        return StagedStore(state.info, used, mint, now_ms, usage, state.indexes.indexes, sizes)

    def _write(self, state: StoreState, staged: StagedStore) -> StoreInfo:
        dead = self._write_deaths(state, staged)
        own = state.indexes
        if own.tables:
            lost = settle_deletes(own.indexes, staged, dead)
            write_terms(self.connection, own, staged, lost)
        self._write_log(state, staged)
        self._write_keys(state, staged)
        mark_gone(self.connection, state.id, staged.gone())
        self._write_usage(state, staged.usage_changes)
        sizes = staged.sizes_after(state.info.sizes, {seq: len(text.encode()) for seq, text in dead})
        info = replace(state.info, head=staged.head, sizes=sizes)
        self._write_head(state, info)
        return info

    def _write_log(self, state: StoreState, staged: StagedStore) -> None:
        flat: list[object] = []
        kept = packed_terms(staged)
        if not kept:
            for row, partner in zip(staged.rows, staged.partners, strict=True):
                flat += (row.seq, row.last_seq, partner, row.text.decode())
            before = f"INSERT OR ROLLBACK INTO log_{state.id}(seq, last_seq, partner, change) VALUES "
            write_rows(self.connection, before, 4, "", flat)
            return
        for row, partner in zip(staged.rows, staged.partners, strict=True):
            flat += (row.seq, row.last_seq, partner, row.text.decode(), kept.get(row.seq))
        write_rows(self.connection, f"INSERT OR ROLLBACK INTO log_{state.id} VALUES ", 5, "", flat)

    def _write_keys(self, state: StoreState, staged: StagedStore) -> None:
        keys = f"keys_{state.id}"
        nobodys: list[object] = []
        authored: list[object] = []
        died: list[object] = []
        for key, used in staged.keys.items():
            if used.add_seq <= staged.after:
                died += (key, used.delete_seq)
            elif used.by is None:
                nobodys += (key, used.add_seq, used.delete_seq, used.hash)
            else:
                authored += (key, used.add_seq, used.delete_seq, used.hash, used.by, used.size)
        # Where nobody logs in, no row pays for the columns of authors.
        write_rows(
            self.connection, f"INSERT OR ROLLBACK INTO {keys}(key, add_seq, delete_seq, hash) VALUES ", 4, "", nobodys
        )
        write_rows(self.connection, f"INSERT OR ROLLBACK INTO {keys} VALUES ", 6, "", authored)
        if died:
            before = f"UPDATE OR ROLLBACK {keys} SET delete_seq = died.column2 FROM (VALUES "
            write_rows(self.connection, before, 2, ") AS died WHERE key = died.column1", died)

    def _write_deaths(self, state: StoreState, staged: StagedStore) -> list[tuple[Seq, str]]:
        """Give older ADDs that died their partners. Returns seq and text of each."""
        before = f"UPDATE OR ROLLBACK log_{state.id} SET partner = died.column2 FROM (VALUES "
        behind = ") AS died WHERE seq = died.column1 RETURNING seq, change"
        return write_rows(self.connection, before, 2, behind, [*chain.from_iterable(staged.deaths)])

    def _write_usage(self, state: StoreState, changes: dict[str, Usage]) -> None:
        flat: list[object] = []
        for author, change in changes.items():
            flat += (author, change.records, change.bytes)
        before = f"INSERT OR ROLLBACK INTO usage_{state.id} VALUES "
        behind = """ ON CONFLICT (author) DO UPDATE
                     SET records = records + excluded.records, bytes = bytes + excluded.bytes"""
        write_rows(self.connection, before, 3, behind, flat)

    def _write_head(self, state: StoreState, info: StoreInfo) -> None:
        head, sizes = info.head, info.sizes
        if head.lineage is not state.info.head.lineage:
            entry = head.lineage.current
            # An incarnation under which nothing was committed gives way to its successor at the same seq.
            self.connection.execute(
                "INSERT OR REPLACE INTO lineage(store, first_seq, incarnation) VALUES (?, ?, ?)",
                (state.id, entry.first_seq, entry.incarnation),
            )
        self.connection.execute(
            """UPDATE stores SET head_seq = ?, live_count = ?, digest = ?, live_bytes = ?, dead_values = ?,
                   dead_bytes = ?, tombstones = ? WHERE id = ?""",
            (head.seq, head.count, head.digest, *msgspec.structs.astuple(sizes), state.id),
        )

    # --- the transaction around a piece of work ---

    def _commit(self, work: Callable[[], tuple[T, _Changes]]) -> T:
        try:
            self._check_file()
            self.connection.execute("BEGIN IMMEDIATE")
            result, changes = work()
            self._fault("before_commit")
            self.connection.execute("COMMIT")
            self._fault("after_commit")
        except sqlite3.Error as error:
            raise self._failed(error) from error
        except StorageError:
            # A refusal: the work has found that it must not be done, and what it has done so far is undone.
            self._roll_back()
            if self.connection.in_transaction:
                self.failure = f"{self._path}: a write could not be rolled back"
            raise
        except BaseException as error:
            self._roll_back()
            self.failure = f"{self._path}: a write was broken off: {error}"
            raise
        for name, state in changes.items():
            if state is None:
                self.sweeps.pop(self.stores.pop(name).id, None)
            else:
                self.stores[name] = state
        return result

    def _failed(self, error: sqlite3.Error) -> StorageUnavailable:
        """Roll back and say what that leaves behind."""
        self._roll_back()
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL and self._is_unchanged():
            return StorageFull(f"{self._path}: there is no room on the disk", hint="make room; no restart is needed")
        self.failure = f"{self._path}: a write failed: {error}"
        return StorageUnavailable(self.failure)

    def _roll_back(self) -> None:
        # SQLite has rolled back by itself after some errors; after others this fails too, and the writer is replaced.
        if self.connection.in_transaction:
            with suppress(sqlite3.Error):
                self.connection.execute("ROLLBACK")

    def _is_unchanged(self) -> bool:
        """Return whether the file holds what this process knows."""
        if self.connection.in_transaction:
            return False
        try:
            found = {info.name: info for _, info in read_stores(self.connection)}
        except sqlite3.Error:
            return False
        return found == {name: state.info for name, state in self.stores.items()}

    # --- checks ---

    def _require_sound(self) -> None:
        if self.failure:
            raise StorageUnavailable(self.failure)

    def _check_file(self) -> None:
        """Notice that the path names another file now: what is written to the old one would be lost."""
        if _identity(self._path) != self._file:
            self.failure = f"{self._path} was replaced or removed while it was served"
            raise StorageUnavailable(self.failure, hint="stop the server before a backup is put in its place")

    def _check_head(self, state: StoreState) -> None:
        (last,) = self.connection.execute(f"SELECT max(seq) FROM log_{state.id}").fetchone()
        if (last or 0) != state.info.head.seq:
            raise StorageUnavailable(
                f"{self._path}: the log of {state.info.name!r} ends at {last}, its head says {state.info.head.seq}",
                hint="the file is damaged; restore a backup",
            )

    def _state(self, name: str) -> StoreState:
        state = self.stores.get(name)
        if state is None:
            raise StoreUnknown(name)
        return state


def _identity(path: str) -> tuple[int, int]:
    try:
        status = os.stat(path)
    except OSError:
        return (0, 0)
    return (status.st_dev, status.st_ino)
