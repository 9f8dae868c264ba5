"""Writes: what the application asks for, and the queue of those that the server has not answered. No I/O.

Invariants of the queue: a write keeps its ops, with the very text of its values, until it is answered; what was
sent and not answered when a connection ends goes back to the front, in the old order; every write that was put in
is settled exactly once, with a `Written`, with `WriteRefused`, or with the error that ended the client or its login.
"""

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from dataclasses import dataclass, field

import msgspec

from syncline_protocol import messages
from syncline_protocol.codec import encode
from syncline_protocol.cursor import Cursor, Seq
from syncline_protocol.errors import KeyInvalid, RemoteProtocolError, ValueInvalid
from syncline_protocol.limits import ID_MAX, Limits
from syncline_protocol.messages import OpResult, Status
from syncline_protocol.values import check_key, check_store_name

from .errors import WriteRefused
from .value import encode_value

__all__ = ["Add", "AwaitedWrite", "Delete", "PendingWrite", "WriteMessage", "WriteQueue", "Written", "check_write"]


@dataclass(frozen=True, slots=True)
class Add:
    """Add a record. `value` is any JSON-able object, or `Json`."""

    key: str
    value: object


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete a record."""

    key: str


@dataclass(frozen=True, slots=True)
class Written:
    """What became of a write.

    Attributes:
        status: `ok`, or `dup` if this very write was committed before; `partial` only with `atomic=False`.
        key: the key, if the write was a single ADD or DELETE.
        seq: the seq of the change, if it was a single one.
        at: the position of its last change.
        deleted: for the `dup` of an ADD: the seq at which the record was deleted since.
        ops: what became of each op of a `write`.
        code: the protocol's error code, of a refusal.
        message: why, in words, of a refusal.
        head: the position of the log at which it was refused for what the log holds: who has read up to there has seen
            what stood in the way.
    """

    status: Status
    key: str | None = None
    seq: Seq | None = None
    at: Cursor | None = None
    deleted: Seq | None = None
    ops: tuple[OpResult, ...] = ()
    code: str | None = None
    message: str | None = None
    head: Cursor | None = None


#: With these a write has happened, in whole or, as it was asked for op by op, in part.
_DONE: frozenset[Status] = frozenset({"ok", "dup", "partial"})

WriteMessage = messages.Add | messages.Delete | messages.Write


@dataclass(slots=True, eq=False)
class PendingWrite(ABC):
    """A write that was not answered yet.

    Attributes:
        size: the bytes of its frame.
        order: its place in the queue.
        predecessors: at how many of its keys it waits for another write.
        was_sent: the server may have it already, as it was sent at least once.
    """

    message: WriteMessage
    size: int
    order: int = field(default=0, init=False)
    predecessors: int = field(default=0, init=False)
    was_sent: bool = field(default=False, init=False)

    @property
    def names(self) -> set[tuple[str, str]]:
        """The store and key of each record that it touches."""
        if isinstance(self.message, messages.Write):
            return {(self.message.store, op.key) for op in self.message.ops}
        return {(self.message.store, self.message.key)}

    @property
    def key(self) -> str | None:
        """The key of a single ADD or DELETE."""
        return None if isinstance(self.message, messages.Write) else self.message.key

    @property
    @abstractmethod
    def is_abandoned(self) -> bool:
        """Whether nobody wants it sent any more."""

    @abstractmethod
    def settle(self, result: Written) -> None:
        """Take the answer."""

    @abstractmethod
    def fail(self, error: Exception) -> None:
        """Take the error that ended the client, or keeps it from going on, before there was an answer."""


@dataclass(slots=True, eq=False)
class AwaitedWrite(PendingWrite):
    """A write whose answer somebody awaits."""

    settled: asyncio.Future[Written]

    @property
    def is_abandoned(self) -> bool:
        return self.settled.done()

    def settle(self, result: Written) -> None:
        if self.settled.done():
            return
        if result.status in _DONE:
            self.settled.set_result(result)
        else:
            self.settled.set_exception(WriteRefused(self.message.store, result))

    def fail(self, error: Exception) -> None:
        if not self.settled.done():
            self.settled.set_exception(error)


def check_write(
    store: str, ops: list[Add | Delete], limits: Limits, *, atomic: bool | None, store_id: str | None
) -> tuple[WriteMessage, int]:
    """Return the message of a write and the bytes of its frame.

    Args:
        atomic: None for a single ADD or DELETE of its own.

    Raises:
        WriteRefused: the store name, a key, a value or the whole breaks a rule; nothing was sent.
    """
    key = ops[0].key if atomic is None else None
    try:
        check_store_name(store)
        message = _message_of(store, ops, limits, atomic, store_id)
        size = len(encode(message))
        if size > limits.frame_bytes_max:
            raise ValueInvalid("too_large", f"the write is {size} bytes, a frame has at most {limits.frame_bytes_max}")
    except RemoteProtocolError as error:
        status: Status = "too_large" if error.code == "too_large" else "invalid"
        refusal = Written(status, key=key, code=error.code, message=error.message)
        raise WriteRefused(store, refusal) from error
    return message, size


def _message_of(
    store: str, ops: list[Add | Delete], limits: Limits, atomic: bool | None, store_id: str | None
) -> WriteMessage:
    """Check every op and put the message together, with the longest id so that its size is the largest."""
    if atomic is None:
        key = check_key(ops[0].key, limits)
        if isinstance(ops[0], Delete):
            return messages.Delete(ID_MAX, store, key, store_id)
        return messages.Add(ID_MAX, store, key, msgspec.Raw(encode_value(ops[0].value, limits)), store_id)
    if not ops:
        raise ValueInvalid("bad_message", "a write has at least one op")
    if len(ops) > limits.ops_max:
        raise ValueInvalid("too_large", f"a write has at most {limits.ops_max} ops")
    checked = tuple(_op_of(op, limits) for op in ops)
    return messages.Write(ID_MAX, store, checked, atomic, store_id)


def _op_of(op: Add | Delete, limits: Limits) -> messages.WriteOp:
    try:
        key = check_key(op.key, limits)
        if isinstance(op, Delete):
            return messages.WriteOp("DELETE", key)
        return messages.WriteOp("ADD", key, msgspec.Raw(encode_value(op.value, limits)))
    except (KeyInvalid, ValueInvalid) as error:
        raise ValueInvalid(error.code, f"{op.key[:80]!r}: {error.message}") from error


class WriteQueue:
    """The writes that were not answered: waiting to be sent, sent, or put off because the server asked for it.

    Writes that share a key go one after the other, the next when the one before was answered for good (PROTOCOL
    11.3.1); all others go at once, in the order in which they were asked for. `unanswered` counts them.
    """

    def __init__(self) -> None:
        self._ready: deque[PendingWrite] = deque()
        self._sent: dict[int, PendingWrite] = {}
        self._put_off: set[PendingWrite] = set()
        # Who may use a key now, and who comes after; most keys never have a follower.
        self._holders: dict[tuple[str, str], PendingWrite] = {}
        self._followers: dict[tuple[str, str], deque[PendingWrite]] = {}
        self._next_order = 0
        self.unanswered = 0

    def put(self, write: PendingWrite) -> None:
        """Take a new write."""
        write.order = self._next_order
        self._next_order += 1
        self.unanswered += 1
        for name in write.names:
            holder = self._holders.setdefault(name, write)
            if holder is not write:
                self._followers.setdefault(name, deque()).append(write)
                write.predecessors += 1
        if not write.predecessors:
            self._ready.append(write)

    def next_to_send(self, in_flight_max: int) -> PendingWrite | None:
        """Return the next write that may be sent now; `sent` has to follow."""
        while self._ready and len(self._sent) < in_flight_max:
            write = self._ready.popleft()
            if not write.is_abandoned:
                return write
            # Nobody waits for it any more: as if it had never been asked for, or been left without an answer.
            self._release(write)
        return None

    def sent(self, request_id: int, write: PendingWrite) -> None:
        """Note under which id a write was sent."""
        write.was_sent = True
        self._sent[request_id] = write

    def answered(self, request_id: int) -> PendingWrite | None:
        """Take out the write that was sent under this id and is answered for good; None if there is none."""
        write = self._sent.pop(request_id, None)
        if write is not None:
            self._release(write)
        return write

    def put_off(self, request_id: int) -> PendingWrite | None:
        """Keep back the write that was sent under this id, until `send_again`; None if there is none."""
        write = self._sent.pop(request_id, None)
        if write is not None:
            self._put_off.add(write)
        return write

    def send_again(self, writes: list[PendingWrite]) -> None:
        """Move writes that were put off to the front. Those that a lost connection moved already are left."""
        self._to_front([write for write in writes if write in self._put_off])
        self._put_off.difference_update(writes)

    def connection_lost(self) -> None:
        """Move everything that was sent or put off to the front, in its old order."""
        self._to_front([*self._sent.values(), *self._put_off])
        self._sent.clear()
        self._put_off.clear()

    def fail_all(self, error: Exception) -> None:
        """Settle every write with an error."""
        self.connection_lost()
        while self._ready:
            write = self._ready.popleft()
            write.fail(error)
            self._release(write)

    def fail_awaited(self, unsent: Exception, sent: Exception) -> None:
        """Fail the writes that somebody awaits, by whether they were sent; those of replicas stay in the queue.

        None is on a connection meanwhile.
        """
        kept: deque[PendingWrite] = deque()
        for write in [write for followers in self._followers.values() for write in followers]:
            write.fail(sent if write.was_sent else unsent)
        while self._ready:
            write = self._ready.popleft()
            write.fail(sent if write.was_sent else unsent)
            if write.is_abandoned:
                self._release(write)
            else:
                kept.append(write)
        self._ready = kept

    def _to_front(self, writes: list[PendingWrite]) -> None:
        self._ready.extendleft(sorted(writes, key=lambda write: -write.order))

    def _release(self, write: PendingWrite) -> None:
        """Forget a write that is settled, and let those go on that wait for its keys."""
        self.unanswered -= 1
        for name in write.names:
            followers = self._followers.get(name)
            if not followers:
                del self._holders[name]
                continue
            follower = self._holders[name] = followers.popleft()
            if not followers:
                del self._followers[name]
            follower.predecessors -= 1
            if not follower.predecessors:
                self._ready.append(follower)
