"""Indexes over the records of a replica, in memory: declared by the application, made from what is shown.

They have the words and the order of the server's (`syncline_protocol.index`), but need no server: what was written a
moment ago, offline, is found. One is made when it is first asked, from all records, and kept up key by key after that;
it takes about 200 bytes for each record and index, and goes with the replica.
"""

from bisect import bisect_left, insort
from collections.abc import Callable, Iterable

import msgspec

from syncline.errors import Misuse
from syncline_protocol.index import IndexSpec, TermRange, check_index, terms_of

from .record import LocalRecord

__all__ = ["LocalIndexes"]

_decode = msgspec.json.Decoder().decode


class _Index:
    """One index: its terms with their keys, in order, and the terms of each key."""

    def __init__(self, spec: IndexSpec, records: Iterable[LocalRecord]) -> None:
        self.spec = spec
        self._terms: dict[str, tuple[bytes, ...]] = {}
        for record in records:
            if terms := terms_of(spec, _decode(record.text)):
                self._terms[record.key] = terms
        self._pairs = sorted([(term, key) for key, terms in self._terms.items() for term in terms])

    def put(self, key: str, record: LocalRecord | None) -> None:
        """Take a key as it is now."""
        for term in self._terms.pop(key, ()):
            del self._pairs[bisect_left(self._pairs, (term, key))]
        terms = () if record is None else terms_of(self.spec, _decode(record.text))
        if terms:
            self._terms[key] = terms
        for term in terms:
            insort(self._pairs, (term, key))

    def keys(self, wanted: TermRange) -> list[str]:
        """Return the keys with a term in the range, by their terms, each once."""
        first = bisect_left(self._pairs, (wanted.first, ""))
        end = len(self._pairs) if wanted.end is None else bisect_left(self._pairs, (wanted.end, ""))
        return list(dict.fromkeys([key for _, key in self._pairs[first:end]]))


class LocalIndexes:
    """Args:
    get: returns the record of a key as it is shown.
    look: returns all records.
    """

    def __init__(self, get: Callable[[str], LocalRecord | None], look: Callable[[], Iterable[LocalRecord]]) -> None:
        self._get = get
        self._look = look
        self._specs: dict[str, IndexSpec] = {}
        self._made: dict[str, _Index] = {}
        self._touched: set[str] = set()

    def declare(self, spec: IndexSpec) -> None:
        """Have an index of this name; one that is there already and is another one is replaced.

        Raises:
            RemoteProtocolError: `index_invalid`.
        """
        if self._specs.get(spec.name) != check_index(spec):
            self._specs[spec.name] = spec
            self._made.pop(spec.name, None)

    def spec(self, name: str) -> IndexSpec:
        """Return what was declared. Raises Misuse if nothing was."""
        if name not in self._specs:
            raise Misuse(f"this replica has no index {name!r}", hint="declare it with replica.index(name, path, kind)")
        return self._specs[name]

    def touched(self, keys: frozenset[str] | None) -> None:
        """Note that records of these keys look different now; of any with None."""
        if keys is None:
            self._made.clear()
            self._touched.clear()
        elif self._made:
            self._touched.update(keys)

    def keys(self, name: str, wanted: TermRange) -> list[str]:
        """Return the keys of the records that have a term in the range, by their terms. Raises Misuse."""
        spec = self.spec(name)
        for key in self._touched:
            record = self._get(key)
            for index in self._made.values():
                index.put(key, record)
        self._touched.clear()
        if name not in self._made:
            self._made[name] = _Index(spec, self._look())
        return self._made[name].keys(wanted)
