"""The outbox by itself: what may be sent when, what answers mean, how keys look. `outbox.yaml` has the whole table."""

from collections.abc import Iterable

import pytest

from syncline.replica.entry import Edit, Entry, EntryOp, Refusal, SyncState
from syncline.replica.outbox import Outbox, Verdict, is_in, judge, taken_back
from syncline.write import Written
from syncline_protocol.cursor import Cursor, Lineage, Seq
from syncline_protocol.messages import OpResult, Status

A = Lineage.parse("a@0")
_EDIT = Edit("document", "attribute", "v2")


def add(key: str, text: str = "1") -> EntryOp:
    """Return an ADD."""
    return EntryOp(key, text)


def delete(key: str) -> EntryOp:
    """Return a DELETE."""
    return EntryOp(key)


def outbox_of(*entries: Entry | tuple[EntryOp, ...]) -> Outbox:
    """Return an outbox of fresh writes, numbered from 1; nothing of it was sent before."""
    outbox = Outbox()
    for number, entry in enumerate(entries, 1):
        outbox.put(entry if isinstance(entry, Entry) else Entry(number, entry, 0))
    outbox.publish()
    return outbox


def ids(entries: Iterable[Entry]) -> list[int]:
    """Return the numbers of entries."""
    return [entry.id for entry in entries]


def entry_of(outbox: Outbox, entry_id: int) -> Entry:
    """Return an entry that is there."""
    entry = outbox.get(entry_id)
    assert entry is not None
    return entry


def answer(outbox: Outbox, entry_id: int, result: Written) -> Verdict | None:
    """Answer what was sent of an entry."""
    answered = outbox.answered(entry_of(outbox, entry_id), result)
    return None if answered is None else answered.verdict


def ok(seq: int) -> Written:
    """Return the answer to a single op that was committed."""
    return Written("ok", seq=Seq(seq), at=Cursor(f"a:{seq}"))


def refused(*statuses: Status, head: str = "a:9") -> Written:
    """Return the refusal of a WRITE."""
    return Written("refused", ops=tuple([OpResult(status) for status in statuses]), head=Cursor(head))


# --- what may be sent ---


def test_what_shares_no_key_goes_at_once_and_only_once() -> None:
    outbox = outbox_of((add("a"),), (add("b"),), (delete("c"), add("d")))
    assert ids(outbox.ready()) == [1, 2, 3]
    assert outbox.ready() == []


def test_what_shares_a_key_goes_one_after_the_other_also_across_others() -> None:
    outbox = outbox_of((add("a"), add("b")), (delete("b"), add("c")), (delete("c"),), (add("x"),))
    assert ids(outbox.ready()) == [1, 4]
    answer(outbox, 1, Written("ok", at=Cursor("a:2"), ops=(OpResult("ok", Seq(1)), OpResult("ok", Seq(2)))))
    assert ids(outbox.ready()) == [2]
    answer(outbox, 4, ok(3))
    assert outbox.ready() == []
    answer(outbox, 2, Written("dup", at=Cursor("a:5")))
    assert ids(outbox.ready()) == [3]


@pytest.mark.parametrize("status", ["too_large", "invalid"])
def test_what_builds_on_a_rejected_write_is_for_the_server_to_decide(status: Status) -> None:
    outbox = outbox_of((add("a"),), (delete("a"),))
    assert ids(outbox.ready()) == [1]
    assert answer(outbox, 1, Written(status)) is Verdict.REJECTED
    assert ids(outbox.ready()) == [2]


def test_what_builds_on_a_write_that_waits_waits_too_and_goes_when_that_is_given_up() -> None:
    outbox = outbox_of(Entry(1, (delete("v1"), add("v2")), 0, returned=True), (delete("v2"),))
    outbox.ready()
    assert answer(outbox, 1, refused("absent", "skipped")) is Verdict.WAITS
    assert outbox.ready() == []
    assert outbox.discard(1) is not None
    assert ids(outbox.ready()) == [2]


def test_what_was_sent_goes_again_in_the_old_order_after_the_connection_was_lost() -> None:
    outbox = outbox_of((add("a"),), (add("b"),), (add("c"),))
    outbox.ready()
    answer(outbox, 2, ok(1))
    outbox.connection_lost()
    assert ids(outbox.ready()) == [1, 3]


def test_a_retried_write_goes_with_its_old_place_in_the_order() -> None:
    outbox = outbox_of((add("a"),), (add("b"),))
    outbox.ready()
    answer(outbox, 1, Written("invalid"))
    answer(outbox, 2, Written("invalid"))
    assert outbox.retry(2) is not None
    assert outbox.retry(1) is not None
    assert ids(outbox.ready()) == [1, 2]
    assert outbox.retry(1) is None


def test_what_is_retried_after_its_store_was_made_anew_knows_nothing_of_the_old_ones_positions() -> None:
    outbox = outbox_of((add("a"),))
    outbox.ready()
    answer(outbox, 1, ok(7))
    outbox.reject_all(Refusal("store_replaced"))
    retried = outbox.retry(1)
    assert retried is not None
    assert (retried.state, retried.at, retried.seqs, retried.refusal) == (SyncState.PENDING, None, (), None)


# --- answers ---


def test_an_ack_notes_the_position_and_the_seq_of_each_op() -> None:
    outbox = outbox_of((delete("a"), add("b")))
    answer(outbox, 1, Written("ok", at=Cursor("a:9"), ops=(OpResult("ok", Seq(8)), OpResult("ok", Seq(9)))))
    entry = entry_of(outbox, 1)
    assert (entry.state, entry.at, entry.seqs) == (SyncState.ACKED, "a:9", (8, 9))


def test_deletes_that_shall_only_be_gone_are_done_when_each_is_gone_whoever_did_it() -> None:
    entry = Entry(1, (delete("a"), delete("b")), 0, atomic=False)
    result = Written("partial", at=Cursor("a:4"), ops=(OpResult("ok", Seq(4)), OpResult("absent")))
    verdict, acked = judge(entry, result, was_sent_before=False)
    assert (verdict, acked.state, acked.seqs, acked.at) == (Verdict.ACKED, SyncState.ACKED, (4, 0), "a:4")


def test_such_deletes_wait_if_what_they_lack_may_still_come_back() -> None:
    entry = Entry(1, (delete("a"), delete("b")), 0, atomic=False, returned=True)
    result = Written("partial", ops=(OpResult("dup", Seq(4)), OpResult("absent")))
    verdict, _ = judge(entry, result, was_sent_before=False)
    assert verdict is Verdict.WAITS


def test_such_deletes_that_had_nothing_to_do_are_passed_by_any_position() -> None:
    outbox = outbox_of(Entry(1, (delete("a"),), 0, atomic=False))
    answer(outbox, 1, Written("partial", ops=(OpResult("absent"),)))
    assert ids(outbox.passed(Seq(0))) == [1]


@pytest.mark.parametrize("statuses", [("gone", "skipped"), ("skipped", "conflict")])
@pytest.mark.parametrize("returned", [False, True])
def test_a_rival_is_final_for_a_write_that_nobody_can_make_anew(statuses: tuple[Status, ...], returned: bool) -> None:
    entry = Entry(1, (delete("v1"), add("v2")), 0, returned=returned)
    verdict, rejected = judge(entry, refused(*statuses), was_sent_before=False)
    assert (verdict, rejected.state) == (Verdict.REJECTED, SyncState.REJECTED)
    assert rejected.refusal == Refusal("refused", statuses, head=Cursor("a:9"))


def test_what_others_have_put_back_of_a_write_that_returned_is_not_sent_again_but_the_rest_is() -> None:
    entry = Entry(1, (delete("v1"), add("v2")), 0)
    verdict, rejected = judge(entry, refused("skipped", "exists"), was_sent_before=False)
    assert (verdict, rejected.state) == (Verdict.REJECTED, SyncState.REJECTED)
    verdict, left = judge(taken_back(entry), refused("skipped", "exists"), was_sent_before=False)
    assert (verdict, left.state, left.ops, left.atomic) == (Verdict.PARTED, SyncState.PENDING, (delete("v1"),), False)


def test_a_write_that_can_be_made_anew_is_not_if_anything_else_is_wrong_with_it() -> None:
    entry = Entry(1, (delete("v1"), add("v2")), 0, edits=(_EDIT,))
    assert judge(entry, refused("gone", "skipped"), was_sent_before=False)[0] is Verdict.REBASES
    assert judge(entry, refused("gone", "invalid"), was_sent_before=False)[0] is Verdict.REJECTED


def test_the_reason_of_a_refusal_is_that_of_the_op_that_says_one() -> None:
    ops = (OpResult("skipped"), OpResult("invalid", code="value_invalid", message="no number"))
    entry = Entry(1, (delete("v1"), add("v2")), 0)
    _, rejected = judge(entry, Written("refused", ops=ops, message="refused"), was_sent_before=False)
    assert rejected.refusal is not None
    assert rejected.refusal.message == "no number"


def test_an_answer_to_other_ops_than_the_entry_has_now_is_not_for_it() -> None:
    outbox = outbox_of(Entry(1, (delete("v1"), add("v2")), 0, edits=(_EDIT,)))
    (sent,) = outbox.ready()
    assert answer(outbox, 1, refused("gone", "skipped")) is Verdict.REBASES
    outbox.put(Entry(1, (delete("v3"), add("v2")), 0, edits=(_EDIT,)))
    assert outbox.answered(sent, refused("gone", "skipped")) is None
    assert ids(outbox.ready()) == [1]


def test_a_second_answer_changes_nothing() -> None:
    outbox = outbox_of((add("a"),))
    answer(outbox, 1, ok(3))
    assert answer(outbox, 1, Written("conflict")) is None
    assert entry_of(outbox, 1).state is SyncState.ACKED


def test_denied_is_final_for_what_was_never_sent_before_and_open_for_what_may_have_been() -> None:
    outbox = outbox_of((add("a"),), (add("b"),))
    outbox.ready()
    assert answer(outbox, 1, Written("denied")) is Verdict.REJECTED
    outbox.connection_lost()
    outbox.ready()
    assert answer(outbox, 2, Written("denied")) is Verdict.UNKNOWN
    assert ids(outbox.waiting()) == [2]
    assert outbox.wake(["b"]) == []
    assert outbox.wake() == []
    assert ids(outbox.reconsider(A, Seq(9), is_forked=False)) == [2]
    assert ids(outbox.ready()) == [2]


def test_what_was_in_the_outbox_when_the_program_began_may_have_been_sent() -> None:
    outbox = Outbox([Entry(1, (add("a"),), 0)])
    assert answer(outbox, 1, Written("denied")) is Verdict.UNKNOWN


def test_a_store_that_is_not_there_says_nothing_of_what_was_sent_before() -> None:
    outbox = outbox_of((add("a"),))
    outbox.ready()
    outbox.connection_lost()
    outbox.ready()
    assert answer(outbox, 1, Written("refused", code="store_unknown")) is Verdict.HELD
    assert outbox.ready() == []
    outbox.connection_lost()
    assert outbox.ready() == []
    outbox.reopened()
    assert ids(outbox.ready()) == [1]
    assert answer(outbox, 1, Written("denied")) is Verdict.UNKNOWN


def test_what_was_made_anew_was_never_sent() -> None:
    outbox = Outbox([Entry(1, (add("a"),), 0)])
    outbox.put(Entry(1, (add("b"),), 0))
    assert answer(outbox, 1, Written("denied")) is Verdict.REJECTED


# --- waiting ---


def test_only_what_lacks_a_key_is_woken_by_its_coming_back() -> None:
    outbox = outbox_of(
        Entry(1, (delete("v1"), add("v2")), 0, returned=True),
        Entry(2, (delete("w1"), add("w2")), 0, returned=True),
        Entry(3, (delete("x1"), add("x2")), 0, edits=(_EDIT,)),
    )
    outbox.ready()
    for entry_id, status in ((1, "absent"), (2, "absent"), (3, "gone")):
        answer(outbox, entry_id, refused(status, "skipped"))  # type: ignore[arg-type]
    assert outbox.wake(["v2", "x1"]) == []
    assert ids(outbox.wake(["v1"])) == [1]
    assert ids(outbox.ready()) == [1]
    assert ids(outbox.wake()) == [2]
    assert ids(outbox.waiting()) == [3]


@pytest.mark.parametrize(
    ("lineage", "head", "is_forked", "woken"),
    [
        ("a@0", 9, False, []),
        ("a@0,b@10", 12, False, []),
        ("a@0", 8, False, [1]),
        ("a@0,b@9", 12, False, [1]),
        ("a@0", 9, True, [1]),
    ],
)
def test_a_refusal_is_reconsidered_if_its_position_is_not_in_the_log_any_more(
    lineage: str, head: int, is_forked: bool, woken: list[int]
) -> None:
    outbox = outbox_of(Entry(1, (delete("v1"), add("v2")), 0, edits=(_EDIT,)))
    outbox.ready()
    answer(outbox, 1, refused("gone", "skipped", head="a:9"))
    assert ids(outbox.reconsider(Lineage.parse(lineage), Seq(head), is_forked=is_forked)) == woken


# --- what has arrived, and what was lost ---


def test_acked_entries_leave_when_their_positions_are_passed_in_whatever_order_they_were_acked() -> None:
    outbox = outbox_of(*[(add(key),) for key in "abc"])
    for entry_id, seq in ((1, 9), (2, 5), (3, 7)):
        answer(outbox, entry_id, ok(seq))
    assert ids(outbox.passed(Seq(4))) == []
    assert ids(outbox.passed(Seq(7))) == [2, 3]
    assert ids(outbox) == [1]


def test_what_was_lost_and_acked_again_lower_is_passed_once_and_there() -> None:
    outbox = outbox_of((add("a"),))
    answer(outbox, 1, ok(95))
    assert ids(outbox.lost(Lineage.parse("a@0,c@81"), Seq(90))) == [1]
    assert ids(outbox.ready()) == [1]
    answer(outbox, 1, Written("ok", seq=Seq(91), at=Cursor("c:91")))
    assert ids(outbox.passed(Seq(91))) == [1]
    assert ids(outbox.passed(Seq(99))) == []


def test_what_the_log_has_is_not_taken_back() -> None:
    outbox = outbox_of((add("a"),), (add("b"),))
    answer(outbox, 1, ok(80))
    answer(outbox, 2, ok(81))
    assert ids(outbox.lost(Lineage.parse("a@0,c@81"), Seq(90))) == [2]
    assert entry_of(outbox, 2).returned
    assert not entry_of(outbox, 1).returned


@pytest.mark.parametrize(
    ("at", "expected"),
    [(None, True), ("a:80", True), ("a:81", False), ("c:81", True), ("c:90", True), ("c:91", False), ("b:1", False)],
)
def test_a_position_is_in_a_log_if_its_incarnation_reached_it_there(at: str | None, expected: bool) -> None:
    log = Lineage.parse("a@0,c@81")
    assert is_in(log, Seq(90), None if at is None else Cursor(at)) is expected


# --- how keys look ---


def test_a_key_looks_as_its_newest_write_says_but_what_was_rejected_says_nothing() -> None:
    outbox = outbox_of((add("k", "1"),), (delete("k"),))
    shadow = outbox.shadow("k")
    assert shadow is not None
    assert shadow.text is None
    outbox.ready()
    answer(outbox, 1, ok(1))
    outbox.ready()
    answer(outbox, 2, Written("too_large"))
    assert outbox.publish() == {"k"}
    shadow = outbox.shadow("k")
    assert shadow is not None
    assert (shadow.text, shadow.seq, shadow.entry.id) == ("1", 1, 1)


def test_nothing_is_seen_before_it_is_published() -> None:
    outbox = outbox_of()
    outbox.put(Entry(1, (add("a"), add("b")), 0))
    assert outbox.shadow("a") is None
    assert outbox.shadows() == []
    assert [key for key, _ in outbox.next_shadows("a")] == ["a"]
    assert outbox.publish() == {"a", "b"}
    assert [key for key, _ in outbox.shadows()] == ["a", "b"]
    outbox.settle(1)
    assert outbox.shadow("a") is not None
    assert outbox.publish() == {"a", "b"}
    assert outbox.shadows() == []


def test_what_was_discarded_is_told_as_rejected_and_leaves_nothing() -> None:
    outbox = outbox_of((add("a"),))
    answer(outbox, 1, Written("invalid"))
    assert outbox.rejected == 1
    gone = outbox.discard(1)
    assert gone is not None
    assert gone.state is SyncState.REJECTED
    assert (len(outbox), outbox.size, outbox.rejected, outbox.pending) == (0, 0, 0, 0)
    assert outbox.discard(1) is None


def test_what_may_still_be_answered_cannot_be_discarded() -> None:
    outbox = outbox_of((add("a"),))
    assert outbox.discard(1) is None
    outbox.ready()
    assert outbox.discard(1) is None
    answer(outbox, 1, ok(1))
    assert outbox.discard(1) is None
