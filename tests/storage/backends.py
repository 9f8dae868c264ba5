"""The backends under test, what each declares about itself, and what a sound log looks like.

`Fault` lets a test raise at a named point of a commit. `check` reads a backend's own representation, beside the
contract, and asserts that its parts agree; the fixtures call it for every storage that a test touched.
"""

import itertools
import sqlite3
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import msgspec

from syncline_protocol.codec import decode_change
from syncline_protocol.cursor import Seq
from syncline_protocol.digest import digest_term
from syncline_protocol.transaction import hash_value
from syncline_server.storage.base import Storage, StoreInfo
from syncline_server.storage.memory import MemoryStorage
from syncline_server.storage.sqlite import SqliteStorage
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

#: seq, last seq of its transaction, partner, text
_LogRow = tuple[int, int, int | None, bytes]
#: key -> seq of its ADD, of its DELETE, hash, author, size
_Keys = dict[str, tuple[int, int | None, bytes, str | None, int]]
#: author -> records, bytes
_Usage = dict[str, tuple[int, int]]
_Contents = Iterable[tuple[StoreInfo, list[_LogRow], _Keys, _Usage]]


def check(storage: Storage, path: Path) -> int:
    """Assert that every store is sound. Returns how many there are."""
    contents = list(_of_memory(storage) if isinstance(storage, MemoryStorage) else _of_sqlite(path))
    for info, rows, keys, usage in contents:
        _check_log(info, rows, keys)
        _check_usage(keys, usage)
    return len(contents)


def _of_memory(storage: MemoryStorage) -> _Contents:
    for log in storage._logs.values():
        rows = [(row.seq, row.last_seq, partner, row.text) for row, partner in zip(log.rows, log.partners, strict=True)]
        keys: _Keys = {
            key: (used.add_seq, used.delete_seq, used.hash, used.by, used.size) for key, used in log.used.items()
        }
        yield log.info, [*rows], keys, {author: (usage.records, usage.bytes) for author, usage in log.usage.items()}


def _of_sqlite(path: Path) -> _Contents:
    if not path.exists():
        return
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        names = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
        stores = [store for store, _ in read_stores(connection)]
        of_stores = {f"{kind}_{store}" for kind in ("log", "keys", "usage") for store in stores}
        assert names - {"meta", "stores", "lineage", "sqlite_sequence"} == of_stores
        for store, info in read_stores(connection):
            rows = connection.execute(
                f"SELECT seq, last_seq, partner, CAST(change AS BLOB) FROM log_{store} ORDER BY seq"
            ).fetchall()
            keys = connection.execute(
                f"SELECT key, add_seq, delete_seq, hash, author, size FROM keys_{store}"
            ).fetchall()
            usage = connection.execute(f"SELECT author, records, bytes FROM usage_{store}").fetchall()
            yield info, rows, {row[0]: row[1:] for row in keys}, {row[0]: row[1:] for row in usage}


def _check_log(info: StoreInfo, rows: list[_LogRow], keys: _Keys) -> None:
    head = info.head
    assert [row[0] for row in rows] == list(range(1, head.seq + 1))
    found: _Keys = {}
    for seq, _, partner, text in rows:
        change = decode_change(text)
        assert change.seq == seq
        if change.op == "ADD":
            assert isinstance(change.value, msgspec.Raw)
            assert change.key not in found, "a key is never used again"
            value = bytes(change.value)
            size = 0 if change.by is None else len(change.key.encode()) + len(value)
            found[change.key] = (seq, partner, hash_value(value), change.by, size)
        else:
            add_seq, delete_seq, *_ = found[change.key]
            assert (partner, delete_seq) == (add_seq, seq), "both rows of a dead record name the other"
    assert keys == found
    live = [(add_seq, key) for key, (add_seq, delete_seq, *_) in found.items() if delete_seq is None]
    assert head.count == len(live)
    assert head.digest == sum(digest_term(Seq(seq), key) for seq, key in live) % 2**32
    _check_transactions([last for _, last, _, _ in rows], head.seq)
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


def _check_transactions(lasts: list[int], head: int) -> None:
    """Rows of one transaction name the same end, and that is the last of them."""
    seq = 0
    for last, group in itertools.groupby(lasts):
        seq += len(list(group))
        assert last == seq
    assert seq == head
