"""A replica: the records of a store on this machine, and the writes that the server does not have yet.

    replica = await client.replica("notes", path="notes.db")
    write = await replica.add({"text": "hi"})
    print(len(replica), write.state)
    await write.stored()

A facade: `keeper` saves what comes from both sides, `database` has the records, the outbox shades them, `watch` has the
live queries. Reads are local and immediate. Everything works without a server; when there is one it is followed.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from types import TracebackType
from typing import Any, Literal, TypeVar, overload
from weakref import WeakValueDictionary

import msgspec

from syncline.clock import Clock
from syncline.documents.attribute import Ref
from syncline.documents.collection import Collection
from syncline.documents.document import Document
from syncline.documents.path import CollectionPath, DocumentPath
from syncline.documents.policies import OnConflict, Policies
from syncline.documents.references import referring
from syncline.documents.rules import Rules
from syncline.errors import ClientClosed, FlushTimeout, LocalFileError, Misuse, OutboxFull, SynclineError
from syncline.write import Add, Delete, check_write
from syncline_protocol import Limits
from syncline_protocol.filter import Filter

from .audience import Audience
from .database import Database
from .draft import Draft
from .entry import Entry, EntryId, SyncState
from .fold import Stage
from .keeper import Keeper
from .listener import Listener
from .message import ops_of
from .reading import Reading
from .record import LocalRecord, look_all
from .report import Report
from .schema import Identity
from .session import Session
from .status import ReplicaStatus, closed, status_of
from .watch import Predicate, RecordsQuery, View, Watch
from .write import Write

__all__ = ["Replica", "Restores", "open_replica"]

T = TypeVar("T")

#: What a replica puts back after the server has lost history: every record that it holds, or what it wrote itself.
Restores = Literal["all", "own"]


async def open_replica(
    session: Session,
    clock: Clock,
    store: str,
    path: str | None,
    *,
    prefix: str,
    outbox_bytes_max: int,
    create: Callable[[], "asyncio.Task[object]"] | None,
    filter: Filter | None = None,
    restores: Restores = "all",
) -> "Replica":
    """Open the database and follow the store. Raises `LocalFileError`."""
    database = await Database.open(path, Identity(store, prefix, _text_of(filter)))
    return Replica(session, clock, store, database, prefix, outbox_bytes_max, create, filter, restores)


class Replica(Reading):
    """The records of a store, or of a part of it, on this machine; made by `Client.replica`.

    Attributes:
        store: the name of the store.
        prefix: the keys of the records that it holds begin so.
        filter: what the server was asked for, if that is not everything.
        path: its file, or None if it is in memory.
        policies: what the application wants done when two change the same attribute of a document.
    """

    def __init__(
        self,
        session: Session,
        clock: Clock,
        store: str,
        database: Database,
        prefix: str,
        outbox_bytes_max: int,
        create: Callable[[], "asyncio.Task[object]"] | None,
        filter: Filter | None = None,
        restores: Restores = "all",
    ) -> None:
        self.store = store
        self.prefix = prefix
        self.filter = filter
        self._key_prefix = max(prefix, "" if filter is None else filter.key_prefix, key=len)
        self.path = database.path
        self.policies = Policies(self._reconsider)
        self._session = session
        super().__init__(database)
        self._outbox_bytes_max = outbox_bytes_max
        self._create = create
        self._creating: asyncio.Task[object] | None = None
        self._writes: WeakValueDictionary[EntryId, Write] = WeakValueDictionary()
        self._audience = Audience()
        self._stirred = asyncio.Event()
        self._closing: asyncio.Task[None] | None = None
        rules = Rules(self.policies, prefix, lambda: session.limits)
        self._keeper = Keeper(
            store,
            prefix,
            database,
            clock,
            rules,
            _Ears(self),
            send=session.put,
            wake=session.wake,
            filter=_text_of(filter),
            restores_all=restores == "all",
        )
        self._stop_status = session.on_status(lambda _: self._stir())
        session.follow(self._keeper.feed)
        self._keeper.feed.settled()

    # --- writing ---

    async def add(self, value: object, key: str | None = None) -> Write:
        """Add a record. Returns once it is stored locally.

        Args:
            value: any JSON-able object, or `Json` for exact text.
            key: by default one that sorts by time.

        Raises:
            WriteRefused: the key or the value breaks a rule. Nothing was stored.
            OutboxFull: too much waits to be sent. Nothing was stored.
            LocalFileError: the file failed; `LocalFileFull` if there is no room.
        """
        return await self._write([Add(self._key_prefix + self.new_id() if key is None else key, value)], atomic=None)

    async def delete(self, key: str) -> Write:
        """Delete a record. Otherwise as `add`."""
        return await self._write([Delete(key)], atomic=None)

    async def write(self, ops: Iterable[Add | Delete]) -> Write:
        """Make several changes, all or none. Otherwise as `add`."""
        return await self._write(list(ops), atomic=True)

    async def replace(self, key: str, value: object, new_key: str | None = None) -> Write:
        """Replace a record by another one, if it is still there when the server decides. Otherwise as `add`."""
        return await self.write(
            [Delete(key), Add(self._key_prefix + self.new_id() if new_key is None else new_key, value)]
        )

    async def _write(self, ops: list[Add | Delete], *, atomic: bool | None) -> Write:
        message, size = check_write(self.store, ops, self._session.limits, atomic=atomic, store_id=None)
        for op in ops:
            self.check_key(op.key)
        checked = ops_of(message)
        return await self.order(lambda: self.put(Draft(checked), size=size))

    def check_key(self, key: str) -> None:
        """Raise if a replica of a part of the store could never show this key."""
        if not key.startswith(self._key_prefix):
            raise Misuse(
                f"{self.store}: this replica holds keys that begin with {self._key_prefix!r}, not {key!r}",
                hint="write through the client, or through a replica of the whole store",
            )

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
                value of the former, ours and theirs; or one of these for each attribute, by name.
        """
        path = CollectionPath.top(name)
        if on_conflict is not None:
            self.policies.register(path.pattern, on_conflict)
        return Collection(self, path, type)

    def resolve(self, ref: Ref) -> Document[Any] | None:
        """Return the document that a reference means, or None if it is not there."""
        path = DocumentPath.parse(ref.path)
        assert path is not None, "a reference was checked when it was made"
        return Collection[Any](self, path.collection, None).get(path.id)

    def referring(self, ref: Ref) -> list[Document[Any]]:
        """Return the documents of which an attribute refers to a document, which may be gone."""
        found = [Collection[Any](self, path.collection, None).get(path.id) for path in referring(self, ref)]
        return [document for document in found if document is not None]

    # --- the outbox ---

    @property
    def pending(self) -> list[Write]:
        """The writes that the server has not acknowledged, oldest first."""
        return [self._handle(entry) for entry in self._keeper.outbox.in_state(SyncState.PENDING)]

    @property
    def rejections(self) -> list[Write]:
        """The writes that the server refused, oldest first: `retry` or `discard` each."""
        return [self._handle(entry) for entry in self._keeper.outbox.in_state(SyncState.REJECTED)]

    async def flush(self, timeout: float | None = None) -> None:
        """Wait until the server has acknowledged or refused every write that was made so far.

        Raises:
            FlushTimeout: it took longer than `timeout` seconds. The writes are kept and will be sent.
            ClientClosed: the replica was closed first.
        """
        last = self._keeper.outbox.last_id
        try:
            async with asyncio.timeout(timeout):
                while self._keeper.outbox.has_pending(last):
                    self._require_open()
                    await self._stir_comes()
        except TimeoutError:
            reason = self.status.reason
            raise FlushTimeout(self.store, self._keeper.outbox.pending, timeout or 0.0, reason) from None

    async def retry(self, write: Write) -> None:
        """Send a rejected write again, as it is. One that is not rejected is left alone."""
        await self._order(lambda: self._keeper.retry(write.id))

    async def discard(self, write: Write) -> None:
        """Forget a rejected write, or one that waits for what it builds on. Another one is left alone."""
        await self._order(lambda: self._keeper.discard(write.id))

    # --- following ---

    def watch(
        self, predicate: Predicate | None = None, *, prefix: str = "", filter: Filter | None = None
    ) -> Watch[View]:
        """Return an iterator over what fits: a first view, then one after each change, never half a transaction.

        While the reader is slow, changes are put together.
        """
        self._require_readable()
        watch = Watch(RecordsQuery(self, self.fitting(predicate, filter), prefix))
        self.attend(watch)
        return watch

    def on_change(
        self, callback: Callable[[View], None], predicate: Predicate | None = None, *, prefix: str = ""
    ) -> Callable[[], None]:
        """Call `callback` with a first view at once and with one after each change. Returns what ends that."""
        self._require_readable()
        query = RecordsQuery(self, predicate, prefix)
        callback(query.first())
        return self._audience.call(query, callback)

    def on_report(self, callback: Callable[[Report], None]) -> Callable[[], None]:
        """Call `callback` with what happens to the replica: rewinds, repairs, rejections. Returns what ends that."""
        return self._audience.listen(callback)

    @property
    def status(self) -> ReplicaStatus:
        """How it stands."""
        status = status_of(self._keeper, self._session.status)
        return status if self._closing is None else closed(status)

    async def statuses(self) -> AsyncIterator[ReplicaStatus]:
        """Iterate over the status: as it is, and each time that it changes, until the replica is closed."""
        before: ReplicaStatus | None = None
        while True:
            stirred, status = self._stirred, self.status
            if status != before:
                yield status
                before = status
                continue
            if self._closing is not None:
                return
            await stirred.wait()

    @property
    def is_caught_up(self) -> bool:
        """Whether what is shown is what the server has, as far as both have heard of each other."""
        return self._keeper.stage is Stage.LIVE

    async def wait_caught_up(self, timeout: float | None = None) -> None:
        """Wait until `is_caught_up`.

        Raises:
            TimeoutError: it took longer than `timeout` seconds.
            ClientClosed: the replica was closed first.
        """
        async with asyncio.timeout(timeout):
            while not self.is_caught_up:
                self._require_open()
                await self._stir_comes()

    # --- closing ---

    async def aclose(self) -> None:
        """Stop following and close the file. What is in the outbox is kept, and sent when it is opened again."""
        if self._closing is None:
            # From now on nothing can be read, so nobody must be told to.
            self._audience.end()
            self._closing = asyncio.get_running_loop().create_task(self._close())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        if self._creating is not None:
            self._creating.cancel()
        self._keeper.feed.close()
        await self._keeper.stop()
        self._stop_status()
        for write in list(self._writes.values()):
            write.end(self._closed())
        self._stir()

    async def __aenter__(self) -> "Replica":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def _require_readable(self) -> None:
        if self._closing is not None:
            raise self._closed()

    def _closed(self) -> ClientClosed:
        return ClientClosed(f"{self.store}: the replica is closed", hint="what was written is kept in its outbox")

    def _require_open(self) -> None:
        self._require_readable()
        if self._keeper.is_over:
            assert self._keeper.error is not None
            raise self._keeper.error

    # --- for the collections ---

    def put(self, draft: Draft, *, size: int = 0) -> Entry:
        """Put a write into the outbox; to be called by an order. Raises `OutboxFull`."""
        held = self._keeper.outbox.size
        if held + size > self._outbox_bytes_max:
            raise OutboxFull(self.store, held, self._outbox_bytes_max)
        if not draft.ops:
            # Nothing to do: it is as good as there.
            return Entry(0, (), 0, SyncState.SYNCED)
        return self._keeper.write(draft)

    async def order(self, work: Callable[[], Entry], *, reads: bool = False) -> Write:
        """Make a write between two items of the feed; returns it once it is stored."""
        entry = await self._order(work, reads=reads)
        assert entry is not None
        return self._handle(entry)

    async def _order(self, work: Callable[[], Entry | None], *, reads: bool = False) -> Entry | None:
        self._require_open()
        return await self._keeper.order(work, reads=reads)

    def next_records(self, prefix: str) -> list[LocalRecord]:
        """Return the records whose keys begin so, with everything that is in the outbox; to be called by an order."""
        return look_all(self._database.with_prefix(prefix), self._keeper.outbox.next_shadows(prefix))

    def records(self, prefix: str) -> list[LocalRecord]:
        """Return the records whose keys begin so, by key; those that the server does not have yet at the end."""
        self._require_readable()
        return look_all(self._database.with_prefix(prefix), self._keeper.outbox.shadows(prefix))

    def writes_below(self, prefix: str) -> list[Write]:
        """Return the writes of the outbox that touch keys which begin so, oldest first."""
        return [self._handle(entry) for entry in self._keeper.outbox.of_prefix(prefix)]

    def _reconsider(self) -> None:
        self._keeper.reconsider()

    def attend(self, watch: Watch[Any]) -> None:
        """Tell a watch what is touched."""
        self._require_readable()
        self._audience.watch(watch)

    def new_id(self) -> str:
        """Return a UUID that nobody else makes."""
        return self._keeper.new_key()

    @property
    def limits(self) -> Limits:
        """The bounds of the server, as far as they are known."""
        return self._session.limits

    # --- what the keeper tells ---

    def _handle(self, entry: Entry) -> Write:
        if not entry.ops:
            return Write(self, entry)
        write = self._writes.get(entry.id)
        if write is None:
            write = self._writes[entry.id] = Write(self, entry)
            if self._closing is not None:
                write.end(self._closed())
            elif self._keeper.is_over:
                write.end(self._keeper.error)
        return write

    def _moved(self, entry: Entry) -> None:
        write = self._writes.get(entry.id)
        if write is not None:
            write.moved(entry)

    def _touched(self, keys: frozenset[str] | None) -> None:
        self._indexes.touched(keys)
        self._audience.touched(keys)
        self._stir()

    def _stir(self) -> None:
        if self._keeper.is_over and isinstance(self._keeper.error, LocalFileError | SynclineError):
            for write in list(self._writes.values()):
                write.end(self._keeper.error)
        if self._keeper.feed.is_unknown and self._keeper.fold.place.store_id is None:
            self._create_store()
        self._stirred.set()
        self._stirred = asyncio.Event()

    def _create_store(self) -> None:
        """Create the store that the server does not have. One that this replica has met before was dropped."""
        if self._create is not None and (self._creating is None or self._creating.done()):
            self._creating = self._create()

    async def _stir_comes(self) -> None:
        await self._stirred.wait()


def _text_of(filter: Filter | None) -> str:
    return "" if filter is None else msgspec.json.encode(filter).decode()


class _Ears(Listener):
    """Passes on what the keeper tells."""

    def __init__(self, replica: Replica) -> None:
        self._replica = replica

    def touched(self, keys: frozenset[str] | None) -> None:
        self._replica._touched(keys)

    def moved(self, entry: Entry) -> None:
        self._replica._moved(entry)

    def reported(self, report: Report) -> None:
        self._replica._audience.reported(report)

    def stirred(self) -> None:
        self._replica._stir()
