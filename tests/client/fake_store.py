"""A log in memory that decides as PROTOCOL 6.2 says, and can be set back, as a restore does. For `fake_server`."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from syncline_protocol import Lineage, Seq
from syncline_protocol.codec import encode_change
from syncline_protocol.cursor import Cursor, Entry
from syncline_protocol.digest import digest_term, digest_text
from syncline_protocol.messages import CaughtUp, OpResult, Status, WriteResult
from syncline_protocol.transaction import Op, Transaction

__all__ = ["FakeStore"]

_RIVALRY: frozenset[Status] = frozenset({"conflict", "gone", "absent"})


@dataclass
class FakeStore:
    """A log in memory: one row per change. It is small, so nothing is indexed.

    Attributes:
        rows: key and value of each change, from seq 1 on; no value for a DELETE.
        by: the author of all of them.
        view: the token of the view that everybody has, who sees the keys that begin with `prefix` only.
    """

    name: str
    incarnation: str = "inc1"
    rows: list[tuple[str, bytes | None]] = field(default_factory=list)
    by: str | None = None
    view: str | None = None
    prefix: str = ""
    store_id: str = field(init=False)
    lineage: Lineage = field(init=False)
    _inside: set[int] = field(default_factory=set, init=False)

    def __post_init__(self) -> None:
        self.store_id = f"id-{self.incarnation}"
        self.lineage = Lineage((Entry(self.incarnation, Seq(0)),))

    # --- looking ---

    @property
    def head(self) -> Seq:
        return Seq(len(self.rows))

    def cursor(self, seq: int) -> Cursor:
        return self.lineage.cursor(Seq(seq), self.view)

    def change_texts(self, after: int, to: int) -> list[bytes]:
        """Return the changes of an interval as BATCH carries them."""
        return [
            encode_change(Seq(seq), key, value, 1_795_400_000_000, self.by)
            for seq, (key, value) in enumerate(self.rows[after:to], start=after + 1)
            if key.startswith(self.prefix)
        ]

    def live(self, at: int | None = None) -> dict[str, int]:
        """Return the seqs of the records that live and are seen at a position, or now, by key."""
        live: dict[str, int] = {}
        for seq, (key, value) in enumerate(self.rows[:at], start=1):
            if not key.startswith(self.prefix):
                continue
            if value is None:
                live.pop(key, None)
            else:
                live[key] = seq
        return live

    def contents(self) -> list[tuple[str, int, str]]:
        """Return key, seq and text of the live records by seq: what a replica that is equal has."""
        return [(key, seq, (self.rows[seq - 1][1] or b"").decode()) for key, seq in self.live().items()]

    def caught_up(self, at: int) -> CaughtUp:
        """Return CAUGHT_UP as it is right at this position."""
        live = self.live(at)
        digest = digest_text(sum(digest_term(Seq(seq), key) for key, seq in live.items()))
        return CaughtUp(self.name, self.cursor(at), len(live), digest)

    def intervals(self, after: int, changes_max: int) -> Iterator[tuple[int, int]]:
        """Yield intervals up to the head that have so many changes at most, if transactions allow it."""
        while after < self.head:
            to = min(after + changes_max, self.head)
            while to in self._inside:
                to += 1
            yield after, to
            after = to

    # --- changing ---

    def commit(self, key: str, value: bytes | None) -> Seq:
        """Append a change."""
        self.rows.append((key, value))
        return self.head

    def commit_all(self, *changes: tuple[str, bytes | None]) -> Seq:
        """Append a transaction."""
        self._inside.update(range(self.head + 1, self.head + len(changes)))
        self.rows += changes
        return self.head

    def restore(self, to: int, incarnation: str) -> None:
        """Forget what is above a position, or above the last one that splits no transaction; mint an incarnation."""
        while to in self._inside:
            to -= 1
        del self.rows[to:]
        self._inside = {seq for seq in self._inside if seq < to}
        kept = [entry for entry in self.lineage.entries if entry.first_seq <= to]
        self.lineage = Lineage((*kept, Entry(incarnation, Seq(to + 1))))

    # --- deciding ---

    def write(self, transaction: Transaction) -> WriteResult:
        """Decide and commit a write."""
        if transaction.single:
            return self.decide(transaction.ops[0])
        return self._write_all(transaction) if transaction.atomic else self._write_each(transaction)

    def decide(self, op: Op) -> WriteResult:
        """Decide and commit one op, as PROTOCOL 6.2.1 says."""
        if op.fault is not None:
            return WriteResult(0, op.fault.status, code=op.fault.code, message=op.fault.message)
        added, deleted = self._seqs(op.key)
        if op.value is None:
            if added is None:
                return WriteResult(0, "absent", head=self.cursor(self.head))
            return self._ok(op) if deleted is None else self._dup(deleted)
        if added is None:
            return self._ok(op)
        if self.rows[added - 1][1] != op.value:
            return WriteResult(0, "conflict" if deleted is None else "gone", head=self.cursor(self.head))
        return self._dup(added, deleted)

    def _write_each(self, transaction: Transaction) -> WriteResult:
        results = [self.decide(op) for op in transaction.ops]
        statuses = {result.status for result in results}
        status: Status = "partial" if not statuses <= {"ok", "dup"} else "ok" if "ok" in statuses else "dup"
        at = next((result.at for result in reversed(results) if result.at is not None), None)
        head = self.cursor(self.head) if statuses & _RIVALRY else None
        ops = tuple([OpResult(r.status, r.seq, r.deleted, r.code, r.message) for r in results])
        return WriteResult(0, status, at=at, ops=ops, head=head)

    def _write_all(self, transaction: Transaction) -> WriteResult:
        if (first := self._dup_of(transaction)) is not None:
            seqs = range(first, first + len(transaction.ops))
            ops = tuple(
                [OpResult("dup", Seq(s), self._seqs(op.key)[1] if op.value is not None else None)
                 for s, op in zip(seqs, transaction.ops, strict=True)]
            )  # fmt: skip
            return WriteResult(0, "dup", at=self.cursor(seqs[-1]), ops=ops)
        faults = [self._fault(transaction.ops, index) for index in range(len(transaction.ops))]
        if any(faults):
            refused = tuple([fault or OpResult("skipped") for fault in faults])
            return WriteResult(0, "refused", ops=refused, head=self.cursor(self.head))
        self.commit_all(*[(op.key, op.value) for op in transaction.ops])
        first = self.head - len(transaction.ops) + 1
        done = tuple([OpResult("ok", Seq(first + index)) for index in range(len(transaction.ops))])
        return WriteResult(0, "ok", at=self.cursor(self.head), ops=done)

    def _dup_of(self, transaction: Transaction) -> int | None:
        """Return at which seq this very transaction was committed (PROTOCOL 6.3.2)."""
        wanted = [(op.key, op.value) for op in transaction.ops]
        for first in range(self.head - len(wanted) + 1):
            if self.rows[first : first + len(wanted)] == wanted:
                return first + 1
        return None

    def _fault(self, ops: tuple[Op, ...], index: int) -> OpResult | None:
        """Return what is wrong with an op of an atomic WRITE (PROTOCOL 6.2.2)."""
        op = ops[index]
        if op.fault is not None:
            return op.fault
        if any(other.key == op.key for other in ops[:index]):
            return OpResult("invalid", code="key_invalid", message="the key is in this write before")
        added, deleted = self._seqs(op.key)
        if op.value is None:
            return OpResult("absent") if added is None else OpResult("gone") if deleted is not None else None
        if added is None:
            return None
        if deleted is not None:
            return OpResult("gone")
        return OpResult("exists" if self.rows[added - 1][1] == op.value else "conflict")

    def _seqs(self, key: str) -> tuple[Seq | None, Seq | None]:
        """Return at which seqs a key was added and deleted."""
        added = next((Seq(seq) for seq, row in enumerate(self.rows, 1) if row[0] == key and row[1] is not None), None)
        deleted = next((Seq(seq) for seq, row in enumerate(self.rows, 1) if row == (key, None)), None)
        return added, deleted

    def _ok(self, op: Op) -> WriteResult:
        seq = self.commit(op.key, op.value)
        return WriteResult(0, "ok", seq, self.cursor(seq))

    def _dup(self, seq: Seq, deleted: Seq | None = None) -> WriteResult:
        return WriteResult(0, "dup", seq, self.cursor(seq), deleted)
