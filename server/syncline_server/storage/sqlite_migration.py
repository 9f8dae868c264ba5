"""From an older file format to the newest, a step for each format, all in one transaction.

A process that is killed in between leaves the file as it was. Steps stay as they are for ever: each makes what its
format had, whatever `sqlite_schema` makes of a new file today.
"""

import sqlite3
from collections.abc import Callable

__all__ = ["migrate"]


def migrate(connection: sqlite3.Connection, newest: int) -> None:
    """Bring a file, which may be of the newest format already, to the newest format.

    Raises:
        sqlite3.Error: SQLite cannot write the file; it is as it was.
    """
    (found,) = connection.execute("SELECT value FROM meta WHERE name = 'format'").fetchone()
    if found == newest:
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        for format_ in range(found, newest):
            _STEPS[format_](connection)
        connection.execute("UPDATE meta SET value = ? WHERE name = 'format'", (newest,))
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _add_authors(connection: sqlite3.Connection) -> None:
    """Format 2 knows authors. Older records have none, so they count for nobody and their size stays 0."""
    for (store,) in connection.execute("SELECT id FROM stores").fetchall():
        connection.execute(f"ALTER TABLE keys_{store} ADD COLUMN author TEXT")
        connection.execute(f"ALTER TABLE keys_{store} ADD COLUMN size INTEGER NOT NULL DEFAULT 0")
        connection.execute(
            f"""CREATE TABLE usage_{store}(
                author TEXT PRIMARY KEY, records INTEGER NOT NULL, bytes INTEGER NOT NULL) WITHOUT ROWID"""
        )


#: What leads from each format to the next.
_STEPS: dict[int, Callable[[sqlite3.Connection], None]] = {1: _add_authors}
