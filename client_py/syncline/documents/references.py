"""Which documents refer to another one: found among the records of a replica, by what stands in their values.

It looks at the text of every record, about a second for a million, and decodes only what has the path in it. An
attribute that was set anew counts as it stands now, so a reference that was replaced is none.
"""

from typing import Any, Protocol

import msgspec

from syncline.replica.record import LocalRecord

from .assemble import assemble
from .attribute import Ref
from .path import DocumentPath, split_key

__all__ = ["Records", "referring"]

_decode = msgspec.json.Decoder().decode


class Records(Protocol):
    """A replica, as far as it is looked at."""

    def find(self, predicate: Any = None, *, prefix: str = "") -> list[LocalRecord]:
        """Return the records that fit."""

    def records(self, prefix: str) -> list[LocalRecord]:
        """Return the records whose keys begin so."""


def referring(records: Records, ref: Ref) -> list[DocumentPath]:
    """Return the documents with an attribute in which a reference stands, at whatever depth, in their order."""
    named = records.find(lambda record: ref.path in record.text and _has(_decode(record.text), ref.path))
    keys = [split_key(record.key) for record in named]
    paths = dict.fromkeys([key.document for key in keys if key is not None and key.attribute])
    return [path for path in paths if _refers(records, path, ref)]


def _refers(records: Records, path: DocumentPath, ref: Ref) -> bool:
    found = assemble(path, records.records(path.prefix))
    return found.exists and any(_has(_decode(text), ref.path) for text in found.texts.values())


def _has(value: object, path: str) -> bool:
    if isinstance(value, dict):
        return value == {"$ref": path} or any(_has(each, path) for each in value.values())
    return isinstance(value, list) and any(_has(each, path) for each in value)
