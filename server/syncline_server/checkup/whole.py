"""The file as SQLite sees it: whose it is, whether its pages are sound, and whether tables and lists agree."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing

from syncline_server.storage.sqlite_schema import APPLICATION_ID, FORMAT, sqlite_wal_bug

from .finding import Faults, Finding, Progress

__all__ = ["check_pages", "check_sqlite", "check_tables", "recognise"]

_TABLES_OF_STORE = ("log", "keys", "usage", "gone")

#: Tables of SQLite itself, and of Litestream, which has two in every file that it replicates.
_OF_OTHERS = {"sqlite_sequence", "sqlite_stat1", "sqlite_stat4", "_litestream_lock", "_litestream_seq"}

#: Steps of SQLite's machine between two looks at the progress.
_STEPS = 2_000_000


def check_sqlite() -> Finding:
    """Say which SQLite reads the file."""
    version = sqlite3.sqlite_version
    if sqlite_wal_bug(sqlite3.sqlite_version_info):
        todo = "let no other program write to the file while it is served; fixed in 3.51.3, 3.50.7 and 3.44.6"
        return Finding("warn", f"SQLite {version} can damage a file to which two programs write (WAL reset)", todo)
    return Finding("ok", f"SQLite {version}")


def recognise(connection: sqlite3.Connection) -> tuple[Finding, bool]:
    """Say whose file it is; and whether this version can look at what is in it."""
    (application_id,) = connection.execute("PRAGMA application_id").fetchone()
    if application_id != APPLICATION_ID:
        return Finding("fail", "it is the SQLite file of another program", "name a file of Syncline"), False
    meta = {name.decode(): value for name, value in connection.execute("SELECT name, value FROM meta")}
    format_ = meta.get("format")
    if not isinstance(format_, int) or not 1 <= format_ <= FORMAT:
        todo = "use the version that wrote it, or a newer one"
        return Finding("fail", f"its format is {format_}, this version reads 1 to {FORMAT}", todo), False
    if format_ != FORMAT or "filling" in meta:
        todo = "start the server with it once, and stop it; then this command can look at it"
        return Finding("fail", f"its format is {format_}, and it has yet to be brought to {FORMAT}", todo), False
    return Finding("ok", f"a file of Syncline, format {format_}"), True


def check_pages(connection: sqlite3.Connection, path: str, progress: Progress) -> Finding:
    """Let SQLite check every page and every order of it."""
    size = os.path.getsize(path)
    looks = 0

    def tick() -> int:
        nonlocal looks
        looks += 1
        progress("pages", looks, 0)
        return 0

    connection.set_progress_handler(tick, _STEPS)
    faults = Faults()
    try:
        with closing(connection.execute("PRAGMA integrity_check(100)")) as found:
            for (text,) in found:
                if text != b"ok":
                    faults.add(" ".join(text.decode(errors="replace").split()))
    finally:
        connection.set_progress_handler(None, 0)
    if faults:
        return Finding("fail", f"pages: {faults}", "the file is damaged; restore a backup")
    return Finding("ok", f"pages: {size} bytes, sound")


def check_tables(connection: sqlite3.Connection) -> Iterator[Finding]:
    """Compare the tables that are there with those that the lists name."""
    tables = {name.decode() for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    stores = {id_ for (id_,) in connection.execute("SELECT id FROM stores")}
    indexes = dict(connection.execute("SELECT id, store FROM indexes").fetchall())
    garbage = {name.decode() for (name,) in connection.execute("SELECT name FROM garbage")}
    expected = {f"{kind}_{store}" for kind in _TABLES_OF_STORE for store in stores}
    expected |= {f"index_{index}" for index in indexes} | garbage
    expected |= {"meta", "stores", "lineage", "indexes", "garbage"}
    missing, foreign = expected - tables, tables - expected - _OF_OTHERS
    if missing:
        yield Finding("fail", f"tables: {', '.join(sorted(missing))} are not there", "restore a backup")
    if foreign:
        yield Finding("warn", f"tables: {', '.join(sorted(foreign))} belong to no store", "they only take room")
    homeless = [index for index, store in indexes.items() if store not in stores]
    lineages = {store for (store,) in connection.execute("SELECT DISTINCT store FROM lineage")}
    if homeless or lineages != stores:
        yield Finding(
            "fail", "tables: indexes or lineages of stores that are not there, or none of one", "restore a backup"
        )
    if not missing:
        waits = f", {len(garbage)} dropped ones are on their way out" if garbage else ""
        yield Finding("ok", f"tables: {len(stores)} stores, {len(indexes)} indexes{waits}")
