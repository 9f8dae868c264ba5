"""How documents are named, and the keys of the records that they are made of. Pure.

    rooms                                   a collection
    rooms:0d4g…                             a document: collection, colon, id
    rooms/0d4g…/messages                    a collection below that document
    rooms/0d4g…/messages:0d4h…              a document in it

    rooms:0d4g…:                            the document's marker: while it lives, the document is there
    rooms:0d4g…:title                       the first value of an attribute
    rooms:0d4g…:title:0d4k…                 a later one

    rooms:0d4g…::0d4m…                      the marker of a document that was made again, after it was deleted
    rooms:0d4g…:title:0d4m…                 the first value of an attribute of that one

So the records of one document are neighbours among the keys (`rooms:0d4g…:`), those of all documents of a collection
too (`rooms:`), without what hangs below them, and so are the records of all that hangs below one (`rooms/0d4g…/`).
In the parts, what the keys use as punctuation, and what a key may not have, is percent-encoded. Each part has one
spelling only; a key with another one is no document's, so that nothing has two names.
"""

import re
from functools import lru_cache
from typing import NamedTuple

from syncline.errors import Misuse

__all__ = ["AttributeKey", "CollectionPath", "DocumentPath", "short_id", "split_key"]

_ENCODED = re.compile("[%/:\x00-\x1f\x7f\u2028\u2029]")
_DECODED = re.compile(r"(?:%[0-9A-F]{2})+")
_VERSION = re.compile("[0-9A-Za-z]+", re.ASCII)

#: Looking through a collection meets each document as often as it has attributes.
_PATHS_KEPT = 4096

#: Digits that sort as their values do; 26 of them hold 128 bits.
_DIGITS = "0123456789abcdefghijklmnopqrstuv"


def short_id(uuid: str) -> str:
    """Return a UUID as 26 characters that sort alike."""
    number = int(uuid.replace("-", ""), 16)
    return "".join([_DIGITS[number >> shift & 31] for shift in range(125, -1, -5)])


def encode_part(part: str, what: str) -> str:
    """Return a name or id as it stands in keys. Raises `Misuse` if it is empty or no text."""
    if not isinstance(part, str) or not part:
        raise Misuse(f"{part!r} cannot be {what}", hint="give a text of at least one character")
    if not part.isprintable() and any("\ud800" <= char <= "\udfff" for char in part):
        raise Misuse(f"{part!r} cannot be {what}", hint="it has half of a surrogate pair, which is no character")
    return _ENCODED.sub(lambda match: "".join(f"%{byte:02X}" for byte in match[0].encode()), part)


def decode_part(part: str) -> str:
    """Return what `encode_part` took."""
    return _DECODED.sub(lambda match: bytes.fromhex(match[0].replace("%", "")).decode(errors="replace"), part)


def _is_spelled(part: str) -> bool:
    """Whether a part, which has no slash or colon, is one that `encode_part` makes."""
    if "%" not in part:
        return bool(part) and (part.isprintable() or not _ENCODED.search(part))
    return encode_part(decode_part(part), "a part") == part


class CollectionPath(NamedTuple):
    """The path of a collection, as it stands in keys."""

    text: str

    @classmethod
    def top(cls, name: str) -> "CollectionPath":
        """Return the path of a collection that hangs below no document."""
        return cls(encode_part(name, "the name of a collection"))

    @property
    def name(self) -> str:
        """The name of the collection."""
        return decode_part(self.text.rpartition("/")[2])

    @property
    def prefix(self) -> str:
        """How the keys of all documents in it begin, and no others."""
        return self.text + ":"

    @property
    def above(self) -> "list[DocumentPath]":
        """The documents that it hangs below, the nearest first."""
        parts = self.text.split("/")
        return [
            DocumentPath(CollectionPath("/".join(parts[: at - 1])), parts[at - 1])
            for at in range(len(parts) - 1, 0, -2)
        ]

    @property
    def pattern(self) -> str:
        """The path with `*` for each id: what all collections have in common that have their place alike."""
        parts = self.text.split("/")
        return "/".join(["*" if at % 2 else part for at, part in enumerate(parts)])

    def document(self, document_id: str) -> "DocumentPath":
        """Return the path of a document in it."""
        return DocumentPath(self, encode_part(document_id, "the id of a document"))


class DocumentPath(NamedTuple):
    """The path of a document; `part` is its id as it stands in keys."""

    collection: CollectionPath
    part: str

    @staticmethod
    def parse(text: str) -> "DocumentPath | None":
        """Return the path that has this text, or None if none has."""
        return _parse(text)

    @property
    def text(self) -> str:
        """The path as one text; also what a reference holds."""
        return f"{self.collection.text}:{self.part}"

    @property
    def id(self) -> str:
        """The id of the document."""
        return decode_part(self.part)

    @property
    def prefix(self) -> str:
        """How the keys of its own records begin, and no others."""
        return self.text + ":"

    @property
    def prefix_below(self) -> str:
        """How the keys of all that hangs below it begin, and no others."""
        return f"{self.collection.text}/{self.part}/"

    @property
    def marker_prefix(self) -> str:
        """How the keys of its later markers begin; the first one's is `prefix`."""
        return self.prefix + ":"

    def below(self, name: str) -> CollectionPath:
        """Return the path of a collection below it."""
        return CollectionPath(self.prefix_below + encode_part(name, "the name of a collection"))

    def key(self, attribute: str, version: str = "") -> str:
        """Return the key of a value of an attribute; the empty name is the marker's.

        Args:
            version: of a later value, a text that nobody else makes. Of the first value, the version of the marker, so
                that rivals which set an attribute for the first time collide.
        """
        name = encode_part(attribute, "the name of an attribute") if attribute else ""
        return f"{self.prefix}{name}:{version}" if version else self.prefix + name


@lru_cache(_PATHS_KEPT)
def _parse(text: str) -> DocumentPath | None:
    collection, colon, part = text.rpartition(":")
    parts = collection.split("/")
    if not colon or len(parts) % 2 == 0 or "/" in part or ":" in collection:
        return None
    return DocumentPath(CollectionPath(collection), part) if all(_is_spelled(each) for each in (*parts, part)) else None


class AttributeKey(NamedTuple):
    """What a key says: of which document and attribute its record is a value. The marker's attribute is empty."""

    document: DocumentPath
    attribute: str
    version: str


def split_key(key: str) -> AttributeKey | None:
    """Take the key of a record apart; None if it is no part of a document."""
    parts = key.split(":")
    if len(parts) not in (3, 4):
        return None
    attribute, version = parts[2], parts[3] if len(parts) == 4 else ""
    if (attribute and not _is_spelled(attribute)) or "/" in attribute or (len(parts) == 4 and not _is_version(version)):
        return None
    document = DocumentPath.parse(f"{parts[0]}:{parts[1]}")
    return None if document is None else AttributeKey(document, decode_part(attribute), version)


def _is_version(text: str) -> bool:
    return _VERSION.fullmatch(text) is not None
