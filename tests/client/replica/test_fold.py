"""The feed's fold where the table of `feed.yaml` does not reach: what is fetched, what is remembered."""

from collections.abc import Iterable

import msgspec
import pytest

from syncline.replica.fold import FeedFold, Result, Stage
from syncline.replica.step import Apply, Branch, FillIn, Place, StartOver, Tally
from syncline_protocol import messages
from syncline_protocol.cursor import Cursor, Seq
from syncline_protocol.messages import ResumeHow
from syncline_protocol.ranges import format_ranges
from syncline_protocol.seq_set import SeqSet

EQUAL = Tally(2, 2)


def subscribed(how: ResumeHow, at: str, *, keep_to: int | None = None, store_id: str = "s1") -> messages.Subscribed:
    """Return a SUBSCRIBED."""
    kept = None if keep_to is None else Seq(keep_to)
    return messages.Subscribed(1, "f1", how, Cursor(at), Cursor("b:90"), store_id, "a@0,b@13", kept)


def live(seqs: str, *, last: bool = True) -> messages.Live:
    """Return a LIVE."""
    return messages.Live("f1", Cursor("a:10"), seqs, last)


def batch(from_: str, to: str, *changes: messages.Change) -> messages.Batch:
    """Return a BATCH."""
    return messages.Batch("f1", Cursor(from_), Cursor(to), changes)


def add(seq: int, key: str = "k") -> messages.Change:
    """Return an ADD."""
    return messages.Change(Seq(seq), "ADD", key, 0, msgspec.Raw(b"1"))


def caught_up(at: str) -> messages.CaughtUp:
    """Return a CAUGHT_UP whose count and digest are those of EQUAL."""
    return messages.CaughtUp("f1", Cursor(at), 2, "00000002")


def set_of(ranges: Iterable[tuple[int, int]]) -> SeqSet:
    """Return a set of seqs."""
    return SeqSet.parse(format_ranges([(Seq(first), Seq(last)) for first, last in ranges]))


def lacking(*ranges: tuple[int, int]) -> Tally:
    """Return a tally of what has these seqs missing."""
    return Tally(2, 2, set_of(ranges))


def fold_at(cursor: str = "a:12", horizon: int = 12, **place: object) -> FeedFold:
    """Return the fold of a replica that has shown everything up to its cursor."""
    saved = Place("s1", cursor, "a@0", horizon=Seq(horizon))
    return FeedFold(msgspec.structs.replace(saved, **place))


def rewound() -> FeedFold:
    """Return one that has taken the last LIVE of a rewind to a:10."""
    fold = fold_at()
    fold.subscribed(subscribed("rewind", "a:10", keep_to=10))
    fold.live(live("1-4"))
    return fold


# --- listing ---


def test_what_several_live_name_is_one_list() -> None:
    fold = fold_at()
    fold.subscribed(subscribed("rewind", "a:10", keep_to=10))
    assert fold.live(live("1-2", last=False)).result is Result.NOTED
    assert fold.live(live("", last=False)).result is Result.NOTED
    branch, _ = fold.live(live("4,6-7")).steps
    assert isinstance(branch, Branch)
    assert branch.live == set_of([(1, 2), (4, 4), (6, 7)])


def test_a_list_that_was_cut_off_is_forgotten() -> None:
    fold = fold_at()
    fold.subscribed(subscribed("rewind", "a:10", keep_to=10))
    fold.live(live("1-9", last=False))
    fold.lost()
    assert fold.place == fold_at().place
    fold.subscribed(subscribed("rewind", "a:10", keep_to=10))
    branch, _ = fold.live(live("2")).steps
    assert isinstance(branch, Branch)
    assert branch.live == set_of([(2, 2)])


def test_a_reconcile_keeps_what_lives_up_to_where_it_begins() -> None:
    fold = fold_at()
    fold.subscribed(subscribed("reconcile", "a:12"))
    branch, _ = fold.live(live("1-4")).steps
    assert isinstance(branch, Branch)
    assert branch.keep_to == 12


def test_a_rewind_while_rebuilding_takes_over_from_what_is_built_and_drops_it() -> None:
    fold = fold_at(built=4, shown=3, restarted="snapshot")
    fold.subscribed(subscribed("rewind", "a:10", keep_to=10))
    branch, _ = fold.live(live("1-4")).steps
    assert isinstance(branch, Branch)
    assert (branch.source, branch.generation, branch.drop_source) == (4, 5, True)
    assert (fold.place.shown, fold.place.restarted) == (3, "snapshot")


# --- generations ---


def test_a_snapshot_while_rebuilding_drops_what_was_being_built() -> None:
    fold = fold_at(built=4, shown=3)
    start_over, _ = fold.subscribed(subscribed("snapshot", "b:0")).steps
    assert start_over == StartOver(5, 4)
    assert (fold.place.built, fold.place.shown) == (5, 3)


def test_a_repair_of_a_repair_takes_a_new_generation_each_time() -> None:
    fold = fold_at()
    assert fold.contradicted().steps[0] == StartOver(2, None)
    assert fold.contradicted().steps[0] == StartOver(3, 2)
    assert (fold.place.cursor, fold.place.shown, fold.place.restarted) == ("start", 1, "repair")


def test_the_generation_that_was_shown_and_dropped_gives_its_number_to_none_that_is_there() -> None:
    fold = fold_at(built=2, shown=1)
    fold.subscribed(subscribed("resume", "a:12"))
    fold.caught_up(caught_up("a:12"), EQUAL)
    assert fold.contradicted().steps[0] == StartOver(3, None)


def test_another_store_is_another_one_whatever_the_server_calls_it() -> None:
    hows: list[ResumeHow] = ["resume", "snapshot"]
    for how in hows:
        fold = fold_at()
        folded = fold.subscribed(subscribed(how, "a:12", store_id="s2"))
        assert folded.result is Result.REPLACED
        assert not fold.shows_built


def test_a_replica_without_history_has_nothing_to_begin_anew() -> None:
    fold = FeedFold(Place())
    assert fold.subscribed(subscribed("snapshot", "b:0")).result is Result.RESUMED
    assert (fold.place.built, fold.place.store_id, fold.seq) == (1, "s1", 0)


# --- what is seen ---


def test_what_comes_above_the_horizon_says_so_until_it_is_shown_and_then_nothing_does() -> None:
    fold = fold_at()
    fold.subscribed(subscribed("resume", "a:12"))
    (apply, _) = fold.batch(batch("a:12", "a:20", add(20)), [add(20)]).steps
    assert apply == Apply(1, [add(20)], Seq(12))
    fold.caught_up(caught_up("a:20"), EQUAL)
    (apply, _) = fold.batch(batch("a:20", "a:21", add(21)), [add(21)]).steps
    assert apply == Apply(1, [add(21)], None)
    assert fold.place.horizon == 21
    fold.behind(messages.Behind("f1", Cursor("a:21"), Cursor("a:99")))
    (apply, _) = fold.batch(batch("a:21", "a:22", add(22)), [add(22)]).steps
    assert apply == Apply(1, [add(22)], Seq(21))


def test_changes_that_the_replica_does_not_hold_move_the_cursor_all_the_same() -> None:
    fold = fold_at()
    fold.subscribed(subscribed("resume", "a:12"))
    assert len(fold.batch(batch("a:12", "a:20", add(20)), []).steps) == 1
    assert fold.place.cursor == "a:20"


def test_caught_up_says_why_what_is_shown_now_was_begun() -> None:
    fold = fold_at()
    fold.subscribed(subscribed("snapshot", "b:0"))
    folded = fold.caught_up(caught_up("b:0"), EQUAL)
    assert (folded.switched, folded.restarted) == (True, "snapshot")
    folded = fold.caught_up(caught_up("b:0"), EQUAL)
    assert (folded.switched, folded.restarted) == (False, None)


def test_the_incarnation_that_a_batch_brings_is_part_of_what_is_known() -> None:
    fold = fold_at()
    fold.subscribed(subscribed("resume", "a:12"))
    fold.batch(batch("a:12", "c:20"), [])
    assert fold.place.lineage == "a@0,c@13"


def test_a_replica_of_a_part_does_not_compare() -> None:
    fold = FeedFold(fold_at().place, is_partial=True)
    fold.subscribed(subscribed("resume", "a:12"))
    assert fold.caught_up(caught_up("a:12"), Tally(7, 7)).result is Result.CAUGHT_UP


@pytest.mark.parametrize("tally", [Tally(3, 2), Tally(2, 3)], ids=["count", "digest"])
def test_count_and_digest_both_have_to_be_right(tally: Tally) -> None:
    fold = fold_at()
    fold.subscribed(subscribed("resume", "a:12"))
    assert fold.caught_up(caught_up("a:12"), tally).result is Result.MISMATCH


# --- what is fetched ---


def test_one_fetch_is_under_way_at_a_time_and_the_next_asks_for_the_rest() -> None:
    fold = rewound()
    assert fold.next_fetch(lacking((3, 4))) == "3-4"
    assert fold.next_fetch(lacking((3, 4))) is None
    fill = messages.Fill("f1", (add(3),))
    assert fold.fill(fill, [add(3)]).steps == (FillIn(2, [add(3)], ()),)
    assert fold.next_fetch(lacking((3, 4))) is None
    last = messages.Fill("f1", (), last=True)
    assert fold.fill(last, []).steps == (FillIn(2, [], ((Seq(3), Seq(4)),)),)
    assert fold.next_fetch(lacking((8, 8))) == "8"


def test_nothing_is_fetched_while_the_list_is_not_complete_or_no_feed_is_open() -> None:
    fold = fold_at()
    assert fold.next_fetch(lacking((3, 3))) is None
    fold.subscribed(subscribed("rewind", "a:10", keep_to=10))
    assert fold.next_fetch(lacking((3, 3))) is None
    fold.live(live("1-4"))
    assert fold.next_fetch(lacking((3, 3))) == "3"


def test_what_was_being_fetched_when_the_feed_was_lost_is_asked_for_again() -> None:
    fold = rewound()
    fold.next_fetch(lacking((3, 3)))
    fold.lost()
    fold.subscribed(subscribed("resume", "a:10"))
    assert fold.next_fetch(lacking((3, 3))) == "3"


def test_a_fetch_names_at_most_a_thousand_ranges() -> None:
    missing = [(number, number) for number in range(1, 4001, 2)]
    asked = rewound().next_fetch(lacking(*missing))
    assert asked == format_ranges([(Seq(first), Seq(last)) for first, last in missing[:1000]])


def test_a_fetch_names_at_most_twenty_thousand_seqs() -> None:
    assert rewound().next_fetch(lacking((5, 10), (100, 100_000), (200_000, 200_001))) == "5-10,100-20093"


def test_fetch_after_fetch_asks_for_everything_that_is_missing() -> None:
    fold, asked = rewound(), list[str]()
    missing = lacking((1, 50_000), (60_000, 60_000)).missing
    while (text := fold.next_fetch(Tally(2, 2, missing))) is not None:
        (fill,) = fold.fill(messages.Fill("f1", (), last=True), []).steps
        assert isinstance(fill, FillIn)
        missing = missing - SeqSet.parse(format_ranges(fill.done))
        asked.append(text)
    assert asked == ["1-20000", "20001-40000", "40001-50000,60000"]
    assert not missing


def test_a_digest_that_came_before_a_feed_was_lost_is_not_compared_with() -> None:
    fold = rewound()
    fold.caught_up(caught_up("a:10"), lacking((3, 3)))
    fold.lost()
    fold.subscribed(subscribed("resume", "a:10"))
    fold.next_fetch(lacking((3, 3)))
    fold.fill(messages.Fill("f1", (), last=True), [])
    assert fold.settle(EQUAL).result is Result.NOTED
    assert fold.stage is Stage.CATCHING_UP


def test_the_head_is_the_highest_that_was_heard_of() -> None:
    fold = fold_at()
    fold.subscribed(subscribed("resume", "a:12"))
    assert fold.head == 90
    fold.batch(batch("a:12", "b:95"), [])
    assert fold.head == 95
    fold.behind(messages.Behind("f1", Cursor("b:95"), Cursor("b:120")))
    assert fold.head == 120
