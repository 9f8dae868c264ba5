"""Reads the outbox of a replica's file as it lies there: while a program has it open, and as far as it is damaged too.

Nothing is written, no lock is taken, and no file is left beside it. What SQLite reads is certain. What it does not read
any more is looked for in the raw pages of the file; that may be what an entry was once, so it is marked as loose.
"""

import contextlib
import os
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple
from urllib.parse import quote

import msgspec

from syncline.errors import LocalFileCorrupt, LocalFileFailed

from .entry import Entry, EntryId, SyncState
from .local_file import Explaining
from .raw_pages import Pages, rows_of
from .schema import Identity, is_empty, read_identity

__all__ = ["Found", "Salvage", "salvage"]

#: Where SQLite fails more often, the pages are read in its place.
_FAILURES_MAX = 2000

_PATIENCE_S = 5.0


class Found(NamedTuple):
    """An entry. `is_loose`: it was found in the raw pages, and may be out of date."""

    entry: Entry
    is_loose: bool


@dataclass
class Salvage:
    """What was found.

    Attributes:
        identity: what it is a replica of, if it says so.
        faults: what could not be read, in words.
    """

    identity: Identity | None = None
    found: dict[EntryId, Found] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)


def salvage(path: str) -> Salvage:
    """Read the outbox of a file.

    Raises:
        LocalFileError: there is no such file, it is another program's, of a later version, or locked.
    """
    real_path = os.path.realpath(path)
    if not os.path.isfile(real_path):
        raise LocalFileFailed(path, "there is no such file")
    result = Salvage()
    with Explaining(path):
        try:
            with Explaining(path), contextlib.closing(_open(real_path)) as db:
                unread = _read(db, path, result)
        except (LocalFileCorrupt, LocalFileFailed) as error:
            result.faults.append(error.message.partition(": ")[2])
            unread = [(1, None)]
        if unread:
            _search(real_path, unread, result)
    return result


def _open(real_path: str) -> sqlite3.Connection:
    """Open it to be read. A file that nobody has open is taken as it is; SQLite would leave files beside it."""
    options = "mode=ro" if os.path.exists(real_path + "-wal") else "mode=ro&immutable=1"
    uri = f"file:{quote(os.fsencode(real_path))}?{options}"
    db = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=_PATIENCE_S)
    # Texts may be damaged; they are decoded together with the entry.
    db.text_factory = bytes
    return db


#: First and last id of entries that could not be read; without an end if that is not known.
Unread = tuple[EntryId, EntryId | None]


def _read(db: sqlite3.Connection, path: str, result: Salvage) -> list[Unread]:
    """Let SQLite read the entries. Returns the ranges of ids that it could not read."""
    db.execute("BEGIN")
    if is_empty(db, path):
        return []
    try:
        db.text_factory = str
        result.identity = read_identity(db, path)
    except (LocalFileCorrupt, sqlite3.Error, msgspec.MsgspecError, UnicodeDecodeError):
        result.faults.append("it does not say what it is a replica of")
    db.text_factory = bytes
    unread: list[Unread] = []
    to_read: list[Unread] = [(1, _last_id(db))]
    failures = 0
    while to_read:
        first, last = to_read.pop()
        try:
            for row_id, text in db.execute(_ENTRIES, (first, last or _ID_MAX)):
                if not _take(result, row_id, text):
                    unread.append((row_id, row_id))
                first = row_id + 1
        except sqlite3.DatabaseError as error:
            failures += 1
            if failures == 1:
                result.faults.append(str(error))
            if last is None or first >= last or failures > _FAILURES_MAX:
                unread.append((first, last))
            else:
                # Every half is looked up from the root, so a damaged leaf costs no more than what is in it.
                middle = (first + last) // 2
                to_read += [(middle + 1, last), (first, middle)]
    return unread


_ENTRIES = "SELECT id, entry FROM outbox WHERE id BETWEEN ? AND ? ORDER BY id"
_ID_MAX = 2**63 - 1


def _last_id(db: sqlite3.Connection) -> EntryId | None:
    """Return the id of the last entry, unless that is what cannot be read."""
    try:
        (last,) = db.execute("SELECT coalesce(max(id), 0) FROM outbox").fetchone()
    except sqlite3.DatabaseError:
        return None
    return EntryId(last)


def _take(result: Salvage, row_id: int, text: object, *, is_loose: bool = False) -> bool:
    """Take an entry if it is one."""
    try:
        assert isinstance(text, bytes)
        entry = msgspec.json.decode(text, type=Entry)
    except (AssertionError, msgspec.MsgspecError, UnicodeDecodeError):
        return False
    if entry.id != row_id:
        return False
    before = result.found.get(row_id)
    # Of several states in which an entry was found loose, the one that it began with: the server may not have it.
    if before is None or _ORDER[entry.state] < _ORDER[before.entry.state]:
        result.found[row_id] = Found(entry, is_loose)
    return True


_ORDER = {SyncState.PENDING: 0, SyncState.REJECTED: 1, SyncState.ACKED: 2, SyncState.SYNCED: 3}


def _search(real_path: str, unread: list[Unread], result: Salvage) -> None:
    """Look for entries that SQLite could not read in the pages of the file."""
    with contextlib.ExitStack() as files:
        file = files.enter_context(open(real_path, "rb"))
        log = None
        with contextlib.suppress(FileNotFoundError):
            log = files.enter_context(open(real_path + "-wal", "rb"))
        for row_id, columns in rows_of(Pages(file, log)):
            if len(columns) == 4 and any(first <= row_id <= (last or row_id) for first, last in unread):
                _take(result, row_id, columns[3], is_loose=True)
    result.faults += [_missing_text(each) for each in _without_found(unread, result.found)]


def _without_found(unread: Iterable[Unread], found: dict[EntryId, Found]) -> list[Unread]:
    """Return what is still unread, as few ranges as possible."""
    merged: list[Unread] = []
    for first, last in sorted(unread, key=lambda each: each[0]):
        if last is None:
            merged.append((first, None))
            continue
        for missing in [entry_id for entry_id in range(first, last + 1) if entry_id not in found]:
            if merged and merged[-1][1] == missing - 1:
                merged[-1] = (merged[-1][0], missing)
            else:
                merged.append((missing, missing))
    return merged


def _missing_text(unread: Unread) -> str:
    first, last = unread
    if last is None:
        return f"entries from {first} on may be missing"
    return f"entry {first} may be missing" if first == last else f"entries {first} to {last} may be missing"
