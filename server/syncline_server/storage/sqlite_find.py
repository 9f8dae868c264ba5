"""Finding in one file: live records by an index or by their keys, in order and in pieces.

Keys are compared as the bytes of their UTF-8, in which SQLite keeps them. A bound, such as the end of all keys that
begin with something, need not be text; it is bound as bytes and only called text. All of this is called inside of
`moment`.
"""

import sqlite3
from collections.abc import Set as AbstractSet
from contextlib import closing
from typing import NamedTuple

import msgspec

from syncline_protocol.index import IndexKind, IndexSet, IndexSpec, TermRange
from syncline_protocol.limits import BATCH_BYTES_TARGET

from .base import Found, FoundRow, Head, IndexBuilding, IndexUnknown, Place
from .sqlite_schema import read_stores

__all__ = ["count_found", "find_rows", "read_indexes", "within"]

_decode_specs = msgspec.json.Decoder(list[tuple[str, str, str, IndexKind]]).decode


def find_rows(
    connection: sqlite3.Connection,
    store: int,
    name: str,
    index: str | None,
    terms: TermRange,
    after: Place | None,
    *,
    descending: bool,
    limit: int,
) -> Found:
    """Carry out `Storage.find`."""
    if index is None:
        sql, values = _by_key(store, terms, after, descending=descending)
    else:
        table = _index(connection, store, name, index).table
        sql, values = _by_term(store, table, terms, after, descending=descending)
    rows: list[FoundRow] = []
    size = 0
    head = _head(connection, name)
    with closing(connection.execute(f"{sql} LIMIT ?", (*values, limit + 1))) as found:
        for term, seq, text in found:
            if len(rows) == limit or size >= BATCH_BYTES_TARGET:
                return Found(tuple(rows), head, is_last=False)
            rows.append(FoundRow(term, seq, text))
            size += len(text)
    return Found(tuple(rows), head, is_last=True)


def _head(connection: sqlite3.Connection, name: str) -> Head:
    ((_, info),) = read_stores(connection, name)
    return info.head


def _by_term(
    store: int, table: int, terms: TermRange, after: Place | None, *, descending: bool
) -> tuple[str, tuple[object, ...]]:
    # With a bound on the terms beside the place, SQLite would begin at the bound and count its way to the place.
    first, end = ("term >= ?", (terms.first,)), ("term < ?", (terms.end,))
    bounds: list[tuple[str, tuple[object, ...]]] = [first] if terms.end is None else [first, end]
    if after is not None:
        place = (after.term, after.seq)
        if descending and (terms.end is None or after.term < terms.end):
            bounds = [first, ("(term, seq) < (?, ?)", place)]
        elif not descending and after.term >= terms.first:
            bounds = [*bounds[1:], ("(term, seq) > (?, ?)", place)]
    order = "DESC" if descending else "ASC"
    # CROSS JOIN: the index comes first, in its order, and each of its rows has one in the log.
    sql = f"""SELECT term, found.seq, change FROM
              (SELECT term, seq FROM index_{table} WHERE {" AND ".join([where for where, _ in bounds])}
               ORDER BY term {order}, seq {order}) AS found
              CROSS JOIN log_{store} ON log_{store}.seq = found.seq
              ORDER BY found.term {order}, found.seq {order}"""
    return sql, tuple([value for _, values in bounds for value in values])


def _by_key(store: int, terms: TermRange, after: Place | None, *, descending: bool) -> tuple[str, tuple[object, ...]]:
    first, end = terms.first, terms.end
    if after is not None and descending:
        end = after.term if end is None else min(end, after.term)
    elif after is not None:
        # Nothing is between a key and the same with one byte of zero behind it.
        first = max(first, after.term + b"\x00")
    where, values = within("key", TermRange(first, end), "CAST(? AS TEXT)")
    sql = f"""SELECT CAST(key AS BLOB), seq, change FROM keys_{store} CROSS JOIN log_{store} ON seq = add_seq
              WHERE delete_seq IS NULL AND {where} ORDER BY key {"DESC" if descending else "ASC"}"""
    return sql, values


def count_found(connection: sqlite3.Connection, store: int, name: str, index: str | None, terms: TermRange) -> int:
    """Carry out `Storage.count`."""
    if index is None:
        where, values = within("key", terms, "CAST(? AS TEXT)")
        sql = f"SELECT count(*) FROM keys_{store} WHERE delete_seq IS NULL AND {where}"
    else:
        table, kind = _index(connection, store, name, index)
        what = "DISTINCT seq" if kind == b"multi" else "*"
        where, values = within("term", terms)
        sql = f"SELECT count({what}) FROM index_{table} WHERE {where}"
    (count,) = connection.execute(sql, values).fetchone()
    return int(count)


def within(column: str, terms: TermRange, bound: str = "?") -> tuple[str, tuple[bytes, ...]]:
    """Return the condition that a column is in a range, and the values that are bound in it."""
    if terms.end is None:
        return f"{column} >= {bound}", (terms.first,)
    return f"{column} >= {bound} AND {column} < {bound}", (terms.first, terms.end)


# --- indexes ---


class _Index(NamedTuple):
    table: int
    kind: bytes


def _index(connection: sqlite3.Connection, store: int, name: str, index: str) -> _Index:
    """Return the number of the table of an index, and its kind.

    Raises:
        IndexUnknown, IndexBuilding: it cannot answer.
    """
    sql = """SELECT indexes.id, kind, state, done, head_seq FROM indexes JOIN stores ON stores.id = store
             WHERE store = ? AND indexes.name = ?"""
    row = connection.execute(sql, (store, index)).fetchone()
    if row is None:
        raise IndexUnknown(name, index)
    if row[2] != b"ready":
        raise IndexBuilding(name, index, row[3], row[4])
    return _Index(row[0], row[1])


def read_indexes(
    connection: sqlite3.Connection, store: int, name: str, uids: AbstractSet[str]
) -> tuple[dict[str, int], IndexSet]:
    """Return the numbers of the tables of some indexes, and what works out their terms, by uid.

    Raises:
        IndexUnknown, IndexBuilding: one of them cannot answer.
    """
    sql = "SELECT json_group_array(json_array(uid, name, path, kind)) FROM indexes WHERE store = ?"
    (text,) = connection.execute(sql, (store,)).fetchone()
    specs = {uid: IndexSpec(index, path, kind) for uid, index, path, kind in _decode_specs(text)}
    tables: dict[str, int] = {}
    for uid in uids:
        if uid not in specs:
            raise IndexUnknown(name, uid)
        tables[uid] = _index(connection, store, name, specs[uid].name).table
    return tables, IndexSet({uid: specs[uid] for uid in uids})
