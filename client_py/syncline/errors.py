"""What can go wrong in the client, as data: one exception tree.

    SynclineError                  base: carries `message` and `hint`
    ├── Misuse                     the caller asked for something that makes no sense here (a bug in the program)
    │   └── AddressInvalid         the URL of the server cannot be used (also a ValueError)
    ├── ConnectionFailed           the server could not be reached; carries `url`, `reason`, `close_code`
    │   └── ConnectionForbidden    the server or a proxy forbids to come back
    ├── ClientClosed               the client was closed while this was under way
    ├── WriteRefused               the server refused a write, or it broke a rule before it was sent; carries `result`
    ├── RequestRefused             the server refused an HTTP request; carries `status` and `code`
    └── SubscriptionError          base of what ends an iteration; carries `store`
        ├── HistoryChanged         the store's history is not the one that was read so far; carries `event`
        ├── SubscriptionRefused    the server did not open the subscription; carries `code`
        └── SubscriptionEnded      the server ended the subscription; carries `reason`

Texts have the form "what happened to what; what to do". `hint` is the second half and may be empty.
"""

from typing import TYPE_CHECKING

from syncline_protocol.messages import EndReason

if TYPE_CHECKING:
    from .event import Restarted, Rewound
    from .write import Written

__all__ = [
    "AddressInvalid",
    "ClientClosed",
    "ConnectionFailed",
    "ConnectionForbidden",
    "HistoryChanged",
    "Misuse",
    "RequestRefused",
    "SubscriptionEnded",
    "SubscriptionError",
    "SubscriptionRefused",
    "SynclineError",
    "WriteRefused",
]


class SynclineError(Exception):
    """Base of everything that this package raises on purpose."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message + (f"; {self.hint}" if self.hint else "")


class Misuse(SynclineError):
    """The program used the client in a way that cannot work."""


class AddressInvalid(Misuse, ValueError):
    """The URL is not one of a Syncline server."""

    def __init__(self, url: str, fault: str) -> None:
        super().__init__(
            f"{url!r} is not the address of a server: {fault}",
            hint="give one like http://127.0.0.1:7171, or https://host/prefix",
        )
        self.url = url


class ConnectionFailed(SynclineError):
    """The server could not be reached, or did not answer as a Syncline server does.

    `close_code` is that of the WebSocket, or None if it was refused before it was one.
    """

    def __init__(self, url: str, reason: str, *, close_code: int | None = None, hint: str = "") -> None:
        super().__init__(f"no connection to {url}: {reason}", hint=hint)
        self.url = url
        self.reason = reason
        self.close_code = close_code


class ConnectionForbidden(ConnectionFailed):
    """The connection ended with a code or status after which a client does not come back."""


class ClientClosed(SynclineError):
    """The client was closed; what was under way may or may not have happened.

    A write that ends like this can be sent again with the same key and value: it has one effect.
    """

    def __init__(self, message: str = "the client is closed", *, hint: str = "") -> None:
        super().__init__(message, hint=hint)


#: What to do about a refused write, by status. Where the server says it itself there is none.
_HINTS = {
    "conflict": "records never change: add the new value under a new key, or replace the record in one write",
    "gone": "a key is used once: add the value under a new key",
    "absent": "there is no record of this key to delete",
    "denied": "ask for a grant that allows it",
    "exists": "the record is there already: leave this op out",
    "too_large": "split it into smaller records",
}


class WriteRefused(SynclineError):
    """A write had no effect. `result` says which op was refused and why.

    Ops that were sound are `skipped` in `result.ops`. `status` is `conflict`, `gone`, `absent`, `denied`, `invalid`,
    `too_large` or `refused`.
    """

    def __init__(self, store: str, result: "Written") -> None:
        status = _first_fault(result)
        what = "several ops" if result.key is None else repr(result.key)
        reason = result.message if result.message and status == "refused" else status
        if result.message and status != "refused":
            reason += f" ({result.message})"
        super().__init__(f"{store}: the write of {what} was refused: {reason}", hint=_HINTS.get(status, ""))
        self.store = store
        self.result = result
        self.status = result.status
        self.code = result.code


def _first_fault(result: "Written") -> str:
    """Return the status that says why: that of the first op that was not sound, if there are ops."""
    for op in result.ops:
        if op.status not in ("ok", "dup", "skipped"):
            return op.status
    return result.status


class RequestRefused(SynclineError):
    """An HTTP request was answered with a problem.

    `status` is that of HTTP, `code` the protocol's error code or "" if something else than a Syncline server answered.
    """

    def __init__(self, status: int, code: str, message: str, *, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.code = code


class SubscriptionError(SynclineError):
    """Base of what ends the iteration of a subscription."""

    def __init__(self, store: str, message: str, *, hint: str = "") -> None:
        super().__init__(f"{store}: {message}", hint=hint)
        self.store = store


class HistoryChanged(SubscriptionError):
    """What was read so far is no longer the beginning of what follows.

    The server was restored from a backup, or the store was made anew, or the position is older than what the server
    still knows. `event` says how it goes on.
    """

    def __init__(self, store: str, event: "Rewound | Restarted") -> None:
        super().__init__(
            store,
            f"the history of the store changed ({event})",
            hint="drop what you derived from it and subscribe from the start, or iterate over events() and act on it",
        )
        self.event = event


class SubscriptionRefused(SubscriptionError):
    """The server did not open the subscription. `code` is a key of the protocol's table of error codes."""

    def __init__(self, store: str, code: str, message: str) -> None:
        super().__init__(store, f"cannot subscribe: {message} ({code})")
        self.code = code


class SubscriptionEnded(SubscriptionError):
    """The server ended the subscription and taking it up again cannot help."""

    def __init__(self, store: str, reason: EndReason) -> None:
        super().__init__(store, f"the subscription ended: {reason}")
        self.reason = reason
