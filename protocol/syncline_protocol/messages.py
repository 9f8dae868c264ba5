"""Every message of `syncline.v1.json`, a struct each (PROTOCOL 4).

The structs say which fields exist and of what type; `codec` reads and writes them and knows JSON, `session`
knows when each is legal. Requests (the messages with an `id`) refuse members that they do not know, so that a
mistyped parameter is never taken for a wish that was granted; in all other messages unknown members are
ignored, so that later versions can add some.
"""

from typing import Annotated, Literal

import msgspec

from .cursor import Cursor, Seq
from .limits import FIND_LIMIT_MAX, ID_MAX, SEQ_MAX, Limits

__all__ = [
    "Add",
    "Auth",
    "Authenticated",
    "Batch",
    "Behind",
    "Bye",
    "CaughtUp",
    "Change",
    "ClientInfo",
    "ClientMessage",
    "Delete",
    "Ended",
    "EndReason",
    "Error",
    "Expiring",
    "Fetch",
    "Fill",
    "Find",
    "Found",
    "Heads",
    "Heartbeat",
    "Hello",
    "Live",
    "Milliseconds",
    "OpResult",
    "RequestId",
    "ResumeHow",
    "ServerMessage",
    "Status",
    "Subscribe",
    "Subscribed",
    "Unsubscribe",
    "Welcome",
    "WireSeq",
    "Write",
    "WriteOp",
    "WriteResult",
    "Wrote",
]

#: Integers as the wire may carry them; beyond these bounds a frame is no message.
RequestId = Annotated[int, msgspec.Meta(ge=0, le=ID_MAX)]
WireSeq = Annotated[Seq, msgspec.Meta(ge=0, le=SEQ_MAX)]
Milliseconds = Annotated[int, msgspec.Meta(ge=0, le=SEQ_MAX)]

#: The answers to a write or to one op of it (PROTOCOL 6.2).
Status = Literal[
    "ok",
    "dup",
    "exists",
    "conflict",
    "gone",
    "absent",
    "denied",
    "invalid",
    "too_large",
    "retry",
    "refused",
    "skipped",
    "partial",
]
ResumeHow = Literal["resume", "rewind", "reconcile", "snapshot"]
EndReason = Literal["unsubscribed", "forbidden", "view_changed", "store_dropped", "resubscribe"]


class _Message(msgspec.Struct, frozen=True, tag_field="type", omit_defaults=True):
    """A message whose unknown members are ignored."""


class _Request(msgspec.Struct, frozen=True, tag_field="type", omit_defaults=True, forbid_unknown_fields=True):
    """A message with an id, whose unknown members are refused by name."""


# --- from the client ---------------------------------------------------------------------------------


class ClientInfo(msgspec.Struct, frozen=True, omit_defaults=True):
    """Who the client says it is; for logs and consoles only."""

    id: str = ""
    name: str = ""
    version: str = ""


class Hello(_Message, tag="HELLO", frozen=True):
    """The first message of a connection."""

    client: ClientInfo = ClientInfo()
    token: str | None = None
    features: tuple[str, ...] = ()


class Auth(_Message, tag="AUTH", frozen=True):
    """New credentials of the same user, in the place of those that are about to expire."""

    token: str


class Add(_Request, tag="ADD", frozen=True):
    """Add one record. `value` is the JSON text as it came."""

    id: RequestId
    store: str
    key: str
    value: msgspec.Raw
    store_id: str | None = None


class Delete(_Request, tag="DELETE", frozen=True):
    """Delete one record."""

    id: RequestId
    store: str
    key: str
    store_id: str | None = None


class WriteOp(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """One op of a WRITE; `value` is there for an ADD and only there."""

    op: Literal["ADD", "DELETE"]
    key: str
    value: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class Write(_Request, tag="WRITE", frozen=True):
    """Several ops on one store: all or none, or each alone with `atomic` false."""

    id: RequestId
    store: str
    ops: tuple[WriteOp, ...]
    atomic: bool = True
    store_id: str | None = None


class Subscribe(_Request, tag="SUBSCRIBE", frozen=True):
    """Follow a store: `after` is a cursor, `start` or `now`; `known` the lineage of the last SUBSCRIBED.

    With `reconcile` the client is told what lives, though its cursor may be valid.
    """

    id: RequestId
    store: str
    after: str = "start"
    known: str | None = None
    store_id: str | None = None
    filter: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    reconcile: bool = False


class Unsubscribe(_Request, tag="UNSUBSCRIBE", frozen=True):
    """End the subscription that was opened with this id."""

    id: RequestId


class Fetch(_Request, tag="FETCH", frozen=True):
    """Ask for live records by seq, in the ranges of LIVE, on the subscription that was opened with this id."""

    id: RequestId
    seqs: str


class Find(_Request, tag="FIND", frozen=True):
    """Ask once for live records: those that `filter` selects, in the order of its index, or of their keys.

    `page` is `next` of the FOUND before; `count` asks how many there are in all.
    """

    id: RequestId
    store: str
    filter: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    order: Literal["asc", "desc"] = "asc"
    limit: Annotated[int, msgspec.Meta(ge=1, le=FIND_LIMIT_MAX)] = 100
    page: str | None = None
    count: bool = False


class Heartbeat(_Message, tag="HEARTBEAT", frozen=True):
    """I am here. The server's form is `Heads`."""


ClientMessage = Hello | Auth | Add | Delete | Write | Subscribe | Unsubscribe | Fetch | Find | Heartbeat


# --- from the server ---------------------------------------------------------------------------------


class Welcome(_Message, tag="WELCOME", frozen=True):
    """The answer to HELLO: features that are not echoed are off.

    `user` is who the credentials say, None if nobody has to log in or did; they end at `expires_ms`, in ms since 1970.
    """

    session: str
    server: str
    limits: Limits
    heartbeat_ms: Annotated[int, msgspec.Meta(ge=1, le=SEQ_MAX)]
    features: tuple[str, ...]
    user: str | None = None
    expires_ms: Milliseconds | None = None


class Authenticated(_Message, tag="AUTHENTICATED", frozen=True):
    """The answer to an AUTH whose credentials hold; the connection goes on with them. Members as of `Welcome`."""

    user: str | None = None
    expires_ms: Milliseconds | None = None


class Expiring(_Message, tag="EXPIRING", frozen=True):
    """The credentials expire soon: the connection is closed at `expires_ms` unless an AUTH comes before."""

    expires_ms: Milliseconds


class OpResult(msgspec.Struct, frozen=True, omit_defaults=True):
    """What became of one op. `seq` is there for `ok` and `dup`, `deleted` if that record has died since."""

    status: Status
    seq: WireSeq | None = None
    deleted: WireSeq | None = None
    code: str | None = None
    message: str | None = None


class WriteResult(msgspec.Struct, frozen=True, omit_defaults=True):
    """What became of one ADD, DELETE or WRITE. `at` is the position of its last change.

    `head` is there if it was refused for what the log holds: where the log stood then (PROTOCOL 6.2.6).
    """

    id: RequestId
    status: Status
    seq: WireSeq | None = None
    at: Cursor | None = None
    deleted: WireSeq | None = None
    ops: tuple[OpResult, ...] | None = None
    code: str | None = None
    message: str | None = None
    after_ms: Milliseconds | None = None
    head: Cursor | None = None


class Wrote(_Message, tag="WROTE", frozen=True):
    """The answers to any number of writes of this connection."""

    results: tuple[WriteResult, ...]


class Subscribed(_Message, tag="SUBSCRIBED", frozen=True):
    """The one answer to SUBSCRIBE, before any data of the feed."""

    id: RequestId
    feed: str
    how: ResumeHow
    at: Cursor
    head: Cursor
    store_id: str
    lineage: str
    keep_to: WireSeq | None = None


class Change(msgspec.Struct, frozen=True, omit_defaults=True):
    """One committed change as BATCH carries it. `time` is the commit's, in ms since 1970, by the server's clock.

    `by` is who made it; None if nobody had logged in, or if the reader may not know.
    """

    seq: WireSeq
    op: Literal["ADD", "DELETE"]
    key: str
    time: Milliseconds
    value: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    by: str | None = None


class Batch(_Message, tag="BATCH", frozen=True):
    """The changes of the interval (from, to]. Without changes it is a bookmark."""

    feed: str
    from_: Cursor = msgspec.field(name="from")
    to: Cursor = msgspec.field()
    changes: tuple[Change, ...] = msgspec.field()


class Live(_Message, tag="LIVE", frozen=True):
    """Seqs of the records that live at `upto`, as ranges; part of a reconcile."""

    feed: str
    upto: Cursor
    seqs: str
    last: bool = False


class Fill(_Message, tag="FILL", frozen=True):
    """Records that were asked for with FETCH; the cursor does not move."""

    feed: str
    changes: tuple[Change, ...]
    last: bool = False


class Found(_Message, tag="FOUND", frozen=True):
    """The answer to FIND: the ADDs of what was found, in its order, and the position of the log that was looked at.

    There is more if there is a `next`; `count` is there if it was asked for.
    """

    id: RequestId
    at: Cursor
    records: tuple[Change, ...]
    next: str | None = None
    count: Annotated[int, msgspec.Meta(ge=0, le=SEQ_MAX)] | None = None


class CaughtUp(_Message, tag="CAUGHT_UP", frozen=True):
    """Everything up to `at` has been sent; `count` and `digest` are of the live records at exactly `at`."""

    feed: str
    at: Cursor
    count: Annotated[int, msgspec.Meta(ge=0, le=SEQ_MAX)]
    digest: str


class Behind(_Message, tag="BEHIND", frozen=True):
    """The subscription has fallen behind; what follows is a catch-up that ends with CAUGHT_UP."""

    feed: str
    at: Cursor
    head: Cursor


class Ended(_Message, tag="ENDED", frozen=True):
    """The subscription is over; nothing of it follows."""

    id: RequestId
    feed: str
    reason: EndReason
    at: Cursor | None = None


class Heads(_Message, tag="HEARTBEAT", frozen=True):
    """The server's heartbeat: the head of every store that the connection is subscribed to."""

    heads: dict[str, Cursor]


class Error(_Message, tag="ERROR", frozen=True):
    """A refusal. `id` is that of the request, if it could be read; `retry` says whether the same may work later."""

    code: str
    message: str
    retry: bool
    id: RequestId | None = None
    after_ms: Milliseconds | None = None


class Bye(_Message, tag="BYE", frozen=True):
    """The server is about to close: come back after `after_ms` plus a random part of `jitter_ms`."""

    code: str
    after_ms: Milliseconds
    jitter_ms: Milliseconds


ServerMessage = (
    Welcome
    | Authenticated
    | Expiring
    | Wrote
    | Subscribed
    | Batch
    | Live
    | Fill
    | Found
    | CaughtUp
    | Behind
    | Ended
    | Heads
    | Error
    | Bye
)
