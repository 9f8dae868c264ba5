"""Which log it is: incarnations, store ids, and what a new process or a store made anew changes, on every backend."""

import pytest

from syncline_protocol.cursor import Entry, Seq
from syncline_server.storage.base import Outcome, StoreMismatch, StoreUnknown

from .conftest import Bench, add, delete, single, write


async def entries(bench: Bench) -> tuple[Entry, ...]:
    """The lineage, read from the log."""
    return (await bench.head()).lineage.entries


async def test_a_new_store_has_one_incarnation_and_its_first_process_goes_on_with_it(bench: Bench) -> None:
    (first,) = await entries(bench)
    assert first.first_seq == 0
    await bench.result(add("k1"))
    assert await entries(bench) == (first,)
    assert (await bench.head()).cursor == f"{first.incarnation}:1"


async def test_the_first_commit_after_opening_starts_an_incarnation_at_its_seq(bench: Bench) -> None:
    await bench.result(add("k1"))
    await bench.reopen()
    outcome = await bench.answer(write(add("k2"), add("k3")))
    first, second = await entries(bench)
    assert second.first_seq == 2
    assert second.incarnation != first.incarnation
    assert outcome.at == f"{second.incarnation}:3"
    await bench.result(add("k4"))
    assert len(await entries(bench)) == 2


async def test_the_names_of_old_positions_stay(bench: Bench) -> None:
    old = await bench.answer(single(add("k1")))
    await bench.reopen()
    await bench.result(add("k2"))
    assert (await bench.answer(single(add("k1")))).at == old.at


async def test_the_head_of_a_refusal_has_the_name_that_its_position_keeps(bench: Bench) -> None:
    await bench.result(add("k1"))
    await bench.reopen()
    refused = [await bench.answer(single(add("k1", 2)))]
    # The append that mints refuses once before its first commit and once behind it.
    outcomes = await bench.answers(single(add("k1", 2)), single(add("k2")), single(add("k2", 2)))
    refused += [outcome for outcome in outcomes if isinstance(outcome, Outcome) and outcome.status == "conflict"]
    first, second = await entries(bench)
    names = [f"{first.incarnation}:1", f"{first.incarnation}:1", f"{second.incarnation}:2"]
    assert [outcome.head for outcome in refused] == names
    await bench.reopen()
    await bench.result(add("k3"))
    lineage = (await bench.head()).lineage
    assert [lineage.cursor(Seq(seq)) for seq in (1, 1, 2)] == names


async def test_a_hundred_idle_openings_mint_nothing(bench: Bench) -> None:
    await bench.result(add("k1"))
    before = await bench.storage.info("notes")
    minted = bench.mint.count
    for _ in range(100):
        await bench.reopen()
    assert await bench.storage.info("notes") == before
    assert bench.mint.count == minted


async def test_an_append_that_commits_nothing_does_not_mint(bench: Bench) -> None:
    await bench.result(add("k1"))
    await bench.reopen()
    minted = bench.mint.count
    await bench.answers(single(add("k1")), single(delete("k9")), write(add("k1"), add("k2")))
    assert bench.mint.count == minted
    await bench.result(add("k2"))
    assert bench.mint.count == minted + 1


async def test_a_store_that_is_distrusted_mints_with_its_next_commit_only(bench: Bench) -> None:
    await bench.result(add("k1"))
    await bench.storage.distrust("notes")
    assert len(await entries(bench)) == 1
    await bench.result(add("k2"))
    assert [entry.first_seq for entry in await entries(bench)] == [0, 2]
    await bench.result(add("k3"))
    assert len(await entries(bench)) == 2
    with pytest.raises(StoreUnknown):
        await bench.storage.distrust("nowhere")


async def test_an_empty_store_that_is_opened_again_keeps_the_name_of_its_beginning(bench: Bench) -> None:
    before = (await bench.head()).cursor
    await bench.reopen()
    await bench.result(add("k1"))
    head = await bench.head()
    assert head.lineage.cursor(head.lineage.entries[0].first_seq) == before
    assert [entry.first_seq for entry in head.lineage.entries] == [0, 1]


async def test_a_lineage_longer_than_what_is_handed_out_is_kept_whole(bench: Bench) -> None:
    for n in range(80):
        await bench.storage.distrust("notes")
        await bench.result(add(f"k{n}"))
    await bench.reopen()
    assert len(await entries(bench)) == 81


async def test_create_returns_the_store_that_is_there(bench: Bench) -> None:
    made, was_created = await bench.storage.create("more", 77)
    assert was_created
    assert (made.created_ms, made.head.seq, made.head.count, made.head.digest) == (77, 0, 0, 0)
    await bench.answer(single(add("k1"), "more"))
    again, was_created = await bench.storage.create("more", 99)
    assert not was_created
    assert again == await bench.storage.info("more")
    assert (again.store_id, again.created_ms, again.head.seq) == (made.store_id, 77, 1)


async def test_stores_are_listed_by_name(bench: Bench) -> None:
    for name in ("b", "a.2", "Z", "a-1"):
        await bench.storage.create(name, 5)
    assert [info.name for info in await bench.storage.stores()] == sorted(["b", "a.2", "Z", "a-1", "notes"])
    assert await bench.storage.info("b") in await bench.storage.stores()


async def test_a_store_made_anew_is_another_one_and_empty(bench: Bench) -> None:
    await bench.result(add("k1"))
    old = await bench.storage.info("notes")
    assert await bench.storage.drop("notes") == old
    with pytest.raises(StoreUnknown):
        await bench.storage.info("notes")
    with pytest.raises(StoreUnknown):
        await bench.storage.drop("notes")
    (unknown,) = await bench.answers(single(add("k1")))
    assert isinstance(unknown, StoreUnknown)

    new, _ = await bench.storage.create("notes", 2_000)
    assert new.store_id != old.store_id
    assert new.head.lineage.current.incarnation != old.head.lineage.current.incarnation
    assert await bench.storage.get("notes", "k1") is None
    mismatch, fits = await bench.answers(
        write(add("k2"), store_id=old.store_id), write(add("k1", "new"), store_id=new.store_id)
    )
    assert isinstance(mismatch, StoreMismatch)
    assert isinstance(fits, Outcome)
    assert (fits.status, fits.last_seq) == ("ok", 1)


async def test_what_was_dropped_stays_away_after_opening_again(bench: Bench) -> None:
    await bench.storage.create("more", 1)
    await bench.storage.drop("notes")
    await bench.reopen()
    assert [info.name for info in await bench.storage.stores()] == ["more"]
