"""The whole check of one file, in the order from the file to what is in it, and its repair."""

import sqlite3
from collections.abc import Generator, Iterator
from contextlib import closing

from syncline_server.storage.base import StorageError
from syncline_server.storage.file_lock import FileLock
from syncline_server.storage.sqlite_backup import open_snapshot
from syncline_server.storage.sqlite_schema import read_stores

from .finding import Finding, Progress
from .repair import repair
from .store import REPAIR, CheckedStore, check_store
from .whole import check_pages, check_sqlite, check_tables, recognise

__all__ = ["examine"]

#: What the file may do to whoever reads a damaged one.
_DAMAGED = (sqlite3.Error, ValueError, TypeError, AssertionError, AttributeError, OverflowError)


def examine(
    path: str, *, must_repair: bool = False, progress: Progress = lambda what, done, total: None
) -> Iterator[Finding]:
    """Check a store file completely.

    Args:
        path: the file. It is only read, at one moment, so it may also be served meanwhile.
        must_repair: write anew what is derived and wrong; then no server may have the file.
        progress: told how far it has come.

    Yields:
        a finding for each check; a file is sound if none is a `fail`. The findings of a repair come last.
    """
    yield check_sqlite()
    try:
        lock = FileLock(path) if must_repair else None
    except StorageError as error:
        yield Finding("fail", error.message, error.hint)
        return
    try:
        checked = yield from _look(path, must_repair, progress)
        if must_repair:
            yield from _repaired(path, checked)
    finally:
        if lock is not None:
            lock.release()


def _look(path: str, must_repair: bool, progress: Progress) -> Generator[Finding, None, list[CheckedStore]]:
    checked: list[CheckedStore] = []
    try:
        connection = open_snapshot(path)
    except (sqlite3.Error, OSError) as error:
        yield Finding("fail", f"{path} cannot be opened: {error}", "check the path, and that it is a file of Syncline")
        return checked
    with closing(connection):
        try:
            finding, can_go_on = recognise(connection)
            yield finding
            if not can_go_on:
                return checked
            yield check_pages(connection, path, progress)
            yield from check_tables(connection)
            stores = read_stores(connection)
        except _DAMAGED as error:
            yield Finding("fail", f"{path} cannot be read: {error}", "the file is damaged; restore a backup")
            return checked
        for id_, info in stores:
            try:
                store = check_store(connection, id_, info, progress)
            except _DAMAGED as error:
                yield Finding("fail", f"{info.name}: it cannot be read: {error}", "restore a backup")
                continue
            yield from [_to_be_repaired(finding) for finding in store.findings] if must_repair else store.findings
            checked.append(store)
    return checked


def _to_be_repaired(finding: Finding) -> Finding:
    return Finding("warn", finding.text, "see below") if finding.todo == REPAIR else finding


def _repaired(path: str, checked: list[CheckedStore]) -> Iterator[Finding]:
    try:
        done = repair(path, checked)
    except (sqlite3.Error, OSError, StorageError) as error:
        yield Finding("fail", f"the repair failed: {error}", "check that the file can be written")
        return
    yield from done or [Finding("ok", "there is nothing to repair")]
