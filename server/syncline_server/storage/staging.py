"""What an append does to one store, worked out in memory before anything is written.

Pure: a backend brings the head and what its log knows of the keys, lets each transaction through `take`, and writes
what has gathered: new rows with their partners, deaths of older records, keys, usage, the new head. Every backend
decides by this one module, so they cannot differ in what a write does. Nothing here is true until the backend has it
durable; after a failure the whole object is thrown away.

A change's partner is the seq of its opposite: of an ADD that died, its DELETE; of a DELETE, its ADD. So a row whose
partner is below its own seq is a DELETE, and `is_walked` needs nothing else to know what a walk leaves out.
"""

from collections.abc import Callable, Mapping, MutableMapping

from syncline_protocol.codec import encode_change
from syncline_protocol.cursor import Cursor, Lineage, Seq
from syncline_protocol.digest import digest_term
from syncline_protocol.index import IndexSet
from syncline_protocol.limits import BATCH_BYTES_TARGET, DEFAULT_LIMITS
from syncline_protocol.messages import OpResult, Status
from syncline_protocol.transaction import Op, Transaction

from .base import Head, Outcome, Row, Sizes, StoreInfo, Terms, Usage
from .decide import Balance, Bound, UsedKey, decide, decide_alone, is_refused_by_log, used_after

__all__ = ["SCAN_SEQS_MAX", "TRANSACTION_BYTES_MAX", "StagedStore", "is_walked"]

#: A walk that finds little to send ends a chunk after so many seqs, so that the cursor moves and nobody waits long.
SCAN_SEQS_MAX = 1000

#: A chunk that is just below its target takes one more transaction, and the sum has to fit into a frame beside the
#: envelope (below 4 KiB). With the limits of PROTOCOL 9 every WRITE that fits into a frame is smaller than this, if its
#: author's name has no more than 78 bytes.
TRANSACTION_BYTES_MAX = DEFAULT_LIMITS.batch_bytes_max - BATCH_BYTES_TARGET - 4096

_MASK = 0xFFFFFFFF

_NO_INDEXES = IndexSet({})
_NO_TERMS: Terms = {}


def is_walked(partner: Seq | None, deletes_to: Seq, upto: Seq) -> bool:
    """Return whether a walk up to `upto` sends the row with this partner: an ADD that lives then, or a DELETE of an
    ADD up to `deletes_to` (`Storage.read`).
    """
    return partner is None or partner > upto or partner <= deletes_to


class StagedStore:
    """One store in the course of one append.

    Args:
        info: the store, with the head of its log.
        used: what the log knows, at least of every key that the append names; it is updated.
        mint: makes the incarnation that the first commit starts, or None if the current one goes on.
        now_ms: the time of every change of this append.
        usage: what authors keep before the append, at least those of transactions with a quota.
        indexes: those of the store, by uid.
        text_bytes: how long the text is of each live record that an op deletes, if the store has a quota of bytes.

    `rows`, `partners` and, if there are indexes, `terms` run parallel; the terms of a DELETE are here if its ADD is,
    else the backend puts them there. `deaths` are (seq of ADD, seq of DELETE) of ADDs that were in the log before;
    `keys` are the keys that the append has used or changed; `usage_changes` is what it adds to the usage of authors.
    """

    __slots__ = (
        "_live_bytes", "_mint", "_now_ms", "_settings", "_terms_of", "_text_bytes", "_usage", "_used", "after", "count",
        "deaths", "digest", "keys", "lineage", "partners", "rows", "seq", "terms", "usage_changes",
    )  # fmt: skip

    def __init__(
        self,
        info: StoreInfo,
        used: MutableMapping[str, UsedKey],
        mint: Callable[[], str] | None,
        now_ms: int,
        usage: Mapping[str, Usage],
        indexes: IndexSet = _NO_INDEXES,
        text_bytes: Mapping[Seq, int] | None = None,
    ) -> None:
        head = info.head
        self.after = head.seq
        self.seq = head.seq
        self.count = head.count
        self.digest = head.digest
        self.lineage: Lineage = head.lineage
        self.rows: list[Row] = []
        self.partners: list[Seq | None] = []
        self.terms: list[Terms] = []
        self.deaths: list[tuple[Seq, Seq]] = []
        self.keys: dict[str, UsedKey] = {}
        self.usage_changes: dict[str, Usage] = {}
        self._used = used
        self._usage = usage
        self._mint = mint
        self._now_ms = now_ms
        self._terms_of = indexes.terms if indexes else None
        self._settings = info.settings
        self._live_bytes = info.sizes.live_bytes
        self._text_bytes = text_bytes or {}

    @property
    def head(self) -> Head:
        """The head that the append leaves."""
        return Head(self.seq, self.count, self.digest & _MASK, self.lineage)

    def take(self, transaction: Transaction) -> Outcome:
        """Decide one transaction and gather what it changes."""
        if transaction.single:
            return self._take_single(transaction)
        balance = self._balance_of(transaction)
        decision = decide(transaction, self._used, Seq(self.seq + 1), balance)
        ops = decision.commits
        if ops:
            now_ms, by = self._now_ms, transaction.by
            texts = [encode_change(Seq(seq), op.key, op.value, now_ms, by) for seq, op in enumerate(ops, self.seq + 1)]
            if transaction.atomic and sum(map(len, texts)) + len(texts) > TRANSACTION_BYTES_MAX:
                return _too_large(transaction)
            last_seq = Seq(self.seq + len(ops))
            for op, text in zip(ops, texts, strict=True):
                # Ops that are decided each alone are transactions of their own.
                self._commit(op, text, last_seq if transaction.atomic else None, by)
        at = None if decision.last_seq is None else self.lineage.cursor(decision.last_seq)
        head = None if decision.status in ("ok", "dup") else self._refused_at(decision.status, decision.results)
        return Outcome(decision.status, decision.results, decision.last_seq, at, head)

    def _take_single(self, transaction: Transaction) -> Outcome:
        # What `take` does for any transaction, in a third of the time: most writes are an ADD or DELETE alone.
        op = transaction.ops[0]
        seq = Seq(self.seq + 1)
        balance = self._balance_of(transaction)
        result = decide_alone(op, self._used.get(op.key), seq, balance)
        if result.status == "ok":
            text = encode_change(seq, op.key, op.value, self._now_ms, transaction.by)
            if len(text) >= TRANSACTION_BYTES_MAX:
                return _too_large(transaction)
            self._commit(op, text, None, transaction.by)
        if result.seq is None:
            return Outcome(result.status, (result,), head=self._refused_at(result.status, (result,)))
        return Outcome(result.status, (result,), result.seq, self.lineage.cursor(result.seq))

    def _refused_at(self, status: Status, results: tuple[OpResult, ...]) -> Cursor | None:
        """Name the head if the log was the reason. The name is final, as an append that has yet to mint begins its
        incarnation above the head.
        """
        return self.lineage.cursor(self.seq) if is_refused_by_log(status, results) else None

    def _balance_of(self, transaction: Transaction) -> Balance | None:
        """Return what is kept, if a quota of the author or of the store bounds it."""
        author, quota, settings = transaction.by, transaction.quota, self._settings
        own: Bound | None = None
        store: Bound | None = None
        if author is not None and quota is not None:
            usage = self._usage.get(author, Usage()) + self.usage_changes.get(author, Usage())
            own = Bound(quota.records_max, quota.bytes_max, usage, "of yours")
        if settings.records_max is not None or settings.bytes_max is not None:
            usage = Usage(self.count, self._live_bytes)
            store = Bound(settings.records_max, settings.bytes_max, usage, "of all its writers")
        if own is None and store is None:
            return None
        return Balance(author, own, store, lambda seq, op: self._text_bytes_of(seq, op, author))

    def _text_bytes_of(self, seq: Seq, op: Op | None, by: str | None) -> int:
        if self._settings.bytes_max is None:
            return 0
        if op is not None:
            return len(encode_change(seq, op.key, op.value, self._now_ms, by))
        return len(self.rows[seq - self.after - 1].text) if seq > self.after else self._text_bytes[seq]

    def _commit(self, op: Op, text: bytes, last_seq: Seq | None, by: str | None) -> None:
        """Add a row to a transaction that ends at `last_seq`, or with this row."""
        seq = Seq(self.seq + 1)
        if self._mint is not None:
            self.lineage = self.lineage.extended(self._mint(), seq)
            self._mint = None
        key = op.key
        known = self._used.get(key)
        self.rows.append(Row(seq, last_seq or seq, text))
        if op.value is not None:
            self.partners.append(None)
            if self._terms_of is not None:
                self.terms.append(self._terms_of(op.value))
            self.count += 1
            self.digest += digest_term(seq, key)
            self._live_bytes += len(text)
        else:
            assert known is not None, "only a record that is there is deleted"
            self._bury(known.add_seq, seq)
            self.count -= 1
            self._live_bytes -= self._text_bytes_of(known.add_seq, None, None)
            self.digest -= digest_term(known.add_seq, key)
        used = self._used[key] = self.keys[key] = used_after(op, known, seq, by)
        if used.by is not None:
            change = Usage(1, used.size) if op.value is not None else Usage(-1, -used.size)
            self.usage_changes[used.by] = self.usage_changes.get(used.by, Usage()) + change
        self.seq = seq

    def _bury(self, add_seq: Seq, delete_seq: Seq) -> None:
        """Join the row of a DELETE and that of its ADD, which is in this append or in the log."""
        self.partners.append(add_seq)
        place = add_seq - self.after - 1
        if self._terms_of is not None:
            self.terms.append(self.terms[place] if place >= 0 else _NO_TERMS)
        if place >= 0:
            self.partners[place] = delete_seq
        else:
            self.deaths.append((add_seq, delete_seq))

    def gone(self) -> list[Seq]:
        """Return the seqs that are no live records now: DELETEs, ADDs that died here, and older ADDs that did."""
        own = [row.seq for row, partner in zip(self.rows, self.partners, strict=True) if partner is not None]
        return own + [add_seq for add_seq, _ in self.deaths]

    def sizes_after(self, before: Sizes, died: Mapping[Seq, int]) -> Sizes:
        """Return the sizes of the store after the append.

        Args:
            before: those before it.
            died: the bytes of each ADD in `deaths`.
        """
        live, dead, dead_values, tombstones = (
            before.live_bytes,
            before.dead_bytes,
            before.dead_values,
            before.tombstones,
        )
        for row, partner in zip(self.rows, self.partners, strict=True):
            if partner is None:
                live += len(row.text)
            elif partner < row.seq:
                tombstones += 1
            else:
                dead_values += 1
                dead += len(row.text)
        lost = sum(died.values())
        return Sizes(live - lost, dead_values + len(died), dead + lost, tombstones)


def _too_large(transaction: Transaction) -> Outcome:
    result = OpResult("too_large", code="too_large", message="the transaction does not fit into one frame")
    if transaction.single:
        return Outcome("too_large", (result,))
    return Outcome("too_large", (OpResult("skipped"),) * len(transaction.ops))
