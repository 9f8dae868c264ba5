"""Syncline: durable change logs that every subscriber follows without a gap.

    import asyncio, syncline

    async def main() -> None:
        async with syncline.connect() as client:
            await client.add("notes", {"text": "hi"})
            async for change in client.subscribe("notes"):
                print(change.op, change.key, change.value)

    asyncio.run(main())

`connect` gives a `Client`. It writes with `add`, `delete` and `write`, follows a store with `subscribe`, and looks at
stores and records with `stores`, `get` and `records`. It reconnects by itself; what was asked for meanwhile waits.

`client.replica("notes", "notes.db")` gives a `Replica`: the store on this machine, to read and write without a server,
with live queries, and with collections of documents whose attributes can be set. `syncline.sync` has all of this for
programs without asyncio.
"""

from . import sync as sync
from .accounts import (
    Accepted,
    Accounts,
    Grant,
    GrantLimits,
    Grants,
    Group,
    Groups,
    Invitation,
    Invitations,
    Login,
    Me,
    NewInvitation,
    NewToken,
    ReadWhere,
    Ticket,
    Token,
    Tokens,
    User,
    Users,
)
from .client import Client, connect
from .clock import Clock
from .documents.attribute import Ref
from .documents.collection import Collection
from .documents.document import Document
from .documents.place import between
from .documents.query import DocumentsView
from .documents.reference import ref
from .errors import (
    AddressInvalid,
    AuthRequired,
    ClientClosed,
    ConnectionFailed,
    ConnectionForbidden,
    DocumentError,
    DocumentGone,
    DocumentMismatch,
    FlushTimeout,
    Forbidden,
    HistoryChanged,
    LocalFileCorrupt,
    LocalFileError,
    LocalFileFailed,
    LocalFileFull,
    LocalFileInvalid,
    LocalFileLocked,
    LocalFileTooNew,
    LoginFailed,
    Misuse,
    OutboxFull,
    RateLimited,
    RequestRefused,
    SubscriptionEnded,
    SubscriptionError,
    SubscriptionRefused,
    SynclineError,
    WriteRefused,
    WriteRejected,
)
from .event import Behind, CaughtUp, Change, Ended, Restarted, Rewound, SubscriptionEvent
from .find import Found, Index
from .http import StoreInfo
from .past import Diff, Difference, Position
from .record import Record, Records
from .replica.entry import Edit, Refusal, SyncState
from .replica.record import LocalRecord
from .replica.replica import Replica
from .replica.report import (
    EditDropped,
    EditMerged,
    EditOverwrote,
    NotPutBack,
    PutBack,
    Rejected,
    Repaired,
    Report,
    Returned,
    RewoundTo,
    StoreReplaced,
)
from .replica.status import ReplicaStatus
from .replica.watch import View, Watch
from .replica.write import Write
from .status import ConnectionState, Status
from .stores import Stores
from .subscription import Subscription, SubscriptionEvents
from .upkeep import CleanUp, Estimate, Floors, IndexState, Policy, Sizes, StoreSettings, StoreStats, Upkeep
from .value import Json, JsonValue
from .write import Add, Delete, Written

__all__ = [
    "Accepted",
    "Accounts",
    "Add",
    "AddressInvalid",
    "AuthRequired",
    "Behind",
    "CaughtUp",
    "Change",
    "CleanUp",
    "Client",
    "ClientClosed",
    "Clock",
    "Collection",
    "ConnectionFailed",
    "ConnectionForbidden",
    "ConnectionState",
    "Delete",
    "Diff",
    "Difference",
    "Document",
    "DocumentError",
    "DocumentGone",
    "DocumentMismatch",
    "DocumentsView",
    "Edit",
    "EditDropped",
    "EditMerged",
    "EditOverwrote",
    "Ended",
    "Estimate",
    "Floors",
    "FlushTimeout",
    "Forbidden",
    "Found",
    "Grant",
    "GrantLimits",
    "Grants",
    "Group",
    "Groups",
    "HistoryChanged",
    "IndexState",
    "Index",
    "Invitation",
    "Invitations",
    "Json",
    "JsonValue",
    "LocalFileCorrupt",
    "LocalFileError",
    "LocalFileFailed",
    "LocalFileFull",
    "LocalFileInvalid",
    "LocalFileLocked",
    "LocalFileTooNew",
    "LocalRecord",
    "Login",
    "LoginFailed",
    "Me",
    "Misuse",
    "NewInvitation",
    "NewToken",
    "OutboxFull",
    "Policy",
    "Position",
    "RateLimited",
    "ReadWhere",
    "Record",
    "Records",
    "Ref",
    "Refusal",
    "NotPutBack",
    "PutBack",
    "Rejected",
    "Repaired",
    "Replica",
    "ReplicaStatus",
    "Report",
    "RequestRefused",
    "Restarted",
    "Returned",
    "Rewound",
    "RewoundTo",
    "Sizes",
    "Status",
    "StoreInfo",
    "StoreReplaced",
    "StoreSettings",
    "StoreStats",
    "Stores",
    "Subscription",
    "SubscriptionEnded",
    "SubscriptionError",
    "SubscriptionEvent",
    "SubscriptionEvents",
    "SubscriptionRefused",
    "SyncState",
    "SynclineError",
    "Ticket",
    "Token",
    "Tokens",
    "Upkeep",
    "User",
    "Users",
    "View",
    "Watch",
    "Write",
    "WriteRefused",
    "WriteRejected",
    "Written",
    "between",
    "connect",
    "ref",
]
