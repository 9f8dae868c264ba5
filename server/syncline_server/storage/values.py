"""What goes in and out of a storage, besides transactions: heads, rows, stores, indexes, results."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import msgspec

from syncline_protocol.cursor import Cursor, Lineage, Seq
from syncline_protocol.index import IndexSpec
from syncline_protocol.messages import OpResult, Status

from .errors import IndexUnknown, StorageError

__all__ = [
    "Appended",
    "Chunk",
    "Commit",
    "Compacted",
    "Floors",
    "Found",
    "FoundRow",
    "Head",
    "Horizon",
    "IndexInfo",
    "Outcome",
    "Place",
    "Record",
    "Row",
    "Sizes",
    "StoreInfo",
    "StoreSettings",
    "Summary",
    "Terms",
    "Usage",
]

#: Nothing is below.
_START = Seq(0)


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


class Floors(msgspec.Struct, frozen=True):
    """What clean-up has left of a log.

    `history`: at every position from here on all records that lived then can be read. `tombstones`: every DELETE above
    is still there; a reader who stands below must reconcile.
    """

    history: Seq = _START
    tombstones: Seq = _START


class Sizes(msgspec.Struct, frozen=True):
    """How large a store is, in bytes of the texts of its changes, as BATCH carries them.

    `dead_values` are ADDs of records that were deleted, which compaction may drop; `tombstones` are DELETEs.
    """

    live_bytes: int = 0
    dead_values: int = 0
    dead_bytes: int = 0
    tombstones: int = 0


class StoreSettings(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What its owner says of a store. None means: as the server's settings say, or without a bound.

    Attributes:
        description: for people, at most 1,000 characters.
        records_max: no more live records than this.
        bytes_max: the texts of the live records are no longer together.
        retention_s: a live record that is older is deleted, by the server.
        history_s: the value of a dead record is kept so long after its DELETE, so that the past can be read.
        tombstones_s: a DELETE is kept so long; who was away longer reconciles.
        compact_ratio: dead values are dropped once they are this part of all values, 0 to 1 ...
        compact_bytes: ... or have so many bytes.
    """

    description: str = ""
    records_max: int | None = None
    bytes_max: int | None = None
    retention_s: float | None = None
    history_s: float | None = None
    tombstones_s: float | None = None
    compact_ratio: float | None = None
    compact_bytes: int | None = None


class IndexInfo(msgspec.Struct, frozen=True):
    """An index of a store. `uid` is minted when it is declared, so one that is declared anew differs.

    While it is `building`, `done` is the seq up to which the log was looked at; it is `ready` once that is everything.
    """

    uid: str
    spec: IndexSpec
    state: Literal["building", "ready"]
    done: Seq
    created_ms: int


#: Nothing was cleaned up yet.
NO_FLOORS = Floors()
NO_SIZES = Sizes()
DEFAULT_SETTINGS = StoreSettings()

#: The terms of one record, by the uid of each index that it is in.
Terms = Mapping[str, tuple[bytes, ...]]


@dataclass(frozen=True, slots=True)
class StoreInfo:
    """A store: `store_id` is minted when it is created, so a store made anew under the name differs."""

    name: str
    store_id: str
    created_ms: int
    head: Head
    floors: Floors = NO_FLOORS
    sizes: Sizes = NO_SIZES
    settings: StoreSettings = DEFAULT_SETTINGS
    indexes: tuple[IndexInfo, ...] = ()

    def index(self, name: str) -> IndexInfo:
        """Return the index of this name, complete or not. Raises IndexUnknown."""
        for info in self.indexes:
            if info.spec.name == name:
                return info
        raise IndexUnknown(self.name, name)

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

    Rows that the walk may leave out are missing (see `Storage.read`); `rows` may be empty. `floor` is the tombstone
    floor of the very same read.
    """

    after: Seq
    to: Seq
    rows: tuple[Row, ...]
    floor: Seq = _START

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
    this very append, else None. `terms` runs parallel too, of a DELETE those of the record that died; it is empty if
    the store has no indexes.
    """

    store: str
    store_id: str
    after: Seq
    rows: tuple[Row, ...]
    partners: tuple[Seq | None, ...]
    head: Head
    terms: tuple[Terms, ...] = ()


@dataclass(frozen=True, slots=True)
class Appended:
    """The result of `append`: an outcome or an error for each transaction, in order, and a commit for each store.

    Stores in which nothing changed have no commit.
    """

    outcomes: tuple[Outcome | StorageError, ...]
    commits: tuple[Commit, ...]


class Place(msgspec.Struct, frozen=True):
    """Where a find goes on: behind this term and seq, in its direction."""

    term: bytes
    seq: Seq


class FoundRow(msgspec.Struct, frozen=True):
    """A live record that was found: the term by which, and its ADD as BATCH carries it."""

    term: bytes
    seq: Seq
    text: bytes


@dataclass(frozen=True, slots=True)
class Found:
    """A piece of what was found, in the order of (term, seq), and the head of the very same read.

    `is_last`: there is nothing behind it.
    """

    rows: tuple[FoundRow, ...]
    head: Head
    is_last: bool


@dataclass(frozen=True, slots=True)
class Horizon:
    """How far clean-up may go: DELETEs up to `values` may lose the value that they deleted, and those up to
    `tombstones` may go themselves, once their value has.
    """

    values: Seq
    tombstones: Seq = _START


@dataclass(frozen=True, slots=True)
class Compacted:
    """What one step of clean-up, or an estimate of all of them, does: values and tombstones dropped, and their bytes.

    `is_done`: nothing is left to do up to the horizon.
    """

    values: int
    tombstones: int
    bytes: int
    is_done: bool
    floors: Floors
