"""Fan-out of one feed: what the subscribers of one (store, view) share. `part` has what is special about narrow views.

There is no queue and no task per subscriber. A subscription is a cursor on a shared log and is in one of two states:
*live*, at the published position, and then gets the shared frame written straight to its transport in each round; or
*lagging*, and then pulls frames at its own pace, from the tail or below it from the storage, whenever its transport
has room. A transport that is full turns a live subscription into a lagging one; reaching the published position
turns it back. Cold reads are shared: one read serves everybody who waits at the same position.

Invariants: a subscription's position only moves by a frame that begins there (P3); only durable commits are
published (P2); a round costs one encoding, whatever the number of subscribers.
"""

import asyncio
from functools import partial
from typing import Protocol

from syncline_protocol.codec import encode
from syncline_protocol.cursor import Cursor, Seq
from syncline_protocol.digest import digest_text
from syncline_protocol.messages import Behind, CaughtUp, EndReason

from .access.view import FULL, View
from .frame import Frame
from .framecache import FrameCache
from .metrics import Counts
from .storage.base import Chunk, Head, IndexInfo, Storage, StorageError, StorageUnavailable, StoreInfo, StoreUnknown
from .tail import Tail
from .transport import Transport
from .turns import Turns

__all__ = ["Feed", "Subscription"]

#: Cold reads under way at once, per feed. More would only queue for the same readers.
_COLD_READS_MAX = 4

#: A round writes to so many sockets before it lets other work in.
_SLICE = 500


class Subscriber(Protocol):
    """Whom a feed tells that a subscription is over; a `Connection` is one."""

    transport: Transport

    def feed_ended(self, subscription: "Subscription", reason: EndReason) -> None:
        """Nothing of this subscription will be written any more."""


class Subscription:
    """One subscriber's cursor on a feed.

    Args:
        granted: the view that his rights give him, of which the feed shows all or a part.
        since: a position at which every record that he may hold lived (`Frame.suits`).
    """

    __slots__ = (
        "caught_up", "feed", "granted", "id", "live", "position", "since", "subscriber", "transport", "waiting",
    )  # fmt: skip

    def __init__(
        self, subscriber: Subscriber, request_id: int, feed: "Feed", position: Seq, granted: View, since: Seq
    ) -> None:
        self.granted = granted
        self.since = since
        self.subscriber = subscriber
        self.transport = subscriber.transport
        self.id = request_id
        self.feed = feed
        self.position = position
        self.live = False
        self.caught_up = False
        self.waiting = False

    def advance(self) -> None:
        """Write what can be written now. Call it once after SUBSCRIBED, and whenever the transport has drained."""
        if not self.live:
            self.feed.advance(self)


class Feed:
    """The subscribers of one store, and the frames they share.

    Args:
        feed_id: the name that BATCH frames carry.
        info: the store, freshly read; the feed follows it from this head on.
        cache: frames of catch-ups, shared by all feeds.
        turns: lets appends go before rounds.
        tail: the recent log, which all feeds of the store share.
        view: what part of the store it shows.
    """

    def __init__(
        self,
        feed_id: str,
        info: StoreInfo,
        storage: Storage,
        counts: Counts,
        cache: FrameCache,
        turns: Turns,
        tail: Tail,
        view: View = FULL,
    ) -> None:
        self.id = feed_id
        self.store = info.name
        self.store_id = info.store_id
        self.tail = tail
        self.view = view
        self.published: Head = info.head
        self.subscriptions: set[Subscription] = set()
        self._live: dict[Subscription, None] = {}
        self._storage = storage
        self._counts = counts
        self._round_scheduled = False
        self._round_running = False
        self._cache = cache
        self._turns = turns
        self._cold_waiting: dict[Seq, list[Subscription]] = {}
        self._cold_tasks: dict[Seq, asyncio.Task[None]] = {}
        self._cold_slots = asyncio.Semaphore(_COLD_READS_MAX)
        self._moved: asyncio.Event = asyncio.Event()
        #: The indexes that the view needs.
        self.indexes: tuple[IndexInfo, ...] = ()
        #: The names of the indexes in the grants of those who asked for it: a new one of such a name shows them more.
        self.named: set[str] = set()
        self._ended = False
        self._end_reason: EndReason = "resubscribe"

    @property
    def live_count(self) -> int:
        """How many subscriptions are at the tip."""
        return len(self._live)

    # --- publishing ---

    def extended(self) -> None:
        """The tail has got what is durable; a round will publish it."""
        self._schedule_round()

    def cursor(self, seq: Seq) -> Cursor:
        """Return the name of a position in this view."""
        return self.published.lineage.cursor(seq, self.view.token)

    @property
    def head_cursor(self) -> Cursor:
        """The name of the newest position of the log, published or not."""
        return self.tail.head.lineage.cursor(self.tail.head.seq, self.view.token)

    def _schedule_round(self) -> None:
        if self._round_scheduled or self._round_running or self._ended:
            return
        self._round_scheduled = True
        self._turns.soon_after_others(self._begin_round)

    def _begin_round(self) -> None:
        """Publish everything up to the tail's head, to those who are live now."""
        self._round_scheduled = False
        after, head = self.published.seq, self._head_to_publish()
        if after == head.seq or self._ended:
            return
        self.published = head
        self._moved.set()
        self._moved = asyncio.Event()
        if not self._live:
            return
        frames = self._frames(after, head)
        self._round_running = True
        self._write_slice(frames, list(self._live), 0)

    def _head_to_publish(self) -> Head:
        """Return what the round publishes: where the log stands now."""
        return self.tail.head

    def _frames(self, after: Seq, head: Head) -> list[Frame]:
        frames = []
        while after < head.seq:
            frame = self._frame_from_memory(after, head.seq)
            frames.append(frame)
            after = frame.to
        return frames

    def _frame_from_memory(self, after: Seq, upto: Seq) -> Frame:
        to, texts = self._texts(after, upto)
        lineage, view = self.published.lineage, self.view
        return Frame(self.id, lineage, after, to, view.texts(texts), complete=True, view=view.token)

    def _texts(self, after: Seq, upto: Seq) -> tuple[Seq, list[bytes]]:
        """Return as `Tail.texts` does what the view shows. `after` is not below `base`."""
        return self.tail.texts(after, upto)

    @property
    def base(self) -> Seq:
        """The position from which on everything is in memory."""
        return self.tail.base

    def _write_slice(self, frames: list[Frame], targets: list[Subscription], start: int) -> None:
        end = start + _SLICE
        delivered = 0
        for frame in frames:
            after, to = frame.after, frame.to
            written = 0
            for subscription in targets[start:end]:
                # Who left, fell behind or was served by `advance` since the round began is elsewhere by now.
                if subscription.live and subscription.position == after:
                    subscription.position = to
                    subscription.transport.write_frame(frame)
                    written += 1
            delivered += written * len(frame.texts)
        self._counts.changes_delivered += delivered
        if end < len(targets):
            self._turns.soon(partial(self._write_slice, frames, targets, end))
            return
        self._round_running = False
        self._counts.rounds += 1
        if self.tail.head.seq != self.published.seq:
            self._schedule_round()

    # --- subscriptions ---

    def add(self, subscription: Subscription) -> None:
        """Take a subscription in, lagging at its position; `advance` it after SUBSCRIBED was written."""
        self.subscriptions.add(subscription)

    def remove(self, subscription: Subscription) -> None:
        """Let a subscription go; nothing is written to it any more."""
        self.subscriptions.discard(subscription)
        self._live.pop(subscription, None)
        subscription.live = False

    def fall_behind(self, subscription: Subscription) -> None:
        """Its transport is full: it pulls from now on."""
        if subscription.live:
            subscription.live = False
            del self._live[subscription]
            self._counts.fell_behind += 1

    def advance(self, subscription: Subscription) -> None:
        """Write frames until the transport is full, a cold read is needed, or the tip is reached."""
        transport = subscription.transport
        while subscription in self.subscriptions and not subscription.waiting:
            if subscription.position == self.published.seq:
                self._go_live(subscription)
                return
            if transport.full:
                return
            frame = self._frame_at_hand(subscription.position)
            if frame is None:
                self._announce_behind(subscription)
                self._read_cold(subscription)
                return
            if not frame.complete:
                self._announce_behind(subscription)
            if not frame.suits(subscription.since):
                # A DELETE of something that he holds may be gone; what he has to drop only a reconcile tells.
                self.end(subscription, "resubscribe")
                return
            subscription.position = frame.to
            subscription.since = min(subscription.since, frame.upto)
            transport.write_frame(frame)
            self._counts.changes_delivered += len(frame.texts)

    def _go_live(self, subscription: Subscription) -> None:
        subscription.live = True
        self._live[subscription] = None
        if not subscription.caught_up:
            subscription.caught_up = True
            head = self.published
            at = self.cursor(head.seq)
            subscription.transport.write(encode(CaughtUp(self.id, at, head.count, digest_text(head.digest))))
        if subscription.transport.full:
            self.fall_behind(subscription)

    def _announce_behind(self, subscription: Subscription) -> None:
        # What the storage sends may leave out pairs, so it is only consistent again at the next CAUGHT_UP.
        if subscription.caught_up:
            subscription.caught_up = False
            at, head = self.cursor(subscription.position), self.cursor(self.published.seq)
            subscription.transport.write(encode(Behind(self.id, at, head)))

    # --- reading what is not at hand ---

    def _frame_at_hand(self, after: Seq) -> Frame | None:
        frame = self._cache.get(self.id, after)
        if frame is not None:
            return frame
        if after < self.base:
            return None
        frame = self._frame_from_memory(after, self.published.seq)
        self._cache.keep(self.id, frame)
        return frame

    def _read_cold(self, subscription: Subscription) -> None:
        subscription.waiting = True
        after = subscription.position
        self._cold_waiting.setdefault(after, []).append(subscription)
        self._start_reading(after)

    def _start_reading(self, after: Seq) -> None:
        if after not in self._cold_tasks:
            self._cold_tasks[after] = asyncio.get_running_loop().create_task(self._read(after))

    async def _read(self, after: Seq) -> None:
        frame: Frame | None = None
        try:
            async with self._cold_slots:
                frame = await self._read_frame(after)
        except StorageError:
            self._counts.cold_reads_failed += 1
        finally:
            # Also if it fails in a way that nobody expects, or whoever comes to this position would wait for ever.
            del self._cold_tasks[after]
            self._serve_waiting(after, frame)

    def _serve_waiting(self, after: Seq, frame: Frame | None) -> None:
        """Let those go on who waited for a cold read; without a frame they have to come back with their cursors."""
        waiting = self._cold_waiting.pop(after, [])
        if frame is not None and waiting and frame.to < self.base and self._cache.get(self.id, frame.to) is None:
            # One piece ahead, so that the storage works while the sockets drain.
            self._start_reading(frame.to)
        for subscription in waiting:
            subscription.waiting = False
            if frame is None:
                self.end(subscription, "resubscribe")
            else:
                subscription.advance()

    async def frame_after(self, after: Seq) -> Frame:
        """Return the next frame above `after`, which is below the published position.

        Raises:
            StorageError: the storage could not be read, or the store is gone.
        """
        frame = self._frame_at_hand(after)
        reading = self._cold_tasks.get(after)
        if frame is None and reading is not None:
            # Somebody else waits for the same piece already.
            await asyncio.wait([reading])
            frame = self._frame_at_hand(after)
        return frame or await self._read_frame(after)

    async def _read_frame(self, after: Seq) -> Frame:
        frame = self._frame_at_hand(after)
        if frame is not None:
            return frame
        self._require_followed()
        upto, view = self.published.seq, self.view
        chunk: Chunk = await self._storage.read(self.store, after, upto, selectors=view.selectors)
        self._require_followed()
        self._counts.cold_reads += 1
        self.tail.note_floor(chunk.floor)
        frame = Frame(
            self.id,
            self.published.lineage,
            after,
            chunk.to,
            view.texts([row.text for row in chunk.rows]),
            complete=chunk.is_complete,
            view=view.token,
            floor=chunk.floor,
            upto=upto,
        )
        self._cache.keep(self.id, frame)
        return frame

    def _require_followed(self) -> None:
        # After a drop the name may be that of another store, and what is read there its rows.
        if self._ended and self._end_reason == "store_dropped":
            raise StoreUnknown(self.store)
        if self._ended:
            raise StorageUnavailable("the feed ended while it was read")

    async def wait_above(self, after: Seq) -> None:
        """Return when something above `after` is published, or the feed has ended."""
        while self.published.seq <= after and not self._ended:
            await self._moved.wait()

    @property
    def is_settled(self) -> bool:
        """Whether everything that is durable, and so may have been acknowledged, is published."""
        return self.published.seq == self.tail.head.seq

    async def settled(self) -> None:
        """Return when everything that is durable now is published too, or the feed has ended."""
        await self.reached(self.tail.head.seq)

    async def reached(self, at: Seq) -> None:
        """Return when the position is published, or the feed has ended."""
        await self.wait_above(Seq(at - 1))

    # --- the end ---

    @property
    def ended(self) -> bool:
        """Whether the store is gone, or its history cannot be followed any more."""
        return self._ended

    @property
    def end_reason(self) -> EndReason:
        """Why it ended."""
        return self._end_reason

    def end(self, subscription: Subscription, reason: EndReason) -> None:
        """End one subscription and tell its subscriber."""
        if subscription in self.subscriptions:
            self.remove(subscription)
            subscription.subscriber.feed_ended(subscription, reason)

    def end_all(self, reason: EndReason) -> None:
        """End the feed: the store is gone or its history cannot be followed any more."""
        self._ended, self._end_reason = True, reason
        self._moved.set()
        for subscription in list(self.subscriptions):
            self.end(subscription, reason)

    async def close(self) -> None:
        """Stop reading; for the end of the process."""
        self._ended = True
        self._moved.set()
        tasks = list(self._cold_tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
