"""Live queries by themselves: what a view says of the one before, and that it says it of the right moment."""

import asyncio
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncline.replica.entry import SyncState
from syncline.replica.record import LocalRecord
from syncline.replica.watch import Predicate, RecordsQuery, View, Watch
from syncline_protocol.cursor import Seq


class Records:
    """Where a query looks: records that a test changes."""

    def __init__(self) -> None:
        self.records: dict[str, LocalRecord] = {}

    def put(self, key: str, text: str = "1", seq: int | None = None) -> None:
        """Have a record; without a seq the server does not have it."""
        state = SyncState.PENDING if seq is None else SyncState.SYNCED
        self.records[key] = LocalRecord(key, text, state, None if seq is None else Seq(seq))

    def get(self, key: str) -> LocalRecord | None:
        return self.records.get(key)

    def find(self, predicate: Predicate | None = None, *, prefix: str = "") -> list[LocalRecord]:
        found = sorted(self.records.values(), key=lambda record: (record.seq is None, record.seq or 0, record.key))
        return [r for r in found if r.key.startswith(prefix) and (predicate is None or predicate(r))]

    def written_order(self, key: str) -> tuple[bool, int, int]:
        return (True, ord(key[-1]), 0)


def keys(records: Iterable[LocalRecord]) -> list[str]:
    """Return the keys of records."""
    return [record.key for record in records]


def query(records: Records, predicate: Predicate | None = None, prefix: str = "") -> RecordsQuery:
    """Return a query that has looked for the first time."""
    made = RecordsQuery(records, predicate, prefix)
    made.first()
    return made


@pytest.fixture
def records() -> Records:
    """Two records."""
    made = Records()
    made.put("a", "1", seq=1)
    made.put("b", "2", seq=2)
    return made


def test_the_first_view_has_everything_that_fits_as_added(records: Records) -> None:
    view = RecordsQuery(records, lambda record: record.value != 1, "").first()
    assert (keys(view), keys(view.added), view.removed, view.changed) == (["b"], ["b"], (), ())
    assert len(view) == 1


def test_a_view_says_what_came_what_went_and_what_changed(records: Records) -> None:
    looked = query(records)
    records.put("c", seq=3)
    del records.records["a"]
    records.records["b"] = LocalRecord("b", "2", SyncState.ACKED, Seq(2))
    assert looked.touch(frozenset("abc"))
    view = looked.next()
    assert view is not None
    assert (keys(view), keys(view.added), keys(view.removed), keys(view.changed)) == (["b", "c"], ["c"], ["a"], ["b"])
    assert view.changed[0].state is SyncState.ACKED


def test_a_record_that_stops_to_fit_is_removed_and_one_that_begins_to_is_added(records: Records) -> None:
    looked = query(records, lambda record: record.text == "1")
    records.put("a", "9", seq=1)
    records.put("b", "1", seq=2)
    looked.touch(frozenset("ab"))
    view = looked.next()
    assert view is not None
    assert (keys(view.added), keys(view.removed)) == (["b"], ["a"])


def test_what_was_touched_and_looks_the_same_makes_no_view(records: Records) -> None:
    looked = query(records)
    assert looked.touch(frozenset(["a", "elsewhere"]))
    assert looked.next() is None


def test_keys_outside_of_the_prefix_do_not_wake_anybody(records: Records) -> None:
    looked = query(records, prefix="a")
    assert not looked.touch(frozenset("bcd"))
    assert looked.touch(frozenset("ab"))


def test_what_was_touched_anywhere_is_looked_at_anew(records: Records) -> None:
    looked = query(records)
    records.put("c", seq=3)
    assert looked.touch(None)
    assert looked.touch(frozenset())
    view = looked.next()
    assert view is not None
    assert keys(view.added) == ["c"]


def test_touches_are_put_together_until_somebody_looks(records: Records) -> None:
    looked = query(records)
    records.put("c", seq=3)
    looked.touch(frozenset("c"))
    del records.records["c"]
    looked.touch(frozenset("c"))
    records.put("d", seq=4)
    looked.touch(frozenset("d"))
    view = looked.next()
    assert view is not None
    assert (keys(view.added), view.removed) == (["d"], ())


def test_records_come_by_seq_and_then_as_they_were_written(records: Records) -> None:
    looked = query(records)
    records.put("z")
    records.put("y")
    records.put("c", seq=3)
    looked.touch(frozenset("zyc"))
    view = looked.next()
    assert view is not None
    assert keys(view) == ["a", "b", "c", "y", "z"]


_STEPS = st.lists(
    st.tuples(
        st.sampled_from("abcdef"), st.one_of(st.none(), st.integers(1, 3)), st.sampled_from(["touch", "any", "look"])
    ),
    max_size=30,
)


@given(_STEPS)
def test_views_one_after_the_other_lead_from_each_to_the_next(steps: list[tuple[str, int | None, str]]) -> None:
    records = Records()
    looked = RecordsQuery(records, lambda record: record.text != "3", "")
    shown = set(looked.first())
    for key, number, what in steps:
        if number is None:
            records.records.pop(key, None)
        else:
            records.put(key, str(number), seq=ord(key))
        looked.touch(None if what == "any" else frozenset(key))
        if what != "look":
            continue
        now = set(records.find(lambda record: record.text != "3"))
        view = looked.next()
        assert (view is None) == (now == shown)
        if view is not None:
            assert set(view) == now
            assert set(view.added) == {r for r in now if r.key not in keys(shown)}
            assert set(view.removed) == {r for r in shown if r.key not in keys(now)}
            assert set(view.changed) == {r for r in now - shown if r.key in keys(shown)}
        shown = now


# --- iterating ---


async def view_of(watch: Watch[View]) -> View:
    """Return the next view, which must be there already or come by what the test does."""
    async with asyncio.timeout(5):
        return await anext(watch)


async def test_a_watch_begins_with_what_is_there_when_it_is_asked_for_the_first_time(records: Records) -> None:
    watch = Watch(RecordsQuery(records, None, ""))
    records.put("c", seq=3)
    watch.touched(frozenset("c"))
    assert keys(await view_of(watch)) == ["a", "b", "c"]


async def test_who_waits_is_woken_by_a_change_that_can_be_seen_and_by_no_other(records: Records) -> None:
    watch = Watch(RecordsQuery(records, None, ""))
    await view_of(watch)
    waiting = asyncio.ensure_future(view_of(watch))
    watch.touched(frozenset("a"))
    for _ in range(5):
        await asyncio.sleep(0)
    assert not waiting.done()
    records.put("c", seq=3)
    watch.touched(frozenset("c"))
    assert keys((await waiting).added) == ["c"]


async def test_a_slow_reader_sees_fewer_views_and_the_last_state(records: Records) -> None:
    watch = Watch(RecordsQuery(records, None, ""))
    await view_of(watch)
    for number in range(3, 9):
        records.put(f"k{number}", seq=number)
        watch.touched(frozenset([f"k{number}"]))
    view = await view_of(watch)
    assert keys(view.added) == [f"k{number}" for number in range(3, 9)]


async def test_a_watch_that_was_ended_stops_whoever_iterates(records: Records) -> None:
    watch = Watch(RecordsQuery(records, None, ""))
    await view_of(watch)
    waiting = asyncio.ensure_future(anext(watch, None))
    await asyncio.sleep(0)
    await watch.aclose()
    assert await waiting is None
    assert [view async for view in watch] == []
