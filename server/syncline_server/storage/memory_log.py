"""One store in memory: every rule of the contract in its plainest form, synchronous.

Rows and partners are kept by seq, as clean-up leaves holes. Indexes are not kept at all: what is asked for is looked up
among the live records each time.
"""

import bisect
from collections import ChainMap
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

import msgspec

from syncline_protocol.codec import decode_change
from syncline_protocol.cursor import Seq
from syncline_protocol.digest import digest_term
from syncline_protocol.index import IndexSet, IndexSpec, TermRange
from syncline_protocol.limits import BATCH_BYTES_TARGET
from syncline_protocol.seq_set import SeqSet

from .base import (
    Chunk,
    Commit,
    Compacted,
    Floors,
    Found,
    FoundRow,
    HistoryGone,
    Horizon,
    IndexInfo,
    IndexTaken,
    IndexUnknown,
    Place,
    Record,
    Row,
    StoreInfo,
    Summary,
    Terms,
    Usage,
)
from .decide import UsedKey
from .selection import Selector
from .staging import SCAN_SEQS_MAX, StagedStore, is_walked

__all__ = ["MemoryLog"]

_NO_TERMS: Terms = {}


class MemoryLog:
    """Args:
    info: the store, which is empty.
    """

    def __init__(self, info: StoreInfo) -> None:
        self.info = info
        self.mint_due = False
        self.rows: dict[Seq, Row] = {}
        self.partners: dict[Seq, Seq | None] = {}
        #: Of DELETEs, the terms of what they deleted.
        self.terms: dict[Seq, Terms] = {}
        self.used: dict[str, UsedKey] = {}
        self.usage: dict[str, Usage] = {}
        #: The seqs of `rows`, ascending.
        self._seqs: list[Seq] = []

    @property
    def indexes(self) -> IndexSet:
        """The indexes of the store, by uid."""
        return IndexSet({index.uid: index.spec for index in self.info.indexes})

    # --- appends ---

    def stage(self, mint: Callable[[], str], now_ms: int) -> StagedStore:
        """Return what one append works on."""
        used = ChainMap({}, self.used)
        is_bounded = self.info.settings.bytes_max is not None
        sizes = {seq: len(row.text) for seq, row in self.rows.items()} if is_bounded else {}
        mint_due = mint if self.mint_due else None
        return StagedStore(self.info, used, mint_due, now_ms, self.usage, self.indexes, sizes)

    def write(self, staged: StagedStore) -> Commit:
        """Take what an append has gathered."""
        indexes, died = self.indexes, dict[Seq, int]()
        for add_seq, delete_seq in staged.deaths:
            self.partners[add_seq] = delete_seq
            text = self.rows[add_seq].text
            died[add_seq] = len(text)
            if indexes:
                staged.terms[delete_seq - staged.after - 1] = _terms_of(indexes, text)
        for row, partner in zip(staged.rows, staged.partners, strict=True):
            self.rows[row.seq], self.partners[row.seq] = row, partner
            self._seqs.append(row.seq)
            if indexes and _is_delete(row.seq, partner):
                self.terms[row.seq] = staged.terms[row.seq - staged.after - 1]
        self.used.update(staged.keys)
        for author, change in staged.usage_changes.items():
            self.usage[author] = self.usage.get(author, Usage()) + change
        self.info = replace(self.info, head=staged.head, sizes=staged.sizes_after(self.info.sizes, died))
        self.mint_due = False
        rows, partners, terms = tuple(staged.rows), tuple(staged.partners), tuple(staged.terms)
        return Commit(self.info.name, self.info.store_id, staged.after, rows, partners, staged.head, terms)

    # --- along the log ---

    def _between(self, after: Seq, upto: Seq) -> Iterator[Row]:
        """Yield the rows of (after, upto] that are there."""
        start, end = bisect.bisect_right(self._seqs, after), bisect.bisect_right(self._seqs, upto)
        for seq in self._seqs[start:end]:
            yield self.rows[seq]

    def read(self, after: Seq, upto: Seq, *, deletes_to: Seq, selectors: Sequence[Selector]) -> Chunk:
        """Carry out `Storage.read`."""
        self._check(selectors)
        rows: list[Row] = []
        size = 0
        end, indexes = upto, self.indexes
        for looked, row in enumerate(self._between(after, upto)):
            if row.seq > end:
                break
            partner = self.partners[row.seq]
            if is_walked(partner, deletes_to, upto) and (not selectors or self._selects(selectors, row, indexes)):
                rows.append(row)
                size += len(row.text)
            if size >= BATCH_BYTES_TARGET or looked + 1 >= SCAN_SEQS_MAX:
                end = min(end, row.last_seq)
        return Chunk(after, end, tuple(rows), self.info.floors.tombstones)

    def _check(self, selectors: Sequence[Selector]) -> None:
        """Raise IndexUnknown if one of the selectors is about an index that was dropped."""
        known = {index.uid for index in self.info.indexes}
        for uid in {condition.index for selector in selectors for condition in selector.conditions} - known:
            raise IndexUnknown(self.info.name, uid)

    def _selects(self, selectors: Sequence[Selector], row: Row, indexes: IndexSet) -> bool:
        if _is_delete(row.seq, self.partners[row.seq]):
            terms = self.terms.get(row.seq, _NO_TERMS)
        else:
            terms = _terms_of(indexes, row.text) if indexes else _NO_TERMS
        key = decode_change(row.text).key
        return any(selector.selects(key, terms) for selector in selectors)

    def fetch(self, ranges: Sequence[tuple[Seq, Seq]], upto: Seq) -> tuple[Row, ...]:
        """Carry out `Storage.fetch`."""
        rows: list[Row] = []
        size = 0
        for first, last in ranges:
            for row in self._between(Seq(first - 1), Seq(min(last, upto))):
                if size >= BATCH_BYTES_TARGET:
                    return tuple(rows)
                if is_walked(self.partners[row.seq], Seq(0), upto):
                    rows.append(row)
                    size += len(row.text)
        return tuple(rows)

    def position_at(self, time_ms: int) -> Seq:
        """Carry out `Storage.position_at`."""
        low, high = Seq(0), self.info.head.seq
        while low < high:
            middle = Seq((low + high) // 2)
            row = self.rows[self._seqs[bisect.bisect_right(self._seqs, middle)]]
            if decode_change(row.text).time <= time_ms:
                low = row.last_seq
            else:
                high = middle
        return low

    # --- what lives ---

    def living(self, selectors: Sequence[Selector], upto: Seq) -> Iterator[Row]:
        """Yield the rows of records that live at `upto` and are selected, in the order of their seqs."""
        self._check(selectors)
        indexes = self.indexes
        for row in self._between(Seq(0), upto):
            if is_walked(self.partners[row.seq], Seq(0), upto) and (
                not selectors or self._selects(selectors, row, indexes)
            ):
                yield row

    def live_set(self, upto: Seq, selectors: Sequence[Selector]) -> SeqSet:
        """Carry out `Storage.live_set`."""
        return SeqSet.of([row.seq for row in self.living(selectors, upto)])

    def summary(self, selectors: Sequence[Selector], upto: Seq) -> Summary:
        """Carry out `Storage.summary`."""
        terms = [digest_term(row.seq, decode_change(row.text).key) for row in self.living(selectors, upto)]
        return Summary(len(terms), sum(terms) % 2**32)

    def get(self, key: str, at: Seq | None) -> Record | None:
        """Carry out `Storage.get`."""
        if at is not None and at < self.info.floors.history:
            raise HistoryGone(self.info.name, at, self.info.floors.history)
        known = self.used.get(key)
        upto = self.info.head.seq if at is None else at
        if known is None or known.add_seq > upto or not is_walked(known.delete_seq, Seq(0), upto):
            return None
        return Record(known.add_seq, self.rows[known.add_seq].text)

    # --- finding ---

    def find(self, index: str | None, terms: TermRange, after: Place | None, *, descending: bool, limit: int) -> Found:
        """Carry out `Storage.find`."""
        rows = sorted(self._found(index, terms), key=lambda row: (row.term, row.seq), reverse=descending)
        if after is not None:
            place = (after.term, after.seq)
            rows = [row for row in rows if ((row.term, row.seq) < place if descending else (row.term, row.seq) > place)]
        size, chosen = 0, list[FoundRow]()
        for row in rows:
            if len(chosen) == limit or size >= BATCH_BYTES_TARGET:
                return Found(tuple(chosen), self.info.head, is_last=False)
            chosen.append(row)
            size += len(row.text)
        return Found(tuple(chosen), self.info.head, is_last=True)

    def count(self, index: str | None, terms: TermRange) -> int:
        """Carry out `Storage.count`."""
        return len({row.seq for row in self._found(index, terms)})

    def _found(self, index: str | None, terms: TermRange) -> Iterator[FoundRow]:
        info = None if index is None else self.info.index(index)
        own = None if info is None else IndexSet({info.uid: info.spec})
        for row in self.living((), self.info.head.seq):
            if own is None or info is None:
                of_row: Iterable[bytes] = (decode_change(row.text).key.encode(),)
            else:
                of_row = _terms_of(own, row.text).get(info.uid, ())
            for term in of_row:
                if terms.has(term):
                    yield FoundRow(term, row.seq, row.text)

    # --- indexes ---

    def create_index(self, spec: IndexSpec, mint: Callable[[], str], now_ms: int) -> tuple[IndexInfo, bool]:
        """Carry out `Storage.create_index`. Nothing has to be built."""
        for known in self.info.indexes:
            if known.spec == spec:
                return known, False
            if known.spec.name == spec.name:
                raise IndexTaken(self.info.name, known.spec)
        made = IndexInfo(mint(), spec, "ready", self.info.head.seq, now_ms)
        self.info = replace(self.info, indexes=(*self.info.indexes, made))
        return made, True

    def drop_index(self, name: str) -> IndexInfo:
        """Carry out `Storage.drop_index`."""
        dropped = self.info.index(name)
        self.info = replace(self.info, indexes=tuple([index for index in self.info.indexes if index is not dropped]))
        return dropped

    # --- clean-up ---

    def _deletes(self, after: Seq, upto: Seq) -> list[Row]:
        """Return the DELETEs of the whole transactions in (after, upto]."""
        return [
            row
            for row in self._between(after, upto)
            if _is_delete(row.seq, self.partners[row.seq]) and row.last_seq <= upto
        ]

    def _plan(self, horizon: Horizon) -> tuple[list[Seq], list[Seq], Floors]:
        """Return the ADDs and DELETEs that clean-up takes, and the floors that it leaves."""
        floors = self.info.floors
        values = self._deletes(floors.history, horizon.values)
        history = values[-1].last_seq if values else floors.history
        upto = Seq(min(horizon.tombstones, history, self.info.head.seq - 1))
        tombstones = self._deletes(floors.tombstones, upto)
        floor = tombstones[-1].last_seq if tombstones else floors.tombstones
        adds = [partner for row in values if (partner := self.partners[row.seq]) is not None]
        return adds, [row.seq for row in tombstones], Floors(history, floor)

    def compact(self, horizon: Horizon) -> Compacted:
        """Carry out `Storage.compact`, in one step."""
        done = self.estimate(horizon)
        values, tombstones, floors = self._plan(horizon)
        sizes = self.info.sizes
        of_values = sum([len(self.rows[seq].text) for seq in values])
        gone = {*values, *tombstones}
        for seq in gone:
            del self.rows[seq], self.partners[seq]
            self.terms.pop(seq, None)
        self._seqs = [seq for seq in self._seqs if seq not in gone]
        sizes = msgspec.structs.replace(
            sizes,
            dead_values=sizes.dead_values - len(values),
            dead_bytes=sizes.dead_bytes - of_values,
            tombstones=sizes.tombstones - len(tombstones),
        )
        self.info = replace(self.info, floors=floors, sizes=sizes)
        return replace(done, is_done=True)

    def estimate(self, horizon: Horizon) -> Compacted:
        """Carry out `Storage.estimate`."""
        values, tombstones, floors = self._plan(horizon)
        size = sum([len(self.rows[seq].text) for seq in (*values, *tombstones)])
        return Compacted(len(values), len(tombstones), size, not values and not tombstones, floors)


def _is_delete(seq: Seq, partner: Seq | None) -> bool:
    return partner is not None and partner < seq


def _terms_of(indexes: IndexSet, text: bytes) -> Terms:
    value = decode_change(text).value
    assert isinstance(value, msgspec.Raw), "an ADD has a value"
    return indexes.terms(value)
