"""The backends under test, what each declares about itself, and what a sound log looks like.

`Fault` lets a test raise at a named point of a commit. `check` reads a backend's own representation, beside the
contract, and asserts that its parts agree; the fixtures call it for every storage that a test touched.
"""

import sqlite3
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import msgspec

from syncline_protocol.codec import decode_change
from syncline_protocol.cursor import Seq
from syncline_protocol.digest import digest_term
from syncline_protocol.index import IndexSet
from syncline_protocol.seq_set import SeqSet
from syncline_protocol.transaction import hash_value
from syncline_server.storage.base import Sizes, Storage, StoreInfo
from syncline_server.storage.memory import MemoryStorage
from syncline_server.storage.sqlite import SqliteStorage
from syncline_server.storage.sqlite_gone import read_gone
from syncline_server.storage.sqlite_index import decode_terms
from syncline_server.storage.sqlite_schema import read_stores

__all__ = ["BACKENDS", "Backend", "Fault", "Mint", "check"]


class Mint:
    """Makes `m1`, `m2`, … and remembers how many."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> str:
        self.count += 1
        return f"m{self.count}"


class Fault:
    """Raises `error` the next time that `point` is passed, once."""

    def __init__(self) -> None:
        self.point = ""
        self.error: Exception = sqlite3.OperationalError("disk I/O error")
        self.has_fired = False

    def at(self, point: str, error: Exception | None = None) -> None:
        """Arm it."""
        self.point, self.error, self.has_fired = point, error or self.error, False

    def __call__(self, point: str) -> None:
        if point == self.point:
            self.point, self.has_fired = "", True
            raise self.error


@dataclass(frozen=True)
class Backend:
    """A backend: how to make one, and how it differs from the others.

    `fails`: the medium can fail at a commit, and `Fault` can make it.
    """

    name: str
    make: Callable[[Path, Mint, Fault], Storage]
    fails: bool


BACKENDS = [
    Backend("memory", lambda path, mint, fault: MemoryStorage(mint), fails=False),
    Backend("sqlite", lambda path, mint, fault: SqliteStorage(path, mint=mint, fault=fault), fails=True),
]

#: seq, last seq of its transaction, partner, text, terms of what a DELETE deleted
_LogRow = tuple[int, int, int | None, bytes, Mapping[str, tuple[bytes, ...]]]
#: key -> seq of its ADD, of its DELETE, hash, author, size
_Keys = dict[str, tuple[int, int | None, bytes, str | None, int]]
#: author -> records, bytes
_Usage = dict[str, tuple[int, int]]
#: uid -> term and seq of each row; None: the backend keeps none
_Indexes = dict[str, set[tuple[bytes, int]]] | None


@dataclass
class _Contents:
    """What a backend holds of one store; `gone` is None if it keeps no such bits."""

    info: StoreInfo
    rows: list[_LogRow]
    keys: _Keys
    usage: _Usage
    indexes: _Indexes = None
    gone: SeqSet | None = None


def check(storage: Storage, path: Path) -> int:
    """Assert that every store is sound. Returns how many there are."""
    contents = list(_of_memory(storage) if isinstance(storage, MemoryStorage) else _of_sqlite(path))
    for held in contents:
        _check_log(held)
        _check_usage(held.keys, held.usage)
        _check_indexes(held)
        _check_sizes(held)
    return len(contents)


def _of_memory(storage: MemoryStorage) -> Iterable[_Contents]:
    for log in storage._logs.values():
        rows = [
            (row.seq, row.last_seq, log.partners[row.seq], row.text, log.terms.get(row.seq, {}))
            for row in log.rows.values()
        ]
        keys: _Keys = {
            key: (used.add_seq, used.delete_seq, used.hash, used.by, used.size) for key, used in log.used.items()
        }
        usage = {author: (usage.records, usage.bytes) for author, usage in log.usage.items()}
        yield _Contents(log.info, [*rows], keys, usage)


def _of_sqlite(path: Path) -> Iterable[_Contents]:
    if not path.exists():
        return
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        names = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
        stores = [store for store, _ in read_stores(connection)]
        of_stores = {f"{kind}_{store}" for kind in ("log", "keys", "usage", "gone") for store in stores}
        tables = dict(connection.execute("SELECT uid, id FROM indexes"))
        of_stores |= {f"index_{id_}" for id_ in tables.values()}
        garbage = {name for (name,) in connection.execute("SELECT name FROM garbage")}
        assert names - {"meta", "stores", "lineage", "indexes", "garbage", "sqlite_sequence"} == of_stores | garbage
        for store, info in read_stores(connection):
            rows = connection.execute(
                f"SELECT seq, last_seq, partner, CAST(change AS BLOB), terms FROM log_{store} ORDER BY seq"
            ).fetchall()
            keys = connection.execute(
                f"SELECT key, add_seq, delete_seq, hash, author, size FROM keys_{store}"
            ).fetchall()
            usage = connection.execute(f"SELECT author, records, bytes FROM usage_{store}").fetchall()
            yield _Contents(
                info,
                [(*row[:4], {} if row[4] is None else decode_terms(row[4])) for row in rows],
                {row[0]: row[1:] for row in keys},
                {row[0]: row[1:] for row in usage},
                {
                    index.uid: set(connection.execute(f"SELECT term, seq FROM index_{tables[index.uid]}"))
                    for index in info.indexes
                },
                SeqSet(read_gone(connection, store, info.head.seq)),
            )


def _check_log(held: _Contents) -> None:
    info, keys, head = held.info, held.keys, held.info.head
    found: _Keys = {}
    deleted: dict[str, int] = {}
    for seq, _, partner, text, _ in held.rows:
        change = decode_change(text)
        assert change.seq == seq
        if change.op == "ADD":
            assert isinstance(change.value, msgspec.Raw)
            assert change.key not in found, "a key is never used again"
            value = bytes(change.value)
            size = 0 if change.by is None else len(change.key.encode()) + len(value)
            found[change.key] = (seq, partner, hash_value(value), change.by, size)
        else:
            deleted[change.key] = seq
            assert (partner, seq) == keys[change.key][:2], "a DELETE names its ADD"
    assert {key: keys[key] for key in found} == found
    missing = {seq for used in keys.values() for seq in used[:2] if seq} - {row[0] for row in held.rows}
    history, tombstones = info.floors.history, info.floors.tombstones
    for add_seq, delete_seq, *_ in keys.values():
        if add_seq in missing:
            assert delete_seq is not None, "what lives stays"
            assert delete_seq <= history
        if delete_seq in missing:
            assert add_seq in missing
            assert delete_seq <= tombstones < head.seq
    assert {row[0] for row in held.rows} | missing == set(range(1, head.seq + 1))
    live = [(add_seq, key) for key, (add_seq, delete_seq, *_) in keys.items() if delete_seq is None]
    assert head.count == len(live)
    assert head.digest == sum(digest_term(Seq(seq), key) for seq, key in live) % 2**32
    if held.gone is not None:
        living = {seq for seq, _ in live}
        assert all((Seq(seq) in held.gone) == (seq not in living) for seq in range(1, head.seq + 1))
    _check_transactions(held.rows, head.seq)
    assert head.lineage.entries[0].first_seq == 0
    assert all(entry.first_seq <= head.seq for entry in head.lineage.entries), "a name is minted by a commit"


def _check_usage(keys: _Keys, usage: _Usage) -> None:
    """What is kept of each author's usage is the sum over his live records."""
    found: dict[str, tuple[int, int]] = {}
    for _, delete_seq, _, author, size in keys.values():
        if author is not None:
            records, total = found.get(author, (0, 0))
            found[author] = (records, total) if delete_seq is not None else (records + 1, total + size)
    # Who added and deleted in one append may or may not be mentioned.
    assert {author: sums for author, sums in usage.items() if sums != (0, 0)} == {
        author: sums for author, sums in found.items() if sums != (0, 0)
    }


def _check_indexes(held: _Contents) -> None:
    """An index that is ready has the live records by their terms; DELETEs carry the terms of what they deleted."""
    for index in held.info.indexes:
        own = IndexSet({index.uid: index.spec})
        wanted = {
            (term, seq)
            for seq, _, partner, text, _ in held.rows
            if partner is None and isinstance(value := decode_change(text).value, msgspec.Raw)
            for term in own.terms(value).get(index.uid, ())
        }
        if held.indexes is not None:
            assert held.indexes[index.uid] <= wanted
            assert index.state == "building" or held.indexes[index.uid] == wanted
    texts = {row[0]: row[3] for row in held.rows}
    specs = {index.uid: index.spec for index in held.info.indexes}
    for seq, _, partner, _, terms in held.rows:
        if partner is not None and partner < seq and partner in texts:
            value = decode_change(texts[Seq(partner)]).value
            assert isinstance(value, msgspec.Raw)
            for uid, found in terms.items():
                assert uid not in specs or IndexSet({uid: specs[uid]}).terms(value)[uid] == found


def _check_sizes(held: _Contents) -> None:
    live = [text for _, _, partner, text, _ in held.rows if partner is None]
    dead = [text for seq, _, partner, text, _ in held.rows if partner is not None and partner > seq]
    tombstones = [seq for seq, _, partner, _, _ in held.rows if partner is not None and partner < seq]
    sizes = Sizes(sum(map(len, live)), len(dead), sum(map(len, dead)), len(tombstones))
    assert held.info.sizes == sizes


def _check_transactions(rows: list[_LogRow], head: int) -> None:
    """Rows of one transaction name the same end, which is above no row of another."""
    end = 0
    for seq, last_seq, *_ in rows:
        if seq <= end:
            assert last_seq == end
        end = max(end, last_seq)
        assert seq <= last_seq <= head
    assert not rows or rows[-1][0] == head, "the newest row stays"
