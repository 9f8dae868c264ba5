"""The SQLite file of a replica: who may have it, the connections to it, the thread that writes, what its errors mean.

One connection writes, in a thread of its own; the other one reads, and belongs to the event loop. Invariants:

- nothing is written into a file before it is known to be a replica, and this one, or new;
- at most one replica has a file, over all processes; the end of a process, however it comes, lets go of it;
- the path is made absolute, and symbolic links are followed, when it is opened: what the program changes later does not
  matter, and two names of one file are one file;
- every error names the file. A program that forgets to close it still ends.
"""

import asyncio
import contextlib
import os
import sqlite3
from collections.abc import Callable
from types import TracebackType
from typing import TypeVar

import msgspec

from syncline.errors import LocalFileCorrupt, LocalFileError, LocalFileFailed, LocalFileFull, LocalFileLocked
from syncline_protocol.errors import RemoteProtocolError

from .file_thread import FileThread
from .schema import Identity, create, is_new, migrate, remember_filter

__all__ = ["WAL_BYTES_MAX", "Explaining", "LocalFile"]

T = TypeVar("T")

#: When the write-ahead log is longer, it is written back into the file and begun anew.
WAL_BYTES_MAX = 8 * 1024 * 1024

#: Then the log is cut to this. To write over what is there costs less than to append, but only a log that grows again
#: shows by its size how long it is.
_WAL_BYTES_KEPT = WAL_BYTES_MAX * 3 // 4

_WRITER_SETTINGS = (
    "PRAGMA wal_autocheckpoint = 0",
    f"PRAGMA journal_size_limit = {_WAL_BYTES_KEPT}",
    "PRAGMA synchronous = FULL",
    "PRAGMA cache_size = -65536",
)
_READER_SETTINGS = ("PRAGMA query_only = ON", "PRAGMA cache_size = -16384")

#: Another program may have the file locked so long, for a backup say, before a transaction fails …
_WRITER_PATIENCE_S = 5.0

#: … and a read, which nothing but an exclusive lock can hold up, and which holds up the event loop.
_READER_PATIENCE_S = 1.0

#: Two that ask for the lock at the same moment could each be in the other's way; one of them is in the end.
_LOCK_PATIENCE_S = 0.1


class LocalFile:
    """An open file; made by `open`.

    Attributes:
        path: its absolute path, as it was asked for.
        reader: the connection for the event loop.
    """

    reader: sqlite3.Connection

    def __init__(self, path: str) -> None:
        if "\0" in path:
            raise LocalFileFailed(path, "this cannot be the path of a file")
        self.path = os.path.abspath(path)
        self._real_path = os.path.realpath(path)
        self._lock: sqlite3.Connection | None = None
        self._writer: sqlite3.Connection | None = None
        self._thread = FileThread()

    @classmethod
    async def open(cls, path: str, identity: Identity) -> "LocalFile":
        """Open the file, or make it.

        Raises:
            LocalFileError: which of them says what is wrong with it. Nothing was changed.
        """
        file = cls(path)
        with Explaining(file.path):
            try:
                await file._in_thread(lambda: file._open(identity))
            except BaseException:
                # If it was this task that was cancelled, the thread goes on: what it opens is closed by it.
                file._thread.submit(file._close)
                file._thread.shutdown(wait=False)
                raise
        return file

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Carry out `work` in the thread, as one call: each way there and back takes about 50 µs."""
        assert self._writer is not None
        writer = self._writer
        return await self._in_thread(lambda: work(writer))

    async def close(self) -> None:
        """Close it. Safe to call twice."""
        try:
            if self._lock is not None:
                await self._in_thread(self._close)
        finally:
            self._thread.shutdown(wait=False)

    def wal_bytes(self) -> int:
        """Return the size of the write-ahead log."""
        try:
            return os.path.getsize(self._real_path + "-wal")
        except FileNotFoundError:
            return 0

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    # --- in the thread ---

    def _open(self, identity: Identity) -> None:
        try:
            _check_path(self.path, self._real_path)
            self._lock = _lock(self.path, self._real_path)
            self._writer = _open_writer(self.path, self._real_path, identity)
            self.reader = _open_reader(self._real_path)
        except BaseException:
            self._close()
            raise

    def _close(self) -> None:
        # The writer closes after the reader, since the last connection takes the write-ahead log into the file.
        connections = (getattr(self, "reader", None), self._writer, self._lock)
        self._writer = self._lock = None
        for connection in connections:
            if connection is not None:
                connection.close()


def _check_path(path: str, real_path: str) -> None:
    if os.path.isdir(real_path):
        raise LocalFileFailed(path, "it is a directory", hint="give the path of a file in it")
    directory = os.path.dirname(real_path)
    if not os.path.isdir(directory):
        raise LocalFileFailed(path, f"there is no directory {directory}", hint="make it first")


def _lock(path: str, real_path: str) -> sqlite3.Connection:
    """Hold an exclusive lock beside the file until the connection is closed, or the process ends.

    SQLite's own locks on the file let two programs write in turn, and each would believe that it alone sends the
    outbox. Its locks on another file are the portable way to a lock that a crash releases.
    """
    lock = sqlite3.connect(real_path + "-lock", timeout=_LOCK_PATIENCE_S, isolation_level=None)
    try:
        lock.execute("PRAGMA journal_mode = MEMORY")
        lock.execute("BEGIN EXCLUSIVE")
    except sqlite3.Error as error:
        lock.close()
        if code_of(error) == sqlite3.SQLITE_NOTADB:
            fault = f"the file {path}-lock beside it is not the replica's"
            raise LocalFileFailed(path, fault, hint="give the replica another path") from error
        raise
    return lock


def _open_writer(path: str, real_path: str, identity: Identity) -> sqlite3.Connection:
    db = sqlite3.connect(real_path, isolation_level=None, timeout=_WRITER_PATIENCE_S)
    try:
        new = is_new(db, path, identity)
        (mode,) = db.execute("PRAGMA journal_mode = WAL").fetchone()
        if mode != "wal":
            hint = "a file on a network drive cannot be a replica; give it a path on a local disk"
            raise LocalFileFailed(path, "SQLite cannot keep a write-ahead log there", hint=hint)
        for setting in _WRITER_SETTINGS:
            db.execute(setting)
        if new:
            create(db, identity)
        else:
            migrate(db)
            remember_filter(db, identity)
    except BaseException:
        db.close()
        raise
    return db


def _open_reader(real_path: str) -> sqlite3.Connection:
    # It is used in one thread at a time only: opened and closed in the writer's, used by the event loop between.
    db = sqlite3.connect(real_path, isolation_level=None, timeout=_READER_PATIENCE_S, check_same_thread=False)
    try:
        for setting in _READER_SETTINGS:
            db.execute(setting)
    except BaseException:
        db.close()
        raise
    return db


# --- what errors mean ---


class Explaining:
    """Turns errors of SQLite and of the file system, and what cannot be decoded, into those that name the file.

    `with` it as often as you like. A contradiction to a constraint, and a misuse of SQLite, go through as they are.
    """

    __slots__ = ("_path",)

    def __init__(self, path: str | None) -> None:
        self._path = path or "memory"

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None or isinstance(error, LocalFileError):
            return
        if isinstance(error, sqlite3.IntegrityError | sqlite3.ProgrammingError | sqlite3.InterfaceError):
            return
        if isinstance(error, sqlite3.Error):
            raise _explain(self._path, error) from error
        if isinstance(error, OSError):
            raise LocalFileFailed(self._path, f"it cannot be used: {error.strerror}") from error
        if isinstance(error, msgspec.MsgspecError | RemoteProtocolError | UnicodeDecodeError):
            raise LocalFileCorrupt(self._path, str(error)) from error


def code_of(error: sqlite3.Error) -> int:
    """Return SQLite's primary error code, or 0 if the error is not from SQLite but from what was read."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


#: All statements are constant, so one that is faulty has met a schema that is.
_DAMAGED = frozenset({0, sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_MISMATCH})

_LOCKED = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL})

_HINTS = {
    sqlite3.SQLITE_CANTOPEN: "may this program write to the file and to its directory?",
    sqlite3.SQLITE_READONLY: "this program has to be able to write to the file and to its directory",
    sqlite3.SQLITE_IOERR: "check the disk; what was stored before is not lost",
}


def _explain(path: str, error: sqlite3.Error) -> LocalFileError:
    code = code_of(error)
    if code in _DAMAGED:
        return LocalFileCorrupt(path, str(error))
    if code == sqlite3.SQLITE_FULL or (code in _HINTS and not _has_room(path)):
        return LocalFileFull(path)
    if code in _LOCKED:
        return LocalFileLocked(path)
    return LocalFileFailed(path, f"SQLite says: {error}", hint=_HINTS.get(code, ""))


def _has_room(path: str) -> bool:
    """Return whether the disk has room: SQLite forgets why some files cannot be made or grow."""
    with contextlib.suppress(OSError):
        disk = os.statvfs(os.path.dirname(os.path.realpath(path)))
        return disk.f_bavail > 0 and (disk.f_favail > 0 or disk.f_files == 0)
    return True
