"""The feed of a view that shows a part of a store only.

It shares the log of the store and everything of `Feed`, but keeps for itself which of the recent changes its view
shows: a `Router` hands them over, so what others write costs it nothing. Count and digest are kept up with them. A
commit that the view shows nothing of is not published at once, either: a bookmark to every subscriber for every commit
of others would cost more than the commit. It moves on with the next change that it shows, or when `hurry` is called,
which the clock does after `_QUIET_S` (PROTOCOL 7.2).

Invariants: what it was handed is everything that the view shows of (base, tail.head]; `published` is never ahead of it.
"""

import bisect

from syncline_protocol.cursor import Seq
from syncline_protocol.digest import digest_term
from syncline_protocol.limits import BATCH_BYTES_TARGET

from .access.view import View
from .feed import Feed
from .framecache import FrameCache
from .metrics import Counts
from .storage.base import Head, Row, Storage, StoreInfo, Summary
from .tail import Tail
from .turns import Turns

__all__ = ["PartFeed"]

#: The longest that a bookmark is put off; below half a heartbeat, so that no feed seems to stand still.
_QUIET_S = 5.0

_MASK = 0xFFFFFFFF


class PartFeed(Feed):
    """Args (besides those of `Feed`):
    info: with the head from which on it is handed what its view shows. Call `begin` with what is shown there.
    now: monotonic time in seconds.
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
        view: View,
        now: float,
    ) -> None:
        super().__init__(feed_id, info, storage, counts, cache, turns, tail, view)
        self._base = info.head.seq
        self._rows: list[Row] = []
        self._count = 0
        self._digest = 0
        self._is_hurried = False
        self._published_at = now
        self._begins_at: Head | None = info.head

    def begin(self, summary: Summary) -> None:
        """Say what the view shows at the head at which the feed began; from here on it publishes."""
        head = self._begins_at
        assert head is not None, "a feed begins once"
        self.published = Head(head.seq, summary.count, summary.digest, head.lineage)
        self._count += summary.count
        self._digest += summary.digest
        self._begins_at = None
        if self.tail.head.seq != head.seq:
            self._schedule_round()

    # --- what the router hands over ---

    def take(self, row: Row, key: str, partner: Seq | None) -> None:
        """Take the next change that the view shows; `extended` follows the last one of a commit.

        Args:
            partner: of a DELETE the seq of its ADD (`Commit.partners`).
        """
        self._rows.append(row)
        if partner is not None and partner < row.seq:
            self._count -= 1
            self._digest = (self._digest - digest_term(partner, key)) & _MASK
        else:
            self._count += 1
            self._digest = (self._digest + digest_term(row.seq, key)) & _MASK

    def trim(self) -> None:
        """Let go of what is published and was trimmed from the tail."""
        upto = min(self.tail.base, self.published.seq)
        if upto > self._base:
            del self._rows[: bisect.bisect_right(self._rows, upto, key=_seq_of)]
            self._base = upto

    @property
    def base(self) -> Seq:
        return self._base

    def _texts(self, after: Seq, upto: Seq) -> tuple[Seq, list[bytes]]:
        assert self._base <= after <= upto <= self.tail.head.seq
        start = bisect.bisect_right(self._rows, after, key=_seq_of)
        texts: list[bytes] = []
        size = 0
        for place in range(start, len(self._rows)):
            row = self._rows[place]
            if row.seq > upto:
                break
            if size >= BATCH_BYTES_TARGET and self._rows[place - 1].last_seq < row.seq:
                # A transaction may have more than what is shown of it: the frame goes to its end.
                return self._rows[place - 1].last_seq, texts
            texts.append(row.text)
            size += len(row.text)
        return upto, texts

    # --- publishing ---

    @property
    def _has_news(self) -> bool:
        return bool(self._rows) and self._rows[-1].seq > self.published.seq

    def _head_to_publish(self) -> Head:
        if self._begins_at is None and (self._has_news or self._is_hurried):
            self._is_hurried = False
            head = self.tail.head
            return Head(head.seq, self._count, self._digest & _MASK, head.lineage)
        return self.published

    def _schedule_round(self) -> None:
        if self._begins_at is None and (self._has_news or self._is_hurried):
            super()._schedule_round()

    def tick(self, now: float) -> None:
        """Publish what was put off for long enough. Call it about once a second."""
        if self.published.seq == self.tail.head.seq:
            self._published_at = now
        elif now - self._published_at >= _QUIET_S:
            self._published_at = now
            self.hurry()

    def hurry(self) -> None:
        """Publish everything in the next round, shown or not."""
        if self.published.seq != self.tail.head.seq:
            self._is_hurried = True
            self._schedule_round()

    @property
    def is_settled(self) -> bool:
        return not self._has_news

    async def settled(self) -> None:
        if not self.is_settled:
            await self.reached(self.tail.head.seq)

    async def reached(self, at: Seq) -> None:
        if at > self.published.seq:
            self.hurry()
        await super().reached(at)


def _seq_of(row: Row) -> Seq:
    return row.seq
