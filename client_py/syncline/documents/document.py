"""A document: attributes that can be set, made of records that never change.

A `Document` shows the document as it was when it was read; what is set through it shows at once, and `refresh` reads
again. Watches give new ones when something changed.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from syncline.errors import DocumentGone, Misuse
from syncline.replica.entry import SyncState
from syncline.replica.write import Write

from .assemble import Assembled
from .attribute import Ref, decode_attribute
from .path import DocumentPath

if TYPE_CHECKING:
    from .collection import Collection
    from .policies import OnConflict

__all__ = ["Document"]

T = TypeVar("T")
V = TypeVar("V")


class Document(Generic[T]):
    """One document of a collection; made by its `Collection`."""

    def __init__(self, collection: "Collection[T]", assembled: Assembled) -> None:
        self._collection = collection
        self._path = assembled.path
        self._seen = assembled
        # What is being set through it, in that order: whoever sets it again has seen that.
        self._under_way: list[Mapping[str, str]] = []

    # --- looking ---

    @property
    def id(self) -> str:
        """Its id in its collection."""
        return self._path.id

    @property
    def path(self) -> str:
        """Its path in the store: `rooms:0d4g…`."""
        return self._path.text

    @property
    def ref(self) -> Ref:
        """A reference to it, to be kept in another document."""
        return Ref(self.path)

    @property
    def exists(self) -> bool:
        """Whether it was there when it was read."""
        return self._seen.exists

    @property
    def state(self) -> SyncState:
        """PENDING while the server lacks anything of it that is written here, then ACKED, then SYNCED."""
        return self._seen.state

    @property
    def attributes(self) -> dict[str, Any]:
        """The attributes that are set."""
        return {name: decode_attribute(text) for name, text in sorted(self._seen.texts.items())}

    def get(self, attribute: str, default: V | None = None) -> Any | V | None:
        """Return an attribute, or `default` if it is not set."""
        text = self._seen.texts.get(attribute)
        return default if text is None else decode_attribute(text)

    def __getitem__(self, attribute: str) -> Any:
        text = self._seen.texts.get(attribute)
        if text is None:
            raise KeyError(attribute)
        return decode_attribute(text)

    def __contains__(self, attribute: object) -> bool:
        return attribute in self._seen.texts

    @property
    def value(self) -> T:
        """The document as an object of the collection's type.

        Raises:
            DocumentMismatch: its attributes do not fit the type.
            Misuse: the collection has no type.
        """
        shape = self._collection.shape
        if shape is None:
            raise Misuse(f"{self.path}: the collection has no type", hint="give one: replica.collection(name, type=…)")
        return shape.read(self.path, self._seen.texts)

    def refresh(self) -> "Document[T]":
        """Read it again. Returns itself."""
        self._seen = self._collection.assembled(self._path)
        return self

    # --- changing ---

    async def set(self, attributes: Mapping[str, Any] | None = None, /, **more: Any) -> Write:
        """Give attributes new values, all or none; `None` unsets one. Returns once that is stored locally.

        If somebody else has set the same attribute since the document was read, or does so before the write arrives,
        the collection's `on_conflict` decides; other attributes are none of each other's business.

        Raises:
            DocumentGone: it is not there.
            DocumentMismatch: with these values it would not fit the collection's type.
            WriteRefused: a value cannot be said in JSON, or is too large.
        """
        texts = self._collection.texts_of(self._path, {**(attributes or {}), **more})
        seen = dict(self._seen.texts)
        for earlier in self._under_way:
            seen.update(earlier)
        self._under_way.append(texts)
        try:
            write = await self._collection.set(self._path, texts, seen)
        finally:
            self._under_way.remove(texts)
        self.refresh()
        return write

    async def unset(self, *attributes: str) -> Write:
        """Take attributes away. Otherwise as `set`."""
        return await self.set(dict.fromkeys(attributes))

    async def delete(self) -> Write:
        """Delete it and all documents below it. Returns once that is stored locally.

        It is gone at once, for others as soon as the first of the transactions has arrived that this takes. A change
        that somebody makes to it meanwhile is dropped.

        Raises:
            DocumentGone: it is not there.
        """
        write = await self._collection.delete(self._path)
        self.refresh()
        return write

    @overload
    def collection(
        self, name: str, *, type: None = None, on_conflict: "OnConflict | None" = None
    ) -> "Collection[Any]": ...

    @overload
    def collection(self, name: str, *, type: type[V], on_conflict: "OnConflict | None" = None) -> "Collection[V]": ...

    def collection(
        self, name: str, *, type: type[Any] | None = None, on_conflict: "OnConflict | None" = None
    ) -> "Collection[Any]":
        """Return the collection of this name below it. Its documents go when this one is deleted."""
        return self._collection.below(self._path, name, type, on_conflict)

    async def stored(self, timeout: float | None = None) -> None:
        """Wait until the server has everything of it that was written here. Raises as `Write.stored`."""
        await self._collection.stored(self._path, timeout)

    def require_existing(self) -> "Document[T]":
        """Return itself. Raises `DocumentGone` if it is not there."""
        if not self.exists:
            raise DocumentGone(self.path)
        return self

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Document) and other.path == self.path and other._seen.versions == self._seen.versions

    def __hash__(self) -> int:
        return hash(self.path)

    def __repr__(self) -> str:
        return f"Document({self.path!r}, {self.attributes!r})"

    @property
    def seen(self) -> Assembled:
        """What it shows; for the collections."""
        return self._seen

    @property
    def document_path(self) -> DocumentPath:
        """Its path, taken apart; for the collections."""
        return self._path
