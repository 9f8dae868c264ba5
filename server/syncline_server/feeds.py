"""The feeds of all stores and views: opened when somebody asks, extended by every commit, ended when their log goes.

Of each store that is followed there is one tail, one feed of the whole and one for each other view that somebody
follows; a feed of a part goes with the last who holds it. Owns the memory of the tails, and the decision how a reader
goes on (PROTOCOL 5.4). The log is told from what a process remembers: a cursor that does not resume from memory is
judged by a fresh read.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from syncline_protocol.codec import fill_frame
from syncline_protocol.cursor import (
    NOW,
    START,
    Lineage,
    Reconcile,
    Resume,
    Resumption,
    Rewind,
    Seq,
    decide_resume,
    parse_cursor,
)
from syncline_protocol.filter import Filter
from syncline_protocol.messages import EndReason, ResumeHow, Subscribe
from syncline_protocol.ranges import Range, parse_ranges
from syncline_protocol.seq_set import SeqSet
from syncline_protocol.server import FETCH_RANGES_MAX

from .access.view import FULL, View
from .feed import Feed
from .followed import Followed
from .framecache import FrameCache
from .live import LiveFrames
from .log import Log
from .metrics import Counts
from .part import PartFeed
from .storage.base import (
    Commit,
    IndexInfo,
    IndexUnknown,
    Storage,
    StorageError,
    StoreInfo,
    StoreMismatch,
    StoreUnknown,
    Summary,
)
from .tail import Tail
from .turns import Turns
from .wanted import narrowed, needs_indexes, view_of

__all__ = ["Feeds", "Opening"]

#: Frames of catch-ups that are kept for others who come by, over all feeds.
_CACHE_BYTES_MAX = 16 * 1024 * 1024

#: A client's word alone makes a store mint at most one incarnation in this time.
_DISTRUST_INTERVAL_S = 60.0


@dataclass(frozen=True, slots=True)
class Opening:
    """How a subscription begins: on which feed, at which position, and what is sent before the first batch.

    At `since` every record lived that the reader may hold, once he has done as he is told (`Frame.suits`).
    """

    feed: Feed
    how: ResumeHow
    at: Seq
    since: Seq
    keep_to: Seq | None = None
    live_frames: tuple[bytes, ...] = ()


class Feeds:
    """Args:
    now: a monotonic clock in seconds.
    tail_bytes_max: how much of the recent logs of all stores together is kept in memory.
    """

    def __init__(
        self,
        storage: Storage,
        counts: Counts,
        log: Log,
        turns: Turns,
        now: Callable[[], float],
        *,
        tail_bytes_max: int,
    ) -> None:
        self._storage = storage
        self._counts = counts
        self._log = log
        self._turns = turns
        self._now = now
        self._tail_bytes_max = tail_bytes_max
        self._tail_bytes = 0
        self._cache = FrameCache(_CACHE_BYTES_MAX)
        self._stores: dict[str, Followed] = {}
        self._openings: dict[str, asyncio.Task[Followed]] = {}
        self._part_openings: dict[tuple[str, View], asyncio.Task[PartFeed]] = {}
        self._unclaimed: dict[str, list[Commit]] = {}
        self._live = LiveFrames()
        self._made = 0
        self._distrusted_at: dict[str, float] = {}

    def all(self) -> list[Feed]:
        """Return every feed that there is."""
        return [feed for followed in self._stores.values() for feed in followed.feeds()]

    @property
    def stores_count(self) -> int:
        """How many stores are followed."""
        return len(self._stores)

    async def close(self) -> None:
        """Let go of everything; for the end of the process."""
        openings = (*self._openings.values(), *self._part_openings.values())
        await asyncio.gather(*openings, return_exceptions=True)
        await self._live.close()
        for feed in self.all():
            await feed.close()
        self._stores.clear()

    def tick(self, now: float) -> None:
        """Let feeds publish what they put off. Call it about once a second."""
        for feed in self.all():
            if isinstance(feed, PartFeed):
                feed.tick(now)

    # --- what is committed ---

    def publish(self, commit: Commit) -> None:
        """Hand a commit to the feeds of its store, if it is followed."""
        followed = self._stores.get(commit.store)
        if followed is not None:
            if followed.whole.store_id == commit.store_id and commit.head.seq > followed.tail.head.seq:
                self._extend(followed, commit)
        elif commit.store in self._openings:
            self._unclaimed.setdefault(commit.store, []).append(commit)

    def _extend(self, followed: Followed, commit: Commit) -> None:
        """Hand a commit to its feeds, and take memory from those that were quiet the longest."""
        tail = followed.tail
        self._tail_bytes -= tail.bytes_held
        followed.extend(commit)
        self._tail_bytes += tail.bytes_held
        self._stores[commit.store] = self._stores.pop(commit.store)
        for quietest in list(self._stores.values()) if self._tail_bytes > self._tail_bytes_max else ():
            self._tail_bytes -= quietest.tail.bytes_held
            # The busiest keeps half, so that the cost of trimming is paid rarely.
            quietest.trim(self._tail_bytes_max // 2 if quietest is followed else 0)
            self._tail_bytes += quietest.tail.bytes_held
            if self._tail_bytes <= self._tail_bytes_max // 2:
                break

    # --- the end of feeds ---

    async def dropped(self, info: StoreInfo) -> None:
        """End the feeds of a store that was dropped."""
        opening = self._openings.get(info.name)
        if opening is not None:
            # It may have read the store just before, and its feed would follow for ever a log that is no more.
            await asyncio.wait([opening])
        followed = self._stores.get(info.name)
        if followed is not None and followed.whole.store_id == info.store_id:
            self._end(followed, "store_dropped")

    def _end(self, followed: Followed, reason: EndReason) -> None:
        """Let go of a store's feeds, unless that has happened already; those of another one of its name stay."""
        store = followed.whole.store
        if self._stores.get(store) is followed:
            del self._stores[store]
            self._tail_bytes -= followed.tail.bytes_held
            for feed in followed.feeds():
                feed.end_all(reason)

    async def index_dropped(self, store: str, uid: str) -> None:
        """End the feeds that need an index which is no more; what they follow cannot be told any longer."""
        openings = [task for (name, view), task in self._part_openings.items() if name == store and uid in view.indexes]
        await asyncio.gather(*openings, return_exceptions=True)
        followed = self._stores.get(store)
        for part in list(followed.parts.values()) if followed is not None else ():
            if followed is not None and uid in part.view.indexes:
                followed.leave(part)
                part.end_all("resubscribe")

    def index_ready(self, store: str, name: str) -> None:
        """End the feeds of those to whom an index shows more that is complete now; they come back and see it."""
        followed = self._stores.get(store)
        for part in list(followed.parts.values()) if followed is not None else ():
            if followed is not None and name in part.named:
                followed.leave(part)
                part.end_all("resubscribe")

    async def recheck(self) -> None:
        """After the storage was opened anew: feeds whose log is not where it was are ended, and their clients resume.

        Their SUBSCRIBE is then decided by the log as it is now.
        """
        for followed in list(self._stores.values()):
            try:
                info = await self._storage.info(followed.whole.store)
                same = info.store_id == followed.whole.store_id and info.head == followed.tail.head
            except StorageError:
                same = False
            if not same:
                self._end(followed, "resubscribe")

    # --- opening ---

    async def feed(self, store: str, view: View = FULL) -> Feed:
        """Return the feed of a view of a store.

        Raises:
            StoreUnknown: the store is not there.
        """
        followed = self._stores.get(store)
        if followed is None:
            opening = self._openings.get(store)
            if opening is None:
                opening = asyncio.get_running_loop().create_task(self._open(store))
                self._openings[store] = opening
            followed = await asyncio.shield(opening)
        if view == FULL:
            return followed.whole
        feed = followed.parts.get(view)
        return feed or await self._part(followed, view)

    async def feed_for(self, store: str, granted: View, wanted: Filter | None) -> Feed:
        """Return the feed of what rights show of a store, narrowed by a filter.

        Raises:
            RemoteProtocolError: the filter is wrong.
            StorageError: the store or the index of the filter is not there, or the index is not complete.
        """
        named = {where.index for where in granted.wheres}
        while True:
            view = await view_of(self._storage, store, granted, wanted)
            try:
                feed = await self.feed(store, view)
            except IndexUnknown:
                # Dropped since: without an index of the grants less is seen; one of the filter is missed right here.
                continue
            feed.named |= named
            # One that became complete before the feed knew of it has ended nothing.
            if not named or view == await view_of(self._storage, store, granted, wanted):
                return feed

    async def _open(self, store: str) -> Followed:
        # Commits that happen while the head is read are kept aside; those that the read has seen are left out.
        try:
            info = await self._storage.info(store)
            feed = Feed(
                self._new_id(),
                info,
                self._storage,
                self._counts,
                self._cache,
                self._turns,
                Tail(info.head, info.floors.tombstones),
            )
            followed = self._stores[store] = Followed(feed)
            for commit in self._unclaimed.pop(store, []):
                self.publish(commit)
            return followed
        finally:
            self._unclaimed.pop(store, None)
            del self._openings[store]

    def _new_id(self) -> str:
        self._made += 1
        return f"f{self._made}"

    async def _part(self, followed: Followed, view: View) -> PartFeed:
        place = (followed.whole.store, view)
        opening = self._part_openings.get(place)
        if opening is None:
            opening = asyncio.get_running_loop().create_task(self._open_part(followed, view))
            self._part_openings[place] = opening
            opening.add_done_callback(lambda _: self._part_openings.pop(place))
        return await asyncio.shield(opening)

    async def _open_part(self, followed: Followed, view: View) -> PartFeed:
        whole = followed.whole
        head = followed.tail.head
        part = PartFeed(
            self._new_id(),
            StoreInfo(whole.store, whole.store_id, 0, head),
            self._storage,
            self._counts,
            self._cache,
            self._turns,
            followed.tail,
            view,
            self._now(),
        )
        # What is committed while the storage is asked is handed over already, and counted on top of its answer.
        followed.enter(part)
        try:
            if view.is_whole:
                summary = Summary(head.count, head.digest)
            else:
                summary = await self._storage.summary(whole.store, view.selectors, head.seq)
                part.indexes = await self._indexes_of(whole.store, view)
            if whole.ended:
                raise StoreUnknown(whole.store)
        except StorageError:
            followed.leave(part)
            raise
        part.begin(summary)
        followed.parts[view] = part
        return part

    async def _indexes_of(self, store: str, view: View) -> tuple[IndexInfo, ...]:
        """Return the indexes that a view needs. Raises IndexUnknown if one was dropped meanwhile."""
        if not view.indexes:
            return ()
        found = tuple([index for index in (await self._storage.info(store)).indexes if index.uid in view.indexes])
        if len(found) < len(view.indexes):
            raise IndexUnknown(store, "that the filter names")
        return found

    # --- how a reader goes on ---

    def resume_at_hand(self, request: Subscribe, granted: View, wanted: Filter | None) -> Opening | None:
        """Decide a SUBSCRIBE from memory alone, if it is an ordinary resume of a store that is followed already.

        This process is the log's only writer, so what it remembers is enough to say that a cursor is valid. Whatever
        else it may be is for `open_subscription`.
        """
        followed = self._stores.get(request.store)
        if followed is None or request.reconcile or needs_indexes(granted, wanted):
            return None
        view = narrowed(granted, wanted)
        feed = followed.whole if view == FULL else followed.parts.get(view)
        if feed is None or not feed.is_settled or request.store_id not in (None, feed.store_id):
            return None
        published = feed.published
        if request.after == START:
            return Opening(feed, "resume", Seq(0), published.seq)
        if request.after == NOW:
            return Opening(feed, "resume", published.seq, published.seq)
        position, floor = parse_cursor(request.after), feed.tail.floor
        decision = decide_resume(published.lineage, published.seq, position, None, view.token, floor)
        return Opening(feed, "resume", decision.at, decision.at) if isinstance(decision, Resume) else None

    async def open_subscription(
        self, request: Subscribe, granted: View, wanted: Filter | None = None, *, bitmaps: bool = False
    ) -> Opening:
        """Decide how a SUBSCRIBE goes on (PROTOCOL 5.4).

        Args:
            granted: what his rights show.
            wanted: the filter of the request.
            bitmaps: whether the client reads bitmaps in LIVE.

        Raises:
            RemoteProtocolError: the request is wrong.
            StorageError: the store is unknown or not the one that was meant, its index is not there or not complete,
                or the storage failed.
        """
        feed = await self.feed_for(request.store, granted, wanted)
        if request.store_id is not None and request.store_id != feed.store_id:
            raise StoreMismatch(request.store)
        # Who was just told that his write is stored finds it in what he subscribes to now.
        await feed.settled()
        return await self.resume(feed, request.after, request.known, bitmaps=bitmaps, reconcile=request.reconcile)

    async def resume(
        self,
        feed: Feed,
        after: str,
        known: str | None,
        *,
        lists: bool = True,
        bitmaps: bool = False,
        reconcile: bool = False,
    ) -> Opening:
        """Decide how a reader of `feed` with this cursor goes on. Raises as `open_subscription`.

        Args:
            lists: whether it is worked out what lives, if the reader has to be told.
            bitmaps: whether that may be told in bitmaps.
            reconcile: the reader holds something else than it should, and wants to be told although it may go on.
        """
        if after == START:
            return Opening(feed, "resume", Seq(0), feed.published.seq)
        if after == NOW:
            return Opening(feed, "resume", feed.published.seq, feed.published.seq)
        position, view, tail = parse_cursor(after), feed.view.token, feed.tail
        lineage = None if known is None else Lineage.parse(known)
        decision = decide_resume(tail.head.lineage, tail.head.seq, position, lineage, view, tail.floor)
        if not isinstance(decision, Resume):
            # Lost history, a head that this process has not seen, or a floor that rose: only the log itself can tell.
            info = await self._storage.info(feed.store)
            if info.store_id != feed.store_id:
                raise StoreUnknown(feed.store)
            tail.note_floor(info.floors.tombstones)
            decision = decide_resume(info.head.lineage, info.head.seq, position, lineage, view, tail.floor)
            if isinstance(decision, Rewind) and position.incarnation == info.head.lineage.current.incarnation:
                await self._distrust(feed.store)
        if reconcile and isinstance(decision, Resume):
            decision = Reconcile(decision.at)
        return await self._opening(feed, decision, lists=lists, bitmaps=bitmaps)

    async def _opening(self, feed: Feed, decision: Resumption, *, lists: bool, bitmaps: bool) -> Opening:
        match decision:
            case Resume(at):
                await feed.reached(at)
                return Opening(feed, "resume", at, at)
            case Rewind(at):
                how: ResumeHow = "rewind"
            case Reconcile(at):
                how = "reconcile"
            case _:
                return Opening(feed, "snapshot", Seq(0), feed.published.seq)
        # What LIVE names has not died up to the floor that was there before LIVE was read: a DELETE that was cleaned
        # away took its record out of what lives.
        since = max(at, feed.tail.floor)
        frames = await self._live_frames(feed, at, bitmaps=bitmaps) if lists else ()
        return Opening(feed, how, at, since, at if how == "rewind" else None, frames)

    async def _live_frames(self, feed: Feed, upto: Seq, *, bitmaps: bool) -> tuple[bytes, ...]:
        await feed.reached(upto)

        async def read() -> SeqSet:
            if not feed.view.indexes:
                return await self._storage.live_set(feed.store, upto, feed.view.selectors)
            # A DELETE from before an index was declared tells no terms of it, and is in no piece of this view: what
            # has died since is not named, so that nobody keeps it.
            head = feed.tail.head.seq
            return (await self._storage.live_set(feed.store, head, feed.view.selectors)).upto(upto)

        return await self._live.get(feed.id, upto, feed.cursor(upto), read, bitmaps=bitmaps)

    async def _distrust(self, store: str) -> None:
        now = self._now()
        if now - self._distrusted_at.get(store, -_DISTRUST_INTERVAL_S) >= _DISTRUST_INTERVAL_S:
            self._distrusted_at[store] = now
            self._log.warning("cursor_ahead_of_log", store=store)
            await self._storage.distrust(store)

    async def fill(self, feed: Feed, seqs: str) -> AsyncIterator[bytes]:
        """Yield the FILL frames for the seqs of a FETCH.

        Raises:
            RemoteProtocolError: `bad_message`.
            StorageError: the storage failed.
        """
        wanted: list[Range] = parse_ranges(seqs, ranges_max=FETCH_RANGES_MAX)
        while True:
            rows = await self._storage.fetch(feed.store, wanted, feed.published.seq)
            wanted = _above(wanted, rows[-1].seq) if rows else []
            shown = [row.text for row in rows if feed.view.shows_record(row.text, feed.indexes)]
            yield fill_frame(feed.id, feed.view.texts(shown), last=not wanted)
            if not wanted:
                return


def _above(ranges: list[Range], seq: Seq) -> list[Range]:
    return [(Seq(max(first, seq + 1)), last) for first, last in ranges if last > seq]
