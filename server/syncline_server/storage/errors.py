"""What a storage raises: one tree, whose members carry what was asked for and a hint for the operator."""

from syncline_protocol.cursor import Seq
from syncline_protocol.index import IndexSpec

__all__ = [
    "HistoryGone",
    "IndexBuilding",
    "IndexTaken",
    "IndexUnknown",
    "StorageError",
    "StorageFull",
    "StorageLocked",
    "StorageUnavailable",
    "StoreMismatch",
    "StoreUnknown",
    "Unsupported",
]


class StorageError(Exception):
    """Base of what a backend raises. `hint` says what the operator can do.

    StorageError
    ├── StoreUnknown          there is no store of that name
    ├── StoreMismatch         the store of that name has another id than the caller meant
    ├── HistoryGone           the position is older than what was kept
    ├── IndexUnknown          the store has no index of that name
    ├── IndexTaken            the store has another index of that name
    ├── IndexBuilding         the index is not complete yet
    ├── Unsupported           this backend cannot do that
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


class HistoryGone(StorageError):
    """What is asked for is older than what clean-up has left."""

    def __init__(self, store: str, at: Seq, floor: Seq) -> None:
        super().__init__(
            f"the history of {store!r} begins at seq {floor}, what was before cannot be told at {at} any more",
            hint="ask for a later position, or let the store keep its history longer",
        )
        self.store = store
        self.floor = floor


class IndexUnknown(StorageError):
    """The store has no index of this name."""

    def __init__(self, store: str, index: str) -> None:
        super().__init__(f"the store {store!r} has no index {index!r}", hint="declare it first")
        self.index = index


class IndexTaken(StorageError):
    """The store has an index of this name, with another path or of another kind."""

    def __init__(self, store: str, index: IndexSpec) -> None:
        super().__init__(
            f"the index {index.name!r} of {store!r} is on {index.path!r}, kind {index.kind}",
            hint="drop it first, or choose another name",
        )
        self.index = index


class IndexBuilding(StorageError):
    """The index does not have everything yet; `done` of `total` seqs have been looked at."""

    def __init__(self, store: str, index: str, done: Seq, total: Seq) -> None:
        super().__init__(f"the index {index!r} of {store!r} is being built: {done} of {total}", hint="wait for it")
        self.done = done
        self.total = total


class Unsupported(StorageError):
    """This backend cannot do what is asked."""


class StorageUnavailable(StorageError):
    """The medium failed. Whether an append in progress was committed is unknown until `open` succeeds again."""


class StorageFull(StorageUnavailable):
    """There is no room on the medium. Nothing of the append was committed."""


class StorageLocked(StorageUnavailable):
    """Another process serves this file."""
