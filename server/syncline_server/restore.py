"""Putting a backup in the place of a store file, offline.

The order makes it safe to be killed at any step: the backup is checked completely, copied beside the file, brought to
the newest format and flushed; the old file takes its WAL in and gets a second name; then one rename puts the new file
in place. Until then the old state is what is served, from then on the new one.

What makes clients that were ahead of the backup notice is nothing that is done here: the first append of every process
mints an incarnation, so what they have seen above the head of the backup is never a position of the restored log, also
if it is written to before they come (PROTOCOL 5). A second restore of the same backup mints others.
"""

import asyncio
import os
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from syncline_protocol.transaction import Transaction

from .accounts.audit import AUDIT_STORE, AuditLog
from .checkup import Progress, examine
from .storage.base import Outcome, StorageError, StorageUnavailable, StoreInfo
from .storage.file_lock import FileLock
from .storage.sqlite import SqliteStorage
from .storage.sqlite_backup import copy_file, flush_directory

__all__ = ["BackupUnsound", "Restored", "restore"]

#: What SQLite puts beside a file.
_BESIDE = ("-wal", "-shm", "-journal")


class BackupUnsound(StorageError):
    """The backup is not what it has to be; the text has what was found."""


@dataclass(frozen=True, slots=True)
class Restored:
    """What was restored: the stores of the backup, and where the file is that was there before, if there was one."""

    stores: tuple[StoreInfo, ...]
    aside: str | None


def restore(
    backup: str, path: str, now_ms: int, progress: Progress, step: Callable[[str], None] = lambda name: None
) -> Restored:
    """Put a backup in the place of the file at `path`, which no server may have.

    Args:
        backup: the file; it is only read.
        now_ms: the wall clock in ms since 1970.
        progress: told how far it has come.
        step: called at `copied`, `prepared`, `aside` and `replaced`; tests let it kill the process.

    Raises:
        StorageLocked: a server has the file.
        BackupUnsound: the backup is damaged, or not a file of Syncline.
        StorageUnavailable: it could not be copied or put in place. The old file is as it was.
    """
    path, backup = os.path.realpath(path), os.path.realpath(backup)
    if os.path.exists(path) and os.path.exists(backup) and os.path.samefile(path, backup):
        raise StorageUnavailable(f"{backup} is the store file itself", hint="name a backup of it")
    if not os.path.isdir(os.path.dirname(path)):
        raise StorageUnavailable(f"there is no directory {os.path.dirname(path)}", hint="make it, or mount its disk")
    with _locked(path), _explained(path):
        _require_sound(backup, progress)
        new = f"{path}.restoring"
        _remove(new)
        try:
            copy_file(backup, new, lambda done, total: progress("copy", done, total), threading.Event())
            step("copied")
            stores = asyncio.run(_prepare(new, os.path.basename(backup), now_ms))
            _settle(new)
            step("prepared")
            aside = _keep_aside(path, now_ms)
            step("aside")
            os.replace(new, path)
        except BaseException:
            _remove(new)
            raise
        flush_directory(path)
        step("replaced")
    return Restored(stores, aside)


@contextmanager
def _locked(path: str) -> Iterator[None]:
    lock = FileLock(path)
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _explained(path: str) -> Iterator[None]:
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        text = f"the backup cannot be put in the place of {path}: {error}"
        raise StorageUnavailable(text, hint="check the directory, its rights and its room") from error


def _require_sound(backup: str, progress: Progress) -> None:
    for finding in examine(backup, progress=progress):
        if finding.level == "fail":
            hint = f"take another backup, or look at it with `syncline doctor {backup}`"
            raise BackupUnsound(f"{backup} is not sound: {finding.text}", hint=hint)


async def _prepare(new: str, name: str, now_ms: int) -> tuple[StoreInfo, ...]:
    """Bring the file to the newest format and note in its audit log, if it has one, what it is. Returns its stores."""
    storage = SqliteStorage(new)
    await storage.open()
    try:
        stores = tuple(await storage.stores())
        if any(info.name == AUDIT_STORE for info in stores):
            await _note(storage, name, now_ms)
    finally:
        await storage.close()
    return stores


def _settle(new: str) -> None:
    """Let the file be all that there is of it, on the disk."""
    _fold_wal(new)
    descriptor = os.open(new, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    for ending in (*_BESIDE, ".lock"):
        with suppress(FileNotFoundError):
            os.unlink(new + ending)


async def _note(storage: SqliteStorage, name: str, now_ms: int) -> None:
    async def write(transaction: Transaction) -> Outcome | StorageError:
        (outcome,) = (await storage.append([transaction], now_ms)).outcomes
        return outcome

    log = AuditLog(storage, write, lambda: now_ms)
    await log.open()
    await log.record("store.restore", actor=None, subject=name)
    await log.close()


def _keep_aside(path: str, now_ms: int) -> str | None:
    """Give the old file, with what is in its WAL, a second name. Returns that name."""
    if not os.path.exists(path):
        return None
    stamp = datetime.fromtimestamp(now_ms / 1000, UTC).strftime("%Y%m%dT%H%M%SZ")
    aside, number = f"{path}.before-{stamp}", 1
    while os.path.lexists(aside):
        number += 1
        aside = f"{path}.before-{stamp}-{number}"
    _fold_or_keep(path, aside)
    try:
        os.link(path, aside)
    except OSError:
        # Not every file system has second names.
        shutil.copy2(path, aside)
    flush_directory(path)
    return aside


def _fold_or_keep(path: str, aside: str) -> None:
    """Take the WAL of the old file into it; of a damaged one, which may be why a backup is restored, keep both."""
    beside = [ending for ending in _BESIDE if os.path.exists(path + ending)]
    # SQLite removes a WAL that it can make nothing of.
    for ending in beside:
        shutil.copy2(path + ending, aside + ending)
    try:
        _fold_wal(path)
    except sqlite3.OperationalError:
        # Another program has it.
        for ending in beside:
            os.unlink(aside + ending)
        raise
    except sqlite3.Error:
        for ending in beside:
            with suppress(FileNotFoundError):
                os.unlink(path + ending)
    else:
        for ending in beside:
            os.unlink(aside + ending)


def _fold_wal(path: str) -> None:
    """Take the WAL of a file into it, so that it is the file alone."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        (busy, *_) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if busy:
            raise sqlite3.OperationalError("another program has the file open")
        connection.execute("PRAGMA journal_mode = DELETE").fetchall()


def _remove(path: str) -> None:
    for ending in ("", *_BESIDE, ".lock", ".part"):
        with suppress(FileNotFoundError):
            os.unlink(path + ending)
