"""The file format: which tables there are, how a file is recognised, how a connection is set up.

    meta(name, value)                            format version of the file; how far a migration or a sweep has come
    stores(id, name, store_id, created_ms, …)    one row for each store: the head of its log, floors, sizes, settings
    lineage(store, incarnation, first_seq)
    indexes(id, store, uid, name, path, kind, …) one row for each index of a store
    garbage(name)                                tables of what was dropped, on their way out
    log_<id>(seq, last_seq, partner, change, terms)
                                                 one row for each change that clean-up has left; `change` is its text as
                                                 BATCH carries it, `terms` of a DELETE are those of what it deleted
    keys_<id>(key, add_seq, delete_seq, hash, author, size)
                                                 the record of used keys, which stays for ever
    usage_<id>(author, records, bytes)           what each author keeps; one who has added nothing has no row
    gone_<id>(piece, bits)                       which seqs are no live record, see `sqlite_gone`
    index_<id of the index>(term, seq)           the live records by their terms

The index deletes_<id> has the DELETEs of a log only: clean-up and narrow feeds go from one to the next.
Ids are never used again, so a statement that was made for a store which is gone finds no table instead of another
store's. `partner` is explained in `staging`, `size` in `decide`. Whatever changes here changes FORMAT, and
`sqlite_migration` leads from the format before to this one.
"""

import sqlite3
from typing import Any, Literal

import msgspec

from syncline_protocol.cursor import Entry, Lineage, Seq
from syncline_protocol.index import IndexKind, IndexSpec

from .base import Floors, Head, IndexInfo, Sizes, StorageUnavailable, StoreInfo, StoreSettings
from .sqlite_compaction import sweep_note
from .sqlite_migration import migrate

__all__ = [
    "CHECKPOINT_PAGES",
    "FORMAT",
    "UNHURRIED_CHECKPOINT_PAGES",
    "create_store",
    "drop_store",
    "open_reader",
    "open_writer",
    "read_stores",
    "sqlite_wal_bug",
]

FORMAT = 3
#: "SYNC"; `file` and other programs see by it whose file this is.
APPLICATION_ID = 0x53594E43

#: How long a statement waits for another program that holds the file (a backup, a shell).
_BUSY_S = 5.0
#: Pages of WAL after which a commit checkpoints: 16 MiB. Keys are random, so a longer WAL folds more writes of the
#: same page into one; beyond this the gain is small.
CHECKPOINT_PAGES = 4000
#: The same during clean-up, which writes so much that each checkpoint would hold an append up for long.
UNHURRIED_CHECKPOINT_PAGES = 1000
_WAL_BYTES_KEPT = 64 * 1024 * 1024
_CACHE_KIB = 32 * 1024
_STATEMENTS_MAX = 512

_TABLES = """
    CREATE TABLE meta(name TEXT PRIMARY KEY, value) WITHOUT ROWID;
    CREATE TABLE stores(
        id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, store_id TEXT NOT NULL,
        created_ms INTEGER NOT NULL, head_seq INTEGER NOT NULL, live_count INTEGER NOT NULL, digest INTEGER NOT NULL,
        history_floor INTEGER NOT NULL DEFAULT 0, tombstone_floor INTEGER NOT NULL DEFAULT 0,
        live_bytes INTEGER NOT NULL DEFAULT 0, dead_values INTEGER NOT NULL DEFAULT 0,
        dead_bytes INTEGER NOT NULL DEFAULT 0, tombstones INTEGER NOT NULL DEFAULT 0,
        settings TEXT NOT NULL DEFAULT '{}');
    CREATE TABLE lineage(
        store INTEGER NOT NULL, first_seq INTEGER NOT NULL, incarnation TEXT NOT NULL,
        PRIMARY KEY (store, first_seq)) WITHOUT ROWID;
    CREATE TABLE indexes(
        id INTEGER PRIMARY KEY AUTOINCREMENT, store INTEGER NOT NULL, uid TEXT NOT NULL, name TEXT NOT NULL,
        path TEXT NOT NULL, kind TEXT NOT NULL, state TEXT NOT NULL, done INTEGER NOT NULL,
        created_ms INTEGER NOT NULL, UNIQUE (store, name));
    CREATE TABLE garbage(name TEXT PRIMARY KEY) WITHOUT ROWID;
"""
_STORE_TABLES = """
    CREATE TABLE log_{id}(
        seq INTEGER PRIMARY KEY, last_seq INTEGER NOT NULL, partner INTEGER, change TEXT NOT NULL, terms BLOB);
    CREATE INDEX deletes_{id} ON log_{id}(seq) WHERE partner < seq;
    CREATE TABLE keys_{id}(
        key TEXT PRIMARY KEY, add_seq INTEGER NOT NULL, delete_seq INTEGER, hash BLOB NOT NULL,
        author TEXT, size INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID;
    CREATE TABLE usage_{id}(
        author TEXT PRIMARY KEY, records INTEGER NOT NULL, bytes INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE gone_{id}(piece INTEGER PRIMARY KEY, bits BLOB NOT NULL);
"""


def sqlite_wal_bug(version: tuple[int, int, int]) -> bool:
    """Return whether this SQLite can corrupt a WAL file when two connections write or checkpoint at one moment.

    It cannot happen to us, as one connection does both, but it can to a second program that writes to the file.
    """
    if not (3, 7, 0) <= version < (3, 51, 3):
        return False
    first_fixed = {(3, 44): 6, (3, 50): 7}.get(version[:2])
    return first_fixed is None or version[2] < first_fixed


# --- connections ---


def open_writer(path: str, *, must_checkpoint: bool) -> sqlite3.Connection:
    """Open the connection that writes; make the tables in a new file, migrate an old one. To be called in its thread.

    Args:
        path: the file.
        must_checkpoint: after a failed commit. The kernel may show pages that it could not write; only copying the
            whole WAL into the file, with a flush of its own, makes sure that what is read from now on is on the disk.

    Raises:
        sqlite3.Error: SQLite cannot open or write the file.
        StorageUnavailable: the file is not ours, or of a newer version.
    """
    connection = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None, cached_statements=_STATEMENTS_MAX)
    try:
        _recognise(connection, path)
        if not _table_names(connection):
            # Only a file without tables takes this without being written anew.
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        for pragma in (
            "journal_mode = WAL",
            "synchronous = FULL",
            f"wal_autocheckpoint = {CHECKPOINT_PAGES}",
            f"journal_size_limit = {_WAL_BYTES_KEPT}",
            f"cache_size = -{_CACHE_KIB}",
        ):
            connection.execute(f"PRAGMA {pragma}").fetchall()
        if not _table_names(connection):
            _create_tables(connection)
        migrate(connection, FORMAT)
        (busy, _, _) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if busy and must_checkpoint:
            raise StorageUnavailable(
                f"{path} cannot be checkpointed after a failure", hint="another program reads the file; stop it"
            )
    except BaseException:
        connection.close()
        raise
    return connection


def open_reader(path: str, *, is_immutable: bool = False) -> sqlite3.Connection:
    """Open a connection that only reads and never checkpoints. To be called in its thread.

    Args:
        path: the file.
        is_immutable: nobody writes to it, and nothing can be made beside it.
    """
    quoted = path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")
    mode = "immutable=1" if is_immutable else "mode=ro"
    connection = sqlite3.connect(f"file:{quoted}?{mode}", uri=True, timeout=_BUSY_S, isolation_level=None)
    try:
        # Values are passed on as the bytes they are; nobody needs them as str.
        connection.text_factory = bytes
        for pragma in ("query_only = 1", "wal_autocheckpoint = 0"):
            connection.execute(f"PRAGMA {pragma}").fetchall()
    except BaseException:
        connection.close()
        raise
    return connection


def _recognise(connection: sqlite3.Connection, path: str) -> None:
    (application_id,) = connection.execute("PRAGMA application_id").fetchone()
    tables = _table_names(connection)
    if not tables:
        return
    if application_id != APPLICATION_ID:
        raise StorageUnavailable(
            f"{path} is the SQLite file of another program", hint="give the server a file of its own"
        )
    row = connection.execute("SELECT value FROM meta WHERE name = 'format'").fetchone()
    if row is None or row[0] not in range(1, FORMAT + 1):
        found = "no format" if row is None else f"format {row[0]}"
        raise StorageUnavailable(
            f"{path} has {found}, this version of Syncline reads formats 1 to {FORMAT}",
            hint="use the version that wrote it, or a newer one",
        )


def _table_names(connection: sqlite3.Connection) -> set[str]:
    return {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}


def _create_tables(connection: sqlite3.Connection) -> None:
    connection.executescript(
        f"BEGIN IMMEDIATE; {_TABLES} INSERT INTO meta VALUES ('format', {FORMAT});"
        f" PRAGMA application_id = {APPLICATION_ID}; COMMIT;"
    )


# --- stores ---


def create_store(connection: sqlite3.Connection, info: StoreInfo) -> int:
    """Make the tables of a store, inside the caller's transaction. Returns its id in this file."""
    store = connection.execute(
        "INSERT INTO stores(name, store_id, created_ms, head_seq, live_count, digest) VALUES (?, ?, ?, 0, 0, 0)",
        (info.name, info.store_id, info.created_ms),
    ).lastrowid
    assert store is not None
    for statement in _STORE_TABLES.format(id=store).split(";"):
        connection.execute(statement)
    first = info.head.lineage.current
    connection.execute("INSERT INTO lineage VALUES (?, ?, ?)", (store, first.first_seq, first.incarnation))
    return store


def drop_store(connection: sqlite3.Connection, store: int) -> None:
    """Remove a store, inside the caller's transaction. Its tables become garbage: to empty large ones takes long."""
    indexes = connection.execute("SELECT id FROM indexes WHERE store = ?", (store,)).fetchall()
    tables = [f"{kind}_{store}" for kind in ("log", "keys", "usage", "gone")] + [f"index_{id_}" for (id_,) in indexes]
    connection.executemany("INSERT INTO garbage VALUES (?)", [(table,) for table in tables])
    connection.execute("DELETE FROM indexes WHERE store = ?", (store,))
    connection.execute("DELETE FROM lineage WHERE store = ?", (store,))
    connection.execute("DELETE FROM meta WHERE name = ?", (sweep_note(store),))
    connection.execute("DELETE FROM stores WHERE id = ?", (store,))


# One statement, so that head, lineage and the rest are of the same moment. Lists come as JSON.
_READ_STORES = """
    SELECT id, name, store_id, created_ms, head_seq, live_count, digest,
        (SELECT json_group_array(json_array(incarnation, first_seq)) FROM lineage WHERE store = stores.id),
        history_floor, tombstone_floor, live_bytes, dead_values, dead_bytes, tombstones, settings,
        (SELECT json_group_array(json_array(uid, name, path, kind, state, done, created_ms))
         FROM (SELECT * FROM indexes WHERE store = stores.id ORDER BY id))
    FROM stores {where} ORDER BY name
"""

_decode_lineage = msgspec.json.Decoder(list[tuple[str, int]]).decode
_decode_settings = msgspec.json.Decoder(StoreSettings).decode
_decode_indexes = msgspec.json.Decoder(
    list[tuple[str, str, str, IndexKind, Literal["building", "ready"], int, int]]
).decode


def read_stores(connection: sqlite3.Connection, name: str | None = None) -> list[tuple[int, StoreInfo]]:
    """Return the stores with their ids, in the order of their names; only `name` if it is given."""
    where, names = ("", ()) if name is None else ("WHERE name = ?", (name,))
    rows = connection.execute(_READ_STORES.format(where=where), names).fetchall()
    return [(row[0], _info(row[1:])) for row in rows]


def _info(row: tuple[Any, ...]) -> StoreInfo:
    name, store_id, created_ms, seq, count, digest, lineage, *rest = row
    history, tombstones, live_bytes, dead_values, dead_bytes, deletes, settings, indexes = rest
    entries = sorted([Entry(made, Seq(first)) for made, first in _decode_lineage(lineage)], key=lambda e: e.first_seq)
    return StoreInfo(
        _str(name),
        _str(store_id),
        created_ms,
        Head(Seq(seq), count, digest, Lineage(tuple(entries))),
        Floors(Seq(history), Seq(tombstones)),
        Sizes(live_bytes, dead_values, dead_bytes, deletes),
        _decode_settings(settings),
        tuple(
            [
                IndexInfo(uid, IndexSpec(index, path, kind), state, Seq(done), made_ms)
                for uid, index, path, kind, state, done, made_ms in _decode_indexes(indexes)
            ]
        ),
    )


def _str(text: str | bytes) -> str:
    return text.decode() if isinstance(text, bytes) else text
