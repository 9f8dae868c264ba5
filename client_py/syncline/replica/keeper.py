"""Keeps a replica: takes what comes from the feed and from the application in order, saves it, and lets it be seen.

One task. It takes everything that waits, has the desk make one group of it, carries that out in one local transaction,
and only then publishes: reads see the new state, those who wait are told, watchers are woken, and what has become free
to go is handed to the connection. So nothing is seen, answered or sent that a crash could undo.

When the file fails, what is in memory is thrown away and read from it again, since only there is to be seen whether the
last transaction was carried out: those whose writes were being saved get the error, and the feed is taken up again
after a wait, at the saved cursor.
"""

import asyncio
from collections import deque
from collections.abc import Callable

from syncline.backoff import Backoff
from syncline.clock import Clock
from syncline.errors import LocalFileCorrupt, LocalFileError, SynclineError
from syncline.key import KeyMaker
from syncline.write import PendingWrite
from syncline_protocol import messages

from .database import Contradiction, Database
from .desk import Desk
from .draft import Draft
from .entry import Entry, EntryId
from .feed import Answered, FeedItem, Lost, OutboxWrite, ReplicaFeed, Withdrawn
from .fold import FeedFold, Folded, Result, Stage
from .group import Group, Order
from .listener import Listener
from .meaning import Meaning
from .message import message_of
from .outbox import Outbox
from .report import Repaired

__all__ = ["Keeper"]

#: One local transaction takes about so many items and changes, so that nobody waits long for what is in it.
_GROUP_ITEMS_MAX = 4000
_GROUP_CHANGES_MAX = 20_000

#: A replica that was right for so long is repaired at once again. A server that contradicts itself after every catch-up
#: would have the whole store sent without an end.
_SOUND_S = 60.0

#: So long after its feed was opened an edit waits for what it was made on to come back, after the server lost it.
_PATIENCE_S = 30.0


class Keeper:
    """Args:
    database: open; the keeper closes it.
    prefix: the replica holds the records with these keys only.
    meaning: what the collections make of a write.
    send: hands a write to the connection.
    wake: tells the connection that something may be due.
    filter: what the server is asked for, as JSON; empty for everything.
    restores_all: what the server has lost is put back whoever wrote it.

    Attributes:
        feed: what the connection drives.
        place, stage: where the replica stands, as far as that is saved and can be seen.
        error: what is wrong with the file, while it is; for good if `is_over`.
    """

    def __init__(
        self,
        store: str,
        prefix: str,
        database: Database,
        clock: Clock,
        meaning: Meaning,
        listener: Listener,
        *,
        send: Callable[[PendingWrite], None],
        wake: Callable[[], None],
        filter: str = "",
        restores_all: bool = True,
    ) -> None:
        self.store = store
        self._restores_all = restores_all
        self.error: SynclineError | None = None
        self.is_over = False
        self.new_key = KeyMaker(clock)
        self._prefix = prefix
        self._database = database
        self._clock = clock
        self._meaning = meaning
        self._listener = listener
        self._send = send
        self._orders: deque[Order] = deque()
        self._work = asyncio.Event()
        self._is_stopping = False
        self._is_busy = False
        self._is_resting = False
        self._is_stale = False
        self._opened_at = clock.now()
        self._rests = Backoff(clock.random)
        self._repairs = Backoff(clock.random)
        self._sound_since: float | None = None
        self._timers: set[asyncio.Task[None]] = set()
        self._desk = self._new_desk()
        self.place, self.stage = self.fold.place, self.fold.stage
        self.feed = ReplicaFeed(store, self, self._work.set, wake, filter)
        self._task = asyncio.get_running_loop().create_task(self._run(), name="syncline-replica")

    def _new_desk(self) -> Desk:
        return Desk(
            self._database.load(),
            self._database,
            self._prefix,
            self._meaning,
            self.new_key,
            restores_all=self._restores_all,
        )

    async def stop(self) -> None:
        """Save what waits, and end."""
        self._is_stopping = True
        self._work.set()
        await asyncio.wait([self._task])
        for timer in self._timers:
            timer.cancel()
        await self._database.close()

    # --- for the application ---

    @property
    def outbox(self) -> Outbox:
        """The writes that the server does not have for good; to be looked at only."""
        return self._desk.outbox

    @property
    def fold(self) -> FeedFold:
        """How far the feed has come; to be looked at only."""
        return self._desk.fold

    @property
    def shown_count(self) -> int:
        """How many records of the server can be seen."""
        return self._desk.tally.shown_count

    def order(self, work: Callable[[], Entry | None], *, reads: bool = False) -> "asyncio.Future[Entry | None]":
        """Do something with the outbox, between two items of the feed. The result comes when it is saved.

        Raises:
            SynclineError: the keeper is over; what ended it.
        """
        if self.is_over:
            assert self.error is not None
            raise self.error
        done: asyncio.Future[Entry | None] = asyncio.get_running_loop().create_future()
        self._put(Order(work, reads, done))
        return done

    def _put(self, order: Order) -> None:
        self._orders.append(order)
        self._work.set()

    def write(self, draft: Draft) -> Entry:
        """Put a write into the outbox; to be called by an order."""
        return self._desk.write(draft, int(self._clock.time() * 1000))

    def retry(self, entry_id: EntryId) -> Entry | None:
        """Put a rejected write back; to be called by an order. None if it is not rejected."""
        return self._desk.retry(entry_id)

    def discard(self, entry_id: EntryId) -> Entry | None:
        """Forget a rejected write, or one that waits; to be called by an order. None if it is neither."""
        return self._desk.discard(entry_id)

    # --- for the feed ---

    @property
    def is_settled(self) -> bool:
        return not (self._is_busy or self._is_resting or self._is_stale or self._is_stopping or self.is_over)

    @property
    def cursor(self) -> str:
        return self.fold.place.cursor

    @property
    def lineage(self) -> str | None:
        return self.fold.place.lineage

    @property
    def is_to_be_mended(self) -> bool:
        return self.fold.place.mending == "asks"

    def next_fetch(self) -> str | None:
        return self.fold.next_fetch(self._desk.tally)

    # --- the task ---

    async def _run(self) -> None:
        while not self.is_over:
            await self._work.wait()
            self._work.clear()
            self._is_busy = True
            try:
                if self._is_stale:
                    self._read_again()
                while self.feed.items or self._orders:
                    await self._handle_group()
                if self._is_stopping:
                    await self._flush_all()
            except LocalFileError as error:
                self._recover(error)
            except Exception as error:
                # A mistake of this package. Those who wait have to learn of it, or they would wait for ever.
                failure = SynclineError(f"{self.store}: the replica failed: {error!r}", hint="please report this")
                failure.__cause__ = error
                self._give_up(failure)
            self._is_busy = False
            self.feed.settled()
            self._listener.stirred()
            if self._is_stopping and not self._orders:
                return

    async def _handle_group(self) -> None:
        items = changes = 0
        try:
            while (self.feed.items or self._orders) and items < _GROUP_ITEMS_MAX and changes < _GROUP_CHANGES_MAX:
                items += 1
                # What the application does goes first: it is little, and somebody waits for it.
                if self._orders:
                    await self._carry_out_next()
                    continue
                item = self.feed.take()
                if isinstance(item, messages.Batch | messages.Fill):
                    changes += len(item.changes)
                await self._take(item)
            await self._flush()
        except Contradiction as error:
            await self._contradicted(str(error))
        self._hand_out()
        await self._database.tidy()

    async def _carry_out_next(self) -> None:
        # It stays in the queue until what it reads is saved: if that fails, it is not forgotten.
        if self._orders[0].reads and self._desk.group.has_rows:
            await self._flush()
        order = self._orders.popleft()
        if order.done is not None and order.done.cancelled():
            return
        try:
            made = order.work()
        except SynclineError as error:
            order.fail(error)
            if isinstance(error, LocalFileError):
                raise
        except Exception:
            # Whoever waits for it is told together with the others.
            self._desk.group.orders.append((order, None))
            raise
        else:
            self._desk.group.orders.append((order, made))

    async def _take(self, item: FeedItem) -> None:
        """Let the desk take an item. What needs to know what is in the file comes after a flush."""
        desk = self._desk
        match item:
            case messages.Batch():
                desk.batch(item)
            case Answered(entry, result):
                if entry.returned and result.status not in ("ok", "dup"):
                    # Whether it has to wait for what it builds on depends on what is in the file.
                    await self._flush()
                if desk.answered(entry, result) and not self._is_patient:
                    self._remake(entry.id, patient=False)
            case messages.Fill():
                desk.fill(item)
                if item.last:
                    await self._flush_all()
                    await self._settle(desk.fold.settle(desk.tally))
            case messages.Live():
                await self._settle(desk.fold.live(item))
            case messages.Subscribed():
                await self._flush_all()
                self._opened_at = self._clock.now()
                desk.opened(item)
                await self._flush()
                self._after(_PATIENCE_S, self._lose_patience)
            case messages.CaughtUp():
                desk.before_caught_up()
                await self._flush_all()
                await self._settle(desk.fold.caught_up(item, desk.tally))
            case messages.Behind():
                await self._settle(desk.fold.behind(item))
            case Lost():
                await self._flush()
                desk.lost()
                self._take_note()
                self._listener.stirred()
            case Withdrawn():
                await self._withdraw(item)

    async def _withdraw(self, item: Withdrawn) -> None:
        """Forget every record, also where the file still holds what was deleted. If the file fails, later."""
        try:
            await self._flush_all()
            self._desk.withdrawn()
            await self._flush_all()
            await self._database.scrub()
        except LocalFileError:
            self.feed.put_back(item)
            raise
        self._listener.stirred()

    async def _settle(self, folded: Folded) -> None:
        result = self._desk.settle(folded)
        if result is Result.MISMATCH:
            self._repair("count or digest differ from the server's")
        elif result is Result.ASKS_AGAIN:
            self.feed.reopen()
        elif result is Result.CAUGHT_UP:
            self._rests.progressed()
            if self._sound_since is None:
                self._sound_since = self._clock.now()
        await self._flush()
        self._listener.stirred()

    async def _contradicted(self, reason: str) -> None:
        """What came cannot be applied to what is held: forget what is in memory, and begin anew from the start."""
        self._orders.extendleft([order for order, _ in reversed(self._desk.group.orders)])
        self._desk = self._new_desk()
        self._desk.group.add(self._desk.fold.contradicted().steps)
        self.feed.abandon()
        self._repair(reason)
        await self._flush()

    def _repair(self, reason: str) -> None:
        """Take the feed up again: at once the first time, later after a wait, as what is wrong may stay wrong."""
        self.feed.reopen()
        if self._sound_since is not None and self._clock.now() - self._sound_since >= _SOUND_S:
            self._repairs.progressed()
        self._sound_since = None
        is_first, wait_s = not self._repairs.attempts, self._repairs.next_wait_s()
        self._desk.group.reports.append(Repaired(self._repairs.attempts, reason))
        if not is_first:
            self._rest(wait_s)

    def _hand_out(self) -> None:
        """Give the connection what may be sent now, if the feed is open and what opened it was taken note of."""
        if self.fold.stage is Stage.IDLE or not self.feed.is_open:
            return
        for entry in self.outbox.ready():
            message, size = message_of(entry, self.store, self.fold.place.store_id)
            self._send(OutboxWrite(message, size, entry, self.feed, self.feed.epoch))

    def _remake(self, entry_id: EntryId, *, patient: bool = True) -> None:
        self._put(Order(lambda: self._desk.remake(entry_id, patient=patient), reads=True))

    @property
    def _is_patient(self) -> bool:
        return self._clock.now() - self._opened_at < _PATIENCE_S

    def _lose_patience(self) -> None:
        """Do without what has not come back since the feed was opened."""
        if not self._is_patient:
            for entry in self.outbox.waiting():
                if entry.returned:
                    self._remake(entry.id, patient=False)

    # --- saving and publishing ---

    async def _flush_all(self) -> None:
        """Save the group, and what comes of it."""
        while self._desk.has_arrived or not self._desk.group.is_empty:
            await self._flush()
        self._take_note()

    async def _flush(self) -> None:
        """Save the group, and let it be seen.

        What is noted of entries that have arrived is saved with the next group, since nothing hurries; who reads it
        from the file calls `_flush_all`.
        """
        desk = self._desk
        if desk.group.is_empty:
            self._take_note()
            self._look_after_arrived()
            return
        if steps := desk.group.steps():
            desk.tally = await self._database.commit(steps, desk.fold.place)
        self._database.refresh()
        group, desk.group = desk.group, Group()
        group.touch(desk.outbox.publish())
        self._take_note()
        self._publish(group)
        self._look_after_arrived()
        if steps:
            # Without news nothing can be decided that could not be before, and it would be asked for without an end.
            self.reconsider()

    def reconsider(self) -> None:
        """Make those entries anew of which that can be decided now."""
        for entry_id in self._desk.due_to_be_remade():
            self._remake(entry_id)

    def _take_note(self) -> None:
        self.place, self.stage = self.fold.place, self.fold.stage

    def _publish(self, group: Group) -> None:
        for entry in group.moved():
            self._listener.moved(entry)
        for order, made in group.orders:
            order.succeed(made)
        for report in group.reports:
            self._listener.reported(report)
        if group.touched is None or group.touched:
            self._listener.touched(None if group.touched is None else frozenset(group.touched))

    def _look_after_arrived(self) -> None:
        """Clean up what entries that have arrived left behind."""
        writes = self._desk.look_after_arrived()
        for ops in writes:
            self.write(Draft(ops, atomic=False))
        if writes or self._desk.group.reports:
            self._put(Order(lambda: None))

    # --- when the file fails ---

    def _recover(self, error: LocalFileError) -> None:
        """Forget what is in memory, and try again later what the feed brings."""
        self._desk.group.fail(error)
        self._is_stale = True
        try:
            if not isinstance(error, LocalFileCorrupt):
                self._read_again()
        except LocalFileError as again:
            error = again
            self.stage = Stage.IDLE
            self._fail_orders(error)
        if isinstance(error, LocalFileCorrupt):
            self._give_up(error)
            return
        self.error = error
        self.feed.reopen()
        self.feed.abandon()
        if not self._is_resting:
            self._rest(self._rests.next_wait_s())
        if self._orders:
            self._work.set()

    def _read_again(self) -> None:
        """Go on from what is in the file. The last group may have been saved, though it was told to have failed."""
        group = self._desk.group
        self._desk = self._new_desk()
        self._is_stale = False
        self._take_note()
        for entry in group.moved():
            now = self.outbox.get(entry.id) or self._database.synced_entry(entry.id)
            if now is not None:
                self._listener.moved(now)
        self._listener.touched(None)

    def _rest(self, wait_s: float) -> None:
        """Leave the feed alone for a while."""
        if self._is_resting:
            return
        self._is_resting = True
        self._after(wait_s, self._rested)
        self._listener.stirred()

    def _rested(self) -> None:
        self._is_resting = False
        self.error = None
        self._work.set()

    def _after(self, seconds: float, work: Callable[[], None]) -> None:
        timer = asyncio.get_running_loop().create_task(self._wait(seconds, work), name="syncline-replica-timer")
        self._timers.add(timer)
        timer.add_done_callback(self._timers.discard)

    async def _wait(self, seconds: float, work: Callable[[], None]) -> None:
        await self._clock.sleep(seconds)
        work()

    def _give_up(self, error: SynclineError) -> None:
        self.error = error
        self.is_over = True
        self._desk.group.fail(error)
        self._fail_orders(error)
        self.feed.close()
        self._listener.stirred()

    def _fail_orders(self, error: SynclineError) -> None:
        for order in self._orders:
            order.fail(error)
        self._orders.clear()
