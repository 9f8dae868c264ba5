"""A replica with methods that block: the records of a store on this machine, and an outbox for what is written.

A facade over the async replica in the client's thread. A read costs a way there and back; iterating fetches pages.
Functions that are given to it, predicates and callbacks, run in the client's thread: they may look, and must not wait.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import islice
from types import TracebackType
from typing import Any, TypeVar, overload

from syncline.documents.attribute import Ref
from syncline.documents.policies import OnConflict
from syncline.errors import ClientClosed
from syncline.replica import replica
from syncline.replica.entry import SyncState
from syncline.replica.record import LocalRecord
from syncline.replica.report import Report
from syncline.replica.status import ReplicaStatus
from syncline.replica.watch import Predicate, View
from syncline.write import Add, Delete
from syncline_protocol.filter import Filter
from syncline_protocol.index import IndexKind

from .collection import Collection
from .document import Document
from .loop_thread import LoopThread
from .pages import Pages
from .statuses import Statuses
from .watch import Watch
from .write import Write

__all__ = ["Replica"]

T = TypeVar("T")

#: Iterating fetches so many records at once.
_PAGE = 1000


class Replica:
    """The records of a store, or of a part of it, on this machine; made by `Client.replica`.

    Attributes:
        store: the name of the store.
        prefix: the keys of the records that it holds begin so.
        path: its file, or None if it is in memory.
    """

    def __init__(self, thread: LoopThread, inner: replica.Replica) -> None:
        self.store = inner.store
        self.prefix = inner.prefix
        self.path = inner.path
        self._thread = thread
        self._inner = inner

    # --- reading ---

    def get(self, key: str) -> LocalRecord | None:
        """Return the record of a key, or None. Local, as all reads are."""
        return self._thread.call(lambda: self._inner.get(key))

    def __contains__(self, key: object) -> bool:
        return self._thread.call(lambda: key in self._inner)

    def __len__(self) -> int:
        return self._thread.call(lambda: len(self._inner))

    def __iter__(self) -> Iterator[LocalRecord]:
        """Iterate over the records by seq, then over those that the server does not have yet, as they were written.

        They come over in pages of 1000, each as it is then; a record that is there throughout comes once. `find` gives
        all as they are at one moment.
        """
        return _LocalRecords(self._thread, self._thread.call(lambda: iter(self._inner)))

    def index(self, name: str, path: str, kind: IndexKind = "equality") -> None:
        """Have an index over the records that are held here, kept in memory as long as the replica is open.

        Args:
            name: what `find` calls it.
            path: a JSON Pointer into the value, as `/author/name`.
            kind: `equality`, `range` or `multi`, as those of the server.
        """
        self._thread.call(lambda: self._inner.index(name, path, kind))

    def find(
        self,
        predicate: Predicate | None = None,
        *,
        prefix: str = "",
        filter: Filter | None = None,
        order_by: str | None = None,
        descending: bool = False,
        limit: int | None = None,
        offset: int = 0,
    ) -> list[LocalRecord]:
        """Return the records that fit, in the order of iteration unless another one is asked for.

        Args:
            predicate: says of a record whether it fits. It runs in the client's thread, which does nothing else
                meanwhile.
            prefix: only records whose keys begin so are looked at, which costs what they are, not what the replica is.
            filter: what a record has to have, in the words of the server's; its index was declared by `index`.
            order_by: an index by whose terms they are ordered; a record without a term in it is left out.
            descending: the last ones come first.
            limit: so many at most, after `offset` of them were left out.
        """
        return self._thread.call(
            lambda: self._inner.find(
                predicate,
                prefix=prefix,
                filter=filter,
                order_by=order_by,
                descending=descending,
                limit=limit,
                offset=offset,
            )
        )

    def count(self, filter: Filter | None = None) -> int:
        """Return how many records fit. Raises as `find`."""
        return self._thread.call(lambda: self._inner.count(filter))

    def follow(self, record: LocalRecord | str, index: str) -> list[LocalRecord]:
        """Return the records whose keys stand in a record, or in that of a key, where the index looks."""
        return self._thread.call(lambda: self._inner.follow(record, index))

    def referrers(self, key: str, index: str) -> list[LocalRecord]:
        """Return the records in which a key stands where the index looks. Raises as `find`."""
        return self._thread.call(lambda: self._inner.referrers(key, index))

    def state(self, key: str) -> SyncState | None:
        """Return how far the newest write of a key has come, also a REJECTED one; None if there is no such key."""
        return self._thread.call(lambda: self._inner.state(key))

    # --- writing ---

    def add(self, value: object, key: str | None = None) -> Write:
        """Add a record. Returns once it is stored locally.

        Args:
            value: any JSON-able object, or `Json` for exact text.
            key: by default one that sorts by time.

        Raises:
            WriteRefused: the key or the value breaks a rule. Nothing was stored.
            OutboxFull: too much waits to be sent. Nothing was stored.
            LocalFileError: the file failed; `LocalFileFull` if there is no room.
        """
        return Write(self._thread, self._thread.run(self._inner.add(value, key)))

    def delete(self, key: str) -> Write:
        """Delete a record. Otherwise as `add`."""
        return Write(self._thread, self._thread.run(self._inner.delete(key)))

    def write(self, ops: Iterable[Add | Delete]) -> Write:
        """Make several changes, all or none. Otherwise as `add`."""
        return Write(self._thread, self._thread.run(self._inner.write(list(ops))))

    def replace(self, key: str, value: object, new_key: str | None = None) -> Write:
        """Replace a record by another one, if it is still there when the server decides. Otherwise as `add`."""
        return Write(self._thread, self._thread.run(self._inner.replace(key, value, new_key)))

    # --- documents ---

    @overload
    def collection(self, name: str, *, type: None = None, on_conflict: OnConflict | None = None) -> Collection[Any]: ...

    @overload
    def collection(self, name: str, *, type: type[T], on_conflict: OnConflict | None = None) -> Collection[T]: ...

    def collection(
        self, name: str, *, type: type[Any] | None = None, on_conflict: OnConflict | None = None
    ) -> Collection[Any]:
        """Return the collection of documents of this name.

        Args:
            type: a dataclass, a `msgspec.Struct` or a pydantic model that the documents are.
            on_conflict: what to do when somebody else has set an attribute before us: `last` (ours stands, the
                default), `report` (the write is rejected, and the application decides), or a function that makes one
                value of the former, ours and theirs, in the client's thread; or one of these for each attribute, by
                name.
        """
        inner = self._inner.collection
        return Collection(self._thread, self._thread.call(lambda: inner(name, type=type, on_conflict=on_conflict)))

    def resolve(self, ref: Ref) -> Document[Any] | None:
        """Return the document that a reference means, or None if it is not there."""
        found = self._thread.call(lambda: self._inner.resolve(ref))
        return None if found is None else Document(self._thread, found)

    def referring(self, ref: Ref) -> list[Document[Any]]:
        """Return the documents of which an attribute refers to a document, which may be gone."""
        found = self._thread.call(lambda: self._inner.referring(ref))
        return [Document(self._thread, each) for each in found]

    # --- the outbox ---

    @property
    def pending(self) -> list[Write]:
        """The writes that the server has not acknowledged, oldest first."""
        return [Write(self._thread, each) for each in self._thread.call(lambda: self._inner.pending)]

    @property
    def rejections(self) -> list[Write]:
        """The writes that the server refused, oldest first: `retry` or `discard` each."""
        return [Write(self._thread, each) for each in self._thread.call(lambda: self._inner.rejections)]

    def flush(self, timeout: float | None = None) -> None:
        """Wait until the server has acknowledged or refused every write that was made so far.

        Raises:
            FlushTimeout: it took longer than `timeout` seconds. The writes are kept and will be sent.
            ClientClosed: the replica was closed first.
        """
        self._thread.run(self._inner.flush(timeout))

    def retry(self, write: Write) -> None:
        """Send a rejected write again, as it is. One that is not rejected is left alone."""
        self._thread.run(self._inner.retry(write._inner))

    def discard(self, write: Write) -> None:
        """Forget a rejected write, or one that waits for what it builds on. Another one is left alone."""
        self._thread.run(self._inner.discard(write._inner))

    # --- following ---

    def watch(
        self, predicate: Predicate | None = None, *, prefix: str = "", filter: Filter | None = None
    ) -> Watch[View]:
        """Return an iterator over what fits: a first view, then one after each change, never half a transaction.

        While the reader is slow, changes are put together. `watch.next(timeout)` waits for a limited time.

        Args: as of `find`.
        """
        return self._thread.call(
            lambda: Watch(self._thread, self._inner.watch(predicate, prefix=prefix, filter=filter), _as_it_is)
        )

    def on_change(
        self, callback: Callable[[View], None], predicate: Predicate | None = None, *, prefix: str = ""
    ) -> Callable[[], None]:
        """Call `callback` with a first view at once and with one after each change. Returns what ends that.

        It is called in the client's thread, also the first time: it must not wait, and holds up everything else. What
        it raises later goes to the log of asyncio.
        """
        stop = self._thread.call(lambda: self._inner.on_change(callback, predicate, prefix=prefix))
        return lambda: self._thread.call(stop)

    def on_report(self, callback: Callable[[Report], None]) -> Callable[[], None]:
        """Call `callback` with what happens to the replica: rewinds, repairs, rejections. Returns what ends that.

        It is called in the client's thread, as those of `on_change`.
        """
        stop = self._thread.call(lambda: self._inner.on_report(callback))
        return lambda: self._thread.call(stop)

    @property
    def status(self) -> ReplicaStatus:
        """How it stands."""
        return self._thread.call(lambda: self._inner.status)

    def statuses(self) -> Statuses[ReplicaStatus]:
        """Iterate over the status: as it is, and each time that it changes, until the replica is closed."""
        return Statuses(self._thread, self._inner.statuses, lambda: self._inner.status)

    @property
    def is_caught_up(self) -> bool:
        """Whether what is shown is what the server has, as far as both have heard of each other."""
        return self._inner.is_caught_up

    def wait_caught_up(self, timeout: float | None = None) -> None:
        """Wait until `is_caught_up`.

        Raises:
            TimeoutError: it took longer than `timeout` seconds.
            ClientClosed: the replica was closed first.
        """
        self._thread.run(self._inner.wait_caught_up(timeout))

    # --- closing ---

    def close(self) -> None:
        """Stop following and close the file. What is in the outbox is kept, and sent when it is opened again."""
        with suppress(ClientClosed):
            self._thread.run(self._inner.aclose())

    def __enter__(self) -> "Replica":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _LocalRecords(Pages[LocalRecord]):
    """The iterator over a replica."""

    def __init__(self, thread: LoopThread, inner: Iterator[LocalRecord]) -> None:
        super().__init__(thread, None)
        self._inner = inner

    async def _fetch(self) -> list[LocalRecord]:
        return list(islice(self._inner, _PAGE))


def _as_it_is(view: View) -> View:
    return view
