"""A collection of documents with methods that block, and the views of its live queries.

A facade over the async collection. What is given to it and called there, `where` and `order_by`, runs in the client's
thread and gets documents of this kind; those can be looked at there, and nothing can be waited for.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from syncline.documents import collection, document, query

from .document import Document
from .loop_thread import LoopThread
from .watch import Watch

__all__ = ["Collection", "DocumentsView", "OrderBy", "Where"]

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


class Collection(Generic[T]):
    """The documents of one collection; made by `Replica.collection` and `Document.collection`."""

    def __init__(self, thread: LoopThread, inner: collection.Collection[T]) -> None:
        self._thread = thread
        self._inner = inner

    @property
    def path(self) -> str:
        """Its path in the store: `rooms`, or `rooms/0d4g…/messages`."""
        return self._inner.path

    # --- looking ---

    def get(self, document_id: str) -> Document[T] | None:
        """Return a document, or None. Local, as all reads are."""
        found = self._thread.call(lambda: self._inner.get(document_id))
        return None if found is None else Document(self._thread, found)

    def __getitem__(self, document_id: str) -> Document[T]:
        """Return a document. Raises `DocumentGone` if it is not there."""
        return Document(self._thread, self._thread.call(lambda: self._inner[document_id]))

    def __contains__(self, document_id: object) -> bool:
        return self._thread.call(lambda: document_id in self._inner)

    def __iter__(self) -> Iterator[Document[T]]:
        """Iterate over the documents in the order of their ids, as they are at one moment.

        For ids that were made here that is the order of time.
        """
        return iter(self.find())

    def __len__(self) -> int:
        return self._thread.call(lambda: len(self._inner))

    def find(
        self, where: Where[T] | None = None, *, order_by: OrderBy[T] | None = None, reverse: bool = False
    ) -> list[Document[T]]:
        """Return the documents that fit.

        Args:
            where: says of a document whether it fits. It runs in the client's thread.
            order_by: the name of an attribute, or what gives a sorting key of a document. Documents without the
                attribute come last. By default the order is that of iteration.
            reverse: the other way round.
        """
        fits, key = self._inside(where), self._key_inside(order_by)
        found = self._thread.call(lambda: self._inner.find(fits, order_by=key, reverse=reverse))
        return [Document(self._thread, each) for each in found]

    def watch(
        self, where: Where[T] | None = None, *, order_by: OrderBy[T] | None = None, reverse: bool = False
    ) -> Watch[DocumentsView[T]]:
        """Return an iterator over what fits: a first view, then one after each change, never half a transaction.

        Args: as of `find`.
        """
        fits, key = self._inside(where), self._key_inside(order_by)
        shown = _Shown[T](self._thread)
        return self._thread.call(
            lambda: Watch(self._thread, self._inner.watch(fits, order_by=key, reverse=reverse), shown)
        )

    # --- changing ---

    def create(self, value: T | None = None, /, *, id: str | None = None, **attributes: Any) -> Document[T]:
        """Make a document. Returns once it is stored locally.

        Args:
            value: an object of the collection's type, in the place of attributes.
            id: by default one that sorts by time. If somebody else makes a document of the same id meanwhile, both
                become one.
            attributes: its attributes.

        Raises:
            DocumentError: there is a document of this id.
            DocumentGone: the document that the collection hangs below is gone.
            DocumentMismatch: the attributes do not fit the collection's type.
            WriteRefused: a value cannot be said in JSON, or is too large.
        """
        return Document(self._thread, self._thread.run(self._inner.create(value, id=id, **attributes)))

    # --- what the async collection calls ---

    def _inside(self, where: Where[T] | None) -> query.Where[T] | None:
        if where is None:
            return None
        return lambda each: where(Document(self._thread, each))

    def _key_inside(self, order_by: OrderBy[T] | None) -> query.OrderBy[T] | None:
        if order_by is None or isinstance(order_by, str):
            return order_by
        return lambda each: order_by(Document(self._thread, each))

    def __repr__(self) -> str:
        return repr(self._inner)


class _Shown(Generic[T]):
    """Makes the views of one watch; a document that did not change stays the same object."""

    def __init__(self, thread: LoopThread) -> None:
        self._thread = thread
        self._before: dict[int, Document[T]] = {}

    def __call__(self, view: query.DocumentsView[T]) -> DocumentsView[T]:
        now = {id(each): self._before.get(id(each)) or Document(self._thread, each) for each in view.documents}
        gone = [self._before.get(id(each)) or Document(self._thread, each) for each in view.removed]
        self._before = now
        return DocumentsView(tuple(now.values()), _those(now, view.added), tuple(gone), _those(now, view.changed))


def _those(known: dict[int, Document[T]], some: tuple[document.Document[T], ...]) -> tuple[Document[T], ...]:
    return tuple([known[id(each)] for each in some])
