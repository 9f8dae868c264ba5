"""The tables of indexes: what an append writes to them, and how they are declared, built and dropped.

An index table has the live records only. A DELETE takes the rows of its record out, whose terms it works out from the
text of the ADD, and keeps these terms in its own row of the log: by them a filtered feed knows, also after clean-up,
whom the DELETE is for. All of this is called in the writer's thread, inside of a transaction.

An index is `building` until it has what was added before it was declared. Appends keep it up from the first moment, so
the build only has to take in, in ascending order, what lives of the log up to the head of that time, and comes to an
end however fast the log grows. What dies before the build has come there is dead when it does, and left out.
"""

import sqlite3
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import chain

import msgspec

from syncline_protocol.codec import decode_change
from syncline_protocol.cursor import Seq
from syncline_protocol.index import IndexSet, IndexSpec

from .base import IndexInfo, StoreInfo, Terms
from .sqlite_rows import write_rows
from .staging import StagedStore

__all__ = [
    "NO_TABLES",
    "IndexTables",
    "build_step",
    "declare",
    "decode_terms",
    "drop",
    "new_index",
    "packed_terms",
    "settle_deletes",
    "terms_of_text",
    "write_terms",
]

#: Rows of the log, and terms of them, that the build takes in before it looks at the clock again.
_BUILD_ROWS = 200
_BUILD_TERMS = 1000

_encode_terms = msgspec.msgpack.Encoder().encode
decode_terms = msgspec.msgpack.Decoder(dict[str, tuple[bytes, ...]]).decode


@dataclass(frozen=True, slots=True)
class IndexTables:
    """The indexes of one store, by uid: what they are on, which table each has, and above which seq appends keep it up.

    That seq is the head at the declaration, or a later one: that at which this process opened the file.
    """

    indexes: IndexSet
    tables: dict[str, int]
    kept_above: dict[str, Seq]

    @classmethod
    def read(
        cls, connection: sqlite3.Connection, store: int, info: StoreInfo, before: "IndexTables | None" = None
    ) -> "IndexTables":
        """Return those of a store; `before` is what they were, if it is known."""
        rows = connection.execute("SELECT uid, id FROM indexes WHERE store = ?", (store,)).fetchall()
        known = {} if before is None else before.kept_above
        return cls(
            IndexSet({index.uid: index.spec for index in info.indexes}),
            dict(rows),
            {uid: known.get(uid, info.head.seq) for uid, _ in rows},
        )


#: Of a store without indexes.
NO_TABLES = IndexTables(IndexSet({}), {}, {})


def terms_of_text(indexes: IndexSet, text: bytes | str) -> Terms:
    """Return the terms of an ADD as BATCH carries it."""
    value = decode_change(text.encode() if isinstance(text, str) else text).value
    assert isinstance(value, msgspec.Raw), "an ADD has a value"
    return indexes.terms(value)


# --- with an append ---


def settle_deletes(indexes: IndexSet, staged: StagedStore, died: Sequence[tuple[Seq, str]]) -> dict[Seq, Terms]:
    """Give the DELETEs of older records the terms of what they delete. Returns those by the seq of the ADD.

    Args:
        died: seq and text of each ADD in `staged.deaths`.
    """
    lost = {seq: terms_of_text(indexes, text) for seq, text in died}
    for add_seq, delete_seq in staged.deaths:
        staged.terms[delete_seq - staged.after - 1] = lost[add_seq]
    return lost


def packed_terms(staged: StagedStore) -> dict[Seq, bytes]:
    """Return the terms that rows of the log keep, by their seqs: those of DELETEs that have some."""
    if not staged.terms:
        return {}
    return {
        row.seq: _encode_terms(terms)
        for row, partner, terms in zip(staged.rows, staged.partners, staged.terms, strict=True)
        if terms and partner is not None and partner < row.seq
    }


def write_terms(
    connection: sqlite3.Connection, own: IndexTables, staged: StagedStore, lost: Mapping[Seq, Terms]
) -> None:
    """Put the records that an append adds into the indexes, and take out those that it deletes.

    Args:
        lost: the terms of each ADD in `staged.deaths`.
    """
    added: dict[str, list[tuple[bytes, Seq]]] = {uid: [] for uid in own.tables}
    for row, partner, terms in zip(staged.rows, staged.partners, staged.terms, strict=True):
        if partner is None:
            seq = row.seq
            for uid, each in terms.items():
                if len(each) == 1:
                    added[uid].append((each[0], seq))
                else:
                    added[uid] += [(term, seq) for term in each]
    taken: dict[str, list[tuple[bytes, Seq]]] = {uid: [] for uid in own.tables}
    for seq, terms in lost.items():
        for uid, each in terms.items():
            taken[uid] += [(term, seq) for term in each]
    # In the order of the table, neighbours go to the same page.
    for uid, rows in added.items():
        before = f"INSERT OR ROLLBACK INTO index_{own.tables[uid]} VALUES "
        write_rows(connection, before, 2, "", [*chain.from_iterable(sorted(rows))])
    for uid, rows in taken.items():
        # One by one: SQLite would look through the whole table for a list of pairs.
        connection.executemany(f"DELETE FROM index_{own.tables[uid]} WHERE term = ? AND seq = ?", sorted(rows))


# --- the life of an index ---


def declare(connection: sqlite3.Connection, store: int, info: IndexInfo) -> None:
    """Make the table of an index."""
    spec = info.spec
    made = connection.execute(
        "INSERT INTO indexes(store, uid, name, path, kind, state, done, created_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (store, info.uid, spec.name, spec.path, spec.kind, info.state, info.done, info.created_ms),
    ).lastrowid
    connection.execute(
        f"CREATE TABLE index_{made}(term BLOB NOT NULL, seq INTEGER NOT NULL, PRIMARY KEY (term, seq)) WITHOUT ROWID"
    )


def build_step(
    connection: sqlite3.Connection, store: int, own: IndexTables, info: IndexInfo, budget_s: float
) -> IndexInfo:
    """Take more of the log into an index, for about so long, and note how far that has come."""
    until = time.monotonic() + budget_s
    table, upto, done = own.tables[info.uid], own.kept_above[info.uid], info.done
    indexes = IndexSet({info.uid: info.spec})
    while done < upto:
        found, done = _next_terms(connection, store, indexes, done, upto, until)
        # What was added since the index was declared is there already, if another process began to build it.
        write_rows(
            connection, f"INSERT OR IGNORE INTO index_{table} VALUES ", 2, "", [*chain.from_iterable(sorted(found))]
        )
        if time.monotonic() >= until:
            break
    state = "ready" if done >= upto else "building"
    connection.execute("UPDATE indexes SET done = ?, state = ? WHERE id = ?", (done, state, table))
    return msgspec.structs.replace(info, done=done, state=state)


def _next_terms(
    connection: sqlite3.Connection, store: int, indexes: IndexSet, after: Seq, upto: Seq, until: float
) -> tuple[list[tuple[bytes, Seq]], Seq]:
    """Return the terms of the next rows, in one index, and up to which seq they were looked at."""
    found: list[tuple[bytes, Seq]] = []
    # The texts of the dead are not even read.
    sql = f"""SELECT seq, CASE WHEN partner IS NULL THEN change END FROM log_{store}
              WHERE seq > ? AND seq <= ? ORDER BY seq LIMIT {_BUILD_ROWS}"""
    with closing(connection.execute(sql, (after, upto))) as rows:
        for count, (seq, text) in enumerate(rows, 1):
            if text is not None:
                for terms in terms_of_text(indexes, text).values():
                    found += [(term, seq) for term in terms]
            # A value may have a megabyte, so the clock is looked at after each.
            if len(found) >= _BUILD_TERMS or time.monotonic() >= until or count == _BUILD_ROWS:
                return found, seq
    return found, upto


def drop(connection: sqlite3.Connection, table: int) -> None:
    """Forget an index; its table becomes garbage."""
    connection.execute("DELETE FROM indexes WHERE id = ?", (table,))
    connection.execute("INSERT INTO garbage VALUES (?)", (f"index_{table}",))


def new_index(uid: str, spec: IndexSpec, head: Seq, now_ms: int) -> IndexInfo:
    """Return an index that was just declared: nothing is missing from that of an empty log."""
    return IndexInfo(uid, spec, "ready" if head == 0 else "building", Seq(0), now_ms)
