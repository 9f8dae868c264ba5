"""The feed of a view that shows a part of a store only.

It shares the tail of the store and everything of `Feed`, and adds two things. Count and digest are of what the view
shows, kept up change by change. And a commit that the view shows nothing of is not published at once: a bookmark to
every subscriber for every commit of others would cost as much as the commit. It moves on with the next change that it
shows, after `_QUIET_SEQS_MAX` seqs, or when `hurry` is called, which the clock does after `_QUIET_S` (PROTOCOL 7.2).
"""

from syncline_protocol.cursor import Seq
from syncline_protocol.digest import digest_term

from .access.view import View, key_of
from .feed import Feed
from .framecache import FrameCache
from .metrics import Counts
from .storage.base import Head, Row, Storage, StoreInfo, Summary
from .tail import Tail
from .turns import Turns

__all__ = ["PartFeed"]

#: The longest that a bookmark is put off; below half a heartbeat, so that no feed seems to stand still.
_QUIET_S = 5.0
_QUIET_SEQS_MAX = 1000

_MASK = 0xFFFFFFFF


class PartFeed(Feed):
    """Args (besides those of `Feed`):
    info: with the head up to which `summary` counts; the tail still has everything above it.
    summary: what the view shows at that head.
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
        summary: Summary,
        now: float,
    ) -> None:
        super().__init__(feed_id, info, storage, counts, cache, turns, tail, view)
        head = info.head
        self.published = Head(head.seq, summary.count, summary.digest, head.lineage)
        self._looked: Head = self.published
        self._shows_news = False
        self._is_hurried = False
        self._published_at = now

    def _head_to_publish(self) -> Head:
        self._look()
        quiet = self._looked.seq - self.published.seq
        if self._shows_news or self._is_hurried or quiet >= _QUIET_SEQS_MAX:
            self._shows_news = self._is_hurried = False
            return self._looked
        return self.published

    def _look(self) -> None:
        """Count what the view shows of what has come since the last look."""
        head, count, digest = self.tail.head, self._looked.count, self._looked.digest
        if self.view.is_whole:
            self._shows_news = head.seq > self.published.seq
            self._looked = head
            return
        for row, partner in self.tail.changes(self._looked.seq, head.seq):
            key = key_of(row.text)
            if not self.view.shows(key):
                continue
            self._shows_news = True
            if _is_delete(row, partner):
                assert partner is not None
                count, digest = count - 1, digest - digest_term(partner, key)
            else:
                count, digest = count + 1, digest + digest_term(row.seq, key)
        self._looked = Head(head.seq, count, digest & _MASK, head.lineage)

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
        self._look()
        return not self._shows_news

    async def settled(self) -> None:
        if not self.is_settled:
            await self.reached(self.tail.head.seq)

    async def reached(self, at: Seq) -> None:
        if at > self.published.seq:
            self.hurry()
        await super().reached(at)


def _is_delete(row: Row, partner: Seq | None) -> bool:
    return partner is not None and partner < row.seq
