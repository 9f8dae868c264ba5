"""What can go wrong, as data: the exception tree, the table of error codes, the table of close codes.

    ProtocolError                 base: carries `code`, `message`, `hint`
    ├── LocalProtocolError        we asked a session for something that is not legal now (our bug)
    └── RemoteProtocolError       the peer broke the protocol
        ├── FrameInvalid          a frame that is not a message (bad JSON, wrong fields, unknown type)
        ├── KeyInvalid            a key outside the rules of PROTOCOL 3.2
        ├── ValueInvalid          a value outside the rules of PROTOCOL 3.3
        └── CursorInvalid         text that is not a cursor or a lineage

A wire error says by its code alone whether a retry can help; a close code says it by its range alone:
4000-4499 reconnect with the cursor, 4500-4999 do not (PROTOCOL 10).
"""

from enum import IntEnum
from typing import NamedTuple

__all__ = [
    "CLOSE_CODES",
    "ERROR_CODES",
    "CloseCode",
    "CloseRule",
    "CursorInvalid",
    "ErrorRule",
    "FrameInvalid",
    "KeyInvalid",
    "LocalProtocolError",
    "ProtocolError",
    "RemoteProtocolError",
    "ValueInvalid",
    "may_reconnect",
]


class ErrorRule(NamedTuple):
    """One row of the table of error codes."""

    meaning: str
    retry: bool
    http_status: int


#: Every `code` that an ERROR message or a problem+json body may carry (PROTOCOL 10.1).
ERROR_CODES: dict[str, ErrorRule] = {
    "bad_json": ErrorRule("the frame or body is not valid JSON in UTF-8", False, 400),
    "bad_message": ErrorRule("a field of the message is missing, of the wrong type or out of range", False, 400),
    "unknown_message": ErrorRule("no message of this version has this type", False, 400),
    "unknown_parameter": ErrorRule("the request names a parameter that this version does not have", False, 400),
    "hello_expected": ErrorRule("the first message of a connection is HELLO", False, 400),
    "hello_repeated": ErrorRule("HELLO was sent a second time", False, 400),
    "id_in_use": ErrorRule("a request with this id is still open on this connection", False, 409),
    "store_name_invalid": ErrorRule("the store name breaks the naming rules", False, 400),
    "store_unknown": ErrorRule("there is no store of this name", False, 404),
    "store_mismatch": ErrorRule("the store of this name is not the one the client knew", False, 409),
    "record_unknown": ErrorRule("the store holds no live record of this key", False, 404),
    "write_refused": ErrorRule("nothing was committed; the body says why, op by op", False, 409),
    "cursor_invalid": ErrorRule("the text is not a cursor of this protocol", False, 400),
    "cursor_lost": ErrorRule("the cursor names history that this store does not have", False, 410),
    "filter_invalid": ErrorRule("the filter cannot be used on this store", False, 400),
    "index_invalid": ErrorRule("the index cannot be declared like this", False, 400),
    "index_unknown": ErrorRule("the store has no index of this name", False, 404),
    "index_taken": ErrorRule("the store has another index of this name", False, 409),
    "index_building": ErrorRule("the index does not have everything yet", True, 503),
    "history_gone": ErrorRule("the position is older than the history that was kept", False, 410),
    "unsupported": ErrorRule("the storage of this server cannot do this", False, 501),
    "already_subscribed": ErrorRule("this connection already has a subscription to this feed", False, 409),
    "not_subscribed": ErrorRule("no subscription of this connection has this id", False, 404),
    "too_many_subscriptions": ErrorRule("the connection has as many subscriptions as it may have", False, 429),
    "too_large": ErrorRule("the body, key, value or transaction is larger than the limit", False, 413),
    "key_invalid": ErrorRule("the key breaks the rules for keys", False, 400),
    "value_invalid": ErrorRule("the value breaks the rules for values", False, 400),
    "media_type_unsupported": ErrorRule("the request body has a media type that the route does not take", False, 415),
    "method_not_allowed": ErrorRule("the route does not have this method", False, 405),
    "not_found": ErrorRule("there is no such route", False, 404),
    "origin_refused": ErrorRule("a web page of another origin may not use this server", False, 403),
    "body_timeout": ErrorRule("the request body did not come in time", True, 408),
    "unauthenticated": ErrorRule(
        "this needs credentials that the server accepts; there are none, or they do not hold", False, 401
    ),
    "token_expired": ErrorRule("the token has expired; bring a new one", False, 401),
    "login_failed": ErrorRule("no account has this name and password, or it is disabled", False, 401),
    "forbidden": ErrorRule("no grant allows this", False, 403),
    "quota_exceeded": ErrorRule("the change would exceed what the grant or the store allows to keep here", False, 403),
    "rate_limited": ErrorRule("too many requests or attempts in a short time", True, 429),
    "token_in_url": ErrorRule("credentials were sent in a URL, where logs and histories keep them", False, 400),
    "name_taken": ErrorRule("somebody or something else has this name, or an account had it once", False, 409),
    "account_unknown": ErrorRule("there is no such user, group, token, grant or invitation", False, 404),
    "account_invalid": ErrorRule("a name, password or other field breaks the rules for accounts", False, 400),
    "invitation_invalid": ErrorRule("the invitation is unknown, used up, expired or taken back", False, 404),
    "drain": ErrorRule("the server is shutting down; reconnect later", True, 503),
    "overloaded": ErrorRule("the server has no room for this request now", True, 503),
    "storage_unavailable": ErrorRule("the storage failed; whether the change was committed is unknown", True, 503),
    "storage_full": ErrorRule("the storage has no room; nothing was committed", True, 507),
    "internal": ErrorRule("the server failed in a way that it did not expect", True, 500),
}


class CloseCode(IntEnum):
    """The close codes of this protocol (PROTOCOL 10.2)."""

    DRAIN = 4000
    OVERLOADED = 4001
    STALLED = 4002
    NO_HEARTBEAT = 4003
    HELLO_TIMEOUT = 4004
    FAILED = 4005
    DESYNC = 4006
    TOKEN_EXPIRED = 4007
    RATE_LIMITED = 4008
    VERSION_UNSUPPORTED = 4500
    MISUSE = 4501
    FRAME_INVALID = 4502
    UNAUTHENTICATED = 4503


class CloseRule(NamedTuple):
    """One row of the table of close codes."""

    name: str
    reconnect: bool
    meaning: str


#: Our codes and those of RFC 6455 that a client may see, with what the client does (PROTOCOL 10.2).
CLOSE_CODES: dict[int, CloseRule] = {
    1000: CloseRule("normal", True, "the peer closed without a complaint"),
    1001: CloseRule("going_away", True, "the peer or a proxy is going away"),
    1002: CloseRule("protocol_error", False, "the WebSocket framing was broken"),
    1003: CloseRule("unsupported_data", False, "a binary frame was sent; this subprotocol has text frames only"),
    1005: CloseRule("no_code", True, "the connection was closed without a code"),
    1006: CloseRule("abnormal", True, "the connection was lost"),
    1007: CloseRule("not_utf8", False, "a text frame was not UTF-8"),
    1008: CloseRule("policy", False, "a proxy or server refuses this client"),
    1009: CloseRule("frame_too_large", False, "a frame was larger than the limit that WELCOME announced"),
    1011: CloseRule("server_error", True, "the peer failed"),
    1012: CloseRule("service_restart", True, "the server restarts"),
    1013: CloseRule("try_again_later", True, "the server has no room"),
    1014: CloseRule("bad_gateway", True, "a proxy could not reach the server"),
    1015: CloseRule("tls_failed", False, "the TLS handshake failed"),
    CloseCode.DRAIN: CloseRule("drain", True, "the server shuts down; BYE said when to come back"),
    CloseCode.OVERLOADED: CloseRule("overloaded", True, "the server has no room for another connection"),
    CloseCode.STALLED: CloseRule("stalled", True, "the client did not read for too long"),
    CloseCode.NO_HEARTBEAT: CloseRule("no_heartbeat", True, "nothing was heard from the peer for too long"),
    CloseCode.HELLO_TIMEOUT: CloseRule("hello_timeout", True, "HELLO or WELCOME did not come in time"),
    CloseCode.FAILED: CloseRule("failed", True, "the server failed while it served this connection"),
    CloseCode.DESYNC: CloseRule("desync", True, "a batch did not begin where the last one ended"),
    CloseCode.TOKEN_EXPIRED: CloseRule("token_expired", True, "the token has expired; come back with a new one"),
    CloseCode.RATE_LIMITED: CloseRule("rate_limited", True, "too many messages in a short time"),
    CloseCode.VERSION_UNSUPPORTED: CloseRule("version_unsupported", False, "no subprotocol in common"),
    CloseCode.MISUSE: CloseRule("misuse", False, "a message came in a state that does not allow it"),
    CloseCode.FRAME_INVALID: CloseRule("frame_invalid", False, "too many frames in a row that are no messages"),
    CloseCode.UNAUTHENTICATED: CloseRule("unauthenticated", False, "the credentials do not hold, or were taken back"),
}


def may_reconnect(close_code: int) -> bool:
    """Return whether a client may connect again after this close code, known to it or not (PROTOCOL 10.2)."""
    rule = CLOSE_CODES.get(close_code)
    if rule is not None:
        return rule.reconnect
    return not 4500 <= close_code <= 4999


class ProtocolError(Exception):
    """Base of the tree. `code` is a key of ERROR_CODES; `hint` says what the reader can do about it."""

    def __init__(self, code: str, message: str, *, hint: str = "") -> None:
        assert code in ERROR_CODES, code
        super().__init__(code, message)
        self.code = code
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.code})" + (f"; {self.hint}" if self.hint else "")

    @property
    def text(self) -> str:
        """Message and hint, for where the code stands beside them."""
        return self.message + (f"; {self.hint}" if self.hint else "")


class LocalProtocolError(ProtocolError):
    """The caller asked a session for something that its state does not allow. The state is unchanged."""


class RemoteProtocolError(ProtocolError):
    """The peer sent something that the protocol does not allow.

    `request_id` is the id of the request it belongs to, if there was one; `close` is set when the
    connection cannot go on.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        hint: str = "",
        request_id: int | None = None,
        close: CloseCode | None = None,
    ) -> None:
        super().__init__(code, message, hint=hint)
        self.request_id = request_id
        self.close = close


class FrameInvalid(RemoteProtocolError):
    """A frame that is not a message of this protocol."""


class KeyInvalid(RemoteProtocolError):
    """A key outside the rules of PROTOCOL 3.2."""


class ValueInvalid(RemoteProtocolError):
    """A value outside the rules of PROTOCOL 3.3."""


class CursorInvalid(RemoteProtocolError):
    """Text that is not a cursor or lineage. `code` is `cursor_invalid`."""

    def __init__(self, message: str) -> None:
        super().__init__("cursor_invalid", message, hint="give back the whole text that the server sent")
