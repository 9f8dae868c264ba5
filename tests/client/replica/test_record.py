"""How a record looks, of what the server has and what the outbox says of it."""

import pytest

from syncline.replica.database import Row
from syncline.replica.entry import Entry, EntryOp, SyncState
from syncline.replica.outbox import Shadow
from syncline.replica.record import LocalRecord, look, look_all
from syncline_protocol.cursor import Cursor, Seq


def row(key: str, seq: int = 1, text: str = "1") -> Row:
    """Return a record as the database has it."""
    return Row(Seq(seq), key, 1000 + seq, text)


def shadow(key: str, text: str | None, entry_id: int = 1, *, seq: int | None = None) -> Shadow:
    """Return how a key looks through a write of that one op; with a seq the server has it."""
    entry = Entry(entry_id, (EntryOp(key, text),), 0)
    if seq is not None:
        entry = entry.with_state(SyncState.ACKED, at=Cursor(f"a:{seq}"), seqs=(Seq(seq),))
    return Shadow(entry, text)


def test_what_the_outbox_does_not_speak_of_is_as_the_server_has_it() -> None:
    assert look("k", row("k", 3, "[1]"), None) == LocalRecord("k", "[1]", SyncState.SYNCED, Seq(3), 1003)
    assert look("k", None, None) is None


def test_what_the_outbox_adds_is_there_before_the_server_has_it() -> None:
    assert look("k", None, shadow("k", "2")) == LocalRecord("k", "2", SyncState.PENDING)


def test_what_the_server_has_acknowledged_knows_its_seq() -> None:
    assert look("k", None, shadow("k", "2", seq=7)) == LocalRecord("k", "2", SyncState.ACKED, Seq(7))


def test_what_the_outbox_deletes_is_gone() -> None:
    assert look("k", row("k"), shadow("k", None)) is None
    assert look("k", None, shadow("k", None)) is None


@pytest.mark.parametrize("seq", [None, 4])
def test_a_record_that_came_with_the_feed_before_its_ack_is_one_record(seq: int | None) -> None:
    state = SyncState.PENDING if seq is None else SyncState.ACKED
    assert look("k", row("k", 4, "2"), shadow("k", "2", seq=seq)) == LocalRecord("k", "2", state, Seq(4), 1004)


def test_those_of_the_server_come_first_then_the_acked_by_seq_then_the_others_as_they_were_written() -> None:
    rows = [row("r2", 2), row("r9", 9), row("hidden", 10)]
    shadows = [
        ("p1", shadow("p1", "0", 12)),
        ("a8", shadow("a8", "0", 20, seq=8)),
        ("p0", shadow("p0", "0", 11)),
        ("a5", shadow("a5", "0", 21, seq=5)),
        ("hidden", shadow("hidden", None, 22)),
        ("r9", shadow("r9", "1", 23)),
    ]
    assert [record.key for record in look_all(rows, shadows)] == ["r2", "r9", "a5", "a8", "p0", "p1"]


def test_the_ops_of_one_write_come_in_their_order() -> None:
    entry = Entry(1, tuple([EntryOp(key, "0") for key in "zxy"]), 0)
    shadows = [(key, Shadow(entry, "0", "zxy".index(key))) for key in "xyz"]
    assert [record.key for record in look_all([], shadows)] == ["z", "x", "y"]


def test_a_value_is_decoded_anew_at_each_look_and_keeps_every_digit() -> None:
    record = LocalRecord("k", '{"n": 9007199254740993, "m": 123456789012345678901234567890, "l": []}')
    value = record.value
    assert value == {"n": 2**53 + 1, "m": 123456789012345678901234567890, "l": []}
    assert isinstance(value, dict)
    value["n"] = 0
    assert record.value != value
