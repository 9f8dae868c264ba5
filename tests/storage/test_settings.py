"""What is said of a store: it is kept, and its bounds hold for everybody, decided in the append."""

import pytest

from syncline_protocol import Seq, Transaction
from syncline_protocol.codec import encode_change
from syncline_protocol.messages import OpResult
from syncline_protocol.transaction import Quota
from syncline_server.storage.base import Outcome, Row, StoreSettings, StoreUnknown

from .conftest import Bench, add, delete, single, write


def verdicts(outcome: Outcome) -> list[tuple[str, str | None]]:
    """Status and code of each op."""
    return [(op.status, op.code) for op in outcome.ops]


async def outcomes_of(bench: Bench, *transactions: Transaction) -> list[Outcome]:
    """Append; return what became of each."""
    outcomes = await bench.answers(*transactions)
    return [outcome for outcome in outcomes if isinstance(outcome, Outcome)]


NO_ROOM = ("denied", "quota_exceeded")
OK = ("ok", None)


async def test_settings_are_there_after_a_restart(bench: Bench) -> None:
    settings = StoreSettings(description="of the house", records_max=3, retention_s=60.5, compact_ratio=0.5)
    assert (await bench.storage.configure("notes", settings)).settings == settings
    await bench.storage.close()
    await bench.storage.open()
    assert (await bench.storage.info("notes")).settings == settings
    await outcomes_of(bench, single(add("k1")))
    assert (await bench.storage.info("notes")).settings == settings
    assert (await bench.storage.configure("notes", StoreSettings())).settings == StoreSettings()


async def test_the_settings_of_an_unknown_store_are_refused(bench: Bench) -> None:
    with pytest.raises(StoreUnknown):
        await bench.storage.configure("nothing", StoreSettings())


async def test_a_store_takes_no_more_records_than_its_settings_say(bench: Bench) -> None:
    await bench.storage.configure("notes", StoreSettings(records_max=2))
    outcomes = await outcomes_of(bench, single(add("k1"), by="ada"), single(add("k2")), single(add("k3"), by="bob"))
    assert [verdicts(outcome) for outcome in outcomes] == [[OK], [OK], [NO_ROOM]]
    message = outcomes[2].ops[0].message or ""
    assert message == "no more than 2 records of all its writers may be in this store"
    assert (await bench.storage.info("notes")).head.count == 2


async def test_what_is_deleted_makes_room_in_the_store_whoever_added_it(bench: Bench) -> None:
    await bench.storage.configure("notes", StoreSettings(records_max=1))
    outcomes = await outcomes_of(
        bench, single(add("k1"), by="ada"), single(delete("k1")), single(add("k2"), by="bob"), single(add("k3"))
    )
    assert [outcome.status for outcome in outcomes] == ["ok", "ok", "ok", "denied"]


async def test_an_atomic_write_has_the_room_that_it_makes_wherever_its_deletes_stand(bench: Bench) -> None:
    await bench.storage.configure("notes", StoreSettings(records_max=2))
    await outcomes_of(bench, single(add("k1")), single(add("k2")))
    (outcome,) = await outcomes_of(bench, write(add("k3"), add("k4"), delete("k1")))
    assert (outcome.status, verdicts(outcome)) == ("refused", [("skipped", None), NO_ROOM, ("skipped", None)])
    (outcome,) = await outcomes_of(bench, write(add("k3"), add("k4"), delete("k1"), delete("k2")))
    assert outcome.status == "ok"
    assert (await bench.storage.info("notes")).head.count == 2


async def test_ops_that_are_decided_each_alone_have_the_room_that_those_before_them_made(bench: Bench) -> None:
    await bench.storage.configure("notes", StoreSettings(records_max=1))
    (outcome,) = await outcomes_of(
        bench, write(add("k1"), add("k2"), delete("k1"), add("k3"), delete("k3"), add("k4"), atomic=False)
    )
    assert verdicts(outcome) == [OK, NO_ROOM, OK, OK, OK, OK]


async def test_what_is_there_already_is_a_dup_in_a_full_store(bench: Bench) -> None:
    await outcomes_of(bench, single(add("k1")))
    await bench.storage.configure("notes", StoreSettings(records_max=0, bytes_max=0))
    outcomes = await outcomes_of(bench, single(add("k1")), single(add("k2")), single(delete("k1")))
    assert outcomes[0].ops[0] == OpResult("dup", Seq(1))
    assert [outcome.status for outcome in outcomes] == ["dup", "denied", "ok"]


@pytest.mark.parametrize("atomic", [True, False])
async def test_the_bytes_of_a_store_are_those_of_the_texts_of_what_lives(bench: Bench, *, atomic: bool) -> None:
    await outcomes_of(bench, single(add("old", "x" * 100)))
    text = len(encode_change(Seq(2), "k2", b'"yy"', bench.now_ms + 1, "ada"))
    old = (await bench.storage.info("notes")).sizes.live_bytes
    await bench.storage.configure("notes", StoreSettings(bytes_max=old + text))
    (outcome,) = await outcomes_of(bench, write(add("k2", "yy"), by="ada", atomic=atomic))
    assert verdicts(outcome) == [OK]
    assert (await bench.storage.info("notes")).sizes.live_bytes == old + text
    (outcome,) = await outcomes_of(bench, write(add("k3", 1), by="ada", atomic=atomic))
    assert verdicts(outcome) == [NO_ROOM]
    assert outcome.ops[0].message == f"the records of all its writers may have no more than {old + text} bytes together"
    (outcome,) = await outcomes_of(bench, write(delete("old"), add("k3", "x" * 90), by="ada", atomic=atomic))
    assert verdicts(outcome) == [OK, OK]


async def test_bytes_are_counted_through_all_transactions_of_an_append(bench: Bench) -> None:
    text = len(encode_change(Seq(1), "k1", b"1", bench.now_ms + 1, None))
    await bench.storage.configure("notes", StoreSettings(bytes_max=text))
    outcomes = await outcomes_of(
        bench,
        single(add("k1")),
        single(add("k2")),
        single(delete("k1")),
        write(add("k2"), delete("k2"), add("k3"), atomic=False),
        single(add("k4")),
    )
    assert [verdicts(outcome) for outcome in outcomes] == [[OK], [NO_ROOM], [OK], [OK, OK, OK], [NO_ROOM]]


async def test_an_add_that_the_store_has_no_room_for_does_not_count_for_its_author(bench: Bench) -> None:
    await bench.storage.configure("notes", StoreSettings(records_max=1))
    await outcomes_of(bench, single(add("full")))
    (outcome,) = await outcomes_of(
        bench, write(add("k1"), delete("full"), add("k2"), atomic=False, by="ada", quota=Quota(records_max=1))
    )
    assert verdicts(outcome) == [NO_ROOM, OK, OK]


async def test_the_bound_of_an_author_holds_beside_that_of_the_store(bench: Bench) -> None:
    await bench.storage.configure("notes", StoreSettings(records_max=5))
    (outcome,) = await outcomes_of(
        bench, write(add("k1"), add("k2"), atomic=False, by="ada", quota=Quota(records_max=1))
    )
    assert verdicts(outcome) == [OK, NO_ROOM]
    assert outcome.ops[1].message == "no more than 1 records of yours may be in this store"


async def test_sizes_are_those_of_the_texts_in_the_log(bench: Bench) -> None:
    await outcomes_of(bench, single(add("é", "ü")), single(add("k2")), write(add("k3"), add("k4")), single(delete("é")))
    rows: tuple[Row, ...] = (await bench.storage.read("notes", Seq(0), Seq(4))).rows
    sizes = (await bench.storage.info("notes")).sizes
    assert sizes.live_bytes == sum(len(row.text) for row in rows if row.seq != 1)
    assert (sizes.dead_values, sizes.dead_bytes, sizes.tombstones) == (1, len(rows[0].text), 1)
