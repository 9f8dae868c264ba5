"""What an append answers and leaves behind, on every backend: the statuses of PROTOCOL 6, order, counts, identity."""

import pytest

from syncline_protocol import DEFAULT_LIMITS, Seq, Transaction
from syncline_protocol.codec import decode_change
from syncline_protocol.digest import digest_term
from syncline_protocol.messages import OpResult
from syncline_protocol.transaction import Op, hash_value, make_op
from syncline_server.storage import open_storage
from syncline_server.storage.base import Outcome, StorageError, StorageUnavailable, StoreMismatch, StoreUnknown
from syncline_server.storage.staging import TRANSACTION_BYTES_MAX

from .conftest import Bench, add, delete, single, write

# --- an op alone ---


async def test_an_add_is_committed_at_the_next_seq_and_its_position_has_a_name(bench: Bench) -> None:
    outcome = await bench.answer(single(add("k1", {"x": 1})))
    assert outcome == Outcome("ok", (OpResult("ok", Seq(1)),), Seq(1), outcome.at)
    head = await bench.head()
    assert (head.seq, head.count, outcome.at) == (1, 1, head.cursor)


async def test_a_repeated_add_is_dup_with_the_original_seq(bench: Bench) -> None:
    first = await bench.answer(single(add("k1")))
    await bench.result(add("k2"))
    assert await bench.answer(single(add("k1"))) == Outcome("dup", (OpResult("dup", Seq(1)),), Seq(1), first.at)


async def test_an_add_is_dup_after_its_record_was_deleted_and_says_when(bench: Bench) -> None:
    await bench.result(add("k1"))
    await bench.result(delete("k1"))
    assert await bench.result(add("k1")) == OpResult("dup", Seq(1), deleted=Seq(2))
    assert (await bench.head()).seq == 2


async def test_an_add_with_another_value_is_a_conflict_and_gone_after_the_delete(bench: Bench) -> None:
    await bench.result(add("k1", 1))
    assert await bench.result(add("k1", 2)) == OpResult("conflict")
    await bench.result(delete("k1"))
    assert await bench.result(add("k1", 2)) == OpResult("gone")


async def test_the_value_is_compared_as_text(bench: Bench) -> None:
    await bench.answer(single(make_op("k1", b'{"x":1}', DEFAULT_LIMITS)))
    assert await bench.result(make_op("k1", b'{"x": 1}', DEFAULT_LIMITS)) == OpResult("conflict")


async def test_a_delete_is_ok_once_then_dup_and_absent_for_a_key_never_used(bench: Bench) -> None:
    await bench.result(add("k1"))
    assert await bench.result(delete("k1")) == OpResult("ok", Seq(2))
    assert await bench.result(delete("k1")) == OpResult("dup", Seq(2))
    assert await bench.result(delete("k2")) == OpResult("absent")


async def test_an_op_with_a_fault_is_answered_with_it(bench: Bench) -> None:
    assert (await bench.result(make_op("", b"1", DEFAULT_LIMITS))).status == "invalid"
    assert (await bench.result(make_op("k1", b"nonsense", DEFAULT_LIMITS))).status == "invalid"
    assert (await bench.result(make_op("\ud800", b"1", DEFAULT_LIMITS))).status == "invalid"
    long = b'"' + b"y" * DEFAULT_LIMITS.value_bytes_max + b'"'
    assert (await bench.result(make_op("k1", long, DEFAULT_LIMITS))).status == "too_large"
    assert (await bench.head()).seq == 0


@pytest.mark.parametrize("key", ["ключ", "🔑", 'a"b\\c', "a'b", "a\x85b", "?", "%s", "{}", "k" * 512])
async def test_any_key_that_may_be_used_is_found_again(bench: Bench, key: str) -> None:
    await bench.result(add(key))
    assert await bench.result(add(key)) == OpResult("dup", Seq(1))
    record = await bench.storage.get("notes", key)
    assert record is not None
    assert decode_change(record.text).key == key


# --- a transaction ---


async def test_a_write_is_committed_at_consecutive_seqs(bench: Bench) -> None:
    await bench.result(add("k0"))
    outcome = await bench.answer(write(add("k1"), delete("k0"), add("k2")))
    assert outcome.status == "ok"
    assert [op.seq for op in outcome.ops] == [2, 3, 4]
    assert (outcome.last_seq, outcome.at) == (4, (await bench.head()).cursor)


async def test_a_repeated_write_is_dup_as_a_whole_also_after_later_changes(bench: Bench) -> None:
    await bench.result(add("k0"))
    replacing = write(delete("k0"), add("k1", "new"))
    first = await bench.answer(replacing)
    await bench.answer(write(delete("k1"), add("k2")))
    again = await bench.answer(replacing)
    assert again.status == "dup"
    assert again.ops == (OpResult("dup", Seq(2)), OpResult("dup", Seq(3), deleted=Seq(4)))
    assert (again.last_seq, again.at) == (first.last_seq, first.at)
    assert (await bench.head()).seq == 5


async def test_of_two_writes_that_replace_the_same_record_one_is_ok_and_the_other_refused(bench: Bench) -> None:
    await bench.result(add("k0"))
    mine, rival = write(delete("k0"), add("k1")), write(delete("k0"), add("k2"))
    first, second = await bench.answers(mine, rival)
    assert isinstance(first, Outcome)
    assert isinstance(second, Outcome)
    assert first.status == "ok"
    assert (second.status, [op.status for op in second.ops]) == ("refused", ["gone", "skipped"])
    assert second.at is None
    assert await bench.statuses(mine) == ("dup", ["dup", "dup"])


async def test_ops_that_were_committed_apart_are_no_repetition(bench: Bench) -> None:
    await bench.result(add("k1"))
    await bench.result(add("k0"))
    await bench.result(add("k2"))
    assert await bench.statuses(write(add("k1"), add("k2"))) == ("refused", ["exists", "exists"])


@pytest.mark.parametrize(
    ("op", "status"),
    [
        (add("live"), "exists"),
        (add("live", "other"), "conflict"),
        (add("dead"), "gone"),
        (add("dead", "other"), "gone"),
        (delete("dead"), "gone"),
        (delete("unused"), "absent"),
        (add("sound"), "invalid"),
        (make_op("bad", b"{", DEFAULT_LIMITS), "invalid"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.key,
)
async def test_one_unsound_op_refuses_the_whole_write(bench: Bench, op: Op, status: str) -> None:
    await bench.answer(write(add("live"), add("dead")))
    await bench.result(delete("dead"))
    before = await bench.head()
    assert await bench.statuses(write(add("sound"), op, add("other"))) == ("refused", ["skipped", status, "skipped"])
    assert await bench.head() == before
    assert await bench.storage.get("notes", "sound") is None


async def test_a_write_that_is_not_atomic_decides_each_op_alone(bench: Bench) -> None:
    await bench.answer(write(add("k1"), add("k2")))
    outcome = await bench.answer(write(add("k3"), add("k1"), delete("k9"), delete("k2"), atomic=False))
    assert outcome.status == "partial"
    assert [op.status for op in outcome.ops] == ["ok", "dup", "absent", "ok"]
    assert [op.seq for op in outcome.ops] == [3, 1, None, 4]
    assert outcome.last_seq == 4


async def test_the_position_of_a_write_that_is_not_atomic_is_that_of_its_newest_change(bench: Bench) -> None:
    await bench.answer(write(add("k1")))
    outcome = await bench.answer(write(add("k2"), add("k1"), atomic=False))
    assert (outcome.status, outcome.last_seq, outcome.at) == ("ok", 2, (await bench.head()).cursor)


async def test_a_write_that_is_not_atomic_sees_its_own_ops(bench: Bench) -> None:
    outcome = await bench.answer(write(add("k1"), delete("k1"), add("k1"), delete("k1"), atomic=False))
    assert [(op.status, op.seq) for op in outcome.ops] == [("ok", 1), ("ok", 2), ("dup", 1), ("dup", 2)]


async def test_a_transaction_that_does_not_fit_into_a_frame_is_too_large(bench: Bench) -> None:
    def op(key: str, size: int) -> Op:
        value = b'"' + b"y" * size + b'"'
        return Op(key, value, hash_value(value))

    quarter = TRANSACTION_BYTES_MAX // 4
    assert await bench.statuses(write(*(op(f"a{n}", quarter) for n in range(4)))) == ("too_large", ["skipped"] * 4)
    assert await bench.statuses(single(op("a", TRANSACTION_BYTES_MAX))) == ("too_large", ["too_large"])
    assert (await bench.head()).seq == 0
    assert (await bench.answer(write(*(op(f"b{n}", quarter - 100) for n in range(4))))).status == "ok"
    # Ops that are decided each alone need not fit into one frame together.
    assert (await bench.answer(write(*(op(f"c{n}", quarter) for n in range(5)), atomic=False))).status == "ok"


# --- where a refusal was decided ---


async def test_a_refusal_for_what_the_log_holds_tells_the_head_and_has_no_position_of_its_own(bench: Bench) -> None:
    await bench.answer(write(add("live"), add("dead")))
    await bench.result(delete("dead"))
    head = (await bench.head()).cursor
    for op, status in ((add("live", 2), "conflict"), (add("dead", 2), "gone"), (delete("unused"), "absent")):
        outcome = await bench.answer(single(op))
        assert (outcome.status, outcome.head, outcome.at, outcome.last_seq) == (status, head, None, None)
    refused = await bench.answer(write(add("sound"), add("live")))
    assert (refused.status, refused.head, refused.at) == ("refused", head, None)


async def test_in_an_empty_store_a_refusal_tells_the_position_before_the_first_change(bench: Bench) -> None:
    assert (await bench.answer(single(delete("k1")))).head == (await bench.head()).cursor


@pytest.mark.parametrize(
    "transaction",
    [
        single(add("fresh")),
        single(add("k1")),
        write(add("fresh"), delete("k1")),
        write(add("k1"), add("k2")),
        write(add("fresh"), add("k1"), atomic=False),
        write(add("k2"), add("k1"), atomic=False),
    ],
    ids=["ok", "dup", "atomic ok", "atomic dup", "each ok", "each dup"],
)
async def test_a_write_that_is_in_the_log_needs_no_head(bench: Bench, transaction: Transaction) -> None:
    await bench.answer(write(add("k1"), add("k2")))
    outcome = await bench.answer(transaction)
    assert outcome.status in ("ok", "dup")
    assert outcome.head is None


async def test_a_fault_that_no_log_could_mend_tells_no_head(bench: Bench) -> None:
    bad, large = make_op("", b"1", DEFAULT_LIMITS), add("k" * (DEFAULT_LIMITS.key_bytes_max + 1))
    for transaction in (single(bad), single(large), write(add("k1"), bad, large, atomic=False)):
        outcome = await bench.answer(transaction)
        assert outcome.status in ("invalid", "too_large", "partial")
        assert outcome.head is None


async def test_a_write_that_is_refused_in_part_tells_the_head_that_its_own_ops_left(bench: Bench) -> None:
    own = await bench.answer(write(add("k1"), add("k1", 2), add("k2"), atomic=False))
    assert [op.status for op in own.ops] == ["ok", "conflict", "ok"]
    assert own.head == own.at == (await bench.head()).cursor
    nothing = await bench.answer(write(add("k1"), delete("unused"), atomic=False))
    assert [op.status for op in nothing.ops] == ["dup", "absent"]
    assert nothing.head == own.head != nothing.at


async def test_the_head_of_a_refusal_has_what_its_append_committed_before_and_nothing_after(bench: Bench) -> None:
    await bench.storage.create("other", 1)
    before, winner, _, loser, _ = await bench.answers(
        single(delete("k1")), single(add("k1")), single(add("k1"), "other"), single(add("k1", 2)), single(add("k2"))
    )
    assert isinstance(before, Outcome)
    assert isinstance(winner, Outcome)
    assert isinstance(loser, Outcome)
    assert before.head == (await bench.head()).lineage.cursor(Seq(0))
    assert loser.head == winner.at


# --- an append ---


async def test_transactions_of_one_append_see_those_before_them(bench: Bench) -> None:
    outcomes = await bench.answers(
        single(add("k1")), single(add("k1")), single(delete("k1")), single(delete("k1")), single(add("k1", "other"))
    )
    assert [outcome.status for outcome in outcomes if isinstance(outcome, Outcome)] == [
        "ok",
        "dup",
        "ok",
        "dup",
        "gone",
    ]


async def test_one_append_commits_to_several_stores_and_tells_each_commit(bench: Bench) -> None:
    await bench.storage.create("other", 1)
    await bench.storage.create("idle", 1)
    appended = await bench.append(
        single(add("k1")), write(add("k1"), add("k2"), store="other"), single(add("k2")), single(delete("x"), "idle")
    )
    assert [(commit.store, commit.after, [row.seq for row in commit.rows]) for commit in appended.commits] == [
        ("notes", 0, [1, 2]),
        ("other", 0, [1, 2]),
    ]
    for commit in appended.commits:
        info = await bench.storage.info(commit.store)
        assert (commit.head, commit.store_id) == (info.head, info.store_id)
        assert {decode_change(row.text).time for row in commit.rows} == {bench.now_ms}
    assert [row.last_seq for row in appended.commits[0].rows] == [1, 2]
    assert [row.last_seq for row in appended.commits[1].rows] == [2, 2]


async def test_an_append_that_changes_nothing_has_no_commit(bench: Bench) -> None:
    await bench.result(add("k1"))
    assert (await bench.append(single(add("k1")), single(delete("k2")))).commits == ()
    assert (await bench.append()).outcomes == ()


async def test_the_commit_carries_the_rows_that_are_read_later(bench: Bench) -> None:
    (commit,) = (await bench.append(write(add("k1"), add("k2")), single(add("k3")))).commits
    head = await bench.head()
    assert (await bench.storage.read("notes", commit.after, head.seq)).rows == commit.rows


async def test_an_unknown_store_and_another_store_id_are_outcomes_beside_the_others(bench: Bench) -> None:
    info = await bench.storage.info("notes")
    unknown, mismatch, same = await bench.answers(
        single(add("k1"), "nowhere"),
        write(add("k2"), store_id="other"),
        write(add("k3"), store_id=info.store_id),
    )
    assert isinstance(unknown, StoreUnknown)
    assert isinstance(mismatch, StoreMismatch)
    assert isinstance(same, Outcome)
    assert (same.status, same.last_seq) == ("ok", 1)


@pytest.mark.parametrize("count", [1, 3, 4, 5, 63, 64, 65, 255, 256, 257, 700])
async def test_appends_of_every_size_add_and_delete_what_they_name(bench: Bench, count: int) -> None:
    keys = [f"k{n}" for n in range(count)]
    added = await bench.answers(*(single(add(key)) for key in keys))
    deleted = await bench.answers(*(single(delete(key)) for key in keys))
    assert [outcome.last_seq for outcome in added + deleted if isinstance(outcome, Outcome)] == [
        *range(1, 2 * count + 1)
    ]
    assert (await bench.head()).count == 0


async def test_count_and_digest_are_those_of_the_records_that_are_read(bench: Bench) -> None:
    for n in range(40):
        await bench.answer(write(add(f"a{n}"), add(f"b{n}")))
        if n % 3 == 0:
            await bench.answer(write(delete(f"a{n // 2}"), add(f"c{n}")))
        head = await bench.head()
        rows = (await bench.storage.read("notes", Seq(0), head.seq, deletes_to=Seq(0))).rows
        assert head.count == len(rows)
        assert head.digest == sum(digest_term(row.seq, decode_change(row.text).key) for row in rows) % 2**32


async def test_get_returns_live_records_only(bench: Bench) -> None:
    await bench.answer(write(add("k1", {"x": [1, None]}), add("k2")))
    await bench.result(delete("k2"))
    record = await bench.storage.get("notes", "k1")
    assert record is not None
    assert record.text == b'{"seq":1,"op":"ADD","key":"k1","value":{"x": [1, null]},"time":1001}'
    assert record.seq == 1
    assert await bench.storage.get("notes", "k2") is None
    assert await bench.storage.get("notes", "k3") is None


# --- urls ---


@pytest.mark.parametrize("url", ["postgres://u:secret@h/db", "notes.db", "sqlite://", "sqlite:///", "sqlite:///d/", ""])
def test_a_url_of_no_backend_is_refused_with_a_hint_and_without_its_password(url: str) -> None:
    with pytest.raises(StorageError) as caught:
        open_storage(url)
    assert "sqlite:///" in caught.value.hint
    assert "secret" not in str(caught.value)


async def test_a_storage_that_is_not_open_says_so(bench: Bench) -> None:
    await bench.storage.close()
    await bench.storage.close()
    with pytest.raises(StorageUnavailable, match="not open"):
        await bench.storage.info("notes")
    with pytest.raises(StorageUnavailable, match="not open"):
        await bench.append(single(add("k1")))
