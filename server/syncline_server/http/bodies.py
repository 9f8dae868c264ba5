"""The JSON objects of the HTTP routes, a struct each; the OpenAPI document has its schemas from here.

Records and changes are put together from the text that the log holds (`record_text`), because a value is passed on as
it came. Members that say nothing are left out.
"""

from typing import Annotated, Literal

import msgspec

from syncline_protocol.codec import decode_change
from syncline_protocol.cursor import Cursor
from syncline_protocol.digest import digest_text
from syncline_protocol.limits import SEQ_MAX, Limits
from syncline_protocol.messages import Change, Milliseconds, OpResult, Status, WireSeq, WriteOp
from syncline_server.access.grant import Role
from syncline_server.storage.base import Head, StoreInfo

__all__ = [
    "Batch",
    "Bookmark",
    "CaughtUpEvent",
    "ChangesPage",
    "DiffChange",
    "DiffPage",
    "EndedEvent",
    "FloorsBody",
    "Live",
    "Problem",
    "Ready",
    "RecordBody",
    "RecordsPage",
    "ServerBody",
    "SizesBody",
    "StoreBody",
    "StoresBody",
    "WriteBody",
    "WriteDone",
    "WroteRecord",
    "digest_of",
    "floors_of",
    "record_text",
    "sizes_of",
    "store_body",
]

Count = Annotated[int, msgspec.Meta(ge=0, le=SEQ_MAX)]
Digest = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{8}$")]
HttpStatus = Annotated[int, msgspec.Meta(ge=400, le=599)]


class _Body(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the server answers."""


class Problem(_Body, frozen=True):
    """A refusal. `code` names it, `retry` says whether the same request may work later, `hint` what to do.

    `head` is where the log stood when a write was refused for what it holds.
    """

    type: str
    title: str
    status: HttpStatus
    detail: str
    code: str
    retry: bool
    hint: str = ""
    outcome: Status | None = None
    ops: tuple[OpResult, ...] | None = None
    head: Cursor | None = None
    how: Literal["rewind", "reconcile", "snapshot"] | None = None
    keep_to: WireSeq | None = None
    at: Cursor | None = None
    lineage: str | None = None


class ServerBody(_Body, frozen=True):
    """Who answers, where it keeps its stores, and the bounds of a request."""

    server: str
    protocol: str
    storage: str
    ready: bool
    limits: Limits


class FloorsBody(_Body, frozen=True):
    """How far clean-up has come: of every position from `history` on all records can be read, and every DELETE above
    `tombstones` is there.
    """

    history: WireSeq
    tombstones: WireSeq


class SizesBody(_Body, frozen=True):
    """How large a store is: the bytes of its live records, what of deleted ones is still there, and the DELETEs."""

    live_bytes: Count
    dead_values: Count
    dead_bytes: Count
    tombstones: Count


class StoreBody(_Body, frozen=True):
    """A store. `count` and `digest` are of the live records at `head`, whose seq is `seq`.

    `role` is what whoever asks is there, where one has to log in; grants may narrow it. `owners` is there for owners
    and administrators, `sizes` for who sees the whole store. `indexes` are their names.
    """

    name: str
    store_id: str
    created: Milliseconds
    head: Cursor
    seq: WireSeq
    count: Count
    digest: Digest
    lineage: str
    role: Role | msgspec.UnsetType = msgspec.UNSET
    description: str = ""
    indexes: tuple[str, ...] = ()
    floors: FloorsBody | msgspec.UnsetType = msgspec.UNSET
    sizes: SizesBody | msgspec.UnsetType = msgspec.UNSET
    owners: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET


class StoresBody(_Body, frozen=True):
    """All stores, in the order of their names."""

    stores: tuple[StoreBody, ...]


class RecordBody(_Body, frozen=True):
    """A live record; `time` is that of its commit, `by` who added it, if he had to log in and that may be known."""

    key: str
    value: msgspec.Raw
    seq: WireSeq
    time: Milliseconds
    by: str | msgspec.UnsetType = msgspec.UNSET


class RecordsPage(_Body, frozen=True):
    """Live records. `at` is the position that all pages of one walk are of; what was found is not older than it.

    `count` is how many were found in all, if that was asked for.
    """

    records: tuple[RecordBody, ...]
    at: Cursor
    next: str | None
    count: Count | msgspec.UnsetType = msgspec.UNSET


class DiffChange(_Body, frozen=True):
    """A change between two positions: an ADD of a record that lives at the later one, or a DELETE of one that lived at
    the earlier one, which is `old` where its value is still there.
    """

    seq: WireSeq
    op: Literal["ADD", "DELETE"]
    key: str
    time: Milliseconds
    value: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    by: str | msgspec.UnsetType = msgspec.UNSET
    old: RecordBody | msgspec.UnsetType = msgspec.UNSET


class DiffPage(_Body, frozen=True):
    """What changed in the interval (from, to], in the order of the log."""

    from_: Cursor = msgspec.field(name="from")
    to: Cursor = msgspec.field()
    changes: tuple[DiffChange, ...] = msgspec.field()
    next: str | None = msgspec.field()


class WroteRecord(_Body, frozen=True):
    """What became of one record: `ok`, or `dup` if this very change was committed before."""

    key: str
    status: Literal["ok", "dup"]
    seq: WireSeq
    at: Cursor
    deleted: WireSeq | None = None


class WriteBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Several ops on one store: all or none, or each alone with `atomic` false."""

    ops: tuple[WriteOp, ...]
    atomic: bool = True
    store_id: str | None = None


class WriteDone(_Body, frozen=True):
    """What became of the ops, in their order. `at` is the position of the last change, if there is one.

    `head` is where the log stood when it was in the way of one of them.
    """

    status: Literal["ok", "dup", "partial"]
    ops: tuple[OpResult, ...]
    at: Cursor | None = None
    head: Cursor | None = None


class ChangesPage(_Body, frozen=True):
    """The changes of the interval (from, to]. `caught_up`: `to` is the head."""

    from_: Cursor = msgspec.field(name="from")
    to: Cursor = msgspec.field()
    head: Cursor = msgspec.field()
    changes: tuple[Change, ...] = msgspec.field()
    caught_up: bool = msgspec.field()


class Batch(_Body, frozen=True):
    """The data of an event `batch`: the changes of the interval (from, to]."""

    from_: Cursor = msgspec.field(name="from")
    to: Cursor = msgspec.field()
    changes: tuple[Change, ...] = msgspec.field()


class Bookmark(_Body, frozen=True):
    """A line of an NDJSON stream that is no change: everything up to `to` was sent.

    `caught_up` says that `count` and `digest` are of the live records at exactly this position.
    """

    to: Cursor
    caught_up: bool = False
    count: Count | None = None
    digest: Digest | None = None


class CaughtUpEvent(_Body, frozen=True):
    """Everything up to `at` was sent; `count` and `digest` are of exactly this position."""

    at: Cursor
    count: Count
    digest: Digest


class EndedEvent(_Body, frozen=True):
    """Nothing follows: the store was dropped, or its history has to be resumed anew."""

    reason: Literal["store_dropped", "resubscribe"]


class Live(_Body, frozen=True):
    """The process runs."""

    live: Literal[True]


class Ready(_Body, frozen=True):
    """Whether requests are taken, and if not, why."""

    ready: bool
    reasons: tuple[str, ...]


def store_body(
    info: StoreInfo,
    view: str | None = None,
    role: Role | msgspec.UnsetType = msgspec.UNSET,
    owners: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET,
) -> StoreBody:
    """Return a store as the routes show it; `view` is the token of the view in which its head is a cursor."""
    head = info.head
    return StoreBody(
        info.name,
        info.store_id,
        info.created_ms,
        head.lineage.cursor(head.seq, view),
        head.seq,
        head.count,
        digest_of(head),
        head.lineage.to_text(),
        role,
        info.settings.description,
        tuple([index.spec.name for index in info.indexes]),
        floors_of(info),
        # What others keep is not told to who sees a part.
        sizes_of(info) if view is None else msgspec.UNSET,
        owners,
    )


def floors_of(info: StoreInfo) -> FloorsBody:
    """Return how far clean-up has come."""
    return FloorsBody(info.floors.history, info.floors.tombstones)


def sizes_of(info: StoreInfo) -> SizesBody:
    """Return how large a store is."""
    sizes = info.sizes
    return SizesBody(sizes.live_bytes, sizes.dead_values, sizes.dead_bytes, sizes.tombstones)


def digest_of(head: Head) -> str:
    """Return the digest of the live records at a head."""
    return digest_text(head.digest)


def record_text(added: bytes) -> bytes:
    """Turn the text of an ADD as BATCH carries it into that of a `RecordBody`."""
    change = decode_change(added)
    assert isinstance(change.value, msgspec.Raw), "a live record has a value"
    key = msgspec.json.encode(change.key)
    by = b"" if change.by is None else b',"by":%b' % msgspec.json.encode(change.by)
    return b'{"key":%b,"value":%b,"seq":%d,"time":%d%b}' % (key, bytes(change.value), change.seq, change.time, by)
