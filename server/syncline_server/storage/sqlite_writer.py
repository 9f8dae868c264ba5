"""The one connection that writes: appends, creates and drops, each as one SQLite transaction in the writer's thread.

Owns what the process knows of the heads. That is authoritative, because no other connection writes, and it changes
only after COMMIT has returned. After any failure but a full disk nobody can say what is on the medium: the writer
refuses everything from then on and is replaced by a new one.

Few steps, many rows: Python's sqlite3 gives up the GIL in every step, and beside a busy event loop each way back
can cost milliseconds. So keys are looked up by one statement and rows go in by the hundred. Measured beside such a
loop: 3 times the rows of `executemany` in batches of 512, twice in batches of 64. `OR ROLLBACK` belongs to it: else
SQLite copies each page before a statement of many rows touches it, to be able to undo that statement alone.
"""

import os
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
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
from .sqlite_schema import create_store, drop_store, read_stores
from .staging import StagedStore

__all__ = ["SqliteWriter", "StoreState"]

T = TypeVar("T")

#: Rows of one INSERT or UPDATE. A few fixed sizes, so that the statements stay prepared.
_ROWS_AT_ONCE = (256, 64, 16, 4, 1)


@dataclass(frozen=True, slots=True)
class StoreState:
    """What the writer knows of a store: its id in the file, the newest head, whether the next commit mints."""

    id: int
    info: StoreInfo
    mint_due: bool


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
        self._connection = connection
        self._path = path
        self._mint = mint
        self._fault = fault
        self._file = _identity(path)
        self.failure = ""
        self.stores = {info.name: StoreState(store, info, True) for store, info in read_stores(connection)}
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
            return info, {name: StoreState(create_store(self._connection, info), info, False)}

        return self._commit(work), True

    def drop(self, name: str) -> StoreInfo:
        """Carry out `Storage.drop`."""
        self._require_sound()
        state = self._state(name)

        def work() -> tuple[StoreInfo, _Changes]:
            drop_store(self._connection, state.id)
            return state.info, {name: None}

        return self._commit(work)

    def distrust(self, name: str) -> None:
        """Carry out `Storage.distrust`."""
        self._require_sound()
        self.stores[name] = replace(self._state(name), mint_due=True)

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
                head = self._write(state, store)
                changes[name] = StoreState(state.id, replace(state.info, head=head), False)
                rows, partners = tuple(store.rows), tuple(store.partners)
                commits.append(Commit(name, state.info.store_id, store.after, rows, partners, head))
        return Appended(tuple(outcomes), tuple(commits)), changes

    def _refusal(self, transaction: Transaction) -> StorageError | None:
        state = self.stores.get(transaction.store)
        if state is None:
            return StoreUnknown(transaction.store)
        if transaction.store_id is not None and transaction.store_id != state.info.store_id:
            return StoreMismatch(transaction.store)
        return None

    def _stage(self, state: StoreState, keys: list[str], limited: set[str] | None, now_ms: int) -> StagedStore:
        """Look up what is known of the keys, and what the authors whose quota is limited keep."""
        sql = f"""SELECT used.key, add_seq, delete_seq, hash, author, size FROM json_each(?) AS asked
                  CROSS JOIN keys_{state.id} AS used ON used.key = asked.value"""
        rows = self._connection.execute(sql, (msgspec.json.encode(keys).decode(),)).fetchall()
        used = {row[0]: UsedKey(*row[1:]) for row in rows}
        usage: dict[str, Usage] = {}
        if limited:
            sql = f"""SELECT author, records, bytes FROM json_each(?) AS asked
                      CROSS JOIN usage_{state.id} ON author = asked.value"""
            rows = self._connection.execute(sql, (msgspec.json.encode(limited).decode(),)).fetchall()
            usage = {row[0]: Usage(*row[1:]) for row in rows}
        return StagedStore(state.info.head, used, self._mint if state.mint_due else None, now_ms, usage)

    def _write(self, state: StoreState, staged: StagedStore) -> Head:
        log, keys = f"log_{state.id}", f"keys_{state.id}"
        flat: list[object] = []
        for row, partner in zip(staged.rows, staged.partners, strict=True):
            flat += (row.seq, row.last_seq, partner, row.text.decode())
        self._write_rows(f"INSERT OR ROLLBACK INTO {log} VALUES ", 4, "", flat)
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
        self._write_rows(f"INSERT OR ROLLBACK INTO {keys}(key, add_seq, delete_seq, hash) VALUES ", 4, "", nobodys)
        self._write_rows(f"INSERT OR ROLLBACK INTO {keys} VALUES ", 6, "", authored)
        if died:
            before = f"UPDATE OR ROLLBACK {keys} SET delete_seq = died.column2 FROM (VALUES "
            self._write_rows(before, 2, ") AS died WHERE key = died.column1", died)
            before = f"UPDATE OR ROLLBACK {log} SET partner = died.column2 FROM (VALUES "
            self._write_rows(before, 2, ") AS died WHERE seq = died.column1", [*chain.from_iterable(staged.deaths)])
        self._write_usage(state, staged.usage_changes)
        return self._write_head(state, staged)

    def _write_usage(self, state: StoreState, changes: dict[str, Usage]) -> None:
        flat: list[object] = []
        for author, change in changes.items():
            flat += (author, change.records, change.bytes)
        before = f"INSERT OR ROLLBACK INTO usage_{state.id} VALUES "
        behind = """ ON CONFLICT (author) DO UPDATE
                     SET records = records + excluded.records, bytes = bytes + excluded.bytes"""
        self._write_rows(before, 3, behind, flat)

    def _write_head(self, state: StoreState, staged: StagedStore) -> Head:
        head = staged.head
        if head.lineage is not state.info.head.lineage:
            entry = head.lineage.current
            # An incarnation under which nothing was committed gives way to its successor at the same seq.
            self._connection.execute(
                "INSERT OR REPLACE INTO lineage(store, first_seq, incarnation) VALUES (?, ?, ?)",
                (state.id, entry.first_seq, entry.incarnation),
            )
        self._connection.execute(
            "UPDATE stores SET head_seq = ?, live_count = ?, digest = ? WHERE id = ?",
            (head.seq, head.count, head.digest, state.id),
        )
        return head

    def _write_rows(self, before: str, width: int, behind: str, flat: list[object]) -> None:
        """Execute `before VALUES-list behind` for the values in `flat`, `width` of them a row."""
        start = 0
        for rows in _ROWS_AT_ONCE:
            step = rows * width
            while len(flat) - start >= step:
                self._connection.execute(_rows_sql(before, width, behind, rows), flat[start : start + step])
                start += step

    # --- the transaction around a piece of work ---

    def _commit(self, work: Callable[[], tuple[T, _Changes]]) -> T:
        try:
            self._check_file()
            self._connection.execute("BEGIN IMMEDIATE")
            result, changes = work()
            self._fault("before_commit")
            self._connection.execute("COMMIT")
            self._fault("after_commit")
        except sqlite3.Error as error:
            raise self._failed(error) from error
        except BaseException as error:
            self._roll_back()
            self.failure = f"{self._path}: a write was broken off: {error}"
            raise
        for name, state in changes.items():
            if state is None:
                del self.stores[name]
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
        if self._connection.in_transaction:
            with suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")

    def _is_unchanged(self) -> bool:
        """Return whether the file holds what this process knows."""
        if self._connection.in_transaction:
            return False
        try:
            found = {info.name: info for _, info in read_stores(self._connection)}
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
        (last,) = self._connection.execute(f"SELECT max(seq) FROM log_{state.id}").fetchone()
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


@lru_cache(maxsize=1024)
def _rows_sql(before: str, width: int, behind: str, rows: int) -> str:
    row = "(" + ",".join("?" * width) + ")"
    return before + ",".join([row] * rows) + behind


def _identity(path: str) -> tuple[int, int]:
    try:
        status = os.stat(path)
    except OSError:
        return (0, 0)
    return (status.st_dev, status.st_ino)
