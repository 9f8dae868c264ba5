"""The file format: which tables there are, how a file is recognised, how a connection is set up.

    meta(name, value)                            format version of the file
    stores(id, name, store_id, created_ms, …)    one row for each store, with the head of its log
    lineage(store, incarnation, first_seq)
    log_<id>(seq, last_seq, partner, change)     one row for each change; `change` is its text as BATCH carries it
    keys_<id>(key, add_seq, delete_seq, hash, author, size)
                                                 the record of used keys, which stays for ever
    usage_<id>(author, records, bytes)           what each author keeps; one who has added nothing has no row

Ids are never used again, so a statement that was made for a store which is gone finds no table instead of another
store's. `partner` is explained in `staging`, `size` in `decide`. Whatever changes here changes FORMAT, and
`sqlite_migration` leads from the format before to this one.
"""

import sqlite3

from syncline_protocol.cursor import Entry, Lineage, Seq

from .base import Head, StorageUnavailable, StoreInfo
from .sqlite_migration import migrate

__all__ = [
    "create_store",
    "drop_store",
    "open_reader",
    "open_writer",
    "read_stores",
    "sqlite_wal_bug",
]

FORMAT = 2
#: "SYNC"; `file` and other programs see by it whose file this is.
APPLICATION_ID = 0x53594E43

#: How long a statement waits for another program that holds the file (a backup, a shell).
_BUSY_S = 5.0
#: Pages of WAL after which a commit checkpoints: 16 MiB. Keys are random, so a longer WAL folds more writes of the
#: same page into one; beyond this the gain is small.
_CHECKPOINT_PAGES = 4000
_WAL_BYTES_KEPT = 64 * 1024 * 1024
_CACHE_KIB = 32 * 1024
_STATEMENTS_MAX = 512

_TABLES = """
    CREATE TABLE meta(name TEXT PRIMARY KEY, value) WITHOUT ROWID;
    CREATE TABLE stores(
        id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, store_id TEXT NOT NULL,
        created_ms INTEGER NOT NULL, head_seq INTEGER NOT NULL, live_count INTEGER NOT NULL, digest INTEGER NOT NULL);
    CREATE TABLE lineage(
        store INTEGER NOT NULL, first_seq INTEGER NOT NULL, incarnation TEXT NOT NULL,
        PRIMARY KEY (store, first_seq)) WITHOUT ROWID;
"""
_STORE_TABLES = """
    CREATE TABLE log_{id}(
        seq INTEGER PRIMARY KEY, last_seq INTEGER NOT NULL, partner INTEGER, change TEXT NOT NULL);
    CREATE TABLE keys_{id}(
        key TEXT PRIMARY KEY, add_seq INTEGER NOT NULL, delete_seq INTEGER, hash BLOB NOT NULL,
        author TEXT, size INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID;
    CREATE TABLE usage_{id}(
        author TEXT PRIMARY KEY, records INTEGER NOT NULL, bytes INTEGER NOT NULL) WITHOUT ROWID;
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
        for pragma in (
            "journal_mode = WAL",
            "synchronous = FULL",
            f"wal_autocheckpoint = {_CHECKPOINT_PAGES}",
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


def open_reader(path: str) -> sqlite3.Connection:
    """Open a connection that only reads and never checkpoints. To be called in its thread."""
    quoted = path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")
    connection = sqlite3.connect(f"file:{quoted}?mode=ro", uri=True, timeout=_BUSY_S, isolation_level=None)
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
    """Remove everything of a store, inside the caller's transaction."""
    connection.execute(f"DROP TABLE log_{store}")
    connection.execute(f"DROP TABLE keys_{store}")
    connection.execute(f"DROP TABLE usage_{store}")
    connection.execute("DELETE FROM lineage WHERE store = ?", (store,))
    connection.execute("DELETE FROM stores WHERE id = ?", (store,))


def read_stores(connection: sqlite3.Connection, name: str | None = None) -> list[tuple[int, StoreInfo]]:
    """Return the stores with their ids, in the order of their names; only `name` if it is given."""
    # One statement, so that head and lineage are of the same moment.
    rows = connection.execute(
        """SELECT id, name, store_id, created_ms, head_seq, live_count, digest,
               (SELECT group_concat(first_seq || ' ' || incarnation) FROM lineage WHERE store = stores.id)
           FROM stores WHERE ?1 IS NULL OR name = ?1 ORDER BY name""",
        (name,),
    ).fetchall()
    return [(row[0], _info(row)) for row in rows]


def _info(row: tuple[int, str | bytes, str | bytes, int, int, int, int, str | bytes]) -> StoreInfo:
    _, name, store_id, created_ms, seq, count, digest, lineage = row
    entries = [part.split(" ") for part in _str(lineage).split(",")]
    by_seq = sorted((Entry(incarnation, Seq(int(first))) for first, incarnation in entries), key=lambda e: e.first_seq)
    return StoreInfo(_str(name), _str(store_id), created_ms, Head(Seq(seq), count, digest, Lineage(tuple(by_seq))))


def _str(text: str | bytes) -> str:
    return text.decode() if isinstance(text, bytes) else text
