"""The tables of a replica's database, and what a file has to be to be one.

Records live in one table per generation, by seq, with an index over the keys; an outbox entry is one row with the
entry as JSON. `user_version` is the version of the format; a newer one is refused, never guessed at.
"""

import sqlite3
from typing import NamedTuple

import msgspec

from syncline.errors import LocalFileInvalid, LocalFileTooNew

from .step import Generation, Place

__all__ = ["FORMAT_VERSION", "Identity", "create_generation", "prepare", "read_place", "records_of"]

FORMAT_VERSION = 1

#: "SYNC" as SQLite keeps it at a fixed place of the file, so that `file` and we can tell what it is.
_APPLICATION_ID = 0x53594E43

_TABLES = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE generation (
    generation INTEGER PRIMARY KEY, count INTEGER NOT NULL, digest INTEGER NOT NULL,
    missing TEXT NOT NULL, shown_count INTEGER NOT NULL
);
CREATE TABLE early_delete (generation INTEGER NOT NULL, key TEXT NOT NULL, PRIMARY KEY (generation, key)) WITHOUT ROWID;
CREATE TABLE outbox (id INTEGER PRIMARY KEY, state TEXT NOT NULL, made_ms INTEGER NOT NULL, entry TEXT NOT NULL);
CREATE INDEX outbox_open ON outbox (id) WHERE state != 'synced';
CREATE INDEX outbox_synced ON outbox (made_ms) WHERE state = 'synced';
"""


class Identity(NamedTuple):
    """What a replica is a replica of. `prefix`: it holds the records with these keys only."""

    store: str
    prefix: str


def records_of(generation: Generation) -> str:
    """Return the name of a generation's table."""
    return f"records_{int(generation)}"


def create_generation(db: sqlite3.Connection, generation: Generation) -> None:
    """Make the table of a generation."""
    table = records_of(generation)
    db.execute(
        f"CREATE TABLE {table} (seq INTEGER PRIMARY KEY, key TEXT NOT NULL, time INTEGER NOT NULL,"
        " died INTEGER, value TEXT NOT NULL)"
    )
    db.execute(f"CREATE UNIQUE INDEX {table}_key ON {table} (key)")
    db.execute(f"CREATE INDEX {table}_died ON {table} (died) WHERE died IS NOT NULL")
    db.execute("INSERT INTO generation VALUES (?, 0, 0, '', 0)", (generation,))


def prepare(db: sqlite3.Connection, path: str, identity: Identity) -> None:
    """Make a new database ready, or check that an old one is what is asked for.

    Raises:
        LocalFileTooNew: a later version of this program wrote it.
        LocalFileInvalid: it is no replica, or one of something else.
    """
    version = db.execute("PRAGMA user_version").fetchone()[0]
    application = db.execute("PRAGMA application_id").fetchone()[0]
    if version == 0 and db.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0] == 0:
        _create(db, identity)
        return
    if application != _APPLICATION_ID:
        raise LocalFileInvalid(path, "it is an SQLite file of another program", hint="give the replica another path")
    if version > FORMAT_VERSION:
        raise LocalFileTooNew(path, version, FORMAT_VERSION)
    _check_identity(db, path, identity)


def _create(db: sqlite3.Connection, identity: Identity) -> None:
    db.execute("BEGIN IMMEDIATE")
    for statement in _TABLES.split(";"):
        if statement.strip():
            db.execute(statement)
    place = Place()
    create_generation(db, place.built)
    names = {"store": identity.store, "prefix": identity.prefix, "place": msgspec.json.encode(place).decode()}
    db.executemany("INSERT INTO meta VALUES (?, ?)", names.items())
    db.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
    db.execute(f"PRAGMA user_version = {FORMAT_VERSION}")
    db.execute("COMMIT")


def _check_identity(db: sqlite3.Connection, path: str, identity: Identity) -> None:
    names = dict(db.execute("SELECT name, value FROM meta"))
    found = Identity(names["store"], names["prefix"])
    if found.store != identity.store:
        raise LocalFileInvalid(
            path, f"it is a replica of the store {found.store!r}, not of {identity.store!r}", hint="one file per store"
        )
    if found.prefix != identity.prefix:
        raise LocalFileInvalid(
            path,
            f"it holds the keys that begin with {found.prefix!r}, not with {identity.prefix!r}",
            hint="give a replica of another part of the store another path",
        )


def read_place(db: sqlite3.Connection) -> Place:
    """Return where the replica stands."""
    text = db.execute("SELECT value FROM meta WHERE name = 'place'").fetchone()[0]
    return msgspec.json.decode(text, type=Place)
