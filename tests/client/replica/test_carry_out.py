"""Steps on the tables of a replica: ranges of seqs, and what count, digest and visible records become, against sets."""

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syncline.replica.carry_out import SYNCED_KEPT_MAX, SYNCED_KEPT_MS, carry_out, held_seqs, read_tally
from syncline.replica.entry import Entry, EntryOp, SyncState
from syncline.replica.schema import Identity, create, records_of
from syncline.replica.step import (
    Apply,
    Branch,
    DropEntry,
    FillIn,
    ForgetHistory,
    IndexKeys,
    SaveEntries,
    Show,
    StartOver,
    Step,
    Tally,
)
from syncline_protocol.cursor import Seq
from syncline_protocol.digest import digest_term
from syncline_protocol.messages import Change
from syncline_protocol.ranges import Range, format_ranges
from syncline_protocol.seq_set import SeqSet

_RAW = msgspec.Raw(b"1")


@pytest.fixture
def db() -> Iterator[sqlite3.Connection]:
    """An empty database of a replica, in memory."""
    connection = new_database()
    yield connection
    connection.close()


def new_database() -> sqlite3.Connection:
    """Return the database of a fresh replica."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    create(connection, Identity("notes", ""))
    return connection


def add(seq: int, key: str) -> Change:
    """Return an ADD."""
    return Change(Seq(seq), "ADD", key, seq, _RAW)


def delete(seq: int, key: str) -> Change:
    """Return a DELETE."""
    return Change(Seq(seq), "DELETE", key, seq)


def apply(*changes: Change, horizon: int | None = None, generation: int = 1) -> Apply:
    """Return the step that applies changes."""
    return Apply(generation, list(changes), None if horizon is None else Seq(horizon))


def ranges(*pairs: tuple[int, int]) -> tuple[Range, ...]:
    """Return ranges of seqs."""
    return tuple([(Seq(first), Seq(last)) for first, last in pairs])


def set_of(*pairs: tuple[int, int]) -> SeqSet:
    """Return a set of seqs, given as ranges."""
    return SeqSet.parse(format_ranges(ranges(*pairs)))


def digest_of(records: Iterable[tuple[int, str]]) -> int:
    """Return the digest of records, counted anew."""
    return sum([digest_term(Seq(seq), key) for seq, key in records]) & 0xFFFFFFFF


def held(db: sqlite3.Connection, generation: int = 1, *, upto: int | None = None) -> dict[str, int]:
    """Return the keys that are held and live, by seq; with `upto` those that can be seen."""
    condition = "died IS NULL" if upto is None else f"seq <= {upto}"
    return dict(db.execute(f"SELECT key, seq FROM {records_of(generation)} WHERE {condition} ORDER BY seq"))


def tally(db: sqlite3.Connection, generation: int = 1) -> Tally:
    """Return the tally of a generation that is shown too."""
    return read_tally(db, generation, generation)


def check(db: sqlite3.Connection, generation: int, records: dict[str, int], missing: tuple[Range, ...] = ()) -> None:
    """Check that a generation holds these records and knows their count and digest."""
    found = tally(db, generation)
    assert held(db, generation) == records
    assert (found.count, found.digest) == (len(records), digest_of((seq, key) for key, seq in records.items()))
    assert found.missing == set_of(*missing)


# --- seqs ---


@given(st.sets(st.integers(1, 300)) | st.sets(st.integers(1, 600_000), max_size=5))
def test_the_seqs_that_are_held_are_found(seqs: set[int]) -> None:
    with closing(new_database()) as db:
        carry_out(db, [apply(*[add(seq, f"k{seq}") for seq in sorted(seqs)])])
        assert held_seqs(db, 1) == SeqSet.of([Seq(seq) for seq in sorted(seqs)])


# --- changes ---


def test_a_delete_of_what_can_be_seen_is_only_marked_until_it_is_shown(db: sqlite3.Connection) -> None:
    carry_out(db, [apply(add(1, "a"), add(2, "b"))])
    carry_out(db, [apply(add(3, "c"), delete(4, "a"), delete(5, "c"), horizon=2)])
    check(db, 1, {"b": 2})
    assert held(db, upto=2) == {"a": 1, "b": 2}
    assert tally(db).shown_count == 2
    carry_out(db, [Show(1, None)])
    check(db, 1, {"b": 2})
    assert held(db, upto=9) == {"b": 2}
    assert tally(db).shown_count == 1


def test_what_comes_above_the_horizon_and_dies_there_leaves_nothing(db: sqlite3.Connection) -> None:
    carry_out(db, [apply(add(3, "c"), horizon=2)])
    carry_out(db, [apply(delete(4, "c"), horizon=2)])
    check(db, 1, {})
    assert held(db, upto=9) == {}


def test_a_delete_that_comes_twice_or_of_an_unknown_key_is_ignored(db: sqlite3.Connection) -> None:
    carry_out(db, [apply(add(1, "a"))])
    carry_out(db, [apply(delete(2, "a"), delete(2, "a"), delete(3, "never heard of"), horizon=1)])
    check(db, 1, {})
    assert held(db, upto=1) == {"a": 1}


def test_a_key_or_a_seq_that_is_there_contradicts(db: sqlite3.Connection) -> None:
    carry_out(db, [apply(add(1, "a")), IndexKeys(1)])
    for again in (add(2, "a"), add(1, "b")):
        with pytest.raises(sqlite3.IntegrityError):
            carry_out(db, [apply(again)])


def test_a_key_that_a_first_catch_up_brought_twice_contradicts_at_its_end(db: sqlite3.Connection) -> None:
    carry_out(db, [apply(add(1, "a"), horizon=0), apply(add(2, "a"), horizon=0)])
    with pytest.raises(sqlite3.IntegrityError):
        carry_out(db, [Show(1, None)])


# --- other histories ---


def test_a_branch_keeps_what_lives_and_is_held_also_what_was_about_to_die(db: sqlite3.Connection) -> None:
    carry_out(db, [apply(*[add(seq, f"k{seq}") for seq in (1, 2, 5, 8)])])
    carry_out(db, [apply(delete(9, "k2"), add(10, "new"), horizon=8)])
    live = set_of((1, 3), (5, 5))
    carry_out(db, [Branch(2, 1, Seq(6), live, drop_source=False)])
    check(db, 2, {"k1": 1, "k2": 2, "k5": 5}, ranges((3, 3)))
    assert held(db, upto=8) == {"k1": 1, "k2": 2, "k5": 5, "k8": 8}
    assert read_tally(db, 2, 1).shown_count == 4


def test_a_branch_takes_nothing_from_above_where_the_histories_part(db: sqlite3.Connection) -> None:
    carry_out(db, [apply(add(5, "a"), add(6, "b"))])
    carry_out(db, [Branch(2, 1, Seq(5), set_of((5, 6)), drop_source=True)])
    assert held(db, 2) == {"a": 5}
    assert db.execute("SELECT generation FROM generation").fetchall() == [(2,)]


def test_what_is_filled_in_is_missing_no_more(db: sqlite3.Connection) -> None:
    carry_out(db, [Branch(2, 1, Seq(9), set_of((1, 4)), drop_source=False)])
    carry_out(db, [FillIn(2, [add(1, "a")])])
    check(db, 2, {"a": 1}, ranges((1, 4)))
    carry_out(db, [FillIn(2, [add(2, "b")], ranges((1, 3)))])
    check(db, 2, {"a": 1, "b": 2}, ranges((4, 4)))


def test_what_comes_a_second_time_is_not_filled_in_again(db: sqlite3.Connection) -> None:
    carry_out(db, [Branch(2, 1, Seq(9), set_of((1, 4)), drop_source=False)])
    for _ in range(2):
        carry_out(db, [FillIn(2, [add(1, "a")])])
    check(db, 2, {"a": 1}, ranges((1, 4)))


def test_a_delete_that_was_faster_than_its_record_counts_until_nothing_is_missing(db: sqlite3.Connection) -> None:
    carry_out(db, [Branch(2, 1, Seq(9), set_of((1, 4)), drop_source=False)])
    carry_out(db, [apply(delete(12, "a"), delete(13, "c"), generation=2)])
    carry_out(db, [FillIn(2, [add(1, "a"), add(2, "b")], ranges((1, 2)))])
    check(db, 2, {"b": 2}, ranges((3, 4)))
    carry_out(db, [FillIn(2, [add(3, "c"), add(4, "d")], ranges((3, 4)))])
    check(db, 2, {"b": 2, "d": 4})
    assert db.execute("SELECT count(*) FROM early_delete").fetchone() == (0,)


def test_early_deletes_of_one_generation_do_not_touch_another(db: sqlite3.Connection) -> None:
    carry_out(db, [Branch(2, 1, Seq(9), set_of((1, 4)), drop_source=False)])
    carry_out(db, [apply(delete(12, "a"), generation=2)])
    carry_out(db, [Branch(3, 2, Seq(9), set_of((1, 4)), drop_source=True)])
    carry_out(db, [FillIn(3, [add(1, "a")], ranges((1, 4)))])
    check(db, 3, {"a": 1})


def test_a_generation_that_takes_the_place_of_another_leaves_nothing_of_it(db: sqlite3.Connection) -> None:
    carry_out(db, [apply(add(1, "old")), StartOver(2, None)])
    carry_out(db, [apply(add(1, "half"), generation=2), StartOver(3, 2)])
    carry_out(db, [apply(add(1, "new"), generation=3), Show(3, 1)])
    check(db, 3, {"new": 1})
    tables = db.execute("SELECT name FROM sqlite_schema WHERE type = 'table' AND name LIKE 'records%'").fetchall()
    assert tables == [("records_3",)]


# --- against a set of records ---


class Model:
    """What the shown generation should hold, as plain sets."""

    def __init__(self) -> None:
        self.live: dict[str, int] = {}
        self.shown: dict[str, int] = {}
        self.seq = 0

    def steps(self, data: st.DataObject) -> list[Step]:
        """Return steps of one local transaction, and note what they do."""
        kind = data.draw(st.sampled_from(["live", "staged", "staged", "show"]))
        if kind == "show":
            self.shown = dict(self.live)
            return [Show(1, None)]
        if kind == "live" and self.shown != self.live:
            kind = "staged"
        horizon = max(self.shown.values(), default=0) if kind == "staged" else None
        changes = [self.change(data) for _ in range(data.draw(st.integers(1, 6)))]
        if kind == "live":
            self.shown = dict(self.live)
        return [apply(*changes, horizon=horizon)]

    def change(self, data: st.DataObject) -> Change:
        """Return the next change of the log."""
        self.seq += 1
        dies = data.draw(st.booleans())
        if dies and self.live:
            key = data.draw(st.sampled_from(sorted(self.live)))
            del self.live[key]
            return delete(self.seq, key)
        self.live[f"k{self.seq}"] = self.seq
        return add(self.seq, f"k{self.seq}")


@given(st.data())
@settings(deadline=None, max_examples=150)
def test_count_digest_and_what_can_be_seen_are_right_after_every_transaction(data: st.DataObject) -> None:
    db, model = new_database(), Model()
    for _ in range(data.draw(st.integers(1, 12))):
        carry_out(db, model.steps(data))
        check(db, 1, model.live)
        assert held(db, upto=max(model.shown.values(), default=0)) == model.shown
        assert tally(db).shown_count == len(model.shown)
    db.close()


# --- entries ---


def synced(entry_id: int, made_ms: int = 0) -> Entry:
    """Return an entry that was synced."""
    return Entry(entry_id, (EntryOp("k", "1"),), made_ms, SyncState.SYNCED)


def kept(db: sqlite3.Connection) -> list[int]:
    """Return the numbers of the entries that are kept."""
    return [number for (number,) in db.execute("SELECT id FROM outbox ORDER BY id")]


def test_synced_entries_are_kept_for_thirty_days_and_others_for_ever(db: sqlite3.Connection) -> None:
    pending = Entry(1, (EntryOp("p", "1"),), 0)
    carry_out(db, [SaveEntries([pending, synced(2, 5), synced(3, 6)])])
    carry_out(db, [SaveEntries([synced(4, SYNCED_KEPT_MS + 6)])])
    assert kept(db) == [1, 3, 4]


def test_only_the_newest_synced_entries_are_kept(db: sqlite3.Connection) -> None:
    carry_out(db, [SaveEntries([Entry(1, (EntryOp("p", "1"),), 0), synced(2), synced(3)])])
    carry_out(db, [SaveEntries([synced(SYNCED_KEPT_MAX + 2)])])
    assert kept(db) == [1, 3, SYNCED_KEPT_MAX + 2]


def test_entries_are_dropped_one_by_one_and_the_synced_ones_with_their_history(db: sqlite3.Connection) -> None:
    carry_out(
        db, [SaveEntries([Entry(number, (EntryOp("p", "1"),), 0) for number in (1, 2)]), SaveEntries([synced(3)])]
    )
    carry_out(db, [DropEntry(1), ForgetHistory()])
    assert kept(db) == [2]
