"""What can be read of a replica: records by key, all of them, and those that a filter or a function selects.

Everything is local, immediate and of one moment: what the server has, seen through the outbox. The base of `Replica`,
which adds writing and following.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator

from syncline_protocol.cursor import Seq
from syncline_protocol.filter import Filter, check_filter
from syncline_protocol.index import IndexKind, IndexSpec, TermRange, references_of, terms_of

from .database import Database
from .entry import SyncState
from .keeper import Keeper
from .local_index import LocalIndexes
from .record import LocalRecord, look, look_all
from .watch import Predicate

__all__ = ["Reading"]

#: Iterating reads so many records at once.
_PAGE = 1000

_EVERYTHING = TermRange()


class Reading(ABC):
    """The reading half of a replica.

    Args:
        database: open.
    """

    _keeper: Keeper

    def __init__(self, database: Database) -> None:
        self._database = database
        self._indexes = LocalIndexes(self.get, self.__iter__)

    @abstractmethod
    def _require_readable(self) -> None:
        """Raise if the replica is closed."""

    # --- reading ---

    def get(self, key: str) -> LocalRecord | None:
        """Return the record of a key, or None. Local and immediate, as all reads are."""
        self._require_readable()
        shadow = self._keeper.outbox.shadow(key)
        if shadow is not None and shadow.text is None:
            return None
        return look(key, self._database.get(key), shadow)

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and self.get(key) is not None

    def __len__(self) -> int:
        self._require_readable()
        count = self._keeper.shown_count
        for key, shadow in self._keeper.outbox.shadows():
            is_held = self._database.has(key)
            if shadow.text is not None and not is_held:
                count += 1
            elif shadow.text is None and is_held:
                count -= 1
        return count

    def __iter__(self) -> Iterator[LocalRecord]:
        """Iterate over the records by seq, then over those that the server does not have yet, as they were written.

        A loop without `await` sees one moment. One with `await` sees each record that is there throughout once.
        """
        self._require_readable()
        after = Seq(0)
        while rows := self._database.page(after, _PAGE):
            after = rows[-1].seq
            yield from look_all(rows, [(row.key, s) for row in rows if (s := self._keeper.outbox.shadow(row.key))])
            self._require_readable()
        fresh = [(key, shadow) for key, shadow in self._keeper.outbox.shadows() if not self._database.has(key)]
        yield from look_all((), fresh)

    def state(self, key: str) -> SyncState | None:
        """Return how far the newest write of a key has come, also a REJECTED one; None if there is no such key."""
        self._require_readable()
        shadow = self._keeper.outbox.shadow(key)
        entries = self._keeper.outbox.of_key(key)
        if entries and entries[-1].state is SyncState.REJECTED and (not shadow or shadow.entry.id < entries[-1].id):
            return SyncState.REJECTED
        if shadow is not None:
            return shadow.entry.state
        return SyncState.SYNCED if self._database.has(key) else None

    # --- finding ---

    def index(self, name: str, path: str, kind: IndexKind = "equality") -> None:
        """Have an index over the records that are held here, kept in memory as long as the replica is open.

        It need not be declared on the server, and one that is there needs to be declared here too.

        Args:
            name: what `find` calls it.
            path: a JSON Pointer into the value, as `/author/name`.
            kind: `equality`, `range` or `multi`, as those of the server.

        Raises:
            RemoteProtocolError: `index_invalid`.
        """
        self._require_readable()
        self._indexes.declare(IndexSpec(name, path, kind))

    def find(
        self,
        predicate: Predicate | None = None,
        *,
        prefix: str = "",
        filter: Filter | None = None,
        order_by: str | None = None,
        descending: bool = False,
        limit: int | None = None,
        offset: int = 0,
    ) -> list[LocalRecord]:
        """Return the records that fit, in the order of iteration unless another one is asked for.

        Args:
            predicate: says of a record whether it fits.
            prefix: only records whose keys begin so are looked at, which costs what they are, not what the replica is.
            filter: what a record has to have, in the words of the server's; its index was declared by `index`.
            order_by: an index by whose terms they are ordered; a record without a term in it is left out.
            descending: the last ones come first.
            limit: so many at most, after `offset` of them were left out.

        Raises:
            Misuse: there is no such index here.
            RemoteProtocolError: `filter_invalid`.
        """
        self._require_readable()
        records: Iterable[LocalRecord] = self._candidates(prefix, filter)
        if order_by is not None:
            places = {key: at for at, key in enumerate(self._keys_of(order_by, _EVERYTHING))}
            records = sorted([r for r in records if r.key in places], key=lambda record: places[record.key])
        found = [record for record in records if predicate is None or predicate(record)]
        if descending:
            found.reverse()
        return found[offset : None if limit is None else offset + limit]

    def count(self, filter: Filter | None = None) -> int:
        """Return how many records fit. Raises as `find`."""
        return len(self) if filter is None else len(self.find(filter=filter))

    def follow(self, record: LocalRecord | str, index: str) -> list[LocalRecord]:
        """Return the records whose keys stand in a record, or in that of a key, where the index looks."""
        self._require_readable()
        if isinstance(record, str):
            held = self.get(record)
            if held is None:
                return []
            record = held
        keys = references_of(self._indexes.spec(index), record.value)
        return [found for key in keys if (found := self.get(key)) is not None]

    def referrers(self, key: str, index: str) -> list[LocalRecord]:
        """Return the records in which a key stands where the index looks. Raises as `find`."""
        return self.find(filter=Filter(index=index, eq=key))

    def fitting(self, predicate: Predicate | None, wanted: Filter | None) -> Predicate | None:
        """Return what says of a record whether both fit. Raises as `find`."""
        if wanted is None:
            return predicate
        spec = None if wanted.index is None else self._indexes.spec(wanted.index)
        check_filter(wanted, None if spec is None else spec.kind)
        terms = wanted.term_range()

        def fits(record: LocalRecord) -> bool:
            if not record.key.startswith(wanted.key_prefix) or (predicate is not None and not predicate(record)):
                return False
            return spec is None or any(terms.has(term) for term in terms_of(spec, record.value))

        return fits

    def _candidates(self, prefix: str, wanted: Filter | None) -> Iterable[LocalRecord]:
        if wanted is not None:
            kind = None if wanted.index is None else self._indexes.spec(wanted.index).kind
            check_filter(wanted, kind)
            if not (prefix.startswith(wanted.key_prefix) or wanted.key_prefix.startswith(prefix)):
                return ()
            prefix = max(prefix, wanted.key_prefix, key=len)
            if wanted.index is not None:
                keys = [key for key in self._keys_of(wanted.index, wanted.term_range()) if key.startswith(prefix)]
                return sorted([r for key in keys if (r := self.get(key)) is not None], key=self._place_of)
        if not prefix:
            return self
        rows = sorted(self._database.with_prefix(prefix), key=lambda row: row.seq)
        return look_all(rows, self._keeper.outbox.shadows(prefix))

    def _keys_of(self, index: str, wanted: TermRange) -> list[str]:
        return self._indexes.keys(index, wanted)

    def _place_of(self, record: LocalRecord) -> tuple[bool, int, tuple[bool, int, int]]:
        """Return the place of a record in the order of iteration."""
        is_held = self._database.has(record.key)
        return (not is_held, record.seq or 0 if is_held else 0, self.written_order(record.key))

    def written_order(self, key: str) -> tuple[bool, int, int]:
        """Return the place of a key among those that the server does not have yet; for the watches."""
        shadow = self._keeper.outbox.shadow(key)
        return (False, 0, 0) if shadow is None else shadow.written_order
