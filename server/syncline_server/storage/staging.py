"""What an append does to one store, worked out in memory before anything is written.

Pure: a backend brings the head and what its log knows of the keys, lets each transaction through `take`, and writes
what has gathered: new rows with their partners, deaths of older records, keys, the new head. Every backend decides
by this one module, so they cannot differ in what a write does. Nothing here is true until the backend has it
durable; after a failure the whole object is thrown away.

A change's partner is the seq of its opposite: of an ADD that died, its DELETE; of a DELETE, its ADD. So a row whose
partner is below its own seq is a DELETE, and `is_walked` needs nothing else to know what a walk leaves out.
"""

from collections.abc import Callable, Iterable, MutableMapping

from syncline_protocol.codec import encode_change
from syncline_protocol.cursor import Lineage, Seq
from syncline_protocol.digest import digest_term
from syncline_protocol.limits import BATCH_BYTES_TARGET, DEFAULT_LIMITS
from syncline_protocol.messages import OpResult
from syncline_protocol.transaction import Op, Transaction

from .base import Head, Outcome, Row
from .decide import Decision, UsedKey, decide, used_after

__all__ = ["SCAN_SEQS_MAX", "TRANSACTION_BYTES_MAX", "StagedStore", "is_walked"]

#: A walk that finds little to send ends a chunk after so many seqs, so that the cursor moves and nobody waits long.
SCAN_SEQS_MAX = 4000

#: A chunk that is just below its target takes one more transaction, and the sum has to fit into a frame beside the
#: envelope (below 4 KiB). With the limits of PROTOCOL 9 every WRITE that fits into a frame is smaller than this.
TRANSACTION_BYTES_MAX = DEFAULT_LIMITS.batch_bytes_max - BATCH_BYTES_TARGET - 4096

_MASK = 0xFFFFFFFF


def is_walked(partner: Seq | None, deletes_to: Seq, upto: Seq) -> bool:
    """Return whether a walk up to `upto` sends the row with this partner: an ADD that lives then, or a DELETE of an
    ADD up to `deletes_to` (`Storage.read`).
    """
    return partner is None or partner > upto or partner <= deletes_to


class StagedStore:
    """One store in the course of one append.

    Args:
        head: where the log stands.
        used: what the log knows, at least of every key that the append names; it is updated.
        mint: makes the incarnation that the first commit starts, or None if the current one goes on.
        now_ms: the time of every change of this append.

    `rows` and `partners` run parallel; `deaths` are (seq of ADD, seq of DELETE) of ADDs that were in the log before;
    `keys` are the keys that the append has used or changed.
    """

    __slots__ = (
        "_mint", "_now_ms", "_used", "after", "count", "deaths", "digest", "keys", "lineage", "partners", "rows", "seq",
    )  # fmt: skip

    def __init__(
        self, head: Head, used: MutableMapping[str, UsedKey], mint: Callable[[], str] | None, now_ms: int
    ) -> None:
        self.after = head.seq
        self.seq = head.seq
        self.count = head.count
        self.digest = head.digest
        self.lineage: Lineage = head.lineage
        self.rows: list[Row] = []
        self.partners: list[Seq | None] = []
        self.deaths: list[tuple[Seq, Seq]] = []
        self.keys: dict[str, UsedKey] = {}
        self._used = used
        self._mint = mint
        self._now_ms = now_ms

    @property
    def head(self) -> Head:
        """The head that the append leaves."""
        return Head(self.seq, self.count, self.digest & _MASK, self.lineage)

    def take(self, transaction: Transaction) -> Outcome:
        """Decide one transaction and gather what it changes."""
        decision = decide(transaction, self._used, Seq(self.seq + 1))
        if decision.commits:
            texts = self._encode(decision.commits)
            if transaction.atomic or transaction.single:
                if sum(map(len, texts)) + len(texts) > TRANSACTION_BYTES_MAX:
                    return _too_large(transaction)
                self._commit(decision, texts, Seq(self.seq + len(texts)))
            else:
                self._commit(decision, texts, None)
        last = decision.last_seq
        return Outcome(decision.status, decision.results, last, None if last is None else self.lineage.cursor(last))

    def _encode(self, ops: Iterable[Op]) -> list[bytes]:
        now_ms = self._now_ms
        return [encode_change(Seq(seq), op.key, op.value, now_ms) for seq, op in enumerate(ops, self.seq + 1)]

    def _commit(self, decision: Decision, texts: list[bytes], last_seq: Seq | None) -> None:
        """Add the rows of one transaction that ends at `last_seq`; if that is None each op is one of its own."""
        if self._mint is not None:
            self.lineage = self.lineage.extended(self._mint(), Seq(self.seq + 1))
            self._mint = None
        used = self._used
        for op, text in zip(decision.commits, texts, strict=True):
            self.seq = seq = Seq(self.seq + 1)
            known = used.get(op.key)
            used[op.key] = self.keys[op.key] = used_after(op, known, seq)
            self.rows.append(Row(seq, last_seq or seq, text))
            self.partners.append(self._count_in(op, known, seq))

    def _count_in(self, op: Op, known: UsedKey | None, seq: Seq) -> Seq | None:
        """Count the change in; return the partner of its row and note it in its partner's."""
        if op.value is not None:
            self.count += 1
            self.digest += digest_term(seq, op.key)
            return None
        assert known is not None, "only a record that is there is deleted"
        self.count -= 1
        self.digest -= digest_term(known.add_seq, op.key)
        if known.add_seq > self.after:
            self.partners[known.add_seq - self.after - 1] = seq
        else:
            self.deaths.append((known.add_seq, seq))
        return known.add_seq


def _too_large(transaction: Transaction) -> Outcome:
    result = OpResult("too_large", code="too_large", message="the transaction does not fit into one frame")
    if transaction.single:
        return Outcome("too_large", (result,))
    return Outcome("too_large", (OpResult("skipped"),) * len(transaction.ops))
