"""What can go wrong in the client, as data: one exception tree.

    SynclineError                  base: carries `message` and `hint`
    ├── Misuse                     the caller asked for something that makes no sense here (a bug in the program)
    │   └── AddressInvalid         the URL of the server cannot be used (also a ValueError)
    ├── ConnectionFailed           the server could not be reached; carries `url`, `reason`, `close_code`
    │   └── ConnectionForbidden    the server or a proxy forbids to come back
    │       └── AuthRequired       somebody has to log in; a token function raises it too
    ├── ClientClosed               the client was closed while this was under way
    ├── WriteRefused               the server refused a write, or it broke a rule before it was sent; carries `result`
    ├── RequestRefused             the server refused an HTTP request; carries `status` and `code`
    │   ├── LoginFailed            there is no such user with this password
    │   ├── Forbidden              nobody granted this to us
    │   └── RateLimited            too many requests; carries `after_s`
    ├── WriteRejected              a replica's write was refused for good; carries `write`
    ├── FlushTimeout               the server did not get everything in time; carries `pending` (also a TimeoutError)
    ├── OutboxFull                 more waits to be sent than may; carries `size` and `size_max`
    ├── DocumentError              base of what a collection cannot do; carries `document`
    │   ├── DocumentGone           the document was deleted
    │   └── DocumentMismatch       its attributes do not fit the type that was asked for
    ├── LocalFileError             base of what is wrong with a replica's file; carries `path`
    │   ├── LocalFileLocked        another program or replica has it locked
    │   ├── LocalFileCorrupt       it is damaged, or no database at all
    │   ├── LocalFileTooNew        a later version wrote it; carries `found` and `known`
    │   ├── LocalFileInvalid       it is a database, but not this replica's
    │   ├── LocalFileFull          there is no room on the disk
    │   └── LocalFileFailed        it cannot be opened, read or written
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
    from .replica.write import Write
    from .write import Written

__all__ = [
    "AddressInvalid",
    "AuthRequired",
    "ClientClosed",
    "ConnectionFailed",
    "ConnectionForbidden",
    "DocumentError",
    "DocumentGone",
    "DocumentMismatch",
    "FlushTimeout",
    "Forbidden",
    "HistoryChanged",
    "LocalFileCorrupt",
    "LocalFileError",
    "LocalFileFailed",
    "LocalFileFull",
    "LocalFileInvalid",
    "LocalFileLocked",
    "LocalFileTooNew",
    "LoginFailed",
    "Misuse",
    "OutboxFull",
    "RateLimited",
    "RequestRefused",
    "SubscriptionEnded",
    "SubscriptionError",
    "SubscriptionRefused",
    "SynclineError",
    "WriteRefused",
    "WriteRejected",
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


class AuthRequired(ConnectionForbidden):
    """Somebody has to log in: the credentials were refused, or there are none.

    A token function raises it when it knows that. The client then makes no attempts in vain, but waits for
    `Client.authenticate`; `reason` is in its status.
    """

    def __init__(
        self,
        reason: str = "somebody has to log in",
        *,
        url: str = "",
        close_code: int | None = None,
        hint: str = "",
    ) -> None:
        super().__init__(url, reason, close_code=close_code, hint=hint)
        if not url:
            self.message = reason


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


class LoginFailed(RequestRefused):
    """There is no such user, or this is not the password. The server does not say which."""


class Forbidden(RequestRefused):
    """The server knows who asks, and nobody granted this to him. Another login may be allowed to."""


class RateLimited(RequestRefused):
    """There were too many requests. `after_s`: the seconds after which the same may work, if the server said that."""

    def __init__(self, status: int, code: str, message: str, *, hint: str = "", after_s: float | None = None) -> None:
        super().__init__(status, code, message, hint=hint)
        self.after_s = after_s


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
        hint = "nobody grants it any more; ask an owner of the store" if reason == "forbidden" else ""
        super().__init__(store, f"the subscription ended: {reason}", hint=hint)
        self.reason = reason


class WriteRejected(SynclineError):
    """A write of a replica was refused, and is in the list of its rejections.

    `write` is that write, with its `refusal`: `write.retry()` sends it again, `write.discard()` forgets it.
    """

    def __init__(self, store: str, write: "Write") -> None:
        refusal = write.refusal
        status = refusal.status if refusal else "discarded"
        if refusal and refusal.ops:
            status = next((each for each in refusal.ops if each not in ("ok", "dup", "skipped")), status)
        what = repr(write.keys[0]) if len(write.keys) == 1 else f"{len(write.keys)} ops"
        reason = status + (f" ({refusal.message})" if refusal and refusal.message else "")
        super().__init__(f"{store}: the write of {what} was rejected: {reason}", hint=_HINTS.get(status, ""))
        self.store = store
        self.write = write
        self.status = status


class FlushTimeout(SynclineError, TimeoutError):
    """The server did not get everything in time. What was written is stored locally and will be sent."""

    def __init__(self, store: str, pending: int, timeout_s: float, reason: str) -> None:
        super().__init__(
            f"{store}: {pending} of the writes have not reached the server within {timeout_s:g} s ({reason})",
            hint="they are kept and will be sent; look at the replica's status",
        )
        self.store = store
        self.pending = pending


class OutboxFull(SynclineError):
    """More waits to be sent than the replica may hold in memory. The write was not stored."""

    def __init__(self, store: str, size: int, size_max: int) -> None:
        super().__init__(
            f"{store}: the outbox holds {size} bytes, at most {size_max} are allowed",
            hint="wait until the server can be reached, or give the replica a larger `outbox_bytes_max`",
        )
        self.store = store
        self.size = size
        self.size_max = size_max


class DocumentError(SynclineError):
    """Base of what a collection cannot do. `document` is the path of the document."""

    def __init__(self, document: str, message: str, *, hint: str = "") -> None:
        super().__init__(f"{document}: {message}", hint=hint)
        self.document = document


class DocumentGone(DocumentError):
    """The document was deleted, here or by somebody else."""

    def __init__(self, document: str) -> None:
        super().__init__(document, "the document is not there, or not any more")


class DocumentMismatch(DocumentError):
    """The attributes of a document do not fit the type of its collection."""

    def __init__(self, document: str, kind: str, fault: str) -> None:
        super().__init__(
            document,
            f"its attributes do not make a {kind}: {fault}",
            hint="give the field a default, or read the attributes without a type",
        )
        self.kind = kind


class LocalFileError(SynclineError):
    """Base of what is wrong with the file of a replica. `path` is that file."""

    def __init__(self, path: str, message: str, *, hint: str = "") -> None:
        super().__init__(f"{path}: {message}", hint=hint)
        self.path = path


class LocalFileLocked(LocalFileError):
    """Another program, or another replica of this one, has the file locked."""

    def __init__(self, path: str) -> None:
        super().__init__(
            path,
            "another program, or another replica of this one, has the file locked",
            hint="close that one, or give this one another path",
        )


class LocalFileCorrupt(LocalFileError):
    """The file is damaged, or is no database at all. Nothing in it was changed."""

    def __init__(self, path: str, fault: str) -> None:
        super().__init__(
            path,
            f"the file is damaged or no replica ({fault})",
            hint="`syncline outbox PATH` shows what it still holds that the server may not have; then move it away",
        )


class LocalFileTooNew(LocalFileError):
    """A later version of this program wrote the file. Nothing in it was changed."""

    def __init__(self, path: str, found: int, known: int) -> None:
        super().__init__(
            path,
            f"the file has format {found}, this version knows formats up to {known}",
            hint="update syncline, or give the replica another path",
        )
        self.found = found
        self.known = known


class LocalFileInvalid(LocalFileError):
    """The file is a database, but not that of this replica. Nothing in it was changed."""


class LocalFileFull(LocalFileError):
    """There is no room on the disk. What was being written was not stored; what was stored before is there."""

    def __init__(self, path: str) -> None:
        super().__init__(path, "there is no room on the disk", hint="make room; what was stored before is not lost")


class LocalFileFailed(LocalFileError):
    """The file cannot be opened, read or written. What was being written may have been stored: the replica shows it."""
