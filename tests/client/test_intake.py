"""What one subscription has received, without a socket."""

import asyncio

import pytest

from syncline.errors import SubscriptionEnded, SubscriptionRefused
from syncline.event import CaughtUp, Restarted, Rewound
from syncline.follower import Phase
from syncline.intake import Bookmark, Intake
from syncline_protocol import messages
from syncline_protocol.codec import batch_frame, decode_server_message, encode_change
from syncline_protocol.cursor import Cursor, Seq
from syncline_protocol.messages import EndReason, ResumeHow


def batch(after: int, to: int, changes: int | None = None) -> messages.Batch:
    """Return a batch of this interval."""
    texts = [encode_change(Seq(seq), f"k{seq}", b"1", 0) for seq in range(after + 1, to + 1)][:changes]
    decoded = decode_server_message(batch_frame("f", Cursor(f"i:{after}"), Cursor(f"i:{to}"), texts))
    assert isinstance(decoded, messages.Batch)
    return decoded


def subscribed(how: ResumeHow, at: int, keep_to: int | None = None) -> messages.Subscribed:
    """Return the answer to a SUBSCRIBE."""
    seq = None if keep_to is None else Seq(keep_to)
    return messages.Subscribed(1, "f", how, Cursor(f"i:{at}"), Cursor("i:9"), "id", "i@0", seq)


def caught_up(at: int) -> messages.CaughtUp:
    return messages.CaughtUp("f", Cursor(f"i:{at}"), at, "00000000")


def ended(reason: EndReason) -> messages.Ended:
    return messages.Ended(1, "f", reason, Cursor("i:1"))


class Wakes:
    """Counts how often the connection was woken."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> None:
        self.count += 1


def opened(after: str = "start", *, bytes_max: int = 100_000) -> Intake:
    """Return an intake whose SUBSCRIBE was answered with `resume`."""
    intake = Intake("notes", after, None, bytes_max, Wakes())
    intake.request(1)
    at = 0 if after == "start" else int(after.split(":")[1])
    assert intake.opened(subscribed("resume", at)) is None
    return intake


async def items_of(intake: Intake, count: int) -> list[object]:
    """Take so many items out."""
    items: list[object] = []
    for _ in range(count):
        items.append(await intake.first())
        intake.pop()
    return items


async def test_it_resumes_after_the_last_batch_that_was_received_with_its_lineage() -> None:
    intake = opened()
    intake.batch(batch(0, 2), 100)
    intake.batch(batch(2, 3), 100)
    intake.connection_lost()
    request = intake.request(7)
    assert (request.after, request.known) == ("i:3", "i@0")
    assert await items_of(intake, 3) == [Bookmark(Cursor("i:0")), batch(0, 2), batch(2, 3)]


async def test_before_the_first_answer_it_asks_again_for_what_it_asked_for() -> None:
    intake = Intake("notes", "now", None, 1000, Wakes())
    intake.request(1)
    intake.connection_lost()
    assert intake.request(2).after == "now"


async def test_after_the_first_answer_to_now_it_goes_on_from_there() -> None:
    intake = Intake("notes", "now", None, 1000, Wakes())
    intake.request(1)
    intake.opened(subscribed("resume", 9))
    intake.connection_lost()
    assert intake.request(2).after == "i:9"


async def test_a_resume_at_another_position_is_a_fault_and_nothing_is_skipped() -> None:
    intake = Intake("notes", "i:4", "i@0", 1000, Wakes())
    intake.request(1)
    assert "after i:4, the server goes on after i:6" in (intake.opened(subscribed("resume", 6)) or "")
    assert intake.resume_at == "i:4"


async def test_a_rewind_and_a_snapshot_are_events_and_stand_after_what_was_received_before() -> None:
    intake = opened()
    intake.batch(batch(0, 5), 100)
    intake.connection_lost()
    intake.request(2)
    intake.opened(subscribed("rewind", 3, keep_to=3))
    intake.connection_lost()
    intake.request(3)
    intake.opened(subscribed("snapshot", 0))
    items = await items_of(intake, 4)
    assert items[2:] == [Rewound(Seq(3), Cursor("i:3")), Restarted(Cursor("i:0"))]
    assert intake.request(4).after == "i:0"


async def test_a_snapshot_as_the_first_answer_to_start_is_nothing_new() -> None:
    intake = Intake("notes", "start", None, 1000, Wakes())
    intake.request(1)
    intake.opened(subscribed("snapshot", 0))
    assert await items_of(intake, 1) == [Bookmark(Cursor("i:0"))]


async def test_a_reconcile_is_read_from_the_start_since_no_records_are_kept() -> None:
    intake = Intake("notes", "i:4", None, 1000, Wakes())
    intake.request(1)
    intake.opened(subscribed("reconcile", 6))
    intake.batch(batch(6, 7), 100)
    assert intake.wants_to_leave
    intake.leave()
    intake.ended(ended("unsubscribed"))
    assert intake.wants_to_ask
    assert intake.request(2).after == "start"
    intake.opened(subscribed("resume", 0))
    assert await items_of(intake, 2) == [Restarted(Cursor("start"), "reconcile"), Bookmark(Cursor("i:0"))]


async def test_bookmarks_that_nobody_reads_take_no_more_than_one_place() -> None:
    intake = opened()
    for at in range(1, 1000):
        intake.batch(batch(at - 1, at, changes=0), 50)
    assert await items_of(intake, 1) == [Bookmark(Cursor("i:999"))]


async def test_a_full_buffer_lets_go_and_takes_up_again_at_its_cursor_when_it_is_nearly_empty() -> None:
    intake = opened(bytes_max=1000)
    for at in range(4):
        intake.batch(batch(at, at + 1), 100)
    assert intake.wants_to_leave
    intake.leave()
    intake.batch(batch(4, 5), 100)
    intake.ended(ended("unsubscribed"))
    assert not intake.wants_to_ask
    await items_of(intake, 4)
    assert not intake.wants_to_ask
    await items_of(intake, 1)
    assert intake.wants_to_ask
    assert intake.request(2).after == "i:4"


async def test_an_empty_store_is_caught_up_at_once() -> None:
    intake = opened()
    intake.came_up(caught_up(0))
    await intake.wait_caught_up()
    assert intake.is_caught_up


async def test_it_is_caught_up_when_the_application_has_dealt_with_what_came_before() -> None:
    intake = opened()
    intake.batch(batch(0, 2), 100)
    intake.came_up(caught_up(2))
    intake.batch(batch(2, 3), 100)
    waiting = asyncio.ensure_future(intake.wait_caught_up())
    intake.delivered_change()
    assert not intake.is_caught_up
    intake.delivered_change()
    assert intake.is_caught_up
    await waiting


async def test_a_lost_connection_and_behind_take_caught_up_back() -> None:
    intake = opened()
    intake.came_up(caught_up(0))
    intake.fell_behind(messages.Behind("f", Cursor("i:0"), Cursor("i:9")))
    assert not intake.is_caught_up
    intake.came_up(caught_up(0))
    intake.connection_lost()
    assert not intake.is_caught_up


async def test_who_waits_to_be_caught_up_learns_what_ended_it() -> None:
    intake = opened()
    waiting = asyncio.ensure_future(intake.wait_caught_up())
    intake.ended(ended("store_dropped"))
    with pytest.raises(SubscriptionEnded, match="store_dropped"):
        await waiting


async def test_an_end_comes_after_what_was_received() -> None:
    intake = opened()
    intake.batch(batch(0, 1), 100)
    intake.ended(ended("store_dropped"))
    await items_of(intake, 2)
    with pytest.raises(SubscriptionEnded):
        await intake.first()


async def test_a_refusal_ends_it() -> None:
    intake = Intake("notes", "start", None, 1000, Wakes())
    intake.request(1)
    intake.refused(messages.Error("store_unknown", "there is none", retry=False))
    with pytest.raises(SubscriptionRefused, match="store_unknown"):
        await intake.first()


async def test_a_feed_that_is_ended_again_and_again_rests_longer_each_time_and_is_never_given_up() -> None:
    intake = opened()
    bounds = []
    for _ in range(8):
        intake.ended(ended("resubscribe"))
        assert intake.phase is Phase.RESTING
        bounds.append(intake.rest_bound_s)
        intake.rested()
        intake.request(2)
        intake.opened(subscribed("resume", 0))
    assert bounds == [1, 2, 4, 8, 16, 30, 30, 30]
    assert intake.error is None


async def test_progress_makes_an_ended_feed_worth_another_try() -> None:
    intake = opened()
    for at in range(20):
        intake.ended(ended("resubscribe"))
        intake.rested()
        intake.request(2)
        intake.opened(subscribed("resume", at))
        intake.batch(batch(at, at + 1), 100)
    assert intake.error is None


@pytest.mark.parametrize("is_open", [True, False])
async def test_a_closed_one_leaves_the_wire_and_hands_out_nothing_more(is_open: bool) -> None:
    intake = opened() if is_open else Intake("notes", "start", None, 1000, Wakes())
    intake.batch(batch(0, 1), 100)
    intake.close()
    assert await intake.first() is None
    assert intake.wants_to_leave == is_open
    if is_open:
        intake.leave()
        intake.ended(ended("unsubscribed"))
    assert intake.phase is Phase.OVER
    assert not intake.wants_to_ask


async def test_events_are_kept_in_order() -> None:
    intake = opened()
    intake.batch(batch(0, 1), 100)
    intake.came_up(caught_up(1))
    assert (await items_of(intake, 3))[2] == CaughtUp(Cursor("i:1"), 1, "00000000")
