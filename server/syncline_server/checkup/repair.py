"""Writing anew what is derived: count and digest, sizes, the set of live records, usage, index tables.

A store is repaired in one transaction, and only if its log is sound: what is worked out from a damaged log would hide
the damage. An index is emptied and marked as one that has yet to be built, which the server does when it starts.
"""

import sqlite3
from collections.abc import Sequence
from contextlib import closing

from syncline_server.storage.sqlite_gone import GONE_SEQS
from syncline_server.storage.sqlite_schema import open_writer

from .finding import Finding
from .store import CheckedStore

__all__ = ["repair"]

_PIECE_BYTES = GONE_SEQS // 8


def repair(path: str, checked: Sequence[CheckedStore]) -> list[Finding]:
    """Repair what can be. The caller holds the lock on the file. Returns what was done. Raises sqlite3.Error."""
    findings: list[Finding] = []
    with closing(open_writer(path, must_checkpoint=False)) as connection:
        for store in checked:
            if not store.wrong:
                continue
            if not store.is_log_sound:
                text = f"{store.info.name}: not repaired, as its log is damaged"
                findings.append(Finding("fail", text, "restore a backup"))
                continue
            _repair_store(connection, store)
            findings.append(Finding("ok", f"{store.info.name}: repaired {_named(store)}"))
    return findings


def _named(store: CheckedStore) -> str:
    names = {"head": "count and digest", "gone": "the set of live records", "sizes": "sizes", "usage": "usage"}
    names |= {index.uid: f"index {index.spec.name} (the server builds it)" for index in store.info.indexes}
    return ", ".join(text for part, text in names.items() if part in store.wrong)


def _repair_store(connection: sqlite3.Connection, store: CheckedStore) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        if store.wrong & {"head", "sizes"}:
            _write_head(connection, store)
        if "gone" in store.wrong:
            _write_gone(connection, store)
        if "usage" in store.wrong:
            connection.execute(f"DELETE FROM usage_{store.id}")
            rows = [(author, usage.records, usage.bytes) for author, usage in store.log.usage.items()]
            connection.executemany(f"INSERT INTO usage_{store.id} VALUES (?, ?, ?)", rows)
        for index in store.info.indexes:
            if index.uid in store.wrong:
                sql = "SELECT id FROM indexes WHERE store = ? AND uid = ?"
                (table,) = connection.execute(sql, (store.id, index.uid)).fetchone()
                connection.execute(f"DELETE FROM index_{table}")
                connection.execute("UPDATE indexes SET state = 'building', done = 0 WHERE id = ?", (table,))
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _write_head(connection: sqlite3.Connection, store: CheckedStore) -> None:
    log = store.log
    connection.execute(
        """UPDATE stores SET live_count = ?, digest = ?, live_bytes = ?, dead_values = ?, dead_bytes = ?, tombstones = ?
           WHERE id = ?""",
        (log.count, log.digest % 2**32, log.live_bytes, log.dead_values, log.dead_bytes, log.tombstones, store.id),
    )


def _write_gone(connection: sqlite3.Connection, store: CheckedStore) -> None:
    head = store.info.head.seq
    gone = int.from_bytes(store.log.live, "little") ^ ((1 << head) - 1)
    pieces = -(-head // GONE_SEQS)
    bits = gone.to_bytes(pieces * _PIECE_BYTES, "little")
    connection.execute(f"DELETE FROM gone_{store.id}")
    rows = [(piece, bits[piece * _PIECE_BYTES : (piece + 1) * _PIECE_BYTES]) for piece in range(pieces)]
    # A piece in which everything lives has no row.
    connection.executemany(f"INSERT INTO gone_{store.id} VALUES (?, ?)", [row for row in rows if any(row[1])])
