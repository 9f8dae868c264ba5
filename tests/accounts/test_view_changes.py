"""A grant that changes while somebody follows: narrower, wider, authors, everything taken; and what a quiet view hears.

The readers compare themselves (`readers`): what is listed in a reconcile, what they hold then, and that nothing is
written that they may not see any more.
"""

from collections.abc import AsyncIterator

import pytest

from syncline_protocol.cursor import parse_cursor
from syncline_protocol.messages import Batch
from tests.support.engine import settle

from .readers import Library, Reader, Shelf, library

_A, _B, _AX, _ALL = Shelf(("a/",)), Shelf(("b/",)), Shelf(("a/x/",)), Shelf(("",))
_NOTHING = Shelf(())


@pytest.fixture
async def place() -> AsyncIterator[Library]:
    """A store with records in several parts, two of them dead."""
    async with library() as made:
        for key in ("a/1", "a/x/1", "b/1", "c/1", "a/2", "a/x/2", "b/2", "c/2", "a/3"):
            await made.write((key, True))
        await made.write(("a/2", False))
        await made.write(("b/1", False))
        yield made


async def follow(place: Library, shelf: Shelf, name: str = "ann") -> Reader:
    """Let somebody follow the store, and catch up."""
    reader = Reader(place, name, shelf)
    await reader.subscribe()
    assert reader.caught_up
    return reader


async def go_on(reader: Reader) -> None:
    """Follow again, and catch up."""
    await reader.subscribe()
    assert reader.caught_up


@pytest.mark.parametrize(
    ("before", "after"),
    [(_ALL, _A), (_A, _ALL), (_A, _AX), (_AX, _A), (_A, _B), (_A, Shelf(("a/", "c/"))), (_ALL, Shelf(("z/",)))],
)
async def test_a_view_that_changes_ends_the_subscription_and_is_reconciled(
    place: Library, before: Shelf, after: Shelf
) -> None:
    reader = await follow(place, before)
    place.allow("ann", after)
    await place.write(("a/x/4", True), ("c/4", True))
    await reader.read()
    assert reader.ends == ["view_changed"]
    await go_on(reader)
    assert reader.how == "reconcile"
    assert reader.held == place.seen_at(12 + 1, after)
    await place.write(("b/4", True), ("a/4", True))
    await place.pass_time(6.0, [reader])
    await reader.read()
    assert reader.held == place.seen_at(15, after)
    assert reader.ends == ["view_changed"], "only once"


async def test_the_end_tells_the_position_in_the_view_that_was(place: Library) -> None:
    reader = await follow(place, _A)
    place.allow("ann", _B)
    ended = reader.socket.take()[-1]
    assert ended.at == reader.cursor  # type: ignore[union-attr]
    assert parse_cursor(reader.cursor).view is not None


async def test_who_may_know_authors_no_more_goes_on_where_he_was(place: Library) -> None:
    reader = await follow(place, _A)
    for authors in (False, True):
        place.allow("ann", Shelf(_A.prefixes, authors))
        await reader.read()
        await go_on(reader)
        assert reader.how == "resume"
        await place.write((f"a/{authors}", True))
        await reader.read()
    assert reader.ends == ["view_changed", "view_changed"]
    assert reader.held == place.seen_at(13, _A)


async def test_a_grant_that_is_replaced_by_one_that_shows_the_same_ends_nothing(place: Library) -> None:
    reader = await follow(place, Shelf(("a/", "b/")))
    place.allow("ann", Shelf(("b/", "a/x/", "a/")))
    await place.write(("b/9", True))
    await reader.read()
    assert reader.ends == []
    assert "b/9" in reader.held


async def test_who_loses_everything_is_told_and_finds_no_store(place: Library) -> None:
    reader = await follow(place, _A)
    place.allow("ann", _NOTHING)
    before = len(reader.socket.payloads)
    await place.write(("a/9", True))
    assert len(reader.socket.payloads) == before, "nothing was written after it had returned"
    await reader.read()
    assert reader.ends == ["forbidden"]
    await reader.subscribe()
    assert reader.refusals == ["store_unknown"]
    place.allow("ann", _A)
    await go_on(reader)
    assert reader.how == "resume", "he sees the same part as before"
    assert "a/9" in reader.held


async def test_a_view_that_changes_back_before_he_returns_goes_on_where_he_was(place: Library) -> None:
    reader = await follow(place, _A)
    place.allow("ann", _B)
    place.allow("ann", _A)
    await reader.read()
    await go_on(reader)
    assert reader.how == "resume"


async def test_a_view_that_changes_while_he_is_away_is_reconciled(place: Library) -> None:
    reader = await follow(place, _A)
    reader.leave()
    await place.write(("b/8", True), ("a/1", False))
    place.allow("ann", _B)
    await go_on(reader)
    assert reader.how == "reconcile"


async def test_a_view_that_changes_in_the_midst_of_a_reconcile_is_reconciled_anew(place: Library) -> None:
    reader = await follow(place, _A)
    place.allow("ann", _ALL)
    await reader.read()
    await reader.subscribe()
    place.allow("ann", _B)
    await reader.read()
    await go_on(reader)
    assert reader.held == place.seen_at(11, _B)


async def test_only_whom_a_change_concerns_is_ended(place: Library) -> None:
    ann, bob = await follow(place, _A), await follow(place, _A, "bob")
    place.allow("ann", _B)
    await place.write(("a/9", True))
    for reader in (ann, bob):
        await reader.read()
    assert (ann.ends, bob.ends) == (["view_changed"], [])
    assert "a/9" in bob.held


async def test_who_does_not_take_what_was_written_before_is_cut_off(place: Library) -> None:
    reader = await follow(place, _ALL)
    reader.socket.set_full(True)
    await place.write(("c/9", True))
    place.allow("ann", _A)
    await reader.read()
    assert reader.how == "resume"
    await go_on(reader)
    assert reader.how == "reconcile"
    assert reader.held == place.seen_at(12, _A)


# --- what a view that shows nothing new hears ---


def bookmarks(reader: Reader) -> list[int]:
    """Return the seqs of the bookmarks that have come, each without a change."""
    messages = [it for it in reader.socket.take() if isinstance(it, Batch)]
    assert all(not it.changes for it in messages)
    return [parse_cursor(it.to).seq for it in messages]


async def test_what_a_view_does_not_show_is_told_as_a_bookmark_after_five_seconds(place: Library) -> None:
    reader = await follow(place, _A)
    for number in range(3):
        await place.write((f"b/q{number}", True))
        await place.pass_time(1.0)
    assert bookmarks(reader) == []
    await place.pass_time(3.0)
    assert bookmarks(reader) == [14]
    await place.pass_time(20.0)
    assert bookmarks(reader) == []


async def test_what_a_view_does_not_show_is_told_as_one_bookmark_however_much_it_is(place: Library) -> None:
    reader = await follow(place, _A)
    await place.write(*[(f"b/{number}", True) for number in range(10, 1309)])
    await settle()
    assert bookmarks(reader) == []
    await place.pass_time(10.0)
    assert bookmarks(reader) == [1310]


async def test_what_a_view_shows_brings_what_it_put_off_along(place: Library) -> None:
    reader = await follow(place, _A)
    await place.write(("b/9", True))
    await place.write(("a/9", True))
    await reader.read()
    assert reader.held == place.seen_at(13, _A)
    assert parse_cursor(reader.cursor).seq == 13
    await place.pass_time(10.0)
    assert bookmarks(reader) == []
