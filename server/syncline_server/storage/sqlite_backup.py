"""A copy of the whole file, as it is at one moment, while the server goes on.

Owns the connection and the thread of a copy. The connection only reads, and holds one read transaction from the first
page to the last: without it SQLite begins the copy anew at every commit of another connection, and a busy server would
never have one. What is written meanwhile stays in the WAL, which therefore grows until the copy is done.

Invariants: the file of this name is whole or not there; it is its owner's alone, as it holds hashes of passwords; it
is one file, without a WAL beside it, so that it can be read where nothing may be written.
"""

import asyncio
import errno
import os
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing, suppress

from .base import StorageFull, StorageUnavailable
from .sqlite_schema import open_reader

__all__ = ["back_up", "copy_file", "flush_directory", "open_snapshot"]

#: Called with how many bytes are copied, and of how many.
Progress = Callable[[int, int], None]

#: Pages that are copied at once: 1 MiB. The GIL is free meanwhile; a copy can be broken off between two steps.
_PAGES_AT_ONCE = 256

#: Pages after which the copy is flushed: 32 MiB. One flush at the end would let the commits of the server, which flush
#: on the same disk, wait for all of it.
_PAGES_BETWEEN_FLUSHES = 8192


async def back_up(path: str, target: str, progress: Progress) -> None:
    """Carry out `Storage.backup` for the file at `path`. One that is cancelled has ended when this returns."""
    stop = threading.Event()
    copying = asyncio.get_running_loop().run_in_executor(None, copy_file, path, target, progress, stop)
    try:
        await asyncio.shield(copying)
    except asyncio.CancelledError:
        stop.set()
        with suppress(Exception):
            await copying
        raise


class _StoppedError(Exception):
    """The copy is not wanted any more."""


def copy_file(path: str, target: str, progress: Progress, stop: threading.Event) -> None:
    """Copy the file at `path`, as it is now. Raises as `Storage.backup`; a `stop` that is set ends it."""
    part = f"{target}.part"
    if os.path.lexists(target):
        raise StorageUnavailable(f"{target} is there already", hint="name a file that is not there")
    try:
        # SQLite would make it readable for everybody.
        descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            _copy_pages(path, part, progress, stop, descriptor)
            _leave_wal(part)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.rename(part, target)
        flush_directory(target)
    except BaseException as error:
        for ending in ("", "-journal", "-wal", "-shm"):
            with suppress(OSError):
                os.unlink(part + ending)
        if isinstance(error, (sqlite3.Error, OSError)):
            raise _explained(target, error) from error
        raise


def _copy_pages(path: str, part: str, progress: Progress, stop: threading.Event, descriptor: int) -> None:
    flushed = 0

    def step(status: int, remaining: int, total: int) -> None:
        nonlocal flushed
        if stop.is_set():
            raise _StoppedError
        done = total - remaining
        if done - flushed >= _PAGES_BETWEEN_FLUSHES:
            os.fdatasync(descriptor)
            flushed = done
        progress(done * page_bytes, total * page_bytes)

    with closing(open_snapshot(path)) as source, closing(sqlite3.connect(part, isolation_level=None)) as copied:
        (page_bytes,) = source.execute("PRAGMA page_size").fetchone()
        for pragma in ("journal_mode = OFF", "synchronous = OFF", "cache_size = -4096"):
            copied.execute(f"PRAGMA {pragma}").fetchall()
        source.backup(copied, pages=_PAGES_AT_ONCE, progress=step, sleep=0.0)


def open_snapshot(path: str) -> sqlite3.Connection:
    """Open a file for reading, as it is at this moment and until it is closed. Raises sqlite3.Error, OSError."""
    connection = open_reader(path)
    try:
        _hold(connection)
    except sqlite3.OperationalError:
        connection.close()
        # A file that says of itself that it has a WAL, where none can be made: then nobody writes to it either.
        if os.path.exists(f"{path}-wal") or os.access(os.path.dirname(os.path.realpath(path)), os.W_OK):
            raise
        connection = open_reader(path, is_immutable=True)
        _hold(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _hold(connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN")
    # The transaction begins with the first look.
    connection.execute("SELECT count(*) FROM sqlite_schema").fetchall()


def _leave_wal(part: str) -> None:
    """Let the copy, which says of itself what the original says, be a file without a WAL."""
    with closing(sqlite3.connect(part, isolation_level=None)) as copied:
        copied.execute("PRAGMA journal_mode = DELETE").fetchall()


def flush_directory(target: str) -> None:
    """Make sure that a file which was just renamed to `target` has this name after a power cut too."""
    directory = os.open(os.path.dirname(target) or ".", os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _explained(target: str, error: sqlite3.Error | OSError) -> StorageUnavailable:
    is_full = getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
    if is_full or (isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)):
        return StorageFull(f"{target}: there is no room on the disk for a copy", hint="make room, or name another disk")
    reason = error.strerror if isinstance(error, OSError) else error
    return StorageUnavailable(f"cannot make the copy {target}: {reason}", hint="check the directory and its rights")
