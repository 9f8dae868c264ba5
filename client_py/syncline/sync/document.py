"""A document with methods that block: attributes that can be set.

What a `Document` shows was read before, so looking at it costs no way to the loop. What is set through it shows at
once, and `refresh` reads again. Watches give new ones when something changed.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from syncline import errors
from syncline.documents import document
from syncline.documents.attribute import Ref
from syncline.documents.policies import OnConflict
from syncline.replica.entry import SyncState

from .loop_thread import LoopThread
from .write import Write, raise_rejected

if TYPE_CHECKING:
    from .collection import Collection

__all__ = ["Document", "ref"]

T = TypeVar("T")
V = TypeVar("V")


class Document(Generic[T]):
    """One document of a collection; made by its `Collection`."""

    def __init__(self, thread: LoopThread, inner: document.Document[T]) -> None:
        self._thread = thread
        self._inner = inner

    # --- looking ---

    @property
    def id(self) -> str:
        """Its id in its collection."""
        return self._inner.id

    @property
    def path(self) -> str:
        """Its path in the store: `rooms:0d4g…`."""
        return self._inner.path

    @property
    def ref(self) -> Ref:
        """A reference to it, to be kept in another document."""
        return self._inner.ref

    @property
    def exists(self) -> bool:
        """Whether it was there when it was read."""
        return self._inner.exists

    @property
    def state(self) -> SyncState:
        """PENDING while the server lacks anything of it that is written here, then ACKED, then SYNCED."""
        return self._inner.state

    @property
    def attributes(self) -> dict[str, Any]:
        """The attributes that are set."""
        return self._inner.attributes

    def get(self, attribute: str, default: V | None = None) -> Any | V | None:
        """Return an attribute, or `default` if it is not set."""
        return self._inner.get(attribute, default)

    def __getitem__(self, attribute: str) -> Any:
        return self._inner[attribute]

    def __contains__(self, attribute: object) -> bool:
        return attribute in self._inner

    @property
    def value(self) -> T:
        """The document as an object of the collection's type.

        Raises:
            DocumentMismatch: its attributes do not fit the type.
            Misuse: the collection has no type.
        """
        return self._inner.value

    def refresh(self) -> "Document[T]":
        """Read it again. Returns itself."""
        self._thread.call(self._inner.refresh)
        return self

    def require_existing(self) -> "Document[T]":
        """Return itself. Raises `DocumentGone` if it is not there."""
        self._inner.require_existing()
        return self

    # --- changing ---

    def set(self, attributes: Mapping[str, Any] | None = None, /, **more: Any) -> Write:
        """Give attributes new values, all or none; `None` unsets one. Returns once that is stored locally.

        If somebody else has set the same attribute since the document was read, or does so before the write arrives,
        the collection's `on_conflict` decides; other attributes are none of each other's business.

        Raises:
            DocumentGone: it is not there.
            DocumentMismatch: with these values it would not fit the collection's type.
            WriteRefused: a value cannot be said in JSON, or is too large.
        """
        return Write(self._thread, self._thread.run(self._inner.set(attributes, **more)))

    def unset(self, *attributes: str) -> Write:
        """Take attributes away. Otherwise as `set`."""
        return Write(self._thread, self._thread.run(self._inner.unset(*attributes)))

    def delete(self) -> Write:
        """Delete it and all documents below it. Returns once that is stored locally.

        It is gone at once, for others as soon as the first of the transactions has arrived that this takes. A change
        that somebody makes to it meanwhile is dropped.

        Raises:
            DocumentGone: it is not there.
        """
        return Write(self._thread, self._thread.run(self._inner.delete()))

    @overload
    def collection(
        self, name: str, *, type: None = None, on_conflict: OnConflict | None = None
    ) -> "Collection[Any]": ...

    @overload
    def collection(self, name: str, *, type: type[V], on_conflict: OnConflict | None = None) -> "Collection[V]": ...

    def collection(
        self, name: str, *, type: type[Any] | None = None, on_conflict: OnConflict | None = None
    ) -> "Collection[Any]":
        """Return the collection of this name below it. Its documents go when this one is deleted.

        Args:
            type: as of `Replica.collection`.
            on_conflict: as of `Replica.collection`; a function of it runs in the client's thread.
        """
        from .collection import Collection

        below = self._inner.collection
        return Collection(self._thread, self._thread.call(lambda: below(name, type=type, on_conflict=on_conflict)))

    def stored(self, timeout: float | None = None) -> None:
        """Wait until the server has everything of it that was written here. Raises as `Write.stored`."""
        try:
            self._thread.run(self._inner.stored(timeout))
        except errors.WriteRejected as error:
            raise_rejected(self._thread, error)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Document) and other._inner == self._inner

    def __hash__(self) -> int:
        return hash(self._inner)

    def __repr__(self) -> str:
        return repr(self._inner)


def ref(target: Document[Any] | str) -> Ref:
    """Return a reference to a document, or to the one with this path, to be kept as a value of an attribute.

    `replica.resolve` gives the document back.

    Raises:
        Misuse: there is no such path.
    """
    if isinstance(target, Document):
        return target.ref
    if isinstance(target, str):
        return Ref(target)
    raise errors.Misuse(f"{target!r} is no document", hint="give a document, or the path of one")
