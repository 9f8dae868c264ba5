"""Live queries over a collection: which documents fit, kept up from the keys that were touched."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from .assemble import Assembled
from .document import Document
from .path import DocumentPath, split_key

if TYPE_CHECKING:
    from .collection import Collection

__all__ = ["DocumentsQuery", "DocumentsView", "OrderBy", "Where"]

T = TypeVar("T")

Where = Callable[[Document[T]], bool]
OrderBy = str | Callable[[Document[T]], Any]


@dataclass(frozen=True, slots=True)
class DocumentsView(Generic[T]):
    """The documents that fit, at one moment.

    Attributes:
        documents: in the order that was asked for. One that did not change is the same object as in the view before.
        added: those of them that were not in the view before.
        removed: those of the view before that are gone or do not fit any more.
        changed: those of which something changed, be it that the server has it now.
    """

    documents: tuple[Document[T], ...]
    added: tuple[Document[T], ...] = ()
    removed: tuple[Document[T], ...] = ()
    changed: tuple[Document[T], ...] = ()

    def __iter__(self) -> Iterator[Document[T]]:
        return iter(self.documents)

    def __len__(self) -> int:
        return len(self.documents)

    def __getitem__(self, index: int) -> Document[T]:
        return self.documents[index]


class DocumentsQuery(Generic[T]):
    """One query over a collection."""

    def __init__(
        self, collection: "Collection[T]", where: Where[T] | None, order_by: OrderBy[T] | None, *, reverse: bool
    ) -> None:
        self._collection = collection
        self._where = where
        self._order_by = order_by
        self._reverse = reverse
        self._prefix = collection.collection_path.prefix
        self._above = tuple([path.prefix for path in collection.collection_path.above])
        self._found: dict[DocumentPath, Document[T]] = {}
        # How they looked in the view. The application may have refreshed its documents since, or set them.
        self._looked: dict[DocumentPath, Assembled] = {}
        self._dirty: set[DocumentPath] | None = set()

    def touch(self, keys: frozenset[str] | None) -> bool:
        """Note touched keys; returns whether the query may look different."""
        if keys is None or self._dirty is None:
            self._dirty = None
            return True
        for key in keys:
            if key.startswith(self._prefix):
                part = split_key(key)
                if part is not None:
                    self._dirty.add(part.document)
            elif self._above and key.startswith(self._above):
                self._dirty = None
                return True
        return bool(self._dirty)

    def first(self) -> DocumentsView[T]:
        """Look for the first time."""
        looked: dict[DocumentPath, Assembled] = {}
        found = self._look(looked)
        documents = self._ordered(found)
        self._found, self._looked, self._dirty = found, looked, set()
        return DocumentsView(documents, added=documents)

    def next(self) -> DocumentsView[T] | None:
        """Look again; None if nothing looks different. If the application's functions raise, nothing is noted."""
        before, looked = self._found, dict(self._looked)
        now = self._look(looked) if self._dirty is None else self._look_again(self._dirty, looked)
        added = tuple([document for path, document in now.items() if path not in before])
        removed = tuple([document for path, document in before.items() if path not in now])
        changed = tuple([document for path, document in now.items() if path in before and before[path] is not document])
        documents = self._ordered(now) if added or removed or changed else ()
        self._found, self._looked, self._dirty = now, looked, set()
        return DocumentsView(documents, added, removed, changed) if added or removed or changed else None

    def _look(self, looked: dict[DocumentPath, Assembled]) -> dict[DocumentPath, Document[T]]:
        documents = {path: Document(self._collection, each) for path, each in self._collection.all_assembled().items()}
        now = {path: self._kept(path, document, looked) for path, document in documents.items() if self._fits(document)}
        for path in looked.keys() - now.keys():
            del looked[path]
        return now

    def _look_again(
        self, paths: set[DocumentPath], looked: dict[DocumentPath, Assembled]
    ) -> dict[DocumentPath, Document[T]]:
        now = dict(self._found)
        for path in paths:
            document = Document(self._collection, self._collection.assembled(path))
            if self._fits(document):
                now[path] = self._kept(path, document, looked)
            else:
                now.pop(path, None)
                looked.pop(path, None)
        return now

    def _kept(self, path: DocumentPath, document: Document[T], looked: dict[DocumentPath, Assembled]) -> Document[T]:
        """Return the document of the view before if it looks the same."""
        before = looked.get(path)
        looked[path] = document.seen
        is_same = before is not None and before.versions == document.seen.versions
        return self._found.get(path, document) if is_same else document

    def _fits(self, document: Document[T]) -> bool:
        return document.exists and (self._where is None or self._where(document))

    def _ordered(self, found: dict[DocumentPath, Document[T]]) -> tuple[Document[T], ...]:
        documents = sorted(found.values(), key=lambda document: document.document_path)
        order_by = self._order_by
        if order_by is None:
            return tuple(reversed(documents) if self._reverse else documents)
        keys = [(document, _key_of(document, order_by)) for document in documents]
        # Sorting is stable, and turned round as a whole: those with the same key are in the order of their ids.
        having = sorted([each for each in keys if each[1] is not None], key=lambda each: each[1])
        having = having[::-1] if self._reverse else having
        return tuple([document for document, _ in having] + [document for document, key in keys if key is None])


def _key_of(document: Document[T], order_by: OrderBy[T]) -> Any:
    """Return what a document is ordered by, None if it has nothing of the kind.

    By the name of an attribute, numbers come before texts, and what has no order counts as not set: somebody else may
    have put anything there, and a view must not end by it.
    """
    if not isinstance(order_by, str):
        return order_by(document)
    value = document.get(order_by)
    if isinstance(value, int | float):
        return (0, value, "")
    return (1, 0, value) if isinstance(value, str) else None
