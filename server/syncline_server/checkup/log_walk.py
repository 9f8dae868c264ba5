"""What the log of one store says of itself: a walk over its rows, in pieces, each row looked at once.

Owns what makes a row sound (its text, its partner, its transaction, its key in the record of used keys) and works out
what the file keeps beside the log: count, digest, sizes, usage, the set of live records, the terms of indexes. Memory
is bounded by a bit for each seq and a line for each author.
"""

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from hashlib import blake2b

import msgspec

from syncline_protocol.codec import decode_change
from syncline_protocol.cursor import Seq
from syncline_protocol.digest import digest_term
from syncline_protocol.index import IndexSet
from syncline_protocol.messages import Change
from syncline_protocol.transaction import hash_value
from syncline_server.storage.base import Sizes, StoreInfo, Terms, Usage
from syncline_server.storage.decide import UsedKey

from .finding import Faults

__all__ = ["LogFacts", "TermSum", "walk_log"]

_ROWS_AT_ONCE = 1000

_decode_terms = msgspec.msgpack.Decoder(dict[str, tuple[bytes, ...]]).decode


class TermSum:
    """A multiset of (term, seq) of any size, told from another one by its count and the sum of its members' hashes."""

    __slots__ = ("count", "total")

    def __init__(self) -> None:
        self.count = 0
        self.total = 0

    def add(self, term: bytes, seq: int) -> None:
        """Take one in."""
        self.count += 1
        self.total += int.from_bytes(blake2b(b"%d:" % seq + term, digest_size=8).digest())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TermSum) and (self.count, self.total) == (other.count, other.total)

    def __hash__(self) -> int:
        return hash((self.count, self.total))


@dataclass
class LogFacts:
    """What a walk has found.

    Attributes:
        live: a bit for each seq, bit `i % 8` of byte `i // 8` for the seq `i + 1`: whether it is a live record.
        live_bytes, dead_values, dead_bytes, tombstones: as `Sizes` has them.
        retained_values: dead records above the history floor whose value is there.
        retained_deletes: DELETEs above the tombstone floor that are there.
        index_sums: the terms of the live records, by the uid of the index.
        rows, keys, terms: what is wrong with rows, with their keys, and with the terms of DELETEs.
        last: the last row's seq; transactions_end: the end of its transaction.
    """

    live: bytearray
    index_sums: dict[str, TermSum]
    count: int = 0
    digest: int = 0
    live_bytes: int = 0
    dead_values: int = 0
    dead_bytes: int = 0
    tombstones: int = 0
    retained_values: int = 0
    retained_deletes: int = 0
    usage: dict[str, Usage] = field(default_factory=dict)
    rows: Faults = field(default_factory=Faults)
    keys: Faults = field(default_factory=Faults)
    terms: Faults = field(default_factory=Faults)
    last: int = 0
    transaction_end: int = 0
    looked_at: int = 0

    @property
    def sizes(self) -> Sizes:
        """What the store should say of its size."""
        return Sizes(self.live_bytes, self.dead_values, self.dead_bytes, self.tombstones)


#: seq, last seq of the transaction, partner, text, terms
_LogRow = tuple[int, int, int | None, bytes, bytes | None]


def walk_log(connection: sqlite3.Connection, store: int, info: StoreInfo, progress: Callable[[int], None]) -> LogFacts:
    """Look at every row. `progress` is called with the seq that was reached."""
    walk = _Walk(connection, store, info)
    for rows in _pieces(connection, store):
        walk.take(rows)
        progress(rows[-1][0])
    return walk.facts


def _pieces(connection: sqlite3.Connection, store: int) -> Iterator[list[_LogRow]]:
    sql = f"SELECT seq, last_seq, partner, CAST(change AS BLOB), terms FROM log_{store} ORDER BY seq"
    with closing(connection.execute(sql)) as found:
        while rows := found.fetchmany(_ROWS_AT_ONCE):
            yield rows


class _Walk:
    def __init__(self, connection: sqlite3.Connection, store: int, info: StoreInfo) -> None:
        self._connection = connection
        self._store = store
        self._info = info
        self._indexes = IndexSet({index.uid: index.spec for index in info.indexes})
        sums = {index.uid: TermSum() for index in info.indexes}
        self.facts = LogFacts(bytearray(-(-info.head.seq // 8)), sums)

    def take(self, rows: Sequence[_LogRow]) -> None:
        changes = [self._read(seq, text) for seq, _, _, text, _ in rows]
        used = self._used_keys([change.key for change in changes if change is not None])
        self._check_terms(rows, changes)
        for (seq, last_seq, partner, text, _), change in zip(rows, changes, strict=True):
            self.facts.looked_at += 1
            self._check_place(seq, last_seq)
            if change is None:
                continue
            known = used.get(change.key)
            if change.op == "ADD":
                self._take_add(seq, partner, text, change, known)
            else:
                self._take_delete(seq, partner, change, known)

    def _read(self, seq: int, text: bytes) -> Change | None:
        try:
            change = decode_change(text)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            self.facts.rows.add(f"change {seq} cannot be read: {error}")
            return None
        if change.seq != seq:
            self.facts.rows.add(f"change {seq} says that it is change {change.seq}")
        return change

    def _used_keys(self, keys: Sequence[str]) -> dict[str, UsedKey]:
        sql = f"""SELECT used.key, add_seq, delete_seq, hash, author, size FROM json_each(?) AS asked
                  CROSS JOIN keys_{self._store} AS used ON used.key = asked.value"""
        rows = self._connection.execute(sql, (msgspec.json.encode(keys).decode(),)).fetchall()
        return {
            key.decode(): UsedKey(Seq(add_seq), delete_seq, hash_, None if author is None else author.decode(), size)
            for key, add_seq, delete_seq, hash_, author, size in rows
        }

    def _check_place(self, seq: int, last_seq: int) -> None:
        facts = self.facts
        if seq <= facts.transaction_end and last_seq != facts.transaction_end:
            facts.rows.add(f"change {seq} is inside of the transaction that ends at {facts.transaction_end}")
        if not seq <= last_seq <= self._info.head.seq:
            facts.rows.add(f"the transaction of change {seq} ends at {last_seq}")
        facts.last, facts.transaction_end = seq, last_seq

    def _take_add(self, seq: int, partner: int | None, text: bytes, change: Change, known: UsedKey | None) -> None:
        facts = self.facts
        if not isinstance(change.value, msgspec.Raw):
            facts.rows.add(f"change {seq} is an ADD without a value")
            return
        value = bytes(change.value)
        self._check_key(seq, partner, change, known, hash_value(value))
        if partner is not None:
            facts.dead_values += 1
            facts.dead_bytes += len(text)
            facts.retained_values += partner > self._info.floors.history
            return
        facts.count += 1
        facts.digest += digest_term(Seq(seq), change.key)
        facts.live_bytes += len(text)
        if 1 <= seq <= self._info.head.seq:
            facts.live[seq - 1 >> 3] |= 1 << (seq - 1 & 7)
        if known is not None and known.by is not None:
            facts.usage[known.by] = facts.usage.get(known.by, Usage()) + Usage(1, known.size)
            if known.size != len(change.key.encode()) + len(value):
                facts.keys.add(f"the size of record {seq} is not {known.size}")
        for uid, terms in self._terms_of(change).items():
            for term in terms:
                facts.index_sums[uid].add(term, seq)

    def _check_key(self, seq: int, partner: int | None, change: Change, known: UsedKey | None, hash_: bytes) -> None:
        faults = self.facts.keys
        if known is None:
            faults.add(f"the key of record {seq} is not among the used keys")
        elif known.add_seq != seq:
            faults.add(f"the key of record {seq} is said to be that of record {known.add_seq}")
        elif known.delete_seq != partner:
            faults.add(f"record {seq} was deleted by {partner}, or by {known.delete_seq}")
        elif known.hash != hash_:
            faults.add(f"the value of record {seq} is not the one that its key stands for")
        # A store from before accounts has authors nowhere; the other way round one was forged or lost.
        elif known.by is not None and known.by != change.by:
            faults.add(f"record {seq} is by two authors")

    def _take_delete(self, seq: int, partner: int | None, change: Change, known: UsedKey | None) -> None:
        facts = self.facts
        facts.tombstones += 1
        facts.retained_deletes += seq > self._info.floors.tombstones
        if partner is None or partner >= seq:
            facts.rows.add(f"change {seq} is a DELETE and names no ADD before it")
        if known is None:
            facts.keys.add(f"the key that change {seq} deletes is not among the used keys")
        elif (known.add_seq, known.delete_seq) != (partner, seq):
            facts.keys.add(f"change {seq} deletes record {partner}, its key says record {known.add_seq}")

    # --- terms ---

    def _terms_of(self, change: Change) -> Terms:
        if not self._indexes or not isinstance(change.value, msgspec.Raw):
            return {}
        return self._indexes.terms(change.value)

    def _check_terms(self, rows: Sequence[_LogRow], changes: Sequence[Change | None]) -> None:
        """Look at the terms that DELETEs keep. Those whose record still has its value are worked out again."""
        kept: dict[int, tuple[int, Terms]] = {}
        for (seq, _, partner, _, packed), change in zip(rows, changes, strict=True):
            if packed is None:
                continue
            if change is None or change.op == "ADD":
                self.facts.terms.add(f"change {seq} is no DELETE, but has terms")
                continue
            try:
                kept[seq] = (partner or 0, _decode_terms(packed))
            except msgspec.MsgspecError as error:
                self.facts.terms.add(f"the terms of change {seq} cannot be read: {error}")
        if not kept or not self._indexes:
            return
        texts = self._texts_of([add_seq for add_seq, _ in kept.values()])
        for seq, (add_seq, terms) in kept.items():
            added = self._read(add_seq, texts[add_seq]) if add_seq in texts else None
            expected = {} if added is None else self._terms_of(added)
            # An index that was declared after the DELETE is not in it, and one that was dropped is not in `expected`.
            if any(terms[uid] != expected.get(uid) for uid in terms if added is not None and self._knows(uid)):
                self.facts.terms.add(f"the terms of change {seq} are not those of the record that it deletes")

    def _knows(self, uid: str) -> bool:
        return uid in self.facts.index_sums

    def _texts_of(self, seqs: Sequence[int]) -> dict[int, bytes]:
        sql = f"""SELECT seq, CAST(change AS BLOB) FROM json_each(?) AS asked
                  CROSS JOIN log_{self._store} ON seq = asked.value"""
        return dict(self._connection.execute(sql, (msgspec.json.encode(seqs).decode(),)).fetchall())
