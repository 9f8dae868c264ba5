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
"""

from .client import Client, connect
from .clock import Clock
from .errors import (
    AddressInvalid,
    ClientClosed,
    ConnectionFailed,
    ConnectionForbidden,
    HistoryChanged,
    Misuse,
    RequestRefused,
    SubscriptionEnded,
    SubscriptionError,
    SubscriptionRefused,
    SynclineError,
    WriteRefused,
)
from .event import Behind, CaughtUp, Change, Ended, Restarted, Rewound, SubscriptionEvent
from .http import StoreInfo
from .record import Record, Records
from .status import ConnectionState, Status
from .stores import Stores
from .subscription import Subscription, SubscriptionEvents
from .value import Json, JsonValue
from .write import Add, Delete, Written

__all__ = [
    "Add",
    "AddressInvalid",
    "Behind",
    "CaughtUp",
    "Change",
    "Client",
    "ClientClosed",
    "Clock",
    "ConnectionFailed",
    "ConnectionForbidden",
    "ConnectionState",
    "Delete",
    "Ended",
    "HistoryChanged",
    "Json",
    "JsonValue",
    "Misuse",
    "Record",
    "Records",
    "RequestRefused",
    "Restarted",
    "Rewound",
    "Status",
    "StoreInfo",
    "Stores",
    "Subscription",
    "SubscriptionEnded",
    "SubscriptionError",
    "SubscriptionEvents",
    "SubscriptionEvent",
    "SubscriptionRefused",
    "SynclineError",
    "WriteRefused",
    "Written",
    "connect",
]
