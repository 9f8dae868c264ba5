"""What becomes of a transaction, by the log alone: the status table of PROTOCOL 6 as a pure function.

A backend gives what its log knows of the keys, gets a `Decision`, and writes what the decision lists. Within one
append the caller notes each commit in the same mapping (`used_after`), so that later transactions see earlier ones.

Own-only and quotas are decided here too, by the authors that the log knows, so that nothing can come between the
question and the commit. A write that is in the log already is `dup`, whatever its author may do now.
"""

from collections.abc import Callable, Mapping

import msgspec

from syncline_protocol.cursor import Seq
from syncline_protocol.messages import OpResult, Status
from syncline_protocol.transaction import Op, Transaction

from .base import Usage

__all__ = ["Balance", "Bound", "Decision", "UsedKey", "decide", "decide_alone", "is_refused_by_log", "used_after"]

#: What an op alone is if the log was in its way. The other refusals are the op's own fault.
_IN_THE_WAY: frozenset[Status] = frozenset({"conflict", "gone", "absent"})


# Structs, as one of each is made for every op that is written and a frozen dataclass costs five times as much.
class UsedKey(msgspec.Struct, frozen=True, gc=False):
    """The record of a used key, kept for ever: seq of its ADD, of its DELETE if it died, hash of its value text.

    `by` is who added it, `size` what it counts for in his usage: bytes of key and value, or 0 if there is no author.
    """

    add_seq: Seq
    delete_seq: Seq | None
    hash: bytes
    by: str | None = None
    size: int = 0


class Decision(msgspec.Struct, frozen=True):
    """The answer to a transaction and the ops to commit, in order, at consecutive seqs from `next_seq`.

    `status` and `results` are what the answer says if the commit succeeds; `last_seq` is as in `Outcome`.
    """

    status: Status
    results: tuple[OpResult, ...]
    commits: tuple[Op, ...]
    last_seq: Seq | None


class Bound:
    """What may be kept, and what is.

    Args:
        records_max: so many live records, or None.
        bytes_max: so many bytes of them, or None.
        usage: what is kept before the transaction.
        of: whose bound it is, as the refusal says it.
    """

    __slots__ = ("_bytes", "_bytes_max", "_of", "_records", "_records_max")

    def __init__(self, records_max: int | None, bytes_max: int | None, usage: Usage, of: str) -> None:
        self._records_max, self._bytes_max = records_max, bytes_max
        self._records, self._bytes = usage.records, usage.bytes
        self._of = of

    def refusal(self, size: int) -> OpResult | None:
        """Return why there is no room for one more record of so many bytes, or None."""
        if self._records_max is not None and self._records + 1 > self._records_max:
            return _no_room(f"no more than {self._records_max} records {self._of} may be in this store")
        if self._bytes_max is not None and self._bytes + size > self._bytes_max:
            return _no_room(f"the records {self._of} may have no more than {self._bytes_max} bytes together")
        return None

    def count(self, records: int, size: int) -> None:
        """Take note of a record that comes or goes."""
        self._records += records
        self._bytes += size


class Balance:
    """What is kept while one transaction is decided, where a quota of its author or of the store bounds it.

    Args:
        author: the author, or None.
        own: his bound, which counts keys and values of what he added.
        store: that of the store, which counts the texts of changes.
        text_bytes: returns how long the text of an ADD is: of this op at this seq, or without an op of what is there.
    """

    __slots__ = ("_added", "_author", "_own", "_store", "_text_bytes")

    def __init__(
        self, author: str | None, own: Bound | None, store: Bound | None, text_bytes: Callable[[Seq, Op | None], int]
    ) -> None:
        self._author, self._own, self._store = author, own, store
        self._text_bytes = text_bytes
        # ADDs of this very transaction, which a later op of it may delete.
        self._added: dict[Seq, int] = {}

    def settle(self, op: Op, known: UsedKey | None, result: OpResult) -> OpResult:
        """Count an op that is to be committed with `result`. An ADD that there is no room for is refused instead."""
        own, store = self._own, self._store
        if op.value is None:
            assert known is not None, "only a record that is there is deleted"
            if own is not None and known.by == self._author:
                own.count(-1, -known.size)
            if store is not None:
                size = self._added.get(known.add_seq)
                store.count(-1, -(self._text_bytes(known.add_seq, None) if size is None else size))
            return result
        assert result.seq is not None, "what is committed has a seq"
        of_own, of_store = _size_of(op), 0 if store is None else self._text_bytes(result.seq, op)
        refusal = (own and own.refusal(of_own)) or (store and store.refusal(of_store))
        if refusal:
            return refusal
        if own is not None:
            own.count(1, of_own)
        if store is not None:
            store.count(1, of_store)
            self._added[result.seq] = of_store
        return result


def decide(
    transaction: Transaction, used: Mapping[str, UsedKey], next_seq: Seq, balance: Balance | None = None
) -> Decision:
    """Decide one transaction.

    Args:
        transaction: what is asked for.
        used: what the log knows, at least of every key that the transaction names.
        next_seq: the seq that the first committed op gets.
        balance: what is kept, if the author or the store has a quota.
    """
    if transaction.single:
        return _decide_single(transaction.ops[0], used, next_seq, balance)
    if transaction.atomic:
        return _decide_atomic(transaction.ops, used, next_seq, balance)
    return _decide_each(transaction, used, next_seq, balance)


def decide_alone(op: Op, known: UsedKey | None, seq: Seq, balance: Balance | None = None) -> OpResult:
    """Decide an op that is a transaction of its own; it gets `seq` if it is committed."""
    if op.fault is not None:
        return op.fault
    if op.value is None:
        if known is None:
            return OpResult("absent")
        if known.delete_seq is not None:
            return OpResult("dup", known.delete_seq)
        if op.only_by is not None and op.only_by != known.by:
            return _not_his()
        return OpResult("ok", seq) if balance is None else balance.settle(op, known, OpResult("ok", seq))
    if known is None:
        return OpResult("ok", seq) if balance is None else balance.settle(op, None, OpResult("ok", seq))
    if known.hash == op.hash:
        return OpResult("dup", known.add_seq, known.delete_seq)
    return OpResult("conflict" if known.delete_seq is None else "gone")


def is_refused_by_log(status: Status, results: tuple[OpResult, ...]) -> bool:
    """Return whether a transaction that ended so was refused for what the log holds (PROTOCOL 6.2.6)."""
    if status == "partial":
        return any(result.status in _IN_THE_WAY for result in results)
    return status == "refused" or status in _IN_THE_WAY


def used_after(op: Op, known: UsedKey | None, seq: Seq, by: str | None) -> UsedKey:
    """Return what the log knows of the key once `by` has committed `op` at `seq`; `known` is what it knew before."""
    if op.value is None:
        assert known is not None
        return UsedKey(known.add_seq, seq, known.hash, known.by, known.size)
    assert op.hash is not None
    return UsedKey(seq, None, op.hash) if by is None else UsedKey(seq, None, op.hash, by, _size_of(op))


def _size_of(op: Op) -> int:
    return len(op.key.encode()) + len(op.value or b"")


def _no_room(message: str) -> OpResult:
    return OpResult("denied", code="quota_exceeded", message=message)


def _not_his() -> OpResult:
    return OpResult("denied", code="forbidden", message="only who added this record may delete it")


# --- each op alone ---


def _decide_single(op: Op, used: Mapping[str, UsedKey], next_seq: Seq, balance: Balance | None) -> Decision:
    result = decide_alone(op, used.get(op.key), next_seq, balance)
    return Decision(result.status, (result,), (op,) if result.status == "ok" else (), result.seq)


def _decide_each(
    transaction: Transaction, used: Mapping[str, UsedKey], next_seq: Seq, balance: Balance | None
) -> Decision:
    results: list[OpResult] = []
    commits: list[Op] = []
    changed: dict[str, UsedKey] = {}
    last_seq: Seq | None = None
    for op in transaction.ops:
        known = changed.get(op.key) or used.get(op.key)
        result = decide_alone(op, known, Seq(next_seq + len(commits)), balance)
        if result.status == "ok":
            assert result.seq is not None
            changed[op.key] = used_after(op, known, result.seq, transaction.by)
            commits.append(op)
        if result.seq is not None and (last_seq is None or result.seq > last_seq):
            last_seq = result.seq
        results.append(result)
    return Decision(_overall(results), tuple(results), tuple(commits), last_seq)


def _overall(results: list[OpResult]) -> Status:
    statuses = {result.status for result in results}
    if statuses == {"dup"}:
        return "dup"
    return "ok" if statuses <= {"ok", "dup"} else "partial"


# --- all or none ---


def _decide_atomic(
    ops: tuple[Op, ...], used: Mapping[str, UsedKey], next_seq: Seq, balance: Balance | None
) -> Decision:
    if any(op.fault is not None and op.fault.status == "denied" for op in ops):
        # Decided without the log: an op that is not allowed beside it must not make of a write a question that leaves
        # no trace, as to what is there that he may not see.
        return Decision("refused", tuple(op.fault or OpResult("skipped") for op in ops), (), None)
    repeated = _original_seqs(ops, used)
    if repeated is not None:
        results = tuple(_repeated(op, used[op.key], seq) for op, seq in zip(ops, repeated, strict=True))
        return Decision("dup", results, (), repeated[-1])
    seen: set[str] = set()
    verdicts: list[OpResult] = []
    for index, op in enumerate(ops):
        verdicts.append(_decide_in_transaction(op, used.get(op.key), Seq(next_seq + index), op.key in seen))
        seen.add(op.key)
    if balance is not None and _all_ok(verdicts):
        # What the transaction deletes makes room for what it adds, wherever it stands.
        for index in sorted(range(len(ops)), key=lambda index: ops[index].value is not None):
            op = ops[index]
            verdicts[index] = balance.settle(op, used.get(op.key), verdicts[index])
    if _all_ok(verdicts):
        return Decision("ok", tuple(verdicts), ops, Seq(next_seq + len(ops) - 1))
    refused = tuple(OpResult("skipped") if verdict.status == "ok" else verdict for verdict in verdicts)
    return Decision("refused", refused, (), None)


def _all_ok(verdicts: list[OpResult]) -> bool:
    return all(verdict.status == "ok" for verdict in verdicts)


def _original_seqs(ops: tuple[Op, ...], used: Mapping[str, UsedKey]) -> list[Seq] | None:
    """Return the seqs of an earlier commit of these very ops: consecutive, in order, with equal hashes."""
    seqs: list[Seq] = []
    for op in ops:
        known = used.get(op.key)
        if known is None or op.fault is not None:
            return None
        seq = known.delete_seq if op.value is None else known.add_seq
        if seq is None or (op.value is not None and op.hash != known.hash):
            return None
        if seqs and seq != seqs[-1] + 1:
            return None
        seqs.append(seq)
    return seqs


def _repeated(op: Op, known: UsedKey, seq: Seq) -> OpResult:
    return OpResult("dup", seq, None if op.value is None else known.delete_seq)


def _decide_in_transaction(op: Op, known: UsedKey | None, seq: Seq, key_repeats: bool) -> OpResult:
    if op.fault is not None:
        return op.fault
    if key_repeats:
        return OpResult("invalid", code="key_invalid", message="the key is in this WRITE twice")
    if op.value is None:
        if known is None:
            return OpResult("absent")
        if known.delete_seq is not None:
            return OpResult("gone")
        return OpResult("ok", seq) if op.only_by in (None, known.by) else _not_his()
    if known is None:
        return OpResult("ok", seq)
    if known.delete_seq is not None:
        return OpResult("gone")
    return OpResult("exists" if known.hash == op.hash else "conflict")
