"""The tables of a replica's database, and what a file has to be to be one.

Records live in one table per generation, by seq, with an index over the keys; an outbox entry is one row with the
entry as JSON. `user_version` is the version of the format; an older one is brought to this one when the file is
opened, a newer one is refused, never guessed at.

Format 2 has the authors of records besides what format 1 had.
"""

import sqlite3
from typing import NamedTuple

import msgspec

from syncline.errors import LocalFileCorrupt, LocalFileInvalid, LocalFileTooNew

from .step import Generation, Place

__all__ = [
    "FORMAT_VERSION",
    "Identity",
    "create",
    "create_generation",
    "index_keys",
    "is_empty",
    "is_new",
    "migrate",
    "read_identity",
    "read_place",
    "records_of",
    "remember_filter",
]

FORMAT_VERSION = 2

#: "SYNC" as SQLite keeps it at a fixed place of the file, so that `file` and we can tell what it is.
_APPLICATION_ID = 0x53594E43

_TABLES = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE generation (
    generation INTEGER PRIMARY KEY, count INTEGER NOT NULL, digest INTEGER NOT NULL,
    missing TEXT NOT NULL, shown_count INTEGER NOT NULL, is_indexed INTEGER NOT NULL
);
CREATE TABLE early_delete (generation INTEGER NOT NULL, key TEXT NOT NULL, PRIMARY KEY (generation, key)) WITHOUT ROWID;
CREATE TABLE outbox (id INTEGER PRIMARY KEY, state TEXT NOT NULL, made_ms INTEGER NOT NULL, entry TEXT NOT NULL);
CREATE INDEX outbox_open ON outbox (id) WHERE state != 'synced';
CREATE INDEX outbox_synced ON outbox (made_ms) WHERE state = 'synced';
"""


class Identity(NamedTuple):
    """What a replica is a replica of.

    Attributes:
        prefix: it holds the records with these keys only.
        filter: the filter that the server is asked for, as JSON; empty if it is asked for everything. A file is opened
            with another one too: what it holds then is made right when the feed is opened.
    """

    store: str
    prefix: str
    filter: str = ""


def records_of(generation: Generation) -> str:
    """Return the name of a generation's table."""
    return f"records_{int(generation)}"


def create_generation(db: sqlite3.Connection, generation: Generation) -> None:
    """Make the table of a generation. Its index over the keys comes later: see `index_keys`."""
    table = records_of(generation)
    db.execute(
        f"CREATE TABLE {table} (seq INTEGER PRIMARY KEY, key TEXT NOT NULL, time INTEGER NOT NULL,"
        " died INTEGER, value TEXT NOT NULL, author TEXT)"
    )
    db.execute(f"CREATE INDEX {table}_died ON {table} (died) WHERE died IS NOT NULL")
    db.execute("INSERT INTO generation VALUES (?, 0, 0, '', 0, 0)", (generation,))


def index_keys(db: sqlite3.Connection, generation: Generation) -> None:
    """Make the index over the keys of a generation, unless it is there.

    Keys are random, and a first catch-up needs no key to be looked up: made at its end the index costs a fraction of
    what it costs to keep it up row by row. Raises `sqlite3.IntegrityError` if a key is there twice.
    """
    table = records_of(generation)
    (is_indexed,) = db.execute("SELECT is_indexed FROM generation WHERE generation = ?", (generation,)).fetchone()
    if not is_indexed:
        db.execute(f"CREATE UNIQUE INDEX {table}_key ON {table} (key)")
        db.execute("UPDATE generation SET is_indexed = 1 WHERE generation = ?", (generation,))


def is_new(db: sqlite3.Connection, path: str, identity: Identity) -> bool:
    """Return whether a database is empty; if it is not, check that it is what is asked for. Changes nothing.

    Raises:
        LocalFileTooNew: a later version of this program wrote it.
        LocalFileInvalid: it is no replica, or one of something else.
        LocalFileCorrupt: it lacks what every replica has.
    """
    if is_empty(db, path):
        return True
    found = read_identity(db, path)
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
    return False


def is_empty(db: sqlite3.Connection, path: str) -> bool:
    """Return whether nothing is in a database; if there is, check that it is a replica. Raises as `is_new`."""
    (version,) = db.execute("PRAGMA user_version").fetchone()
    (application,) = db.execute("PRAGMA application_id").fetchone()
    if (version, application) == (0, 0) and db.execute("SELECT count(*) FROM sqlite_schema").fetchone() == (0,):
        return True
    if application != _APPLICATION_ID:
        raise LocalFileInvalid(path, "it is an SQLite file of another program", hint="give the replica another path")
    if version > FORMAT_VERSION:
        raise LocalFileTooNew(path, version, FORMAT_VERSION)
    if version < 1:
        raise LocalFileCorrupt(path, f"it has format {version}")
    return False


def read_identity(db: sqlite3.Connection, path: str) -> Identity:
    """Return what it is a replica of. Raises `LocalFileCorrupt` if it does not say that."""
    names = msgspec.convert(dict(db.execute("SELECT name, value FROM meta")), dict[str, str])
    if not {"store", "prefix", "place"} <= names.keys():
        raise LocalFileCorrupt(path, "it does not say what it is a replica of")
    return Identity(names["store"], names["prefix"], names.get("filter", ""))


def create(db: sqlite3.Connection, identity: Identity) -> None:
    """Make the tables of a new replica."""
    db.execute("BEGIN IMMEDIATE")
    for statement in _TABLES.split(";"):
        if statement.strip():
            db.execute(statement)
    place = Place()
    create_generation(db, place.built)
    names = {
        "store": identity.store,
        "prefix": identity.prefix,
        "filter": identity.filter,
        "place": msgspec.json.encode(place).decode(),
    }
    db.executemany("INSERT INTO meta VALUES (?, ?)", names.items())
    db.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
    db.execute(f"PRAGMA user_version = {FORMAT_VERSION}")
    db.execute("COMMIT")


def migrate(db: sqlite3.Connection) -> None:
    """Bring a file of an earlier format to this one, in one transaction. What that one did not keep is unknown."""
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version == FORMAT_VERSION:
        return
    db.execute("BEGIN IMMEDIATE")
    for (generation,) in db.execute("SELECT generation FROM generation").fetchall():
        db.execute(f"ALTER TABLE {records_of(generation)} ADD COLUMN author TEXT")
    db.execute(f"PRAGMA user_version = {FORMAT_VERSION}")
    db.execute("COMMIT")


def remember_filter(db: sqlite3.Connection, identity: Identity) -> None:
    """Note the filter that the file is opened with. The server tells by the cursor that it was another one."""
    db.execute("INSERT OR REPLACE INTO meta VALUES ('filter', ?)", (identity.filter,))


def read_place(db: sqlite3.Connection) -> Place:
    """Return where the replica stands."""
    row = db.execute("SELECT value FROM meta WHERE name = 'place'").fetchone()
    if row is None:
        raise sqlite3.DatabaseError("it does not say where the replica stands")
    return msgspec.json.decode(row[0], type=Place)
