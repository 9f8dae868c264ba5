"""Carries out the steps of one local transaction on the tables of a replica.

Runs in the thread of the writer's connection, inside of a transaction that the caller begins and ends. Owns the
bookkeeping that needs the rows: count and digest of a generation, what is missing of it, which records died.
"""

import sqlite3
import sys
from array import array
from collections.abc import Iterable, Sequence
from functools import singledispatch

import msgspec

from syncline_protocol.cursor import Seq
from syncline_protocol.digest import digest_term
from syncline_protocol.messages import Change
from syncline_protocol.ranges import format_ranges
from syncline_protocol.seq_set import SeqSet

from .entry import Entry, SyncState
from .schema import create_generation, index_keys, records_of
from .step import (
    Apply,
    Branch,
    DropEntry,
    FillIn,
    ForgetHistory,
    Generation,
    IndexKeys,
    SaveEntries,
    SavePlace,
    Show,
    StartOver,
    Step,
    Tally,
)

__all__ = ["carry_out", "held_seqs", "read_tally"]

_encode_entry = msgspec.json.Encoder().encode

#: Entries that were synced are kept, so that they can be sent again if the server loses them: so many at the most …
SYNCED_KEPT_MAX = 100_000

#: … and for so long, which is longer than the backups of most servers are old.
SYNCED_KEPT_MS = 30 * 24 * 3600 * 1000

_MASK = 0xFFFFFFFF

#: Seqs of held records are put together in windows of so many, which SQLite sorts without a file.
_WINDOW = 64 * 4096


def carry_out(db: sqlite3.Connection, steps: Sequence[Step]) -> None:
    """Carry out steps, in order. Raises `sqlite3.IntegrityError` if changes contradict what is held."""
    for step in steps:
        _carry_out(step, db)


@singledispatch
def _carry_out(step: Step, db: sqlite3.Connection) -> None:
    raise AssertionError(step)


# --- records ---


@_carry_out.register
def _apply(step: Apply, db: sqlite3.Connection) -> None:
    book = _Book(db, step.generation)
    fresh: dict[str, Change] = {}
    for change in step.changes:
        if change.op == "ADD":
            fresh[change.key] = change
        elif fresh.pop(change.key, None) is None:
            book.delete(change.key, change.seq, step.horizon)
    book.add(fresh.values())
    book.save(all_shown=step.horizon is None)


@_carry_out.register
def _fill_in(step: FillIn, db: sqlite3.Connection) -> None:
    book = _Book(db, step.generation)
    gone = f"SELECT 1 FROM early_delete WHERE generation = {step.generation} AND key = ?"
    known = f"SELECT 1 FROM {book.table} WHERE seq = ?"
    # A record may have died between the moment at which the server looked for it and that at which it came.
    book.add(
        [
            change
            for change in step.changes
            if not db.execute(gone, (change.key,)).fetchone() and not db.execute(known, (change.seq,)).fetchone()
        ]
    )
    book.missing = book.missing - SeqSet.parse(format_ranges(step.done))
    if not book.missing:
        db.execute("DELETE FROM early_delete WHERE generation = ?", (step.generation,))
    book.save()


class _Book:
    """A generation's table and its tally while they change together."""

    def __init__(self, db: sqlite3.Connection, generation: Generation) -> None:
        self.table = records_of(generation)
        self._db = db
        self._generation = generation
        self.count, self.digest, missing, _ = _read_generation(db, generation)
        self._may_look_up = False
        self.missing = SeqSet.parse(missing)

    def add(self, changes: Iterable[Change]) -> None:
        """Add records."""
        rows = [
            (change.seq, change.key, change.time, bytes(change.value).decode(), change.by)
            for change in changes
            if isinstance(change.value, msgspec.Raw)
        ]
        self._db.executemany(f"INSERT INTO {self.table} (seq, key, time, value, author) VALUES (?, ?, ?, ?, ?)", rows)
        self.count += len(rows)
        self.digest += sum([digest_term(seq, key) for seq, key, *_ in rows])

    def delete(self, key: str, at: Seq, horizon: Seq | None) -> None:
        """Delete a record; one that can be seen is only marked, so that it can be seen until the horizon moves."""
        if not self._may_look_up:
            index_keys(self._db, self._generation)
            self._may_look_up = True
        row = self._db.execute(f"SELECT seq, died FROM {self.table} WHERE key = ?", (key,)).fetchone()
        if row is None:
            if self.missing:
                self._db.execute("INSERT OR IGNORE INTO early_delete VALUES (?, ?)", (self._generation, key))
            return
        seq, died = row
        if died is not None:
            return
        if horizon is None or seq > horizon:
            self._db.execute(f"DELETE FROM {self.table} WHERE seq = ?", (seq,))
        else:
            self._db.execute(f"UPDATE {self.table} SET died = ? WHERE seq = ?", (at, seq))
        self.count -= 1
        self.digest -= digest_term(seq, key)

    def recount(self) -> None:
        """Count everything anew."""
        self.count = self.digest = 0
        for seq, key in self._db.execute(f"SELECT seq, key FROM {self.table}"):
            self.count += 1
            self.digest += digest_term(seq, key)

    def save(self, *, all_shown: bool = False) -> None:
        """Write the tally."""
        self._db.execute(
            "UPDATE generation SET count = ?, digest = ?, missing = ? WHERE generation = ?",
            (self.count, self.digest & _MASK, ",".join(self.missing.pieces(bitmaps=True)), self._generation),
        )
        if all_shown:
            self._db.execute("UPDATE generation SET shown_count = count WHERE generation = ?", (self._generation,))


# --- generations ---


@_carry_out.register
def _start_over(step: StartOver, db: sqlite3.Connection) -> None:
    create_generation(db, step.generation)
    _drop(db, step.instead_of)


@_carry_out.register
def _branch(step: Branch, db: sqlite3.Connection) -> None:
    create_generation(db, step.generation)
    book, source = _Book(db, step.generation), records_of(step.source)
    db.execute(
        f"INSERT INTO {book.table} (seq, key, time, value, author)"
        f" SELECT seq, key, time, value, author FROM {source} WHERE seq <= ?",
        (step.keep_to,),
    )
    held = held_seqs(db, step.generation)
    db.executemany(f"DELETE FROM {book.table} WHERE seq BETWEEN ? AND ?", (held - step.live).ranges())
    book.missing = step.live - held
    book.recount()
    book.save()
    index_keys(db, step.generation)
    if step.drop_source:
        _drop(db, step.source)


def held_seqs(db: sqlite3.Connection, generation: Generation) -> SeqSet:
    """Return the seqs of the records of a generation. SQLite puts 64 of them into a number, so that Python has few."""
    table = records_of(generation)
    (top,) = db.execute(f"SELECT coalesce(max(seq), 0) FROM {table}").fetchone()
    words = array("q", bytes((top + 63) // 64 * 8))
    query = (
        f"SELECT (seq - 1) >> 6, sum(1 << ((seq - 1) & 63)) FROM {table} WHERE seq > ? AND seq <= ?"
        " GROUP BY (seq - 1) >> 6"
    )
    for start in range(0, top, _WINDOW):
        for at, word in db.execute(query, (start, start + _WINDOW)):
            words[at] = word
    if sys.byteorder == "big":
        words.byteswap()
    return SeqSet(words.tobytes())


@_carry_out.register
def _show(step: Show, db: sqlite3.Connection) -> None:
    index_keys(db, step.generation)
    db.execute(f"DELETE FROM {records_of(step.generation)} WHERE died IS NOT NULL")
    db.execute("UPDATE generation SET shown_count = count WHERE generation = ?", (step.generation,))
    _drop(db, step.instead_of)


def _drop(db: sqlite3.Connection, generation: Generation | None) -> None:
    if generation is not None:
        db.execute(f"DROP TABLE {records_of(generation)}")
        db.execute("DELETE FROM generation WHERE generation = ?", (generation,))
        db.execute("DELETE FROM early_delete WHERE generation = ?", (generation,))


@_carry_out.register
def _index_keys(step: IndexKeys, db: sqlite3.Connection) -> None:
    index_keys(db, step.generation)


@_carry_out.register
def _save_place(step: SavePlace, db: sqlite3.Connection) -> None:
    text = msgspec.json.encode(step.place).decode()
    db.execute("UPDATE meta SET value = ? WHERE name = 'place'", (text,))


def read_tally(db: sqlite3.Connection, built: Generation, shown: Generation) -> Tally:
    """Return the tally of the built generation, with the count of the shown one."""
    count, digest, missing, _ = _read_generation(db, built)
    *_, shown_count = _read_generation(db, shown)
    return Tally(count, digest, SeqSet.parse(missing), shown_count)


def _read_generation(db: sqlite3.Connection, generation: Generation) -> tuple[int, int, str, int]:
    query = "SELECT count, digest, missing, shown_count FROM generation WHERE generation = ?"
    row = db.execute(query, (generation,)).fetchone()
    if row is None:
        raise sqlite3.DatabaseError(f"generation {generation} is missing")
    return msgspec.convert(row, tuple[int, int, str, int])


# --- the outbox ---


@_carry_out.register
def _save_entries(step: SaveEntries, db: sqlite3.Connection) -> None:
    db.executemany("INSERT OR REPLACE INTO outbox VALUES (?, ?, ?, ?)", [_row_of(entry) for entry in step.entries])
    synced = [entry for entry in step.entries if entry.state is SyncState.SYNCED]
    if synced:
        newest = max(entry.made_ms for entry in synced)
        db.execute("DELETE FROM outbox WHERE state = 'synced' AND made_ms < ?", (newest - SYNCED_KEPT_MS,))
        oldest_id = max(entry.id for entry in synced) - SYNCED_KEPT_MAX
        db.execute("DELETE FROM outbox WHERE state = 'synced' AND id <= ?", (oldest_id,))


def _row_of(entry: Entry) -> tuple[int, str, int, str]:
    return entry.id, entry.state.value, entry.made_ms, _encode_entry(entry).decode()


@_carry_out.register
def _drop_entry(step: DropEntry, db: sqlite3.Connection) -> None:
    db.execute("DELETE FROM outbox WHERE id = ?", (step.entry_id,))


@_carry_out.register
def _forget_history(_: ForgetHistory, db: sqlite3.Connection) -> None:
    db.execute("DELETE FROM outbox WHERE state = 'synced'")
