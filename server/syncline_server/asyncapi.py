"""The AsyncAPI document of the WebSocket, made from the messages of the protocol.

Every message of both directions is in it with its schema and an example. What an answer to a message can be is in
`_REPLIES`; who may say what and when is told by the tables of states in PROTOCOL.md, for which AsyncAPI has no words.
"""

from typing import Any, get_args

import msgspec

from syncline_protocol import SUBPROTOCOL
from syncline_protocol.codec import encode
from syncline_protocol.cursor import Cursor, Seq
from syncline_protocol.limits import DEFAULT_LIMITS
from syncline_protocol.messages import (
    Add,
    Auth,
    Authenticated,
    Batch,
    Behind,
    Bye,
    CaughtUp,
    Change,
    ClientInfo,
    ClientMessage,
    Delete,
    Ended,
    Error,
    Expiring,
    Fetch,
    Fill,
    Find,
    Found,
    Heads,
    Heartbeat,
    Hello,
    Live,
    OpResult,
    ServerMessage,
    Subscribe,
    Subscribed,
    Unsubscribe,
    Welcome,
    Write,
    WriteOp,
    WriteResult,
    Wrote,
)

__all__ = ["EXAMPLES", "asyncapi_document"]

_REF = "#/components/schemas/{name}"
_CHANNEL = {"$ref": "#/channels/socket"}

_A, _B = Cursor("k3f9:1204"), Cursor("k3f9:1213")
_ADDED = Change(Seq(1211), "ADD", "k1", 1795400000000, msgspec.Raw(b'{"x":1}'))
_DELETED = Change(Seq(1212), "DELETE", "k0", 1795400000000)

#: One of each message.
EXAMPLES: tuple[ClientMessage | ServerMessage, ...] = (
    Hello(ClientInfo("c91", "syncline-py", "0.1"), features=("digest",)),
    Auth("syncline_s_…"),
    Add(1, "notes", "k1", msgspec.Raw(b'{"x":1}')),
    Delete(2, "notes", "k0"),
    Write(3, "notes", (WriteOp("DELETE", "k1"), WriteOp("ADD", "k2", msgspec.Raw(b'{"x":2}')))),
    Subscribe(7, "notes", _A, known="k3f9@0"),
    Unsubscribe(7),
    Fetch(7, "45,47-49"),
    Find(8, "notes", msgspec.Raw(b'{"index":"room","eq":"r1"}'), count=True),
    Heartbeat(),
    Welcome("5f0c", "syncline/0.1", DEFAULT_LIMITS, 15000, ("digest",), "alice", 1795400900000),
    Authenticated("alice", 1795401800000),
    Expiring(1795400900000),
    Wrote(
        (
            WriteResult(1, "ok", Seq(1211), Cursor("k3f9:1211")),
            WriteResult(3, "ok", at=_B, ops=(OpResult("ok", Seq(1212)), OpResult("ok", Seq(1213)))),
            WriteResult(4, "conflict", head=_B),
        )
    ),
    Subscribed(7, "f3", "resume", _A, Cursor("k3f9:1310"), "d59355d07e302075", "k3f9@0"),
    Batch("f3", _A, _B, (_ADDED, _DELETED)),
    Live("f3", Cursor("k3f9:1310"), "1-44,46,50-880", True),
    Fill("f3", (_ADDED,), True),
    Found(8, Cursor("k3f9:1310"), (_ADDED,), count=1),
    CaughtUp("f3", Cursor("k3f9:1310"), 4821, "9c41e0d2"),
    Behind("f3", Cursor("k3f9:1310"), Cursor("k3f9:9800")),
    Ended(7, "f3", "unsubscribed", _B),
    Heads({"notes": Cursor("k3f9:1311")}),
    Error("store_unknown", "there is no store 'nots'; create it, or ask its owner to share it", False, id=7),
    Bye("drain", 500, 4000),
)

#: The messages of a client that are answered, with what the answer can be besides what streams in afterwards.
_REPLIES: dict[type[msgspec.Struct], tuple[type[msgspec.Struct], ...]] = {
    Hello: (Welcome, Error),
    Auth: (Authenticated, Error),
    Add: (Wrote, Error),
    Delete: (Wrote, Error),
    Write: (Wrote, Error),
    Subscribe: (Subscribed, Error),
    Unsubscribe: (Ended, Error),
    Fetch: (Fill, Error),
    Find: (Found, Error),
}


def asyncapi_document(*, version: str) -> dict[str, Any]:
    """Return the document."""
    received, sent = get_args(ClientMessage), get_args(ServerMessage)
    _, schemas = msgspec.json.schema_components((*received, *sent), ref_template=_REF)
    operations = {f"receive{kind.__name__}": _operation("receive", kind) for kind in received}
    operations |= {f"send{kind.__name__}": _operation("send", kind) for kind in sent}
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Syncline",
            "version": version,
            "description": f"WebSocket with the subprotocol {SUBPROTOCOL}: one JSON object per text frame.",
            "license": {"name": "MIT"},
        },
        "defaultContentType": "application/json",
        "channels": {
            "socket": {
                "address": "/v1/ws",
                "description": "The one socket of a client; it carries any number of subscriptions and writes.",
                "messages": {kind.__name__: _message_ref(kind) for kind in (*received, *sent)},
                "bindings": {"ws": {"method": "GET", "bindingVersion": "0.1.0"}},
            }
        },
        "operations": operations,
        "components": {
            "messages": {kind.__name__: _message(kind) for kind in (*received, *sent)},
            "schemas": schemas,
        },
    }


def _operation(action: str, kind: type[msgspec.Struct]) -> dict[str, Any]:
    operation: dict[str, Any] = {"action": action, "channel": _CHANNEL, "messages": [_in_channel(kind)]}
    if kind in _REPLIES:
        operation["reply"] = {"channel": _CHANNEL, "messages": [_in_channel(reply) for reply in _REPLIES[kind]]}
    return operation


def _in_channel(kind: type[msgspec.Struct]) -> dict[str, str]:
    return {"$ref": f"#/channels/socket/messages/{kind.__name__}"}


def _message_ref(kind: type[msgspec.Struct]) -> dict[str, str]:
    return {"$ref": f"#/components/messages/{kind.__name__}"}


def _message(kind: type[msgspec.Struct]) -> dict[str, Any]:
    example = next(message for message in EXAMPLES if type(message) is kind)
    return {
        "name": str(kind.__struct_config__.tag),
        "summary": (kind.__doc__ or "").partition("\n")[0],
        "payload": {"$ref": _REF.format(name=kind.__name__)},
        "examples": [{"payload": msgspec.json.decode(encode(example))}],
    }
