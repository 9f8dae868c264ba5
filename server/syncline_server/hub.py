"""The engine behind every connection and route: stores, feeds, writes, the clock's second hand, the drain.

Owns the connections and is the one place where a request of any kind reaches the storage. It leaves the bytes to
`storage`, the order of a commit to `committer`, who reads what from where to `feeds`, who may do what to `authority`,
and sockets to whoever implements `Transport`. Everything runs on one event loop.
"""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Protocol, TypeVar

from syncline_protocol.errors import CloseCode
from syncline_protocol.transaction import Transaction
from syncline_protocol.values import check_store_name

from .access.authority import Authority
from .access.concern import EVERYTHING, Concern
from .access.gate import OPEN_GATE, Gate
from .access.principal import OPEN, Principal
from .builder import IndexBuilder
from .committer import Answer, Committer, Writer
from .connection import Connection
from .feeds import Feeds
from .limits.admission import Admission
from .limits.throttle import TokenBucket
from .log import Log
from .maintenance import Maintenance, Policy
from .metrics import Counts, Gauges
from .pins import Pins
from .storage.base import Commit, IndexInfo, Storage, StorageUnavailable, StoreInfo, StoreSettings, StoreUnknown
from .turns import Turns

__all__ = ["Clock", "Hub", "Waiting"]

T = TypeVar("T")

#: Writers with a bound on their writes that are remembered; beyond it all begin anew, which gives each a small burst.
_BUCKETS_MAX = 100_000


@dataclass(frozen=True, slots=True)
class Clock:
    """Time from outside: `now` is monotonic, in seconds; `now_ms` the wall clock, in ms since 1970."""

    now: Callable[[], float]
    now_ms: Callable[[], int]


class Waiting(Protocol):
    """A request that goes on until something happens; a stream or a long poll is one."""

    def stop(self) -> None:
        """Come to an end soon: the server drains."""

    def recheck(self, concern: Concern) -> None:
        """Rights have changed: come to an end at once if what is waited for may not be seen any more."""

    def tick(self, now_ms: int) -> None:
        """Time has passed: come to an end if the credentials have."""


class Hub:
    """Args:
    storage: the log; the hub opens and closes it.
    tail_bytes_max: how much of the recent logs of all stores together is kept in memory.
    stall_timeout_s: a subscriber whose socket takes nothing for so long is closed.
    gate: says who somebody is.
    authority: says what he may do.
    admission: says how many may be there.
    policy: how stores are kept whose owners say nothing else.
    compact_every_s: time between two looks at a store whether it is to be cleaned up; 0: only who asks does so.
    """

    def __init__(
        self,
        storage: Storage,
        clock: Clock,
        log: Log,
        *,
        tail_bytes_max: int,
        stall_timeout_s: float,
        gate: Gate = OPEN_GATE,
        authority: Authority | None = None,
        admission: Admission | None = None,
        policy: Policy | None = None,
        compact_every_s: float = 0.0,
    ) -> None:
        self.storage = storage
        self.counts = Counts()
        self.pins = Pins()
        self.connections: set[Connection] = set()
        self.waiting: set[Waiting] = set()
        self.stall_timeout_s = stall_timeout_s
        self.now = clock.now
        self.now_ms = clock.now_ms
        self.log = log
        self.draining = False
        self.gate = gate
        self.admission = admission or Admission()
        self.authority = authority or Authority(lambda principal, store: [])
        #: Called with each commit before it is published or acknowledged.
        self.on_commit: list[Callable[[Commit], None]] = []
        self._write_buckets: dict[tuple[str | None, str], TokenBucket] = {}
        self._turns = Turns(clock.now)
        self.feeds = Feeds(storage, self.counts, log, self._turns, clock.now, tail_bytes_max=tail_bytes_max)
        self._tasks: set[asyncio.Task[None]] = set()
        self.maintenance = Maintenance(self, policy or Policy(), every_s=compact_every_s)
        self.builder = IndexBuilder(self)
        self._nobody = asyncio.Event()
        self._started = False
        self._committer = Committer(
            storage,
            self.counts,
            log,
            self._turns,
            publish=self._publish,
            recheck=self._recheck,
            now_ms=clock.now_ms,
            now=clock.now,
        )

    # --- life ---

    async def start(self) -> None:
        """Open the storage and begin to work, unless that was done. Raises what `Storage.open` raises."""
        if self._started:
            return
        await self.storage.open()
        self._started = True
        self._committer.start()
        self.spawn(self.builder.resume())
        self.log.info("storage_open", storage=self.storage.description)

    async def stop(self) -> None:
        """Commit what was taken, let go of everything, close the storage."""
        for task in list(self._tasks):
            task.cancel()
        await self.maintenance.stop()
        await self._committer.stop()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.feeds.close()
        await self.storage.close()

    @property
    def ready(self) -> bool:
        """Whether requests are taken: not draining, and the storage is there."""
        return not self.draining and self._committer.available

    def reasons_not_ready(self) -> list[str]:
        """Return why requests are refused now; none if the server is ready."""
        draining = ["the server is shutting down"] if self.draining else []
        return draining if self._committer.available else [*draining, "the storage is away"]

    def spawn(self, work: Coroutine[object, object, None]) -> None:
        """Carry out a request that has to wait for something."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self.log.error("request_failed", exc_info=task.exception())

    def tick(self) -> None:
        """Let every connection act on its deadlines. Call it about once a second."""
        now = self.now()
        self.feeds.tick(now)
        for connection in list(self.connections):
            try:
                connection.tick(now)
            except Exception:
                # A mistake on one connection must not stop the clock of the others.
                self.log.exception("tick_failed", session=connection.session.session_id)
                connection.close(CloseCode.FAILED, "the server failed")
        now_ms = self.now_ms()
        for waiting in list(self.waiting):
            waiting.tick(now_ms)

    async def drain(self, *, after_ms: int, jitter_ms: int, patience_s: float) -> None:
        """Say goodbye to everybody: no new requests, writes under way are answered, then the sockets close.

        Returns after `patience_s` at most, and by then has dropped whoever did not take his last bytes.
        """
        self.draining = True
        self._note_nobody()
        for waiting in list(self.waiting):
            waiting.stop()
        for connection in list(self.connections):
            connection.say_goodbye(after_ms, jitter_ms)
        try:
            async with asyncio.timeout(patience_s / 2):
                await self._committer.drained()
        except TimeoutError:
            self.log.error("drain_gave_up_on_commits")
        for connection in list(self.connections):
            connection.close(CloseCode.DRAIN, "the server shuts down")
        try:
            async with asyncio.timeout(patience_s / 2):
                await self._nobody.wait()
        except TimeoutError:
            for connection in list(self.connections):
                connection.transport.abort()

    def joined(self, connection: Connection) -> None:
        """Take note of a connection that was accepted."""
        self.connections.add(connection)
        self.counts.connections_opened += 1

    def left(self, connection: Connection) -> None:
        """Take note of a connection whose socket is gone."""
        self.connections.discard(connection)
        self._note_nobody()

    def _note_nobody(self) -> None:
        if self.draining and not self.connections:
            self._nobody.set()

    def gauges(self) -> Gauges:
        """Return what goes up and down, as it is now."""
        feeds = self.feeds.all()
        live = sum(feed.live_count for feed in feeds)
        return Gauges(
            connections=len(self.connections),
            subscriptions={"live": live, "lagging": sum(len(feed.subscriptions) for feed in feeds) - live},
            waiting=len(self.waiting),
            stores=self.feeds.stores_count,
            unsent_bytes=sum(connection.transport.unsent_bytes() for connection in self.connections),
            upkeep=self.maintenance.phases(),
            ready=self.ready,
        )

    # --- stores ---

    async def create(self, store: str) -> tuple[StoreInfo, bool]:
        """Create a store unless it is there. Returns it, and whether it was created."""
        check_store_name(store)
        info, created = await self.changed(self.storage.create(store, self.now_ms()))
        if created:
            self.log.info("store_created", store=store, store_id=info.store_id)
        return info, created

    async def drop(self, store: str) -> StoreInfo:
        """Remove a store; its subscriptions end with `store_dropped`."""
        check_store_name(store)
        info = await self.changed(self.storage.drop(store))
        await self.feeds.dropped(info)
        self.spawn(self.maintenance.reclaim_soon())
        self.log.info("store_dropped", store=store, store_id=info.store_id)
        return info

    async def configure(self, store: str, settings: StoreSettings) -> StoreInfo:
        """Say how a store is to be kept. Bounds hold from the next write on, ages within a minute."""
        check_store_name(store)
        return await self.changed(self.storage.configure(store, settings))

    async def drop_index(self, store: str, index: str) -> IndexInfo:
        """Remove an index; subscriptions whose filter or grant needs it end. Returns what it was."""
        info = await self.changed(self.storage.drop_index(store, index))
        await self.feeds.index_dropped(store, info.uid)
        self.spawn(self.maintenance.reclaim_soon())
        self.log.info("index_dropped", store=store, index=index)
        return info

    def index_ready(self, store: str, index: str) -> None:
        """Let those go on who were not shown what a new index shows; the builder calls it when it is complete."""
        self.feeds.index_ready(store, index)
        self.log.info("index_ready", store=store, index=index)

    async def changed(self, change: Coroutine[object, object, T]) -> T:
        """Wait for a change that is no append. One that fails leaves the storage as uncertain as an append does."""
        try:
            return await change
        except StorageUnavailable as error:
            self._committer.suspect(error)
            raise

    # --- writes ---

    def submit(self, transaction: Transaction, writer: Writer, request_id: int) -> None:
        """Take a transaction; the writer will be told what became of it."""
        self._committer.submit(transaction, writer, request_id)

    async def write(self, transaction: Transaction, principal: Principal = OPEN) -> Answer:
        """Commit one transaction and return its answer, for callers that wait for it.

        Args:
            principal: who writes; if he loses a right before the commit, the ops that needed it are denied.
        """
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._committer.submit(transaction, _Waiter(answer, principal), 0)
        return await answer

    def _publish(self, commit: Commit) -> None:
        for listener in self.on_commit:
            listener(commit)
        self.feeds.publish(commit)

    def _recheck(self) -> "asyncio.Future[None]":
        return asyncio.ensure_future(self.feeds.recheck())

    # --- rights ---

    def writes_wait_s(self, principal: Principal, transaction: Transaction, rate_per_s: float) -> float:
        """Count the ops of a grant that bounds them. Returns 0, or the seconds after which they may come."""
        key = (principal.name, transaction.store)
        bucket = self._write_buckets.get(key)
        if bucket is None or bucket.rate_per_s != rate_per_s:
            if len(self._write_buckets) >= _BUCKETS_MAX:
                self._write_buckets.clear()
            bucket = self._write_buckets[key] = TokenBucket(rate_per_s, max(1.0, rate_per_s * 2))
        return bucket.take(len(transaction.ops), self.now())

    def rights_changed(self, concern: Concern = EVERYTHING) -> None:
        """Grants, accounts or tokens have changed: what is not allowed any more ends before this returns.

        Args:
            concern: whom it is about. Everybody's rights are worked out anew when they are used next, but only these
                people's subscriptions are looked at now.
        """
        self.authority.forget()
        if concern.is_nobody:
            return
        self._committer.revise(self._allowed_now)
        is_followed = any(concern.is_in(feed.store) for feed in self.feeds.all())
        for connection in list(self.connections):
            principal = connection.standing.principal
            if concern.is_about(principal) and (is_followed or concern.changes_identity(principal)):
                self._recheck_rights(connection, concern)
        for waiting in list(self.waiting):
            try:
                waiting.recheck(concern)
            except Exception:
                # Those behind it lose what they may not have all the same.
                self.log.exception("recheck_failed")

    def _recheck_rights(self, connection: Connection, concern: Concern) -> None:
        waits = connection.transport.holds_back
        seen = connection.standing.seen() if waits else {}
        try:
            connection.recheck(concern)
            if waits and connection.standing.has_lost(seen):
                connection.drop_what_waits()
        except Exception:
            # A mistake on one connection must leave neither it nor those behind it what they may not have.
            self.log.exception("recheck_failed", session=connection.session.session_id)
            connection.transport.abort()

    def _allowed_now(self, transaction: Transaction, writer: Writer) -> Transaction | StoreUnknown:
        """Judge again a write that waits for its commit."""
        principal = self.gate.current(writer.principal)
        rights = None if principal is None else self.authority.rights(principal, transaction.store)
        if rights is None or rights.view is None:
            return StoreUnknown(transaction.store)
        return rights.guard(transaction)


class _Waiter:
    """A writer that is a future, for callers that commit one transaction and wait."""

    def __init__(self, answer: "asyncio.Future[Answer]", principal: Principal) -> None:
        self._answer = answer
        self.principal = principal

    def answered(self, answers: list[tuple[int, Transaction, Answer]]) -> None:
        if not self._answer.done():
            self._answer.set_result(answers[0][2])
