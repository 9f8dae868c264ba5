"""The feed of a replica on the wire: what is passed on to the keeper, and what is not wanted any more."""

import pytest

from syncline.errors import SubscriptionEnded
from syncline.follower import Phase
from syncline.replica.entry import Entry, EntryOp
from syncline.replica.feed import Answered, FeedItem, Lost, OutboxWrite, ReplicaFeed
from syncline.replica.message import message_of
from syncline.write import Written
from syncline_protocol import messages
from syncline_protocol.cursor import Cursor

SUBSCRIBED = messages.Subscribed(1, "f1", "resume", Cursor("a:0"), Cursor("a:9"), "s1", "a@0")
BATCH = messages.Batch("f1", Cursor("a:0"), Cursor("a:1"), ())
ENTRY = Entry(1, (EntryOp("k", "1"),), 0)


class Standing:
    """A keeper that has saved everything."""

    is_settled = True
    cursor = "a:0"
    lineage: str | None = "a@0"
    is_to_be_mended = False

    def next_fetch(self) -> str | None:
        return "3-4"


class Feed(ReplicaFeed):
    """One whose server has opened it."""

    def __init__(self) -> None:
        self.woken = 0
        super().__init__("notes", Standing(), lambda: None, self._count)
        self.request(1)
        self.opened(SUBSCRIBED)
        assert self.taken() == [SUBSCRIBED]

    def _count(self) -> None:
        self.woken += 1

    def taken(self) -> list[FeedItem]:
        """Take everything that waits."""
        return [self.take() for _ in list(self.items)]


def test_a_subscription_begins_at_the_saved_cursor_with_its_history_and_at_the_start_without() -> None:
    standing = Standing()
    feed = ReplicaFeed("notes", standing, lambda: None, lambda: None)
    assert feed.request(1) == messages.Subscribe(1, "notes", "a:0", "a@0")
    standing.cursor = "start"
    assert feed.request(2) == messages.Subscribe(2, "notes", "start", None)


def test_nothing_is_asked_before_everything_that_came_was_saved() -> None:
    feed = Feed()
    assert feed.next_fetch() == "3-4"
    feed.batch(BATCH, 100)
    assert feed.next_fetch() is None
    feed.connection_lost()
    assert not feed.wants_to_ask
    assert feed.taken() == [BATCH, Lost()]
    assert feed.wants_to_ask


def test_what_still_comes_of_a_feed_that_is_to_be_begun_anew_is_dropped_also_when_that_is_said_again() -> None:
    feed = Feed()
    feed.batch(BATCH, 100)
    feed.reopen()
    assert feed.taken() == []
    assert feed.wants_to_leave
    feed.batch(BATCH, 100)
    feed.leave()
    feed.reopen()
    feed.batch(BATCH, 100)
    feed.came_up(messages.CaughtUp("f1", Cursor("a:0"), 0, "00000000"))
    assert feed.taken() == []
    feed.ended(messages.Ended(1, "f1", "unsubscribed"))
    assert feed.taken() == [Lost()]
    assert feed.wants_to_ask


def test_answers_and_the_end_are_not_dropped_with_the_rest() -> None:
    feed = Feed()
    feed.answered(ENTRY, Written("ok"))
    feed.batch(BATCH, 100)
    feed.reopen()
    feed.answered(ENTRY, Written("dup"))
    assert feed.taken() == [Answered(ENTRY, Written("ok")), Answered(ENTRY, Written("dup"))]


def test_a_write_belongs_to_the_feed_in_which_it_was_handed_out() -> None:
    feed = Feed()
    message, size = message_of(ENTRY, "notes", "s1")
    write = OutboxWrite(message, size, ENTRY, feed, feed.epoch)
    assert not write.is_abandoned
    feed.connection_lost()
    assert write.is_abandoned
    feed.request(2)
    feed.opened(SUBSCRIBED)
    assert write.is_abandoned
    write.settle(Written("ok"))
    assert feed.taken()[-1] == Answered(ENTRY, Written("ok"))


def test_it_is_crowded_while_too_much_waits_to_be_saved() -> None:
    feed = Feed()
    feed.batch(BATCH, 4 * 1024 * 1024)
    assert not feed.is_crowded
    feed.batch(BATCH, 1)
    assert feed.is_crowded
    feed.taken()
    assert not feed.is_crowded


def test_a_lost_connection_ends_a_feed_once() -> None:
    feed = Feed()
    feed.connection_lost()
    feed.connection_lost()
    assert feed.taken() == [Lost()]


@pytest.mark.parametrize("code", ["store_unknown", "filter_invalid"])
def test_a_refusal_is_kept_and_asked_for_again_after_a_rest(code: str) -> None:
    feed = ReplicaFeed("notes", Standing(), lambda: None, lambda: None)
    feed.request(1)
    feed.refused(messages.Error(code, "no", retry=False, id=1))
    assert feed.phase is Phase.RESTING
    assert feed.is_unknown == (code == "store_unknown")
    feed.rested()
    assert feed.wants_to_ask


def test_a_dropped_store_is_waited_for() -> None:
    feed = Feed()
    feed.ended(messages.Ended(1, "f1", "store_dropped"))
    assert (feed.phase, type(feed.error)) == (Phase.RESTING, SubscriptionEnded)
    assert feed.taken() == [Lost()]


def test_a_closed_feed_leaves_and_asks_for_nothing_any_more() -> None:
    feed = Feed()
    feed.close()
    assert feed.wants_to_leave
    feed.leave()
    feed.ended(messages.Ended(1, "f1", "unsubscribed"))
    assert feed.phase is Phase.OVER
    assert not feed.wants_to_ask
