"""What becomes of a transaction, by the log alone: the status table of PROTOCOL 6 as a pure function.

A backend gives what its log knows of the keys, gets a `Decision`, and writes what the decision lists. Within one
append the caller notes each commit in the same mapping (`used_after`), so that later transactions see earlier ones.
"""

from collections.abc import Mapping

import msgspec

from syncline_protocol.cursor import Seq
from syncline_protocol.messages import OpResult, Status
from syncline_protocol.transaction import Op, Transaction

__all__ = ["Decision", "UsedKey", "decide", "decide_alone", "is_refused_by_log", "used_after"]

#: What an op alone is if the log was in its way. The other refusals are the op's own fault.
_IN_THE_WAY: frozenset[Status] = frozenset({"conflict", "gone", "absent"})


# Structs, as one of each is made for every op that is written and a frozen dataclass costs five times as much.
class UsedKey(msgspec.Struct, frozen=True, gc=False):
    """The record of a used key, kept for ever: seq of its ADD, of its DELETE if it died, hash of its value text."""

    add_seq: Seq
    delete_seq: Seq | None
    hash: bytes


class Decision(msgspec.Struct, frozen=True):
    """The answer to a transaction and the ops to commit, in order, at consecutive seqs from `next_seq`.

    `status` and `results` are what the answer says if the commit succeeds; `last_seq` is as in `Outcome`.
    """

    status: Status
    results: tuple[OpResult, ...]
    commits: tuple[Op, ...]
    last_seq: Seq | None


def decide(transaction: Transaction, used: Mapping[str, UsedKey], next_seq: Seq) -> Decision:
    """Decide one transaction.

    Args:
        transaction: what is asked for.
        used: what the log knows, at least of every key that the transaction names.
        next_seq: the seq that the first committed op gets.
    """
    if transaction.single:
        return _decide_single(transaction.ops[0], used, next_seq)
    if transaction.atomic:
        return _decide_atomic(transaction.ops, used, next_seq)
    return _decide_each(transaction, used, next_seq)


def decide_alone(op: Op, known: UsedKey | None, seq: Seq) -> OpResult:
    """Decide an op that is a transaction of its own; it gets `seq` if it is committed."""
    if op.fault is not None:
        return op.fault
    if op.value is None:
        if known is None:
            return OpResult("absent")
        return OpResult("ok", seq) if known.delete_seq is None else OpResult("dup", known.delete_seq)
    if known is None:
        return OpResult("ok", seq)
    if known.hash == op.hash:
        return OpResult("dup", known.add_seq, known.delete_seq)
    return OpResult("conflict" if known.delete_seq is None else "gone")


def is_refused_by_log(status: Status, results: tuple[OpResult, ...]) -> bool:
    """Return whether a transaction that ended so was refused for what the log holds (PROTOCOL 6.2.6)."""
    if status == "partial":
        return any(result.status in _IN_THE_WAY for result in results)
    return status == "refused" or status in _IN_THE_WAY


def used_after(op: Op, known: UsedKey | None, seq: Seq) -> UsedKey:
    """Return what the log knows of the key once `op` is committed at `seq`; `known` is what it knew before."""
    if op.value is None:
        assert known is not None
        return UsedKey(known.add_seq, seq, known.hash)
    assert op.hash is not None
    return UsedKey(seq, None, op.hash)


# --- each op alone ---


def _decide_single(op: Op, used: Mapping[str, UsedKey], next_seq: Seq) -> Decision:
    result = decide_alone(op, used.get(op.key), next_seq)
    return Decision(result.status, (result,), (op,) if result.status == "ok" else (), result.seq)


def _decide_each(transaction: Transaction, used: Mapping[str, UsedKey], next_seq: Seq) -> Decision:
    results: list[OpResult] = []
    commits: list[Op] = []
    changed: dict[str, UsedKey] = {}
    last_seq: Seq | None = None
    for op in transaction.ops:
        known = changed.get(op.key) or used.get(op.key)
        result = decide_alone(op, known, Seq(next_seq + len(commits)))
        if result.status == "ok":
            assert result.seq is not None
            changed[op.key] = used_after(op, known, result.seq)
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


def _decide_atomic(ops: tuple[Op, ...], used: Mapping[str, UsedKey], next_seq: Seq) -> Decision:
    repeated = _original_seqs(ops, used)
    if repeated is not None:
        results = tuple(_repeated(op, used[op.key], seq) for op, seq in zip(ops, repeated, strict=True))
        return Decision("dup", results, (), repeated[-1])
    seen: set[str] = set()
    verdicts: list[OpResult] = []
    for index, op in enumerate(ops):
        verdicts.append(_decide_in_transaction(op, used.get(op.key), Seq(next_seq + index), op.key in seen))
        seen.add(op.key)
    if all(verdict.status == "ok" for verdict in verdicts):
        return Decision("ok", tuple(verdicts), ops, Seq(next_seq + len(ops) - 1))
    refused = tuple(OpResult("skipped") if verdict.status == "ok" else verdict for verdict in verdicts)
    return Decision("refused", refused, (), None)


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
        return OpResult("ok", seq) if known.delete_seq is None else OpResult("gone")
    if known is None:
        return OpResult("ok", seq)
    if known.delete_seq is not None:
        return OpResult("gone")
    return OpResult("exists" if known.hash == op.hash else "conflict")
