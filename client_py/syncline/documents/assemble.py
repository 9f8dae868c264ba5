"""Documents put together from their records. Pure.

Of an attribute one record lives, as each replaces the one before; if several do (rivals whose histories were lost and
came back), the one with the highest seq counts, for everybody, and one that is still in our outbox counts above all.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from syncline.replica.entry import SyncState
from syncline.replica.record import LocalRecord

from .path import DocumentPath, split_key

__all__ = ["MARKER", "NULL", "Assembled", "assemble", "assemble_all"]

#: The marker's attribute.
MARKER = ""

#: The value of an attribute that was unset.
NULL = "null"


@dataclass(slots=True)
class Assembled:
    """One document as it is.

    Attributes:
        versions: the live records of each attribute, the one that counts last; the marker's under the empty name.
    """

    path: DocumentPath
    versions: dict[str, list[LocalRecord]] = field(default_factory=dict)

    @property
    def exists(self) -> bool:
        """Whether its marker lives."""
        return MARKER in self.versions

    @property
    def marker_version(self) -> str:
        """The version in the key of its marker; of the oldest, if two made it at once."""
        markers = self.versions.get(MARKER)
        key = split_key(markers[0].key) if markers else None
        return key.version if key is not None else ""

    @property
    def texts(self) -> dict[str, str]:
        """The value of each attribute that is set, as JSON text."""
        counting = {name: records[-1].text for name, records in self.versions.items() if name}
        return {name: text for name, text in counting.items() if text != NULL}

    @property
    def state(self) -> SyncState:
        """PENDING if anything of it is, else ACKED if anything is, else SYNCED."""
        states = {record.state for records in self.versions.values() for record in records}
        return next((s for s in (SyncState.PENDING, SyncState.ACKED) if s in states), SyncState.SYNCED)


def assemble(path: DocumentPath, records: Iterable[LocalRecord]) -> Assembled:
    """Put one document together from the records below its prefix; pending ones come last, as they were written."""
    return assemble_all(records).get(path) or Assembled(path)


def assemble_all(records: Iterable[LocalRecord]) -> dict[DocumentPath, Assembled]:
    """Put documents together from the records of a collection, in the order of their ids."""
    documents: dict[DocumentPath, Assembled] = {}
    several: list[list[LocalRecord]] = []
    for record in records:
        key = split_key(record.key)
        if key is None:
            continue
        document = documents.get(key.document)
        if document is None:
            document = documents[key.document] = Assembled(key.document)
        versions = document.versions.setdefault(key.attribute, [])
        versions.append(record)
        if len(versions) == 2:
            several.append(versions)
    for versions in several:
        versions.sort(key=_rank)
    return dict(sorted(documents.items()))


def _rank(record: LocalRecord) -> tuple[bool, int]:
    # Sorting is stable: records without a seq are in the order in which they were written.
    return (record.state is SyncState.PENDING, record.seq or 0)
