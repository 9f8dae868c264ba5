"""What one subscription has received and not handed out yet. No I/O.

The buffer is bounded by bytes. When it is full the subscription is let go and taken up again at its cursor when
the application has read most of it. Not reading the socket instead would hold up the acks of the very writes that
the application may be waiting for while it does not read. So a slow loop costs memory up to the bound, and the
other subscriptions and the writes of the client nothing.

`resume_at` is the position after the last batch that was received, so what is in the buffer is never asked for twice.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from syncline_protocol import messages
from syncline_protocol.cursor import NOW, START, Cursor, lineage_with, parse_cursor

from .errors import ClientClosed, SubscriptionEnded, SubscriptionRefused
from .event import Behind, CaughtUp, Restarted, Rewound
from .follower import Follower, Phase

__all__ = ["Bookmark", "Intake", "Item"]

#: What an item costs apart from its frame: so that many small ones are bounded too.
_ITEM_BYTES = 200

#: A full buffer is filled again when it is down to this part of its size.
_REFILL_PART = 4


@dataclass(frozen=True, slots=True)
class Bookmark:
    """The position moved without a change."""

    at: Cursor


Item = messages.Batch | Bookmark | CaughtUp | Behind | Rewound | Restarted


class Intake(Follower):
    """The receiving side of one subscription.

    Args:
        after: a cursor, `start` or `now`.
        known: the lineage that was given with the cursor, if the application kept it.
        bytes_max: how much is buffered at most, in bytes of frames.
        wake: called when the connection may have something to send.
    """

    def __init__(self, store: str, after: str, known: str | None, bytes_max: int, wake: Callable[[], None]) -> None:
        super().__init__(store)
        self.resume_at = after
        self.known = known
        self.is_caught_up = False
        self.error: Exception | None = None
        self.ended_at: Cursor | None = None
        self._stalled_by: Exception | None = None
        self._wake = wake
        self._changed = asyncio.Event()
        self._caught_up_or_over = asyncio.Event()
        self._bytes_max = bytes_max
        self._items: deque[tuple[Item, int]] = deque()
        self._bytes = 0
        self._is_refilling = True
        self._must_restart = False
        self._undelivered = 0
        self._owed: int | None = None

    # --- for the connection ---

    @property
    def wants_to_ask(self) -> bool:
        """Whether a SUBSCRIBE is due."""
        return self.phase is Phase.IDLE and self._is_refilling

    @property
    def wants_to_leave(self) -> bool:
        """Whether an UNSUBSCRIBE is due."""
        return self.phase is Phase.OPEN and (self.is_closing or self._must_restart or not self._is_refilling)

    def request(self, request_id: int) -> messages.Subscribe:
        """Return the SUBSCRIBE to send now."""
        self.phase = Phase.ASKED
        known = None if self.resume_at in (START, NOW) else self.known
        return messages.Subscribe(request_id, self.store, self.resume_at, known)

    def opened(self, message: messages.Subscribed) -> str | None:
        """Take the answer to SUBSCRIBE. Returns what is wrong with it, if it would skip or repeat something."""
        self.phase = Phase.OPEN
        self.known = message.lineage
        asked, self.resume_at = self.resume_at, message.at
        if asked in (START, NOW):
            self._put(Bookmark(message.at))
        elif message.how == "resume":
            if parse_cursor(asked).seq != parse_cursor(message.at).seq:
                self.resume_at = asked
                return f"{self.store}: asked to go on after {asked}, the server goes on after {message.at}"
        elif message.how == "rewind":
            keep_to = parse_cursor(message.at).seq if message.keep_to is None else message.keep_to
            self._put(Rewound(keep_to, message.at))
        elif message.how == "snapshot":
            self._put(Restarted(message.at))
        else:
            self._restart()
        return None

    def _restart(self) -> None:
        """Read from the start, as a subscription keeps no records that it could reconcile."""
        self._put(Restarted(Cursor(START), "reconcile"))
        self.resume_at = START
        self._must_restart = True

    def batch(self, message: messages.Batch, frame_bytes: int) -> None:
        """Take the next changes."""
        if self.phase is not Phase.OPEN or self._must_restart:
            return
        self._fruitless = 0
        self.resume_at = message.to
        if self.known is not None:
            self.known = lineage_with(self.known, message.from_, message.to)
        if message.changes:
            self._undelivered += len(message.changes)
            self._put(message, frame_bytes)
        else:
            self._put(Bookmark(message.to))

    def came_up(self, message: messages.CaughtUp) -> None:
        """Take CAUGHT_UP."""
        if self.phase is Phase.OPEN and not self._must_restart:
            self._fruitless = 0
            self._owed = self._undelivered
            self._put(CaughtUp(message.at, message.count, message.digest))
            self._settle_caught_up()

    def fell_behind(self, message: messages.Behind) -> None:
        """Take BEHIND."""
        if self.phase is Phase.OPEN and not self._must_restart:
            self._forget_caught_up()
            self._put(Behind(message.at, message.head))

    def listed(self, message: messages.Live, frame_bytes: int) -> None:
        """Drop LIVE: an intake keeps no records that it could reconcile; it reads from the start instead."""

    def filled(self, message: messages.Fill, frame_bytes: int) -> None:
        """Drop FILL, which was not asked for."""

    def ended(self, message: messages.Ended) -> None:
        """Take ENDED: go on later if that is what ended it, else the iteration ends when the buffer is empty."""
        self._forget_caught_up()
        super().ended(message)
        self._must_restart = False

    def _dismissed(self, message: messages.Ended) -> None:
        self.ended_at = message.at
        self.fail(SubscriptionEnded(self.store, message.reason))

    def refused(self, error: messages.Error) -> None:
        """Take the final refusal of the SUBSCRIBE."""
        self.fail(SubscriptionRefused(self.store, error.code, error.message))

    def connection_lost(self) -> None:
        """Go back to where a SUBSCRIBE is due."""
        if self.phase is not Phase.OVER:
            super().connection_lost()
            self._must_restart = False
            self._forget_caught_up()

    def stall(self, error: Exception | None) -> None:
        """Have those who wait get this error; the subscription is not over, and goes on when somebody has logged in."""
        self._stalled_by = error
        if error is not None:
            self._changed.set()
            self._caught_up_or_over.set()
        elif self.error is None and not self.is_caught_up:
            self._caught_up_or_over.clear()

    def fail(self, error: Exception) -> None:
        """End it: the error comes after what is in the buffer."""
        self.phase = Phase.OVER
        self._end(error)

    def _end(self, error: Exception) -> None:
        if self.error is None:
            self.error = error
        self.is_caught_up = False
        self._changed.set()
        self._caught_up_or_over.set()

    def drop(self, error: Exception) -> None:
        """End it at once, and drop what is in the buffer: the client is closed."""
        self._items.clear()
        self.fail(error)

    def close(self) -> None:
        """The application does not want it any more."""
        self.is_closing = True
        self._items.clear()
        # The server still holds the feed: the phase goes on to OVER when it has let go.
        self._end(ClientClosed(f"{self.store}: the subscription was closed"))
        if not self.is_on_the_wire:
            self.phase = Phase.OVER
        self._wake()

    def _put(self, item: Item, frame_bytes: int = 0) -> None:
        if self.is_closing:
            return
        if isinstance(item, Bookmark) and self._items and isinstance(self._items[-1][0], Bookmark):
            self._items[-1] = (item, self._items[-1][1])
        else:
            size = _ITEM_BYTES + frame_bytes
            self._items.append((item, size))
            self._bytes += size
        if self._bytes > self._bytes_max:
            self._is_refilling = False
        self._changed.set()

    # --- for the application ---

    async def first(self) -> Item | None:
        """Return the oldest item, and leave it there; wait for one if need be. None if the application closed it.

        Raises:
            Exception: what ended or stalled the subscription, once the buffer is empty.
        """
        while not self._items:
            if self.is_closing:
                return None
            self._raise_what_is_in_the_way()
            self._changed.clear()
            await self._changed.wait()
        return self._items[0][0]

    def pop(self) -> None:
        """Remove the oldest item."""
        _, size = self._items.popleft()
        self._bytes -= size
        if not self._is_refilling and self._bytes <= self._bytes_max // _REFILL_PART:
            self._is_refilling = True
            self._wake()

    def delivered_change(self) -> None:
        """Note that the application has dealt with one more change."""
        self._undelivered -= 1
        if self._owed:
            self._owed -= 1
            self._settle_caught_up()

    async def wait_caught_up(self) -> None:
        """Wait until `is_caught_up`. Raises what ended or stalled the subscription before that."""
        while not self.is_caught_up:
            self._raise_what_is_in_the_way()
            await self._caught_up_or_over.wait()

    def _raise_what_is_in_the_way(self) -> None:
        if (error := self.error or self._stalled_by) is not None:
            raise error

    def _settle_caught_up(self) -> None:
        if self._owed == 0 and self.error is None:
            self.is_caught_up = True
            self._caught_up_or_over.set()

    def _forget_caught_up(self) -> None:
        self._owed = None
        self.is_caught_up = False
        if self.error is None and self._stalled_by is None:
            self._caught_up_or_over.clear()
