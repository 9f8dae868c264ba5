"""The storage contract: what a log is, in few methods, and what every backend promises about each.

A backend is one module behind this contract. It owns the bytes and the decision about every write, made by the
log alone; it leaves fan-out, sessions and acks to its callers. What all backends need (`decide`) are functions
over the contract. One suite, `tests/storage`, runs against every backend.

Invariants: seqs of a store are 1, 2, 3 … in commit order; what `append` returned is durable; every position has
one name; a key is never used again in its store.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec

from syncline_protocol.cursor import Cursor, Lineage, Seq
from syncline_protocol.messages import OpResult, Status
from syncline_protocol.transaction import Transaction

__all__ = [
    "Appended",
    "Chunk",
    "Commit",
    "Head",
    "Outcome",
    "Record",
    "Row",
    "Storage",
    "StorageError",
    "StorageFull",
    "StorageLocked",
    "StorageUnavailable",
    "StoreInfo",
    "StoreMismatch",
    "StoreUnknown",
    "Summary",
    "Usage",
]


class StorageError(Exception):
    """Base of what a backend raises. `hint` says what the operator can do.

    StorageError
    ├── StoreUnknown          there is no store of that name
    ├── StoreMismatch         the store of that name has another id than the caller meant
    └── StorageUnavailable    the medium failed; the outcome of an append is unknown
        ├── StorageFull       no room on the medium; nothing was committed
        └── StorageLocked     another server has the file
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message + (f"; {self.hint}" if self.hint else "")


class StoreUnknown(StorageError):
    """There is no store of this name."""

    def __init__(self, store: str) -> None:
        super().__init__(f"there is no store {store!r}", hint="create it, or ask its owner to share it")
        self.store = store


class StoreMismatch(StorageError):
    """The store of this name is not the one that the caller knew: it was dropped and made anew."""

    def __init__(self, store: str) -> None:
        super().__init__(f"the store {store!r} was dropped and made anew", hint="subscribe to it again first")
        self.store = store


class StorageUnavailable(StorageError):
    """The medium failed. Whether an append in progress was committed is unknown until `open` succeeds again."""


class StorageFull(StorageUnavailable):
    """There is no room on the medium. Nothing of the append was committed."""


class StorageLocked(StorageUnavailable):
    """Another process serves this file."""


@dataclass(frozen=True, slots=True)
class Head:
    """The state of a log at its newest position.

    `count` is the number of live records, `digest` the sum of their digest terms modulo 2^32.
    """

    seq: Seq
    count: int
    digest: int
    lineage: Lineage

    @property
    def cursor(self) -> Cursor:
        """The name of this position."""
        return self.lineage.cursor(self.seq)


@dataclass(frozen=True, slots=True)
class Summary:
    """Count and digest, as in `Head`, of some of the records that live at a position."""

    count: int
    digest: int


class Usage(msgspec.Struct, frozen=True):
    """What one author keeps in a store: live records that he added, bytes of their keys and values in UTF-8."""

    records: int = 0
    bytes: int = 0

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(self.records + other.records, self.bytes + other.bytes)


@dataclass(frozen=True, slots=True)
class StoreInfo:
    """A store: `store_id` is minted when it is created, so a store made anew under the name differs."""

    name: str
    store_id: str
    created_ms: int
    head: Head

    @property
    def is_system(self) -> bool:
        """Whether it is one of the server's own, which have names that no client can say."""
        return self.name.startswith("_")


# Rows and outcomes are made by the hundred thousand a second; a struct costs a fifth of a frozen dataclass.
class Row(msgspec.Struct, frozen=True, gc=False):
    """One change of the log: its seq, the last seq of its transaction, and its text as BATCH carries it."""

    seq: Seq
    last_seq: Seq
    text: bytes


@dataclass(frozen=True, slots=True)
class Chunk:
    """Part of a walk over the log: the interval (after, to], which ends with a transaction.

    Rows that the walk may leave out are missing (see `Storage.read`); `rows` may be empty.
    """

    after: Seq
    to: Seq
    rows: tuple[Row, ...]

    @property
    def is_complete(self) -> bool:
        """Whether nothing was left out."""
        return len(self.rows) == self.to - self.after


@dataclass(frozen=True, slots=True)
class Record:
    """A live record: `text` is its ADD as BATCH carries it."""

    seq: Seq
    text: bytes


class Outcome(msgspec.Struct, frozen=True):
    """What became of one transaction.

    `status` is `ok`, `dup`, `refused`, `partial` or `too_large`, or for a `single` one that of its only op. `last_seq`
    is the highest seq of the changes it made or had made, `at` that position's name. `head` is there if it was refused
    for what the log holds (PROTOCOL 6.2.6): the head when it was decided, behind its own changes if it has some.
    """

    status: Status
    ops: tuple[OpResult, ...]
    last_seq: Seq | None = None
    at: Cursor | None = None
    head: Cursor | None = None


@dataclass(frozen=True, slots=True)
class Commit:
    """What one append added to one store: every row in (after, head.seq], and the head that it left.

    `partners` runs parallel to `rows`: of a DELETE the seq of its ADD; of an ADD the seq of its DELETE, if it died in
    this very append, else None.
    """

    store: str
    store_id: str
    after: Seq
    rows: tuple[Row, ...]
    partners: tuple[Seq | None, ...]
    head: Head


@dataclass(frozen=True, slots=True)
class Appended:
    """The result of `append`: an outcome or an error for each transaction, in order, and a commit for each store.

    Stores in which nothing changed have no commit.
    """

    outcomes: tuple[Outcome | StorageError, ...]
    commits: tuple[Commit, ...]


class Storage(Protocol):
    """A place where stores live. Methods may be called concurrently; appends are carried out one by one."""

    @property
    def description(self) -> str:
        """What this is, for logs: kind, place, version, what durability it gives. Without secrets."""
        ...

    async def open(self) -> None:
        """Make ready for use, also again after StorageUnavailable. What is on the medium is verified enough to be
        served; the next append to each store mints an incarnation.

        Raises:
            StorageLocked: another server has it.
            StorageUnavailable: it cannot be opened; the message names the path and the reason.
        """
        ...

    async def close(self) -> None:
        """Give everything back. Safe to call twice, and after a failed `open`."""
        ...

    async def create(self, store: str, now_ms: int) -> tuple[StoreInfo, bool]:
        """Create a store, durably, unless it is there. Returns it and whether it was created."""
        ...

    async def drop(self, store: str) -> StoreInfo:
        """Remove a store with everything in it, durably. Returns what it was.

        Raises:
            StoreUnknown: it is not there.
        """
        ...

    async def stores(self) -> list[StoreInfo]:
        """Return all stores in the order of their names, freshly read."""
        ...

    async def info(self, store: str) -> StoreInfo:
        """Return one store, freshly read from the log itself.

        Raises:
            StoreUnknown: it is not there.
        """
        ...

    async def append(self, transactions: Sequence[Transaction], now_ms: int) -> Appended:
        """Decide and commit everything that waits, for all stores, with one flush; durable on return.

        Each transaction is decided by the log and by those before it in the call (`decide`); the `head` of one that is
        refused for what they left is a position of this call too, under the name that it keeps. Own-only and quotas
        are part of the decision. A transaction whose encoded changes do not fit into one frame is `too_large`. The
        first append to a store after `open`, or after `distrust`, mints an incarnation, if it commits anything.

        Raises:
            StorageUnavailable: the outcome of all of them is unknown; nothing works until `open` has succeeded.
            StorageFull: nothing was committed; the storage goes on working.
        """
        ...

    async def read(self, store: str, after: Seq, upto: Seq, *, records_only: bool = False) -> Chunk:
        """Read a piece of the log above `after`, at most to `upto`, in one consistent view.

        Left out are ADDs that are dead at `upto`, and DELETEs whose ADD is above `after`; with `records_only` all
        DELETEs. The piece ends with a transaction, after about `BATCH_BYTES_TARGET` of text or 1,000 seqs. `upto` is
        the end of a transaction and not above the head.

        Raises:
            StoreUnknown: it is not there.
        """
        ...

    async def fetch(self, store: str, ranges: Sequence[tuple[Seq, Seq]], upto: Seq) -> tuple[Row, ...]:
        """Return the ADDs with seqs in the inclusive ranges that live at `upto`, in seq order.

        At most about `BATCH_BYTES_TARGET` of text comes at once; the caller asks again after the last seq it got.
        """
        ...

    async def live_ranges(self, store: str, upto: Seq, prefixes: Sequence[str] = ()) -> list[tuple[Seq, Seq]]:
        """Return the seqs of the records that live at `upto`, as inclusive ranges in ascending order.

        With `prefixes` only of those whose keys begin with one of them; their seqs lie between those of others, so
        they are seldom neighbours, and there may be as many ranges as records.
        """
        ...

    async def summary(self, store: str, prefixes: Sequence[str], upto: Seq) -> Summary:
        """Count the records that live at `upto` and whose keys begin with one of the prefixes, each record once.

        No prefixes mean all records, as in `live_ranges`. The work grows with the keys, live or dead, that begin so.

        Raises:
            StoreUnknown: the store is not there.
        """
        ...

    async def usage(self, store: str, author: str) -> Usage:
        """Return what the author keeps in this store, as it counts against his quota; nothing if he is unknown to it.

        Only records that were added by a transaction with an author count. It is kept with every append, so asking
        does not grow with the log.

        Raises:
            StoreUnknown: the store is not there.
        """
        ...

    async def get(self, store: str, key: str) -> Record | None:
        """Return the live record of this key, or None.

        Raises:
            StoreUnknown: the store is not there.
        """
        ...

    async def distrust(self, store: str) -> None:
        """Note evidence that history changed under this log: the next append to it mints an incarnation."""
        ...
