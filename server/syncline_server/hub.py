"""The engine behind every connection and route: stores, feeds, writes, the clock's second hand, the drain.

Owns the feeds and the connections and is the one place where a request of any kind reaches the storage. It leaves the
bytes to `storage`, the order of a commit to `committer`, fan-out to `feed`, and sockets to whoever implements
`Transport`. Everything runs on one event loop.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from typing import Protocol, TypeVar

from syncline_protocol.codec import encode, fill_frame
from syncline_protocol.cursor import NOW, START, Lineage, Resume, Resumption, Rewind, Seq, decide_resume, parse_cursor
from syncline_protocol.errors import CloseCode
from syncline_protocol.messages import EndReason, Live, ResumeHow, Subscribe
from syncline_protocol.ranges import Range, format_ranges, parse_ranges
from syncline_protocol.server import FETCH_RANGES_MAX
from syncline_protocol.transaction import Transaction
from syncline_protocol.values import check_store_name

from .committer import Answer, Committer, Writer
from .connection import Connection
from .feed import Feed
from .framecache import FrameCache
from .log import Log
from .metrics import Counts, Gauges
from .storage.base import Commit, Storage, StorageError, StorageUnavailable, StoreInfo, StoreMismatch, StoreUnknown
from .turns import Turns

__all__ = ["Clock", "Hub", "Opening", "Waiting"]

T = TypeVar("T")

#: A LIVE frame names at most so many ranges, which is below 64 KiB of text.
_LIVE_RANGES = 2000

#: Frames of catch-ups that are kept for others who come by, over all feeds.
_CACHE_BYTES_MAX = 16 * 1024 * 1024

#: A client's word alone makes a store mint at most one incarnation in this time.
_DISTRUST_INTERVAL_S = 60.0


@dataclass(frozen=True, slots=True)
class Clock:
    """Time from outside: `now` is monotonic, in seconds; `now_ms` the wall clock, in ms since 1970."""

    now: Callable[[], float]
    now_ms: Callable[[], int]


@dataclass(frozen=True, slots=True)
class Opening:
    """How a subscription begins: on which feed, at which position, and what is sent before the first batch."""

    feed: Feed
    how: ResumeHow
    at: Seq
    keep_to: Seq | None = None
    live_frames: tuple[bytes, ...] = ()


class Waiting(Protocol):
    """A request that goes on until something happens; a stream or a long poll is one."""

    def stop(self) -> None:
        """Come to an end soon: the server drains."""


class Hub:
    """Args:
    storage: the log; the hub opens and closes it.
    tail_bytes_max: how much of the recent logs of all stores together is kept in memory.
    stall_timeout_s: a subscriber whose socket takes nothing for so long is closed.
    """

    def __init__(
        self, storage: Storage, clock: Clock, log: Log, *, tail_bytes_max: int, stall_timeout_s: float
    ) -> None:
        self.storage = storage
        self.counts = Counts()
        self.connections: set[Connection] = set()
        self.waiting: set[Waiting] = set()
        self.stall_timeout_s = stall_timeout_s
        self.now = clock.now
        self.now_ms = clock.now_ms
        self.log = log
        self.draining = False
        self._tail_bytes_max = tail_bytes_max
        self._tail_bytes = 0
        self._cache = FrameCache(_CACHE_BYTES_MAX)
        self._turns = Turns(clock.now)
        self._feeds: dict[str, Feed] = {}
        self._openings: dict[str, asyncio.Task[Feed]] = {}
        self._unclaimed: dict[str, list[Commit]] = {}
        self._feeds_made = 0
        self._distrusted_at: dict[str, float] = {}
        self._tasks: set[asyncio.Task[None]] = set()
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
        self.log.info("storage_open", storage=self.storage.description)

    async def stop(self) -> None:
        """Commit what was taken, let go of everything, close the storage."""
        for task in list(self._tasks):
            task.cancel()
        await self._committer.stop()
        await asyncio.gather(*self._tasks, *self._openings.values(), return_exceptions=True)
        for feed in self._feeds.values():
            await feed.close()
        self._feeds.clear()
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
        for connection in list(self.connections):
            try:
                connection.tick(now)
            except Exception:
                # A mistake on one connection must not stop the clock of the others.
                self.log.exception("tick_failed", session=connection.session.session_id)
                connection.close(CloseCode.FAILED, "the server failed")

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
        feeds = self._feeds.values()
        live = sum(feed.live_count for feed in feeds)
        return Gauges(
            connections=len(self.connections),
            subscriptions={"live": live, "lagging": sum(len(feed.subscriptions) for feed in feeds) - live},
            waiting=len(self.waiting),
            stores=len(feeds),
            unsent_bytes=sum(connection.transport.unsent_bytes() for connection in self.connections),
            ready=self.ready,
        )

    # --- stores ---

    async def create(self, store: str) -> tuple[StoreInfo, bool]:
        """Create a store unless it is there. Returns it, and whether it was created."""
        check_store_name(store)
        info, created = await self._changed(self.storage.create(store, self.now_ms()))
        if created:
            self.log.info("store_created", store=store, store_id=info.store_id)
        return info, created

    async def drop(self, store: str) -> StoreInfo:
        """Remove a store; its subscriptions end with `store_dropped`."""
        check_store_name(store)
        info = await self._changed(self.storage.drop(store))
        opening = self._openings.get(store)
        if opening is not None:
            # It may have read the store just before, and its feed would follow for ever a log that is no more.
            await asyncio.wait([opening])
        feed = self._feeds.get(store)
        if feed is not None and feed.store_id == info.store_id:
            self._end(feed, "store_dropped")
        self.log.info("store_dropped", store=store, store_id=info.store_id)
        return info

    async def _changed(self, change: Coroutine[object, object, T]) -> T:
        """Wait for a create or a drop. One that fails leaves the storage as uncertain as an append does."""
        try:
            return await change
        except StorageUnavailable as error:
            self._committer.suspect(error)
            raise

    # --- writes ---

    def submit(self, transaction: Transaction, writer: Writer, request_id: int) -> None:
        """Take a transaction; the writer will be told what became of it."""
        self._committer.submit(transaction, writer, request_id)

    async def write(self, transaction: Transaction) -> Answer:
        """Commit one transaction and return its answer, for callers that wait for it."""
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._committer.submit(transaction, _Waiter(answer), 0)
        return await answer

    def _publish(self, commit: Commit) -> None:
        feed = self._feeds.get(commit.store)
        if feed is not None:
            if feed.store_id == commit.store_id and commit.head.seq > feed.tail.head.seq:
                self._extend(feed, commit)
        elif commit.store in self._openings:
            self._unclaimed.setdefault(commit.store, []).append(commit)

    def _extend(self, feed: Feed, commit: Commit) -> None:
        """Hand a commit to its feed, and take memory from those that were quiet the longest."""
        self._tail_bytes -= feed.tail.bytes_held
        feed.commit(commit)
        self._tail_bytes += feed.tail.bytes_held
        self._feeds[feed.store] = self._feeds.pop(feed.store)
        for quietest in list(self._feeds.values()) if self._tail_bytes > self._tail_bytes_max else ():
            self._tail_bytes -= quietest.tail.bytes_held
            # The busiest keeps half, so that the cost of trimming is paid rarely.
            quietest.trim_tail(self._tail_bytes_max // 2 if quietest is feed else 0)
            self._tail_bytes += quietest.tail.bytes_held
            if self._tail_bytes <= self._tail_bytes_max // 2:
                break

    def _end(self, feed: Feed, reason: EndReason) -> None:
        """Let go of a feed, unless that has happened already; another one of its store stays."""
        if self._feeds.get(feed.store) is feed:
            del self._feeds[feed.store]
            self._tail_bytes -= feed.tail.bytes_held
            feed.end_all(reason)

    def _recheck(self) -> "asyncio.Future[None]":
        return asyncio.ensure_future(self._recheck_feeds())

    async def _recheck_feeds(self) -> None:
        """After the storage was opened anew: a feed whose log is not where it was is ended, and its clients resume.

        Their SUBSCRIBE is then decided by the log as it is now.
        """
        for feed in list(self._feeds.values()):
            try:
                info = await self.storage.info(feed.store)
                same = info.store_id == feed.store_id and info.head == feed.tail.head
            except StorageError:
                same = False
            if not same:
                self._end(feed, "resubscribe")

    # --- feeds ---

    async def feed(self, store: str) -> Feed:
        """Return the feed of a store.

        Raises:
            StoreUnknown: the store is not there.
        """
        feed = self._feeds.get(store)
        if feed is not None:
            return feed
        opening = self._openings.get(store)
        if opening is None:
            opening = asyncio.get_running_loop().create_task(self._open_feed(store))
            self._openings[store] = opening
        return await asyncio.shield(opening)

    async def _open_feed(self, store: str) -> Feed:
        # Commits that happen while the head is read are kept aside; those that the read has seen are left out.
        try:
            info = await self.storage.info(store)
            self._feeds_made += 1
            feed = Feed(
                f"f{self._feeds_made}",
                info,
                self.storage,
                self.counts,
                self._cache,
                self._turns,
            )
            self._feeds[store] = feed
            for commit in self._unclaimed.pop(store, []):
                self._publish(commit)
            return feed
        finally:
            self._unclaimed.pop(store, None)
            del self._openings[store]

    def resume_at_hand(self, request: Subscribe) -> Opening | None:
        """Decide a SUBSCRIBE from memory alone, if it is an ordinary resume of a store that is followed already.

        This process is the log's only writer, so what it remembers is enough to say that a cursor is valid. Whatever
        else it may be is for `open_subscription`.
        """
        feed = self._feeds.get(request.store)
        if feed is None or not feed.is_settled or request.store_id not in (None, feed.store_id):
            return None
        if request.after == START:
            return Opening(feed, "resume", Seq(0))
        published = feed.published
        if request.after == NOW:
            return Opening(feed, "resume", published.seq)
        decision = decide_resume(published.lineage, published.seq, parse_cursor(request.after), None)
        return Opening(feed, "resume", decision.at) if isinstance(decision, Resume) else None

    async def open_subscription(self, request: Subscribe) -> Opening:
        """Decide how a SUBSCRIBE goes on (PROTOCOL 5.4).

        Raises:
            RemoteProtocolError: the request is wrong.
            StorageError: the store is unknown or not the one that was meant, or the storage failed.
        """
        feed = await self.feed(request.store)
        if request.store_id is not None and request.store_id != feed.store_id:
            raise StoreMismatch(request.store)
        # Who was just told that his write is stored finds it in what he subscribes to now.
        await feed.settled()
        return await self.resume(feed, request.after, request.known)

    async def resume(self, feed: Feed, after: str, known: str | None) -> Opening:
        """Decide how a reader of `feed` with this cursor goes on. Raises as `open_subscription`."""
        if after == START:
            return Opening(feed, "resume", Seq(0))
        if after == NOW:
            return Opening(feed, "resume", feed.published.seq)
        position = parse_cursor(after)
        lineage = None if known is None else Lineage.parse(known)
        head = feed.tail.head
        decision = decide_resume(head.lineage, head.seq, position, lineage)
        if not isinstance(decision, Resume):
            # Proof of lost history or a head that this process has not seen: only the log itself can tell.
            info = await self.storage.info(feed.store)
            if info.store_id != feed.store_id:
                raise StoreUnknown(feed.store)
            decision = decide_resume(info.head.lineage, info.head.seq, position, lineage)
            if isinstance(decision, Rewind) and position.incarnation == info.head.lineage.current.incarnation:
                await self._distrust(feed.store)
        return await self._opening(feed, decision)

    async def _opening(self, feed: Feed, decision: Resumption) -> Opening:
        match decision:
            case Resume(at):
                await self._published(feed, at)
                return Opening(feed, "resume", at)
            case Rewind(keep_to):
                await self._published(feed, keep_to)
                live = await self.storage.live_ranges(feed.store, keep_to)
                return Opening(feed, "rewind", keep_to, keep_to, _live_frames(feed, keep_to, live))
            case _:
                return Opening(feed, "snapshot", Seq(0))

    async def _published(self, feed: Feed, at: Seq) -> None:
        """Wait for the round that publishes `at`: durable, but on its way to the others."""
        if at > feed.published.seq:
            await feed.wait_above(Seq(at - 1))

    async def _distrust(self, store: str) -> None:
        now = self.now()
        if now - self._distrusted_at.get(store, -_DISTRUST_INTERVAL_S) >= _DISTRUST_INTERVAL_S:
            self._distrusted_at[store] = now
            self.log.warning("cursor_ahead_of_log", store=store)
            await self.storage.distrust(store)

    async def fill(self, feed: Feed, seqs: str) -> AsyncIterator[bytes]:
        """Yield the FILL frames for the seqs of a FETCH.

        Raises:
            RemoteProtocolError: `bad_message`.
            StorageError: the storage failed.
        """
        wanted: list[Range] = parse_ranges(seqs, ranges_max=FETCH_RANGES_MAX)
        while True:
            rows = await self.storage.fetch(feed.store, wanted, feed.published.seq)
            wanted = _above(wanted, rows[-1].seq) if rows else []
            yield fill_frame(feed.id, [row.text for row in rows], last=not wanted)
            if not wanted:
                return


def _above(ranges: list[Range], seq: Seq) -> list[Range]:
    return [(Seq(max(first, seq + 1)), last) for first, last in ranges if last > seq]


def _live_frames(feed: Feed, upto: Seq, ranges: list[Range]) -> tuple[bytes, ...]:
    cursor = feed.published.lineage.cursor(upto)
    starts = range(0, max(len(ranges), 1), _LIVE_RANGES)
    return tuple(
        encode(Live(feed.id, cursor, format_ranges(ranges[at : at + _LIVE_RANGES]), at == starts[-1])) for at in starts
    )


class _Waiter:
    """A writer that is a future, for callers that commit one transaction and wait."""

    def __init__(self, answer: "asyncio.Future[Answer]") -> None:
        self._answer = answer

    def answered(self, answers: list[tuple[int, Transaction, Answer]]) -> None:
        if not self._answer.done():
            self._answer.set_result(answers[0][2])
