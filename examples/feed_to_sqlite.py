"""Keeps a store as a table of an SQLite file, and goes on where it stopped: python feed_to_sqlite.py STORE FILE.

The rows and the position that they reach are in one transaction, so a crash at any moment repeats and skips nothing.
"""

import asyncio
import sqlite3
import sys

import syncline

TABLES = """
CREATE TABLE IF NOT EXISTS record (key TEXT PRIMARY KEY, seq INTEGER, value TEXT);
CREATE TABLE IF NOT EXISTS position (one INTEGER PRIMARY KEY CHECK (one = 1), cursor TEXT, lineage TEXT);
"""


def apply(db: sqlite3.Connection, change: syncline.Change) -> None:
    """Apply one change."""
    if change.op == "ADD":
        db.execute("INSERT OR REPLACE INTO record VALUES (?, ?, ?)", (change.key, change.seq, change.text))
    else:
        db.execute("DELETE FROM record WHERE key = ?", (change.key,))


def save(db: sqlite3.Connection, cursor: str, lineage: str | None) -> None:
    """Save the position with the rows that lead to it."""
    db.execute("INSERT OR REPLACE INTO position VALUES (1, ?, ?)", (cursor, lineage))
    db.commit()


async def follow(client: syncline.Client, store: str, db: sqlite3.Connection) -> None:
    """Follow the store until history turns out to be another one."""
    row = db.execute("SELECT cursor, lineage FROM position").fetchone() or ("start", None)
    async with client.subscribe(store, after=row[0], known=row[1]) as changes:
        async for change in changes:
            apply(db, change)
            if change.ends_batch:
                save(db, change.cursor, changes.lineage)
                print(f"{store} is at {change.seq}", flush=True)


async def main(store: str, path: str) -> None:
    """Follow for ever."""
    db = sqlite3.connect(path)
    db.executescript(TABLES)
    async with syncline.connect(wait=False) as client:
        while True:
            try:
                await follow(client, store, db)
            except syncline.HistoryChanged as error:
                print(f"begins again: {error}", flush=True)
                db.rollback()
                db.execute("DELETE FROM record")
                save(db, "start", None)


asyncio.run(main(*sys.argv[1:]))
