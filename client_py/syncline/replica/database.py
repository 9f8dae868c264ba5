"""The database of a replica: one SQLite file, or memory, with one writer and one reader.

The writer lives in a thread (`local_file`) and carries out one local transaction per call. The reader is used from the
event loop itself, since a look-up takes microseconds and a way to another thread a hundred of them. It reads in a
transaction that stays open until `refresh`, so all that it shows is of one state, and a commit that is under way is
not seen before the replica has taken note of it. Without a path both are one connection in memory.

The writer alone checkpoints, and only after `refresh`: a reader that stays behind would keep the write-ahead log
from ever being used again from its beginning.
"""

import contextlib
import sqlite3
from collections.abc import Callable, Sequence
from typing import TypeVar

import msgspec

from syncline_protocol.cursor import Seq

from .carry_out import carry_out, read_tally
from .entry import Entry, EntryId
from .local_file import WAL_BYTES_MAX, Explaining, LocalFile
from .schema import Identity, create, read_place, records_of
from .sorted_keys import end_of_prefix
from .step import Place, Step, Tally

__all__ = ["Contradiction", "Database", "Row", "Saved"]

T = TypeVar("T")


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
    by: str | None = None


class Database:
    """An open database; made by `open`.

    Attributes:
        path: the file, or None for memory.
    """

    def __init__(self, reader: sqlite3.Connection, file: LocalFile | None) -> None:
        self.path = None if file is None else file.path
        self._reader = reader
        self._file = file
        self._explaining = Explaining(self.path)
        self.refresh()

    @classmethod
    async def open(cls, path: str | None, identity: Identity) -> "Database":
        """Open the file, or make it.

        Raises:
            LocalFileError: which of them says what is wrong with it. Nothing was changed.
        """
        if path is None:
            memory = sqlite3.connect(":memory:", isolation_level=None)
            create(memory, identity)
            return cls(memory, None)
        file = await LocalFile.open(path, identity)
        try:
            return cls(file.reader, file)
        except BaseException:
            await file.close()
            raise

    async def close(self) -> None:
        """Close it. Safe to call twice."""
        if self._file is None:
            self._reader.close()
        else:
            await self._file.close()

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

        with self._explaining:
            try:
                return await self._run(lambda db: _carry_out_all(db, steps, place))
            except sqlite3.IntegrityError as error:
                raise Contradiction(str(error)) from error

    async def _run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        return work(self._reader) if self._file is None else await self._file.run(work)

    def refresh(self) -> None:
        """Let reads see everything that was committed. Raises `LocalFileError`."""
        with self._explaining:
            if self._file is not None:
                if self._reader.in_transaction:
                    self._reader.execute("COMMIT")
                self._reader.execute("BEGIN")
            # Reading is what fixes the state that the transaction shows.
            self._place = read_place(self._reader)
            self._table = records_of(self._place.shown)

    async def tidy(self) -> None:
        """Write a long write-ahead log back into the file. Nothing is committed meanwhile, and nothing looks new."""
        if self._file is None or self._file.wal_bytes() < WAL_BYTES_MAX:
            return
        with self._explaining:
            await self._file.run(lambda db: db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall())
        # Only a reader that has begun after the checkpoint lets the log begin anew.
        self.refresh()

    async def scrub(self) -> None:
        """Let nothing that was deleted stay in the file: its free pages and its log hold that until it is overwritten.

        Nothing is committed meanwhile, and nothing looks new. Raises `LocalFileError`: it needs room for a second copy.
        """
        if self._file is None:
            return
        with self._explaining:
            if self._reader.in_transaction:
                # What it shows would be kept in the log.
                self._reader.execute("COMMIT")
            try:
                await self._file.run(_scrub)
            finally:
                self.refresh()

    # --- reading ---

    def load(self) -> Saved:
        """Return what is remembered. Raises `LocalFileError`, as all reads do."""
        self.refresh()
        with self._explaining:
            entries = self._entries("state != 'synced'")
            (last_id,) = self._reader.execute("SELECT coalesce(max(id), 0) FROM outbox").fetchone()
            return Saved(self._place, read_tally(self._reader, self._place.built, self._place.shown), entries, last_id)

    def synced_entries(self) -> list[Entry]:
        """Return the entries that were synced and are kept, oldest first."""
        with self._explaining:
            return self._entries("state = 'synced'")

    def synced_entry(self, entry_id: EntryId) -> Entry | None:
        """Return an entry that was synced and is kept."""
        with self._explaining:
            entries = self._entries("state = 'synced' AND id = ?", entry_id)
        return entries[0] if entries else None

    def _entries(self, condition: str, *values: int) -> list[Entry]:
        rows = self._reader.execute(f"SELECT entry FROM outbox WHERE {condition} ORDER BY id", values).fetchall()
        if not all(isinstance(text, str) for (text,) in rows):
            raise sqlite3.DatabaseError("an entry of the outbox is no text")
        return [msgspec.json.decode(text, type=Entry) for (text,) in rows]

    def get(self, key: str) -> Row | None:
        """Return the record of a key."""
        rows = self._rows("key = ? AND seq <= ?", key, self._place.horizon)
        return rows[0] if rows else None

    def has(self, key: str) -> bool:
        """Return whether there is a record of this key."""
        query = f"SELECT 1 FROM {self._table} WHERE key = ? AND seq <= ?"
        with self._explaining:
            return self._reader.execute(query, (key, self._place.horizon)).fetchone() is not None

    def page(self, after: Seq, count: int) -> list[Row]:
        """Return the next records in seq order."""
        return self._rows("seq > ? AND seq <= ? ORDER BY seq LIMIT ?", after, self._place.horizon, count)

    def with_prefix(self, prefix: str) -> list[Row]:
        """Return the records whose keys begin so, in the order of their keys."""
        end = end_of_prefix(prefix)
        return self._rows("key >= ? AND key < ? AND seq <= ? ORDER BY key", prefix, end, self._place.horizon)

    def _rows(self, condition: str, *values: str | int) -> list[Row]:
        query = f"SELECT seq, key, time, value, author FROM {self._table} WHERE {condition}"
        with self._explaining:
            return [Row(*row) for row in self._reader.execute(query, values).fetchall()]

    def built_above(self, seq: Seq) -> list[Row]:
        """Return the records of the generation that is built that were added above a seq and live, in that order."""
        table = records_of(self._place.built)
        query = f"SELECT seq, key, time, value, author FROM {table} WHERE seq > ? AND died IS NULL ORDER BY seq"
        with self._explaining:
            return [Row(*row) for row in self._reader.execute(query, (seq,)).fetchall()]

    def holds_built(self, key: str) -> bool:
        """Return whether the generation that is built has a record of this key."""
        query = f"SELECT 1 FROM {records_of(self._place.built)} WHERE key = ? AND died IS NULL"
        with self._explaining:
            return self._reader.execute(query, (key,)).fetchone() is not None


def _scrub(db: sqlite3.Connection) -> None:
    db.execute("VACUUM")
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def _carry_out_all(db: sqlite3.Connection, steps: Sequence[Step], place: Place) -> Tally:
    """Carry out steps in one transaction."""
    if db.in_transaction:
        # The last one could not even be rolled back.
        db.execute("ROLLBACK")
    db.execute("BEGIN IMMEDIATE")
    try:
        carry_out(db, steps)
        tally = read_tally(db, place.built, place.shown)
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            with contextlib.suppress(sqlite3.Error):
                db.execute("ROLLBACK")
        raise
    return tally
