"""The feed of a replica on the wire: takes what the link brings, and passes it on to the keeper. No I/O.

Everything that comes is kept in order until it is saved; the link reads no more while that is too much, which lasts
only as long as the local file takes. A SUBSCRIBE is due when all that came before was saved, so it always begins at
the saved cursor.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import msgspec

from syncline.errors import ClientClosed, SubscriptionEnded, SubscriptionRefused, SynclineError
from syncline.follower import Follower, Phase
from syncline.write import PendingWrite, Written
from syncline_protocol import messages
from syncline_protocol.cursor import START, parse_cursor

from .entry import Entry

__all__ = ["Answered", "FeedItem", "Lost", "OutboxWrite", "ReplicaFeed", "Standing", "Withdrawn"]

#: The link stops to read while more than this waits to be saved.
_WAITING_BYTES_MAX = 4 * 1024 * 1024

#: Who may see nothing of a store is refused as long as nobody grants it again, which may be never.
_FORBIDDEN_REST_MAX_S = 120.0


@dataclass(frozen=True, slots=True)
class Lost:
    """The feed is over: the connection was lost, or the server or the replica ended it."""


@dataclass(frozen=True, slots=True)
class Answered:
    """The server answered a write; `entry` is as it was sent."""

    entry: Entry
    result: Written


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """Nothing of the store may be seen any more."""


FeedItem = (
    messages.Subscribed
    | messages.Batch
    | messages.Live
    | messages.Fill
    | messages.CaughtUp
    | messages.Behind
    | Lost
    | Answered
    | Withdrawn
)


#: What is not dropped with a feed that is given up.
_KEPT = (Lost, Answered, Withdrawn)


class Standing(Protocol):
    """Where the replica stands, as its feed has to know it."""

    @property
    def is_settled(self) -> bool:
        """Whether everything that came was saved, and a subscription may begin."""

    @property
    def cursor(self) -> str:
        """The saved cursor."""

    @property
    def is_to_be_mended(self) -> bool:
        """Whether what is held is not what the server has, so that it has to say what lives."""

    @property
    def lineage(self) -> str | None:
        """The history that the cursor belongs to."""

    def next_fetch(self) -> str | None:
        """Return the ranges of seqs to ask for now."""


class ReplicaFeed(Follower):
    """Args:
    standing: the keeper.
    arrived: called when something was put in.
    wake: called when the connection may have something to send.
    filter: what the server is asked for, as JSON; empty for everything.
    """

    def __init__(
        self,
        store: str,
        standing: Standing,
        arrived: Callable[[], None],
        wake: Callable[[], None],
        filter: str = "",
    ) -> None:
        super().__init__(store)
        self.items: deque[tuple[FeedItem, int]] = deque()
        self.error: SynclineError | None = None
        #: Counts the times that a feed was opened: what was sent in an earlier one is to be sent again.
        self.epoch = 0
        self.is_unknown = False
        #: Nothing of the store may be seen, as far as is known. The server then says that there is no such store.
        self.is_forbidden = False
        self._standing = standing
        self._filter = msgspec.Raw(filter.encode()) if filter else msgspec.UNSET
        self._arrived = arrived
        self._wake = wake
        self._bytes = 0
        self._must_leave = False
        self._must_rest = False
        self._asked_after = START
        self._room = asyncio.Event()
        self._room.set()

    # --- for the link ---

    @property
    def wants_to_ask(self) -> bool:
        return self.phase is Phase.IDLE and not self.is_closing and not self.items and self._standing.is_settled

    @property
    def wants_to_leave(self) -> bool:
        return self.phase is Phase.OPEN and (self.is_closing or self._must_leave)

    def request(self, request_id: int) -> messages.Subscribe:
        self.phase = Phase.ASKED
        cursor = self._asked_after = self._standing.cursor
        known = None if cursor == START else self._standing.lineage
        return messages.Subscribe(
            request_id, self.store, cursor, known, filter=self._filter, reconcile=self._standing.is_to_be_mended
        )

    def next_fetch(self) -> str | None:
        return None if self.items or not self._standing.is_settled else self._standing.next_fetch()

    @property
    def is_crowded(self) -> bool:
        return not self._room.is_set()

    async def room(self) -> None:
        await self._room.wait()

    # --- what comes ---

    def opened(self, message: messages.Subscribed) -> str | None:
        fault = _fault_of(message, self._asked_after)
        if fault is not None:
            return f"{self.store}: {fault}"
        self.phase = Phase.OPEN
        self.epoch += 1
        self.error = None
        self.is_unknown = self.is_forbidden = False
        self._must_leave = False
        self._put(message)
        return None

    def batch(self, message: messages.Batch, frame_bytes: int) -> None:
        self._fruitless = 0
        self._put(message, frame_bytes)

    def came_up(self, message: messages.CaughtUp) -> None:
        self._fruitless = 0
        self._put(message)

    def fell_behind(self, message: messages.Behind) -> None:
        self._put(message)

    def listed(self, message: messages.Live, frame_bytes: int) -> None:
        self._put(message, frame_bytes)

    def filled(self, message: messages.Fill, frame_bytes: int) -> None:
        self._put(message, frame_bytes)

    def fetch_refused(self, error: messages.Error) -> None:
        # Nothing says which records did not come, so all that are missing are asked for again, on a new feed.
        self._must_leave = self._must_rest = True

    def ended(self, message: messages.Ended) -> None:
        super().ended(message)
        if self._must_rest and self.phase is Phase.IDLE:
            self._rest()
        self._lose()
        if message.reason == "forbidden":
            self._put(Withdrawn())

    def _dismissed(self, message: messages.Ended) -> None:
        # A store that was dropped may be made anew; what the server forbids for good, it says when it is asked again.
        self.error = SubscriptionEnded(self.store, message.reason)
        self.is_forbidden = message.reason == "forbidden"
        self._rest()

    def refused(self, error: messages.Error) -> None:
        self.is_unknown = error.code == "store_unknown"
        if not (self.is_forbidden and self.is_unknown):
            self.error = SubscriptionRefused(self.store, error.code, error.message)
        self._rest()
        if error.code == "forbidden":
            self.is_forbidden = True
            self._put(Withdrawn())
        self._arrived()

    @property
    def rest_bound_s(self) -> float:
        return min(_FORBIDDEN_REST_MAX_S, 2.0**self._fruitless) if self.is_forbidden else super().rest_bound_s

    def put_off(self) -> None:
        super().put_off()
        self._lose()

    def connection_lost(self) -> None:
        was_on_the_wire = self.is_on_the_wire
        super().connection_lost()
        if was_on_the_wire:
            self._lose()

    def fail(self, error: Exception) -> None:
        assert isinstance(error, SynclineError)
        self.error = error
        self.phase = Phase.OVER
        self._lose()

    def drop(self, error: Exception) -> None:
        self.fail(error)

    def _lose(self) -> None:
        self.epoch += 1
        self._must_leave = self._must_rest = False
        self._put(Lost())

    def _put(self, item: FeedItem, frame_bytes: int = 0) -> None:
        # What comes before the server has let go is of no use, and once the keeper has ended, nobody takes it.
        is_wanted = self.phase is Phase.OPEN and not self._must_leave and not self.is_closing
        if not is_wanted and not isinstance(item, _KEPT):
            return
        self.items.append((item, frame_bytes))
        self._bytes += frame_bytes
        if self._bytes > _WAITING_BYTES_MAX:
            self._room.clear()
        self._arrived()

    # --- for the keeper ---

    def take(self) -> FeedItem:
        """Return the oldest item."""
        item, frame_bytes = self.items.popleft()
        self._bytes -= frame_bytes
        if self._bytes <= _WAITING_BYTES_MAX // 2:
            self._room.set()
        return item

    def put_back(self, item: FeedItem) -> None:
        """Take an item again that could not be dealt with."""
        self.items.appendleft((item, 0))

    def settled(self) -> None:
        """Note that everything was saved: a SUBSCRIBE or FETCH may be due."""
        self._wake()

    def reopen(self) -> None:
        """End the feed and begin it anew at the saved cursor. What came of it and was not taken yet is dropped."""
        kept = [(item, size) for item, size in self.items if isinstance(item, _KEPT)]
        self.items = deque(kept)
        self._bytes = 0
        self._room.set()
        self._must_leave = self.phase is Phase.OPEN
        self._wake()

    def abandon(self) -> None:
        """Count what was handed out as never sent: the outbox was read from the file again."""
        self.epoch += 1

    @property
    def is_open(self) -> bool:
        """Whether the server has opened it and it is to stay."""
        return self.phase is Phase.OPEN and not self._must_leave and not self.is_closing

    def answered(self, entry: Entry, result: Written) -> None:
        """Take the answer to a write of the outbox."""
        self._put(Answered(entry, result))

    def close(self) -> None:
        """Nobody wants it any more."""
        self.is_closing = True
        self._room.set()
        self.error = self.error or ClientClosed(f"{self.store}: the replica is closed")
        if not self.is_on_the_wire:
            self.phase = Phase.OVER
        self._wake()


@dataclass(slots=True, eq=False)
class OutboxWrite(PendingWrite):
    """An entry of the outbox while it is with the connection.

    It is abandoned when its feed is over: the entry goes out again when the next one has been opened, and not before.
    """

    entry: Entry
    feed: ReplicaFeed
    epoch: int

    @property
    def is_abandoned(self) -> bool:
        return self.feed.epoch != self.epoch

    def settle(self, result: Written) -> None:
        self.feed.answered(self.entry, result)

    def fail(self, error: Exception) -> None:
        pass


def _fault_of(message: messages.Subscribed, after: str) -> str | None:
    """Return what is wrong with an answer to SUBSCRIBE that would skip or repeat something (PROTOCOL 5.4.1)."""
    asked, at = 0 if after == START else parse_cursor(after).seq, parse_cursor(message.at).seq
    is_right = {
        "resume": at == asked,
        "rewind": at == message.keep_to and at <= asked,
        "snapshot": at == 0,
        "reconcile": True,
    }
    return None if is_right[message.how] else f"asked to go on after {after}, the server answers {message.how} at {at}"
