"""Who added what, on every backend: authors in rows, own-only, quotas, and the usage that is kept beside the log."""

import msgspec
import pytest

from syncline_protocol import Seq
from syncline_protocol.codec import decode_change, without_author
from syncline_protocol.messages import OpResult
from syncline_protocol.transaction import Quota
from syncline_server.storage.base import Outcome, Record, StoreUnknown, Usage

from .conftest import Bench, add, delete, single, write

#: A record of this value and a key of two letters counts 5 bytes.
VALUE = "y"


async def usage(bench: Bench, author: str = "ada") -> tuple[int, int]:
    """What is kept of the author's usage."""
    found = await bench.storage.usage("notes", author)
    return found.records, found.bytes


# --- rows ---


async def test_a_change_carries_its_author_wherever_it_is_read(bench: Bench) -> None:
    await bench.answer(write(add("k1"), add("k2"), by="ada"))
    (commit,) = (await bench.append(single(delete("k1"), by="bob"))).commits
    assert [decode_change(row.text).by for row in commit.rows] == ["bob"]
    rows = (await bench.storage.read("notes", Seq(1), Seq(3))).rows
    assert [(row.seq, decode_change(row.text).by) for row in rows] == [(2, "ada"), (3, "bob")]
    (row,) = await bench.storage.fetch("notes", [(Seq(1), Seq(2))], Seq(3))
    assert await bench.storage.get("notes", "k2") == Record(Seq(2), row.text)
    assert decode_change(row.text).by == "ada"


async def test_a_change_of_nobody_looks_as_it_does_without_its_author(bench: Bench) -> None:
    await bench.answers(single(add("k1"), by='a",by":"b'), single(add("k1"), by="ada"))
    await bench.storage.create("other", 1)
    await bench.storage.append([single(add("k1"), "other")], bench.now_ms)
    with_author, without = await bench.storage.get("notes", "k1"), await bench.storage.get("other", "k1")
    assert with_author is not None
    assert without is not None
    assert without_author(with_author.text) == without.text
    assert decode_change(without.text).by is None


async def test_a_commit_names_the_partners_of_its_rows(bench: Bench) -> None:
    await bench.answers(single(add("k1")), single(add("k2")))
    appended = await bench.append(single(add("k3")), write(delete("k1"), add("k4")), single(delete("k3")))
    (commit,) = appended.commits
    assert [row.seq for row in commit.rows] == [3, 4, 5, 6]
    assert commit.partners == (6, 1, None, 3)


# --- only one's own ---


async def test_only_who_added_a_record_may_delete_it_when_his_deletes_are_only_his_own(bench: Bench) -> None:
    await bench.answers(single(add("k1"), by="ada"), single(add("k2"), by="bob"), single(add("k3")))
    refused = OpResult("denied", code="forbidden", message="only who added this record may delete it")
    assert await bench.result(delete("k2", "ada")) == refused
    assert await bench.result(delete("k3", "ada")) == refused
    assert await bench.result(delete("k1", "ada")) == OpResult("ok", Seq(4))
    assert await bench.result(delete("k9", "ada")) == OpResult("absent")
    assert [await bench.storage.get("notes", key) is not None for key in ("k1", "k2", "k3")] == [False, True, True]


async def test_a_delete_that_is_in_the_log_is_dup_whoever_asks(bench: Bench) -> None:
    await bench.answers(single(add("k1"), by="bob"), single(delete("k1"), by="bob"))
    assert await bench.result(delete("k1", "ada")) == OpResult("dup", Seq(2))
    assert await bench.statuses(write(delete("k1", "ada"), by="ada")) == ("dup", ["dup"])


async def test_the_record_of_another_refuses_the_whole_write(bench: Bench) -> None:
    await bench.answers(single(add("k1"), by="ada"), single(add("k2"), by="bob"))
    before = await bench.head()
    outcome = await bench.answer(write(delete("k1", "ada"), delete("k2", "ada"), add("k3"), by="ada"))
    assert (outcome.status, [op.status for op in outcome.ops]) == ("refused", ["skipped", "denied", "skipped"])
    assert outcome.ops[1].code == "forbidden"
    assert await bench.head() == before


async def test_a_write_with_an_op_that_is_not_allowed_learns_nothing_of_the_log(bench: Bench) -> None:
    await bench.answers(single(add("hidden"), by="ada"))
    barred = msgspec.structs.replace(add("x"), fault=OpResult("denied", code="forbidden"))
    for guess in (add("hidden"), add("hidden", 2), add("free")):
        outcome = await bench.answer(write(guess, barred, by="bob"))
        assert (outcome.status, [op.status for op in outcome.ops]) == ("refused", ["skipped", "denied"])


async def test_a_write_that_is_not_atomic_deletes_what_is_its_authors_and_refuses_the_rest(bench: Bench) -> None:
    await bench.answers(single(add("k1"), by="ada"), single(add("k2"), by="bob"))
    ops = [add("k3"), delete("k3", "ada"), delete("k2", "ada"), delete("k1", "ada")]
    assert await bench.statuses(write(*ops, atomic=False, by="ada")) == ("partial", ["ok", "ok", "denied", "ok"])


async def test_an_author_is_known_after_opening_again_and_in_the_append_that_adds(bench: Bench) -> None:
    await bench.result(add("k0"))
    await bench.answer(single(add("k1"), by="ada"))
    await bench.reopen()
    assert (await bench.result(delete("k1", "bob"))).status == "denied"
    outcomes = await bench.answers(
        single(add("k2"), by="ada"), single(delete("k2", "bob")), single(delete("k2", "ada"))
    )
    assert [outcome.status for outcome in outcomes if isinstance(outcome, Outcome)] == ["ok", "denied", "ok"]


# --- usage ---


async def test_usage_follows_adds_and_deletes_and_survives_opening_again(bench: Bench) -> None:
    assert await usage(bench) == (0, 0)
    await bench.answers(single(add("k1", VALUE), by="ada"), write(add("k2", VALUE), add("ключ", "é"), by="ada"))
    assert await usage(bench) == (3, 5 + 5 + 8 + len('"\\u00e9"'))
    await bench.answer(single(delete("ключ"), by="ada"))
    assert await usage(bench) == (2, 10)
    await bench.reopen()
    assert await usage(bench) == (2, 10)
    await bench.answer(write(delete("k1"), add("k3", VALUE * 3), by="ada"))
    assert await usage(bench) == (2, 12)


async def test_a_record_counts_for_who_added_it_whoever_deletes_it(bench: Bench) -> None:
    await bench.answers(single(add("k1", VALUE), by="ada"), single(add("k2", VALUE), by="ada"))
    await bench.answers(single(delete("k1"), by="bob"), single(delete("k2")))
    assert await usage(bench) == (0, 0)
    assert await usage(bench, "bob") == (0, 0)


async def test_what_is_repeated_or_refused_or_has_no_author_does_not_count(bench: Bench) -> None:
    await bench.answers(single(add("k1", VALUE), by="ada"), single(add("k1", VALUE), by="ada"))
    await bench.answers(single(add("k1", VALUE), by="bob"), single(add("k2", VALUE)))
    await bench.answers(write(add("k3"), add("k1", 2), by="ada"), single(add("k2", 3), by="ada"))
    await bench.answer(single(delete("k9"), by="ada"))
    assert await usage(bench) == (1, 5)
    assert await usage(bench, "bob") == (0, 0)


async def test_usage_is_of_one_store_and_ends_with_it(bench: Bench) -> None:
    await bench.storage.create("other", 1)
    await bench.answers(single(add("k1", VALUE), by="ada"), single(add("k1", VALUE * 2), "other", by="ada"))
    assert await usage(bench) == (1, 5)
    assert await bench.storage.usage("other", "ada") == Usage(1, 6)
    await bench.storage.drop("other")
    with pytest.raises(StoreUnknown):
        await bench.storage.usage("other", "ada")
    await bench.storage.create("other", 2)
    assert await bench.storage.usage("other", "ada") == Usage()


# --- quotas ---


async def test_an_add_beyond_the_records_of_its_quota_is_denied_until_one_was_deleted(bench: Bench) -> None:
    quota = Quota(records_max=2)
    await bench.answers(*(single(add(key), by="ada", quota=quota) for key in ("k1", "k2")))
    (denied,) = (await bench.answer(single(add("k3"), by="ada", quota=quota))).ops
    assert (denied.status, denied.code) == ("denied", "quota_exceeded")
    assert "2 records" in (denied.message or "")
    assert (await bench.head()).seq == 2
    await bench.answer(single(delete("k1"), by="ada", quota=quota))
    assert (await bench.answer(single(add("k3"), by="ada", quota=quota))).status == "ok"


async def test_an_add_beyond_the_bytes_of_its_quota_is_denied_and_a_smaller_one_is_not(bench: Bench) -> None:
    quota = Quota(bytes_max=12)
    assert (await bench.answer(single(add("k1", VALUE), by="ada", quota=quota))).status == "ok"
    (denied,) = (await bench.answer(single(add("k2", VALUE * 4), by="ada", quota=quota))).ops
    assert (denied.status, denied.code) == ("denied", "quota_exceeded")
    assert "12 bytes" in (denied.message or "")
    assert (await bench.answer(single(add("k2", VALUE * 3), by="ada", quota=quota))).status == "ok"
    assert await usage(bench) == (2, 12)


async def test_a_write_that_is_in_the_log_is_dup_though_the_quota_is_used_up(bench: Bench) -> None:
    nothing = Quota(records_max=0, bytes_max=0)
    await bench.answers(single(add("k1"), by="ada"), write(add("k2"), add("k3"), by="ada"))
    assert (await bench.answer(single(add("k1"), by="ada", quota=nothing))).status == "dup"
    for atomic in (True, False):
        again = write(add("k2"), add("k3"), by="ada", quota=nothing, atomic=atomic)
        assert await bench.statuses(again) == ("dup", ["dup", "dup"])


async def test_the_first_op_without_room_refuses_the_whole_write(bench: Bench) -> None:
    write_ = write(add("k1"), add("k2"), add("k3"), add("k4"), by="ada", quota=Quota(records_max=2))
    outcome = await bench.answer(write_)
    assert (outcome.status, [op.status for op in outcome.ops]) == ("refused", ["skipped"] * 2 + ["denied"] * 2)
    assert await usage(bench) == (0, 0)
    assert (await bench.head()).seq == 0


@pytest.mark.parametrize("delete_first", [True, False])
async def test_what_a_write_deletes_makes_room_for_what_it_adds_in_any_order(bench: Bench, delete_first: bool) -> None:
    quota = Quota(records_max=1, bytes_max=5)
    await bench.answer(single(add("k1", VALUE), by="ada", quota=quota))
    ops = [delete("k1"), add("k2", VALUE)]
    outcome = await bench.answer(write(*(ops if delete_first else ops[::-1]), by="ada", quota=quota))
    assert outcome.status == "ok"
    assert await usage(bench) == (1, 5)


async def test_the_deleted_record_of_another_makes_no_room(bench: Bench) -> None:
    await bench.answers(single(add("k1"), by="bob"), single(add("k2"), by="ada"))
    quota = Quota(records_max=1)
    assert await bench.statuses(write(delete("k1"), add("k3"), by="ada", quota=quota)) == (
        "refused",
        ["skipped", "denied"],
    )
    assert await bench.statuses(write(delete("k1"), delete("k2"), add("k3"), by="ada", quota=quota)) == (
        "ok",
        ["ok", "ok", "ok"],
    )


async def test_a_write_that_is_not_atomic_is_held_to_its_quota_op_by_op(bench: Bench) -> None:
    ops = [add("k1"), add("k2"), delete("k1"), add("k2"), add("k3"), delete("k9")]
    outcome = await bench.answer(write(*ops, atomic=False, by="ada", quota=Quota(records_max=1)))
    assert (outcome.status, [op.status for op in outcome.ops]) == (
        "partial",
        ["ok", "denied", "ok", "ok", "denied", "absent"],
    )
    assert (await usage(bench))[0] == 1


async def test_transactions_of_one_append_share_what_the_quota_leaves(bench: Bench) -> None:
    await bench.answer(single(add("k0"), by="ada"))
    quota = Quota(records_max=2)
    outcomes = await bench.answers(
        single(add("k1"), by="ada", quota=quota),
        single(add("k2"), by="ada", quota=quota),
        single(add("k3"), by="bob", quota=quota),
        single(delete("k0"), by="bob"),
        write(add("k4"), by="ada", quota=quota),
        write(add("k5"), by="ada", quota=quota),
    )
    assert [outcome.status for outcome in outcomes if isinstance(outcome, Outcome)] == [
        "ok",
        "denied",
        "ok",
        "ok",
        "ok",
        "refused",
    ]


async def test_a_write_refused_for_another_reason_says_nothing_of_the_quota(bench: Bench) -> None:
    await bench.result(add("k1"))
    refused = write(add("k1", 2), add("k2"), by="ada", quota=Quota(records_max=0))
    assert await bench.statuses(refused) == ("refused", ["conflict", "skipped"])


async def test_a_quota_bounds_what_was_added_without_one_and_not_what_is_nobodys(bench: Bench) -> None:
    await bench.answers(single(add("k1"), by="ada"), single(add("k2"), by="ada"))
    quota = Quota(records_max=2)
    assert (await bench.answer(single(add("k3"), by="ada", quota=quota))).status == "denied"
    assert (await bench.answer(single(add("k3"), quota=Quota(records_max=0)))).status == "ok"
    assert (await bench.answer(single(add("k4"), by="bob", quota=Quota()))).status == "ok"
