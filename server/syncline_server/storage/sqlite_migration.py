"""From an older file format to the newest, a step for each format.

A step changes the tables in one transaction, with the number of the format; so a process that is killed leaves the file
as it was or with the next format, and an older program never finds half of it. What a step has to work out for each row
of a log it does afterwards, piece by piece: how far it has come is in the file (`filling`), and whoever opens the file
next goes on from there. Steps stay as they are for ever: each makes what its format had, whatever `sqlite_schema` makes
of a new file today.
"""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from syncline_protocol.cursor import Seq

from .sqlite_gone import mark_gone

__all__ = ["migrate"]

#: Rows of a log that are looked at in one transaction.
_ROWS_AT_ONCE = 50_000


def migrate(connection: sqlite3.Connection, newest: int) -> None:
    """Bring a file, which may be of the newest format already, to the newest format.

    Raises:
        sqlite3.Error: SQLite cannot write the file; it is as it was, or a piece of the way further.
    """
    while (found := _read_meta(connection, "format")) != newest:
        _fill(connection)
        with _transaction(connection):
            _STEPS[int(found)](connection)
            connection.execute("UPDATE meta SET value = ? WHERE name = 'format'", (int(found) + 1,))
    _fill(connection)


def _read_meta(connection: sqlite3.Connection, name: str) -> int | str:
    row: tuple[int | str] | None = connection.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
    return "" if row is None else row[0]


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


# --- format 2 ---


def _add_authors(connection: sqlite3.Connection) -> None:
    """Format 2 knows authors. Older records have none, so they count for nobody and their size stays 0."""
    for (store,) in connection.execute("SELECT id FROM stores").fetchall():
        connection.execute(f"ALTER TABLE keys_{store} ADD COLUMN author TEXT")
        connection.execute(f"ALTER TABLE keys_{store} ADD COLUMN size INTEGER NOT NULL DEFAULT 0")
        connection.execute(
            f"""CREATE TABLE usage_{store}(
                author TEXT PRIMARY KEY, records INTEGER NOT NULL, bytes INTEGER NOT NULL) WITHOUT ROWID"""
        )


# --- format 3 ---


def _add_clean_up(connection: sqlite3.Connection) -> None:
    """Format 3 knows indexes, settings, floors, sizes, and which seqs are gone."""
    for column in ("history_floor", "tombstone_floor", "live_bytes", "dead_values", "dead_bytes", "tombstones"):
        connection.execute(f"ALTER TABLE stores ADD COLUMN {column} INTEGER NOT NULL DEFAULT 0")
    connection.execute("ALTER TABLE stores ADD COLUMN settings TEXT NOT NULL DEFAULT '{}'")
    connection.execute(
        """CREATE TABLE indexes(
            id INTEGER PRIMARY KEY AUTOINCREMENT, store INTEGER NOT NULL, uid TEXT NOT NULL, name TEXT NOT NULL,
            path TEXT NOT NULL, kind TEXT NOT NULL, state TEXT NOT NULL, done INTEGER NOT NULL,
            created_ms INTEGER NOT NULL, UNIQUE (store, name))"""
    )
    connection.execute("CREATE TABLE garbage(name TEXT PRIMARY KEY) WITHOUT ROWID")
    for (store,) in connection.execute("SELECT id FROM stores").fetchall():
        connection.execute(f"ALTER TABLE log_{store} ADD COLUMN terms BLOB")
        connection.execute(f"CREATE INDEX deletes_{store} ON log_{store}(seq) WHERE partner < seq")
        connection.execute(f"CREATE TABLE gone_{store}(piece INTEGER PRIMARY KEY, bits BLOB NOT NULL)")
    connection.execute("INSERT INTO meta VALUES ('filling', '0 0')")


def _fill(connection: sqlite3.Connection) -> None:
    """Work out the sizes of the stores, and which of their seqs are gone, from where that was broken off."""
    while filling := str(_read_meta(connection, "filling")):
        store, after = map(int, filling.split(" "))
        with _transaction(connection):
            rows = [] if store == 0 else _rows_above(connection, store, Seq(after))
            if rows:
                _count(connection, store, rows)
                progress = f"{store} {rows[-1][0]}"
            else:
                row = connection.execute("SELECT min(id) FROM stores WHERE id > ?", (store,)).fetchone()
                progress = "" if row[0] is None else f"{row[0]} 0"
            if progress:
                connection.execute("UPDATE meta SET value = ? WHERE name = 'filling'", (progress,))
            else:
                connection.execute("DELETE FROM meta WHERE name = 'filling'")


_Row = tuple[Seq, Seq | None, int]


def _rows_above(connection: sqlite3.Connection, store: int, after: Seq) -> list[_Row]:
    """Return seq, partner and bytes of the next rows."""
    sql = f"""SELECT seq, partner, length(CAST(change AS BLOB)) FROM log_{store}
              WHERE seq > ? ORDER BY seq LIMIT {_ROWS_AT_ONCE}"""
    return connection.execute(sql, (after,)).fetchall()


def _count(connection: sqlite3.Connection, store: int, rows: list[_Row]) -> None:
    mark_gone(connection, store, [seq for seq, partner, _ in rows if partner is not None])
    live = sum([size for _, partner, size in rows if partner is None])
    dead = [size for seq, partner, size in rows if partner is not None and partner > seq]
    tombstones = sum([partner is not None and partner < seq for seq, partner, _ in rows])
    connection.execute(
        """UPDATE stores SET live_bytes = live_bytes + ?, dead_values = dead_values + ?, dead_bytes = dead_bytes + ?,
               tombstones = tombstones + ? WHERE id = ?""",
        (live, len(dead), sum(dead), tombstones, store),
    )


#: What leads from each format to the next.
_STEPS: dict[int, Callable[[sqlite3.Connection], None]] = {1: _add_authors, 2: _add_clean_up}
