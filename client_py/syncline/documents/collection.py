"""A collection: the documents that share a place, with live queries over them.

    rooms = replica.collection("rooms")
    room = await rooms.create(title="Lobby")
    await room.set(title="Hall")
    await room.collection("messages").create(text="hi", author=user.ref)

A facade over the records of a replica. What is written is worked out inside of an order of the keeper, where nothing
comes between the look at what is there and the write; `edits` says what, `rules` what becomes of it later.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

from syncline.errors import DocumentError, DocumentGone, Misuse, WriteRefused
from syncline.replica.draft import Draft
from syncline.replica.entry import Entry, Refusal
from syncline.replica.message import message_of
from syncline.replica.record import LocalRecord
from syncline.replica.report import Report
from syncline.replica.watch import Watch
from syncline.replica.write import Write
from syncline.value import Json
from syncline.write import Add, Written, check_write
from syncline_protocol import Limits
from syncline_protocol.errors import ValueInvalid
from syncline_protocol.messages import Status

from .assemble import MARKER, NULL, Assembled, assemble, assemble_all
from .attribute import encode_attribute
from .document import Document
from .edits import Change, Policy, creation, deletions, setting
from .path import CollectionPath, DocumentPath, short_id
from .policies import OnConflict, Policies
from .query import DocumentsQuery, DocumentsView, OrderBy, Where
from .typed import Shape
from .unseen import on_top

__all__ = ["Collection", "Records"]

T = TypeVar("T")
V = TypeVar("V")

#: The longest version that follows an attribute's name in a key, with its colon.
_LONGEST_VERSION = "x" * 26

_LONGEST_NAME = "x" * 64


class Records(Protocol):
    """A replica, as collections need it."""

    store: str
    prefix: str

    @property
    def limits(self) -> Limits:
        """The bounds of the server."""

    @property
    def policies(self) -> Policies:
        """What the application wants done about conflicts."""

    def records(self, prefix: str) -> list[LocalRecord]:
        """Return the records whose keys begin so, as they can be seen."""

    def next_records(self, prefix: str) -> list[LocalRecord]:
        """Return them with everything that was written; inside of an order."""

    async def order(self, work: Callable[[], Entry], *, reads: bool = False) -> Write:
        """Make a write between two items of the feed."""

    def put(self, draft: Draft, *, size: int = 0) -> Entry:
        """Put a write into the outbox, or with a refusal among the rejections; inside of an order."""

    def writes_below(self, prefix: str) -> list[Write]:
        """Return the writes of the outbox that touch keys that begin so."""

    def new_id(self) -> str:
        """Return a UUID that nobody else makes."""

    def check_key(self, key: str) -> None:
        """Raise if the replica could never show this key."""

    def attend(self, watch: Watch[Any]) -> None:
        """Tell a watch what is touched."""


class Collection(Generic[T]):
    """The documents of one collection; made by `Replica.collection` and `Document.collection`.

    Args:
        kind: the type of the documents, if they have one.
    """

    def __init__(self, records: Records, path: CollectionPath, kind: type[T] | None) -> None:
        self._records = records
        self._path = path
        self.shape: Shape[T] | None = None if kind is None else Shape(kind)
        records.check_key(path.prefix)

    @property
    def path(self) -> str:
        """Its path in the store: `rooms`, or `rooms/0d4g…/messages`."""
        return self._path.text

    # --- looking ---

    def get(self, document_id: str) -> Document[T] | None:
        """Return a document, or None. Local and immediate, as all reads are."""
        if not self._is_attached():
            return None
        document = Document(self, self.assembled(self._path.document(document_id)))
        return document if document.exists else None

    def __getitem__(self, document_id: str) -> Document[T]:
        """Return a document. Raises `DocumentGone` if it is not there."""
        document = self.get(document_id)
        if document is None:
            raise DocumentGone(self._path.document(document_id).text)
        return document

    def __contains__(self, document_id: object) -> bool:
        return isinstance(document_id, str) and bool(document_id) and self.get(document_id) is not None

    def __iter__(self) -> Iterator[Document[T]]:
        """Iterate over the documents in the order of their ids, which for ids that were made here is that of time."""
        return iter(self.find())

    def __len__(self) -> int:
        return len(self.find())

    def find(
        self, where: "Where[T] | None" = None, *, order_by: "OrderBy[T] | None" = None, reverse: bool = False
    ) -> list[Document[T]]:
        """Return the documents that fit.

        Args:
            where: says of a document whether it fits.
            order_by: the name of an attribute, or what gives a sorting key of a document. Numbers come before texts,
                documents with the same in the order of their ids, and those without, or with something that has no
                order, last. By default the order is that of iteration.
            reverse: the other way round.
        """
        return list(DocumentsQuery(self, where, order_by, reverse=reverse).first().documents)

    def watch(
        self, where: "Where[T] | None" = None, *, order_by: "OrderBy[T] | None" = None, reverse: bool = False
    ) -> "Watch[DocumentsView[T]]":
        """Return an iterator over what fits: a first view, then one after each change, never half a transaction."""
        watch = Watch(DocumentsQuery(self, where, order_by, reverse=reverse))
        self._records.attend(watch)
        return watch

    # --- changing ---

    async def create(self, value: T | None = None, /, *, id: str | None = None, **attributes: Any) -> Document[T]:
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
        path = self._path.document(short_id(self._records.new_id()) if id is None else id)
        texts = self.texts_of(path, self._attributes_of(value, attributes))
        if self.shape is not None:
            self.shape.read(path.text, texts)
            if value is not None:
                self.shape.check_unset(path.text, value, texts)
        await self._records.order(partial(self._create, path, texts), reads=True)
        return Document(self, self.assembled(path))

    def _create(self, path: DocumentPath, texts: Mapping[str, str]) -> Entry:
        self._require_attached()
        known = assemble(path, self._records.next_records(path.prefix))
        if known.exists:
            raise DocumentError(path.text, "there is a document of this id", hint="`get` it, or let the id be made")
        # What we have written of it may be under way yet, and each key can be used once.
        is_again = bool(self._records.writes_below(path.prefix))
        return self._put(creation(known, texts, self._policy, self._new_version, is_again=is_again))

    async def set(self, path: DocumentPath, texts: Mapping[str, str], seen: Mapping[str, str]) -> Write:
        """Give attributes of a document new values, as `texts_of` returns them; `Document.set`.

        Args:
            seen: what the program knew of their values.
        """
        return await self._records.order(partial(self._set, path, texts, seen), reads=True)

    def _set(self, path: DocumentPath, texts: Mapping[str, str], seen: Mapping[str, str]) -> Entry:
        self._require_attached()
        known = assemble(path, self._records.next_records(path.prefix))
        if not known.exists:
            raise DocumentGone(path.text)
        if self.shape is not None:
            after = {**known.texts, **texts}
            self.shape.read(path.text, {name: text for name, text in after.items() if text != NULL})
        made = on_top(known, texts, seen, self._records.policies, self._records.limits)
        # What is set to what it is already becomes a write without ops, which is as good as there.
        change = setting(known, made.texts, self._policy, self._new_version)
        return self._put(change, made.refusal, made.reports)

    async def delete(self, path: DocumentPath) -> Write:
        """Delete a document and what hangs below it; `Document.delete`."""
        return await self._records.order(partial(self._delete, path), reads=True)

    def _delete(self, path: DocumentPath) -> Entry:
        own = self._records.next_records(path.prefix)
        if not assemble(path, own).exists:
            raise DocumentGone(path.text)
        below = self._records.next_records(path.prefix_below)
        changes = deletions(path, [record.key for record in own], [record.key for record in below])
        drafts = [Draft(tuple(change.ops), atomic=False, edits=tuple(change.edits)) for change in changes]
        entries = [self._records.put(draft) for draft in drafts]
        return entries[0]

    def _put(self, change: Change, refusal: Refusal | None = None, reports: Sequence[Report] = ()) -> Entry:
        # The longest names that the message can have beside what is written.
        _, size = message_of(Entry(0, tuple(change.ops), 0), _LONGEST_NAME, _LONGEST_NAME)
        limits = self._records.limits
        if size > limits.frame_bytes_max or len(change.ops) > limits.ops_max:
            fault = f"the change has {size} bytes in {len(change.ops)} ops"
            raise WriteRefused(self._records.store, Written("too_large", code="too_large", message=fault))
        draft = Draft(tuple(change.ops), edits=tuple(change.edits), refusal=refusal, reports=tuple(reports))
        return self._records.put(draft, size=size)

    def _new_version(self) -> str:
        return short_id(self._records.new_id())

    def _policy(self, attribute: str) -> Policy:
        return self._records.policies.name_of(self._path.pattern, attribute)

    def _attributes_of(self, value: T | None, attributes: Mapping[str, Any]) -> Mapping[str, Any]:
        if value is None:
            return attributes
        if attributes:
            raise Misuse("give an object or attributes, not both")
        if self.shape is None:
            raise Misuse(f"{self.path}: the collection has no type", hint="give attributes, or give it a type")
        given = self.shape.attributes(value)
        return {name: item for name, item in given.items() if item is not None}

    def _text_of(self, path: DocumentPath, name: str, value: object) -> str:
        if not name:
            raise Misuse("'' cannot be the name of an attribute", hint="give a text of at least one character")
        key = path.key(name, _LONGEST_VERSION)
        try:
            text = encode_attribute(value, self._records.limits).decode()
        except ValueInvalid as error:
            status: Status = "too_large" if error.code == "too_large" else "invalid"
            refusal = Written(status, key=key, code=error.code, message=error.message)
            raise WriteRefused(self._records.store, refusal) from error
        self._check(key, text)
        return text

    def _check(self, key: str, text: str) -> None:
        check_write(self._records.store, [Add(key, Json(text))], self._records.limits, atomic=None, store_id=None)

    # --- for its documents and queries ---

    def texts_of(self, path: DocumentPath, attributes: Mapping[str, Any]) -> dict[str, str]:
        """Return the values as text. Raises what is wrong with a name or a value, before anything is written."""
        if self.shape is not None:
            self.shape.check_names(attributes)
        self._check(path.key(MARKER, _LONGEST_VERSION), NULL)
        return {name: self._text_of(path, name, value) for name, value in attributes.items()}

    def assembled(self, path: DocumentPath) -> Assembled:
        """Return a document as it can be seen."""
        return assemble(path, self._records.records(path.prefix))

    def all_assembled(self) -> dict[DocumentPath, Assembled]:
        """Return all documents as they can be seen, those that are gone but for remains among them."""
        return assemble_all(self._records.records(self._path.prefix)) if self._is_attached() else {}

    @property
    def collection_path(self) -> CollectionPath:
        """Its path, taken apart."""
        return self._path

    def below(
        self, path: DocumentPath, name: str, kind: type[V] | None, on_conflict: "OnConflict | None"
    ) -> "Collection[V]":
        """Return a collection below a document."""
        below = path.below(name)
        if on_conflict is not None:
            self._records.policies.register(below.pattern, on_conflict)
        return Collection(self._records, below, kind)

    async def stored(self, path: DocumentPath, timeout: float | None) -> None:
        """Wait until the server has what was written of a document."""
        async with asyncio.timeout(timeout):
            for write in self._records.writes_below(path.prefix):
                await write.stored()

    def _is_attached(self) -> bool:
        """Whether the documents that it hangs below are there, as far as this replica holds them."""
        return all(
            assemble(path, self._records.records(path.prefix)).exists
            for path in self._path.above
            if path.prefix.startswith(self._records.prefix)
        )

    def _require_attached(self) -> None:
        for path in self._path.above:
            is_held = path.prefix.startswith(self._records.prefix)
            if is_held and not assemble(path, self._records.next_records(path.prefix)).exists:
                raise DocumentGone(path.text)

    def __repr__(self) -> str:
        return f"Collection({self.path!r})"
