"""The database of a replica: one SQLite file, or memory, with one writer and one reader.

The writer lives in a thread (aiosqlite) and carries out one local transaction per call. The reader is used from the
event loop itself, since a look-up takes microseconds and a way to another thread a hundred of them. It reads in a
transaction that stays open until `refresh`, so all that it shows is of one state, and a commit that is under way is
not seen before the replica has taken note of it. Without a path both are one connection in memory.

The writer alone checkpoints, and only after `refresh`: a reader that stays behind would keep the write-ahead log
from ever being used again from its beginning.
"""

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar
from urllib.parse import quote

import aiosqlite
import msgspec

from syncline.errors import LocalFileCorrupt, LocalFileError, LocalFileFailed, LocalFileFull, LocalFileLocked
from syncline_protocol.cursor import Seq

from .carry_out import carry_out, read_tally
from .entry import Entry
from .schema import Identity, prepare, read_place, records_of
from .sorted_keys import end_of_prefix
from .step import Place, Step, Tally

__all__ = ["Contradiction", "Database", "Row", "Saved"]

T = TypeVar("T")

#: When the write-ahead log is longer, it is written back into the file.
_WAL_BYTES_MAX = 8 * 1024 * 1024

#: The statements of the reader are few, and each generation has its own.
_READER_SETTINGS = ("PRAGMA query_only = ON", "PRAGMA cache_size = -16384")
_WRITER_SETTINGS = ("PRAGMA wal_autocheckpoint = 0", "PRAGMA synchronous = FULL", "PRAGMA cache_size = -65536")

_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


class Contradiction(Exception):
    """The server's changes contradict what is held: a key or a seq is there already. Nothing was stored."""


class Saved(msgspec.Struct, frozen=True):
    """What a replica remembers: where it stands, what it holds, what is in its outbox."""

    place: Place
    tally: Tally
    entries: list[Entry]
    last_entry_id: int


class Row(msgspec.Struct, frozen=True, gc=False):
    """A record that can be seen."""

    seq: Seq
    key: str
    time: int
    text: str


class _Writer(aiosqlite.Connection):
    """The writer's connection and its thread."""

    def __init__(self, connector: Callable[[], sqlite3.Connection]) -> None:
        super().__init__(connector, 64)
        # A program that forgets to close its replica must still end; what matters is on disk by then.
        self._thread.daemon = True

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Carry out `work` in the thread, as one call: each way there and back takes about 100 µs."""
        result: T = await self._execute(work, self._conn)  # type: ignore[no-untyped-call]
        return result


class Database:
    """An open database; made by `open`.

    Attributes:
        path: the file, or None for memory.
    """

    def __init__(
        self, path: str | None, reader: sqlite3.Connection, writer: _Writer | None, lock: sqlite3.Connection | None
    ) -> None:
        self.path = path
        self._reader = reader
        self._writer = writer
        self._lock = lock
        self._place = Place()
        self._table = records_of(self._place.shown)
        self.refresh()

    @classmethod
    async def open(cls, path: str | None, identity: Identity) -> "Database":
        """Open the file, or make it.

        Raises:
            LocalFileError: which of them says what is wrong with it. Nothing was changed.
        """
        if path is None:
            memory = sqlite3.connect(":memory:", isolation_level=None)
            prepare(memory, "memory", identity)
            return cls(None, memory, None, None)
        with _explaining(path):
            lock = _lock(path)
            try:
                writer = _Writer(lambda: _open_writer(path, identity))
                try:
                    await writer
                except Exception:
                    # The thread is about to end; it must not outlive the event loop that it reports its end to.
                    writer._thread.join()
                    raise
                return cls(path, _open_reader(path), writer, lock)
            except BaseException:
                lock.close()
                raise

    async def close(self) -> None:
        """Close it. Safe to call twice."""
        # The writer closes last, since the last connection takes the write-ahead log into the file.
        self._reader.close()
        if self._writer is not None:
            await self._writer.close()
        if self._lock is not None:
            self._lock.close()

    # --- writing ---

    async def commit(self, steps: Sequence[Step], place: Place) -> Tally:
        """Carry out steps, all or none. Durable on return, and seen by reads after `refresh`.

        Args:
            place: where the replica stands after them; says of which generations the tally is.

        Raises:
            Contradiction: the changes cannot be applied.
            LocalFileFull: there is no room.
            LocalFileError: the file failed; whether the steps were carried out is known after `load`.
        """

        def work(db: sqlite3.Connection) -> Tally:
            db.execute("BEGIN IMMEDIATE")
            try:
                carry_out(db, steps)
                tally = read_tally(db, place.built, place.shown)
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise
            return tally

        with _explaining(self.path):
            try:
                return await self._run(work)
            except sqlite3.IntegrityError as error:
                raise Contradiction(str(error)) from error

    async def _run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        return work(self._reader) if self._writer is None else await self._writer.run(work)

    def refresh(self) -> None:
        """Let reads see everything that was committed."""
        if self._writer is not None:
            if self._reader.in_transaction:
                self._reader.execute("COMMIT")
            self._reader.execute("BEGIN")
        # Reading is what fixes the state that the transaction shows.
        self._place = read_place(self._reader)
        self._table = records_of(self._place.shown)

    async def tidy(self) -> None:
        """Write a long write-ahead log back into the file. Nothing is committed meanwhile, and nothing looks new."""
        if self._writer is None or self.path is None or _size_of(self.path + "-wal") < _WAL_BYTES_MAX:
            return
        with _explaining(self.path):
            await self._writer.run(lambda db: db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall())
            self.refresh()

    # --- reading ---

    def load(self) -> Saved:
        """Return what is remembered."""
        self.refresh()
        with _explaining(self.path):
            rows = self._reader.execute("SELECT entry FROM outbox WHERE state != 'synced' ORDER BY id").fetchall()
            (last_id,) = self._reader.execute("SELECT coalesce(max(id), 0) FROM outbox").fetchone()
            tally = read_tally(self._reader, self._place.built, self._place.shown)
            return Saved(self._place, tally, [_decode_entry(row[0]) for row in rows], last_id)

    def synced_entries(self) -> list[Entry]:
        """Return the entries that were synced and are kept, oldest first."""
        rows = self._reader.execute("SELECT entry FROM outbox WHERE state = 'synced' ORDER BY id").fetchall()
        return [_decode_entry(row[0]) for row in rows]

    def get(self, key: str) -> Row | None:
        """Return the record of a key."""
        row = self._reader.execute(
            f"SELECT seq, key, time, value FROM {self._table} WHERE key = ? AND seq <= ?", (key, self._place.horizon)
        ).fetchone()
        return None if row is None else Row(*row)

    def has(self, key: str) -> bool:
        """Return whether there is a record of this key."""
        query = f"SELECT 1 FROM {self._table} WHERE key = ? AND seq <= ?"
        return self._reader.execute(query, (key, self._place.horizon)).fetchone() is not None

    def page(self, after: Seq, count: int) -> list[Row]:
        """Return the next records in seq order."""
        rows = self._reader.execute(
            f"SELECT seq, key, time, value FROM {self._table} WHERE seq > ? AND seq <= ? ORDER BY seq LIMIT ?",
            (after, self._place.horizon, count),
        ).fetchall()
        return [Row(*row) for row in rows]

    def with_prefix(self, prefix: str) -> list[Row]:
        """Return the records whose keys begin so, in the order of their keys."""
        rows = self._reader.execute(
            f"SELECT seq, key, time, value FROM {self._table} WHERE key >= ? AND key < ? AND seq <= ? ORDER BY key",
            (prefix, end_of_prefix(prefix), self._place.horizon),
        ).fetchall()
        return [Row(*row) for row in rows]

    def holds_built(self, key: str) -> bool:
        """Return whether the generation that is built has a record of this key."""
        query = f"SELECT 1 FROM {records_of(self._place.built)} WHERE key = ? AND died IS NULL"
        return self._reader.execute(query, (key,)).fetchone() is not None


def _decode_entry(text: str) -> Entry:
    return msgspec.json.decode(text, type=Entry)


def _lock(path: str) -> sqlite3.Connection:
    """Hold an exclusive lock beside the file until the connection is closed, or the process ends.

    SQLite's own locks on the file let two programs write in turn, and each would believe that it alone sends the
    outbox. Its locks on another file are the portable way to a lock that a crash releases.
    """
    lock = sqlite3.connect(path + "-lock", timeout=0, isolation_level=None)
    try:
        lock.execute("PRAGMA journal_mode = MEMORY")
        lock.execute("BEGIN EXCLUSIVE")
    except sqlite3.OperationalError as error:
        lock.close()
        if error.sqlite_errorcode == sqlite3.SQLITE_BUSY:
            raise LocalFileLocked(path) from error
        raise
    return lock


def _open_writer(path: str, identity: Identity) -> sqlite3.Connection:
    db = sqlite3.connect(path, isolation_level=None, timeout=5)
    try:
        db.execute("PRAGMA journal_mode = WAL").fetchone()
        for setting in _WRITER_SETTINGS:
            db.execute(setting)
        prepare(db, path, identity)
    except BaseException:
        db.close()
        raise
    return db


def _open_reader(path: str) -> sqlite3.Connection:
    db = sqlite3.connect(
        f"file:{quote(os.path.abspath(path))}", uri=True, isolation_level=None, check_same_thread=False
    )
    for setting in _READER_SETTINGS:
        db.execute(setting)
    return db


def _size_of(path: str) -> int:
    try:
        return os.path.getsize(path)
    except FileNotFoundError:
        return 0


@contextlib.contextmanager
def _explaining(path: str | None) -> Iterator[None]:
    """Turn SQLite's errors into those that name the file."""
    name = path or "memory"
    try:
        yield
    except LocalFileError:
        raise
    except sqlite3.IntegrityError:
        raise
    except sqlite3.Error as error:
        raise _explain(name, error) from error
    except OSError as error:
        raise LocalFileFailed(name, f"it cannot be used: {error.strerror}") from error


def _explain(name: str, error: sqlite3.Error) -> LocalFileError:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in _DAMAGED:
        return LocalFileCorrupt(name, str(error))
    if code == sqlite3.SQLITE_FULL:
        return LocalFileFull(name)
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return LocalFileLocked(name)
    hints = {
        sqlite3.SQLITE_CANTOPEN: "is the directory there, and may this program write to it?",
        sqlite3.SQLITE_READONLY: "this program has to be able to write to the file and its directory",
        sqlite3.SQLITE_IOERR: "check the disk; what was stored before is not lost",
    }
    return LocalFileFailed(name, f"SQLite says: {error}", hint=hints.get(code, ""))
