"""Finding in one file: live records by an index or by their keys, in order and in pieces."""

import sqlite3
from contextlib import closing

from syncline_protocol.cursor import Seq
from syncline_protocol.index import TermRange
from syncline_protocol.limits import BATCH_BYTES_TARGET

from .base import Found, FoundRow, IndexBuilding, Place, StoreInfo
from .sqlite_reader import moment
from .sqlite_schema import read_stores

__all__ = ["count_found", "find_rows", "seqs_by_term"]


def _index_table(connection: sqlite3.Connection, store: int, info: StoreInfo, name: str) -> int:
    """Return the number of the table of an index that is complete.

    Raises:
        IndexUnknown, IndexBuilding: it cannot answer.
    """
    index = info.index(name)
    if index.state == "building":
        raise IndexBuilding(info.name, name, index.done, info.head.seq)
    row = connection.execute("SELECT id FROM indexes WHERE store = ? AND name = ?", (store, name)).fetchone()
    return int(row[0])


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
    with moment(connection):
        ((_, info),) = read_stores(connection, name)
        if index is None:
            sql, values = _by_key(store, terms, after, descending=descending)
        else:
            table = _index_table(connection, store, info, index)
            sql, values = _by_term(store, table, terms, after, descending=descending)
        rows: list[FoundRow] = []
        size = 0
        with closing(connection.execute(f"{sql} LIMIT ?", (*values, limit + 1))) as found:
            for term, seq, text in found:
                if len(rows) == limit or size >= BATCH_BYTES_TARGET:
                    return Found(tuple(rows), info.head, is_last=False)
                rows.append(FoundRow(term, seq, text))
                size += len(text)
        return Found(tuple(rows), info.head, is_last=True)


def _by_term(
    store: int, table: int, terms: TermRange, after: Place | None, *, descending: bool
) -> tuple[str, list[object]]:
    where = ["term >= ?"]
    values: list[object] = [terms.first]
    if terms.end is not None:
        where.append("term < ?")
        values.append(terms.end)
    if after is not None:
        where.append(f"(term, index_{table}.seq) {'<' if descending else '>'} (?, ?)")
        values += [after.term, after.seq]
    order = "DESC" if descending else "ASC"
    # CROSS JOIN: the index comes first, in its order, and each of its rows has one in the log.
    sql = f"""SELECT term, index_{table}.seq, change FROM index_{table}
              CROSS JOIN log_{store} ON log_{store}.seq = index_{table}.seq
              WHERE {" AND ".join(where)} ORDER BY term {order}, index_{table}.seq {order}"""
    return sql, values


def _by_key(store: int, terms: TermRange, after: Place | None, *, descending: bool) -> tuple[str, list[object]]:
    where = ["key >= ?"]
    values: list[object] = [_text(terms.first)]
    if terms.end is not None:
        where.append("key < ?")
        values.append(_text(terms.end))
    if after is not None:
        where.append(f"key {'<' if descending else '>'} ?")
        values.append(_text(after.term))
    sql = f"""SELECT CAST(key AS BLOB), seq, change FROM keys_{store} CROSS JOIN log_{store} ON seq = add_seq
              WHERE delete_seq IS NULL AND {" AND ".join(where)} ORDER BY key {"DESC" if descending else "ASC"}"""
    return sql, values


def count_found(connection: sqlite3.Connection, store: int, name: str, index: str | None, terms: TermRange) -> int:
    """Carry out `Storage.count`."""
    with moment(connection):
        ((_, info),) = read_stores(connection, name)
        end = "" if terms.end is None else "AND {} < ?"
        if index is None:
            bounds: list[object] = [_text(terms.first)] if terms.end is None else [_text(terms.first), _text(terms.end)]
            sql = f"SELECT count(*) FROM keys_{store} WHERE delete_seq IS NULL AND key >= ? {end.format('key')}"
        else:
            table = _index_table(connection, store, info, index)
            bounds = [terms.first] if terms.end is None else [terms.first, terms.end]
            what = "DISTINCT seq" if info.index(index).spec.kind == "multi" else "*"
            sql = f"SELECT count({what}) FROM index_{table} WHERE term >= ? {end.format('term')}"
        (count,) = connection.execute(sql, bounds).fetchone()
        return int(count)


def _text(term: bytes) -> str:
    """Return a bound for keys as text; what follows the last text of a beginning has to be text too."""
    return term.decode()


def seqs_by_term(connection: sqlite3.Connection, table: int, terms: TermRange, upto: Seq) -> list[Seq]:
    """Return the seqs up to `upto` that an index has in a range, ascending and once each."""
    end, values = ("", [terms.first]) if terms.end is None else ("AND term < ?", [terms.first, terms.end])
    sql = f"SELECT seq FROM index_{table} WHERE term >= ? {end} AND seq <= ?"
    return sorted({seq for (seq,) in connection.execute(sql, (*values, upto))})
