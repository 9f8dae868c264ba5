"""The protocol of Syncline, pure: no sockets, no clocks, no randomness.

PROTOCOL.md beside this package is the normative text. `messages` and `codec` are the frames, `cursor` the
positions and the resume table, `transaction` and `values` what a write may be, `server` and `client` the two ends of
a connection, `limits` and `errors` the tables. Server and client packages import this one and never each other.
"""

from .client import ClientSession
from .cursor import NOW, START, Cursor, Lineage, Position, Seq, decide_resume, parse_cursor
from .errors import (
    CLOSE_CODES,
    ERROR_CODES,
    CloseCode,
    CursorInvalid,
    FrameInvalid,
    KeyInvalid,
    LocalProtocolError,
    ProtocolError,
    RemoteProtocolError,
    ValueInvalid,
    may_reconnect,
)
from .limits import DEFAULT_LIMITS, Limits
from .server import ServerSession
from .states import SessionState
from .transaction import Op, Transaction

#: The subprotocol that both ends offer and choose.
SUBPROTOCOL = "syncline.v1.json"

__all__ = [
    "CLOSE_CODES",
    "DEFAULT_LIMITS",
    "ERROR_CODES",
    "NOW",
    "START",
    "SUBPROTOCOL",
    "ClientSession",
    "CloseCode",
    "Cursor",
    "CursorInvalid",
    "FrameInvalid",
    "KeyInvalid",
    "Limits",
    "Lineage",
    "LocalProtocolError",
    "Op",
    "Position",
    "ProtocolError",
    "RemoteProtocolError",
    "Seq",
    "ServerSession",
    "SessionState",
    "Transaction",
    "ValueInvalid",
    "decide_resume",
    "may_reconnect",
    "parse_cursor",
]
