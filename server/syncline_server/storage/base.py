"""The storage contract: what a log is, in few methods, and what every backend promises about each.

A backend is one module behind this contract. It owns the bytes and the decision about every write, made by the
log alone; it leaves fan-out, sessions and acks to its callers. What all backends need (`decide`) are functions
over the contract; its words are in `values` and `errors`. One suite, `tests/storage`, runs against every backend.

Invariants: seqs of a store are 1, 2, 3 … in commit order; what `append` returned is durable; every position has
one name; a key is never used again in its store.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

from syncline_protocol.cursor import Seq
from syncline_protocol.index import IndexSpec, TermRange
from syncline_protocol.seq_set import SeqSet
from syncline_protocol.transaction import Transaction

from .errors import (
    HistoryGone,
    IndexBuilding,
    IndexTaken,
    IndexUnknown,
    StorageError,
    StorageFull,
    StorageLocked,
    StorageUnavailable,
    StoreMismatch,
    StoreUnknown,
    Unsupported,
)
from .selection import Selector
from .values import (
    Appended,
    Chunk,
    Commit,
    Compacted,
    Floors,
    Found,
    FoundRow,
    Head,
    Horizon,
    IndexInfo,
    Outcome,
    Place,
    Record,
    Row,
    Sizes,
    StoreInfo,
    StoreSettings,
    Summary,
    Terms,
    Usage,
)

__all__ = [
    "Appended",
    "Chunk",
    "Commit",
    "Compacted",
    "Floors",
    "Found",
    "FoundRow",
    "Head",
    "HistoryGone",
    "Horizon",
    "IndexBuilding",
    "IndexInfo",
    "IndexTaken",
    "IndexUnknown",
    "Outcome",
    "Place",
    "Record",
    "Row",
    "Selector",
    "Sizes",
    "Storage",
    "StorageError",
    "StorageFull",
    "StorageLocked",
    "StorageUnavailable",
    "StoreInfo",
    "StoreMismatch",
    "StoreSettings",
    "StoreUnknown",
    "Summary",
    "Terms",
    "Unsupported",
    "Usage",
]


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

    async def read(
        self,
        store: str,
        after: Seq,
        upto: Seq,
        *,
        deletes_to: Seq | None = None,
        selectors: Sequence[Selector] = (),
    ) -> Chunk:
        """Read a piece of the log above `after`, at most to `upto`, in one consistent view.

        Left out are ADDs that are dead at `upto` or whose value is gone, and DELETEs whose ADD is above `deletes_to`,
        which is `after` unless a lower one is given (0: no DELETEs). With `selectors` only what one of them selects is
        there, a DELETE if it selects the record that died. The piece ends with a transaction, after about
        `BATCH_BYTES_TARGET` of text or so many rows that were looked at that nobody waits long. `upto` is the end of a
        transaction and not above the head.

        A caller that stands below `Chunk.floor` may be missing DELETEs.

        Raises:
            StoreUnknown: it is not there.
        """
        ...

    async def fetch(self, store: str, ranges: Sequence[tuple[Seq, Seq]], upto: Seq) -> tuple[Row, ...]:
        """Return the ADDs with seqs in the inclusive ranges that live at `upto`, in seq order.

        At most about `BATCH_BYTES_TARGET` of text comes at once; the caller asks again after the last seq it got.
        """
        ...

    async def live_set(self, store: str, upto: Seq, selectors: Sequence[Selector] = ()) -> SeqSet:
        """Return the seqs of the records that live at `upto`; with selectors only of those that one of them selects.

        Below the history floor, records whose value is gone may be missing: they have died since.
        """
        ...

    async def summary(self, store: str, selectors: Sequence[Selector], upto: Seq) -> Summary:
        """Count the records that live at `upto` and that one of the selectors selects, each record once.

        No selectors mean all records. The work grows with what the narrowest part of each selector holds.

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

    async def get(self, store: str, key: str, at: Seq | None = None) -> Record | None:
        """Return the record of this key that lives now, or lived at the position `at`, or None.

        Raises:
            StoreUnknown: the store is not there.
            HistoryGone: `at` is below the history floor.
        """
        ...

    async def position_at(self, store: str, time_ms: int) -> Seq:
        """Return the end of the last transaction that was committed up to this time, 0 if there is none.

        Found by halving, over the times that the changes carry; where the server's clock went back, between the times
        of both sides. A transaction of which nothing is left counts with the one above it.
        """
        ...

    # --- what is said of a store ---

    async def configure(self, store: str, settings: StoreSettings) -> StoreInfo:
        """Put these settings in the place of those that the store has, durably. Bounds hold from the next append on.

        Raises:
            StoreUnknown: the store is not there.
        """
        ...

    # --- indexes ---

    async def create_index(self, store: str, spec: IndexSpec, now_ms: int) -> tuple[IndexInfo, bool]:
        """Declare an index, durably, unless it is there. Returns it and whether it was created.

        From now on every append keeps it up; what is older is taken in by `build_index`. In an empty store it is ready
        at once.

        Raises:
            IndexTaken: the store has another one of this name.
        """
        ...

    async def build_index(self, store: str, name: str, budget_s: float) -> IndexInfo:
        """Take more of the log into an index, for about so long, durably. Call it until the index is `ready`.

        Raises:
            IndexUnknown: it is not there.
        """
        ...

    async def drop_index(self, store: str, name: str) -> IndexInfo:
        """Remove an index, durably. Returns what it was.

        What it held is given back in the steps of `reclaim`, so that no append waits for a large one.

        Raises:
            IndexUnknown: it is not there.
        """
        ...

    async def find(
        self,
        store: str,
        index: str | None,
        terms: TermRange,
        *,
        after: Place | None = None,
        descending: bool = False,
        limit: int = 100,
    ) -> Found:
        """Return live records by the name of an index, ordered by their terms, then by their seqs.

        With `index` None the keys themselves are the terms. A record with several terms in the range comes once for
        each. At most about `BATCH_BYTES_TARGET` of text comes at once.

        Raises:
            IndexUnknown, IndexBuilding: the index cannot answer.
        """
        ...

    async def count(self, store: str, index: str | None, terms: TermRange) -> int:
        """Return how many live records `find` would return over all its pieces, each counted once.

        Raises as `find`.
        """
        ...

    # --- clean-up ---

    async def compact(self, store: str, horizon: Horizon, budget_s: float) -> Compacted:
        """Carry out one step of clean-up, for about so long; call it until `is_done`.

        It is durable at the latest with the next append; of steps that are lost with the power nothing is missing.

        Values of dead records go in the order of their DELETEs, then tombstones; live records, the newest row of the
        log and the record of used keys stay. No reader may be pinned below `horizon.values`, which is the caller's
        affair.
        """
        ...

    async def estimate(self, store: str, horizon: Horizon) -> Compacted:
        """Return what `compact` would do up to the horizon, without doing it."""
        ...

    async def reclaim(self, budget_s: float) -> int:
        """Give unused space back to the medium, for about so long. Returns the bytes; 0: there is no more."""
        ...

    async def backup(self, target: str, progress: Callable[[int, int], None] = lambda done, total: None) -> None:
        """Write everything, as it is at one moment, to a new file, while reads and appends go on.

        Args:
            target: the path of the file, which must not be there.
            progress: called with how much is done, and of how much; in any thread.

        Raises:
            Unsupported: this backend has no files.
            StorageUnavailable: it could not be written; there is no file then.
        """
        ...

    async def distrust(self, store: str) -> None:
        """Note evidence that history changed under this log: the next append to it mints an incarnation."""
        ...
