"""Finding records: from a filter and what somebody may see to one page of records, and where the next one begins.

A page is put together from pieces, each of which is a short read, so a large one holds neither a reader nor the event
loop. It is bounded in records, in bytes and in what is looked at for it. The same for FIND (PROTOCOL 15.3) and HTTP.

What the asker does not see must not show in a page. Where much of it lies between what he sees, the page is worked out
once more, from what he sees alone, and is the same that it would be without the rest. Only where that is too much as
well does a page end before it is full.

Where a page ends may be a record that the asker does not see, so `next` is sealed: it is unreadable, bound to the
filter, the order and the index, and one that was altered is recognised. The key is made of what no client is told, the
uid of the index; what is asked for by keys alone ends with a record that is seen.
"""

import asyncio
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import accumulate

import msgspec

from syncline_protocol.codec import decode_change
from syncline_protocol.cursor import Cursor, Seq
from syncline_protocol.errors import CursorInvalid
from syncline_protocol.filter import Filter, check_filter
from syncline_protocol.index import IndexSet, TermRange
from syncline_protocol.limits import FOUND_BYTES_TARGET, SEQ_MAX

from .access.view import View
from .storage.base import FoundRow, Head, IndexBuilding, IndexInfo, Place, Row, Storage, StoreInfo
from .storage.selection import Condition, Selector, key_ranges

__all__ = ["FoundPage", "Query", "find"]

#: One piece is a read of so many records at most, and of as much text as a batch.
_PIECE_ROWS = 500

#: So much is looked at for one page, whether it is seen or not; then it ends, also without any record.
_LOOKED_ROWS_MAX = 20_000
_LOOKED_BYTES_MAX = 4 * FOUND_BYTES_TARGET

#: So many pieces of what is seen are gone through for a page that could not be found in the order of the index.
_SEEN_PIECES_MAX = 64

_MAC_BYTES = 12
_SEQ_BYTES = 8
_PAGE_CHARS_MAX = 1024


@dataclass(frozen=True, slots=True)
class Query:
    """What is asked for.

    Attributes:
        filter: which records; None: all that are seen.
        limit: how many at most, from 1 on.
        page: `next` of the page before.
        counts: whether to say how many there are in all.
    """

    filter: Filter | None = None
    descending: bool = False
    limit: int = 100
    page: str | None = None
    counts: bool = False


@dataclass(frozen=True, slots=True)
class FoundPage:
    """ADDs as BATCH carries them, the position that was looked at, and what to ask for as `page` next."""

    texts: Sequence[bytes]
    at: Cursor
    next: str | None
    count: int | None


async def find(storage: Storage, store: str, granted: View, query: Query) -> FoundPage:
    """Return a page of what was found.

    Args:
        granted: what the asker's rights show.

    Raises:
        RemoteProtocolError: `filter_invalid`, or `cursor_invalid` for the page.
        StorageError: the store or index is not there, or the index is not complete yet.
    """
    search = _Search(await storage.info(store), granted, query)
    count = await search.count(storage) if query.counts else None
    head = await search.run(storage)
    at = head.lineage.cursor(head.seq, search.seen.token)
    return FoundPage(granted.texts([row.text for row in search.rows]), at, search.following(), count)


class _Search:
    """One search: what is looked at, what was found, where it stands.

    Attributes:
        seen: what the asker sees of what the filter selects.
        rows: what was found.
    """

    def __init__(self, info: StoreInfo, granted: View, query: Query) -> None:
        wanted = query.filter or Filter()
        index = None if wanted.index is None else _complete(info, wanted)
        self._info = info
        self._query = query
        self._index = wanted.index
        allowed = granted.resolved(info.indexes).narrowed(Selector(wanted.key_prefix))
        if index is None:
            self.seen = allowed
            self._ranges = _ranges_of(allowed)
            # The ranges have the prefixes of the view already.
            self._sifts = bool(allowed.indexes)
        else:
            terms = wanted.term_range()
            self.seen = allowed.narrowed(Selector(conditions=(Condition(index.uid, terms),)))
            self._ranges = [] if terms.is_empty else [terms]
            self._sifts = not allowed.is_whole
        self._allowed = allowed
        self._shows = allowed.sieve(info.indexes)
        self._seal = _Seal(info.store_id, index, allowed, wanted, descending=query.descending)
        self._spec = None if index is None else (index.uid, index.spec)
        self._start = None if query.page is None else self._seal.open(query.page)
        self._place = self._start
        self._end: Place | None = None
        self._has_more = False
        self.rows: list[FoundRow] = []

    async def count(self, storage: Storage) -> int:
        """Return how many records there are in all."""
        count = await self._count_in(storage, self._index, self._ranges)
        if not self._sifts:
            return count
        # What is narrower is looked through, in short reads: what the index has, or what may be seen by its key.
        own = _ranges_of(self._allowed)
        if self._index is None or await self._count_in(storage, None, own) < count:
            return await self._count_seen(storage, None, own, self.seen)
        return await self._count_seen(storage, self._index, self._ranges, self._allowed)

    async def _count_in(self, storage: Storage, index: str | None, ranges: Sequence[TermRange]) -> int:
        return sum([await storage.count(self._info.name, index, terms) for terms in ranges])

    async def _count_seen(self, storage: Storage, index: str | None, ranges: Sequence[TermRange], view: View) -> int:
        """Look through everything in the ranges, and count what a view shows of it, each record once."""
        count, shows = 0, view.sieve(self._info.indexes)
        is_multi = index is not None and self._info.index(index).spec.kind == "multi"
        counted: set[Seq] = set()
        for terms in ranges:
            place: Place | None = None
            is_last = False
            while not is_last:
                piece = await storage.find(self._info.name, index, terms, after=place, limit=_PIECE_ROWS)
                is_last = piece.is_last
                seen = [row.seq for row in piece.rows if shows(row.text)]
                count += len(seen)
                if is_multi:
                    counted.update(seen)
                if piece.rows:
                    place = Place(piece.rows[-1].term, piece.rows[-1].seq)
                await asyncio.sleep(0)
        return len(counted) if is_multi else count

    async def run(self, storage: Storage) -> Head:
        """Find the records of the page. Returns the head of the first piece."""
        head: Head | None = None
        looked_rows = looked_bytes = 0
        for terms in self._ranges if not self._query.descending else self._ranges[::-1]:
            is_last = False
            while not is_last and not self._has_more:
                piece = await storage.find(
                    self._info.name,
                    self._index,
                    terms,
                    after=self._place,
                    descending=self._query.descending,
                    limit=_PIECE_ROWS if self._sifts else min(_PIECE_ROWS, self._query.limit + 1 - len(self.rows)),
                )
                is_last, head = piece.is_last, head or piece.head
                self._take(piece.rows)
                looked_rows += len(piece.rows)
                looked_bytes += sum([len(row.text) for row in piece.rows])
                is_much = looked_rows >= _LOOKED_ROWS_MAX or looked_bytes >= _LOOKED_BYTES_MAX
                if not is_last and not self._has_more and is_much:
                    if self._sifts and await self._gather(storage, head):
                        return head
                    self._stop()
                await asyncio.sleep(0)
        return head or (await storage.info(self._info.name)).head

    async def _gather(self, storage: Storage, head: Head) -> bool:
        """Find the page in what is seen, wherever that lies. Returns False if this is too much to go through."""
        found: list[FoundRow] = []
        after = Seq(0)
        for _ in range(_SEEN_PIECES_MAX):
            chunk = await storage.read(
                self._info.name, after, head.seq, deletes_to=Seq(0), selectors=self.seen.selectors
            )
            found = self._first([*found, *[place for row in chunk.rows for place in self._found_by(row)]])
            after = chunk.to
            if after >= head.seq:
                self.rows, self._sifts = [], False
                self._take(found)
                return True
            await asyncio.sleep(0)
        return False

    def _found_by(self, row: Row) -> list[FoundRow]:
        """Return the terms by which a record that is seen is found behind the page before."""
        change = decode_change(row.text)
        if self._spec is None:
            terms: tuple[bytes, ...] = (change.key.encode(),)
        else:
            assert isinstance(change.value, msgspec.Raw), "a live record has a value"
            terms = IndexSet([self._spec]).terms(change.value).get(self._spec[0], ())
        found = [FoundRow(term, row.seq, row.text) for term in terms if any(own.has(term) for own in self._ranges)]
        start = self._start
        if start is None:
            return found
        behind = (start.term, start.seq)
        is_down = self._query.descending
        return [it for it in found if ((it.term, it.seq) < behind if is_down else (it.term, it.seq) > behind)]

    def _first(self, rows: list[FoundRow]) -> list[FoundRow]:
        """Return those that a page begins with, and one more if it has no room for all."""
        rows.sort(key=lambda row: (row.term, row.seq), reverse=self._query.descending)
        sizes = accumulate([len(row.text) for row in rows])
        fitting = next((at + 2 for at, size in enumerate(sizes) if size >= FOUND_BYTES_TARGET), len(rows))
        return rows[: min(fitting, self._query.limit + 1)]

    def _take(self, rows: Sequence[FoundRow]) -> None:
        size = sum([len(row.text) for row in self.rows])
        for row in rows:
            self._place = Place(row.term, row.seq)
            if self._sifts and not self._shows(row.text):
                continue
            if len(self.rows) == self._query.limit or size >= FOUND_BYTES_TARGET:
                # One more is looked for, as what is not seen must not look as if there were more.
                self._has_more = True
                return
            self.rows.append(row)
            self._end = self._place
            size += len(row.text)

    def _stop(self) -> None:
        """End the page where it stands, unless it is known already that there is more."""
        if not self._has_more:
            self._has_more = True
            self._end = self._place

    def following(self) -> str | None:
        """Return what to ask for next; None at the end."""
        if not self._has_more:
            return None
        assert self._end is not None, "what has more has looked at something"
        return self._seal.close(self._end)


def _complete(info: StoreInfo, wanted: Filter) -> IndexInfo:
    assert wanted.index is not None
    index = info.index(wanted.index)
    check_filter(wanted, index.spec.kind)
    if index.state != "ready":
        raise IndexBuilding(info.name, wanted.index, index.done, info.head.seq)
    return index


def _ranges_of(view: View) -> list[TermRange]:
    """Return the ranges in which the keys lie that a view shows, in their order."""
    ranges = key_ranges([selector.prefix for selector in view.selectors])
    return [TermRange(first.encode(), None if end is None else end.encode()) for first, end in ranges]


class _Seal:
    """Turns places into what a client is given, and back. The same place is always the same text."""

    def __init__(self, store_id: str, index: IndexInfo | None, view: View, wanted: Filter, *, descending: bool) -> None:
        uids = [*([] if index is None else [index.uid]), *sorted(view.indexes)]
        self._key = blake2b(msgspec.json.encode((store_id, uids, wanted, descending)), person=b"page").digest()
        self._is_of_keys = index is None

    def close(self, place: Place) -> str:
        plain = place.seq.to_bytes(_SEQ_BYTES) + place.term
        mac = blake2b(plain, digest_size=_MAC_BYTES, key=self._key).digest()
        return urlsafe_b64encode(mac + self._mask(plain, mac)).rstrip(b"=").decode()

    def open(self, page: str) -> Place:
        """Raises CursorInvalid."""
        try:
            sealed = urlsafe_b64decode(page.encode("ascii") + b"=" * (-len(page) % 4))
        except ValueError:
            sealed = b""
        mac, masked = sealed[:_MAC_BYTES], sealed[_MAC_BYTES:]
        plain = self._mask(masked, mac) if len(page) <= _PAGE_CHARS_MAX else b""
        place = Place(plain[_SEQ_BYTES:], Seq(int.from_bytes(plain[:_SEQ_BYTES])))
        # Base64 has several spellings of some bytes; only ours is taken.
        if len(plain) < _SEQ_BYTES or self.close(place) != page or not self._is_sound(place):
            raise CursorInvalid("`page` is not the `next` of a page of this filter, order and index")
        return place

    def _is_sound(self, place: Place) -> bool:
        """Return whether a storage can be asked to go on there: the seal of keys is made of what clients know."""
        try:
            return place.seq <= SEQ_MAX and (not self._is_of_keys or bool(place.term.decode()))
        except UnicodeDecodeError:
            return False

    def _mask(self, text: bytes, mac: bytes) -> bytes:
        """Return a text with a stream of bytes laid over it, which the mac begins; doing so twice gives it back."""
        blocks = [
            blake2b(mac + number.to_bytes(4), key=self._key, person=b"mask").digest()
            for number in range(-(-len(text) // 64))
        ]
        return bytes([one ^ other for one, other in zip(text, b"".join(blocks), strict=False)])
