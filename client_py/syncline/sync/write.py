"""A write of a replica, with methods that block."""

from typing import NoReturn

from syncline import errors
from syncline.replica import write
from syncline.replica.entry import EntryId, Refusal, SyncState
from syncline_protocol.cursor import Cursor, Seq

from .loop_thread import LoopThread

__all__ = ["Write", "WriteRejected", "raise_rejected"]


class Write:
    """A write; made by the methods of a `Replica`, which return it once it is stored locally.

    It is kept and sent until the server has it or refuses it, also over restarts of the program: `Replica.pending`
    and `Replica.rejections` give it again.
    """

    def __init__(self, thread: LoopThread, inner: write.Write) -> None:
        self._thread = thread
        self._inner = inner

    @property
    def id(self) -> EntryId:
        """Its number among the writes of this replica."""
        return self._inner.id

    @property
    def state(self) -> SyncState:
        """PENDING, ACKED (the server has it), SYNCED (and it has come back with the feed), or REJECTED."""
        return self._inner.state

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys of its ops, in order."""
        return self._inner.keys

    @property
    def key(self) -> str:
        """The key of its first op; empty for a write that had nothing to do."""
        return self._inner.key

    @property
    def seq(self) -> Seq | None:
        """The seq of its last change, once the server has it."""
        return self._inner.seq

    @property
    def at(self) -> Cursor | None:
        """The position of its last change, once the server has it."""
        return self._inner.at

    @property
    def refusal(self) -> Refusal | None:
        """Why it was refused; of a PENDING one, what it waits for."""
        return self._inner.refusal

    def stored(self, timeout: float | None = None) -> Seq:
        """Wait until the server has it; return the seq of its last change.

        Args:
            timeout: seconds to wait at most.

        Raises:
            WriteRejected: the server refused it.
            ClientClosed: the replica was closed first; the write is kept, and sent when it is opened again.
            TimeoutError: it took longer; the write goes on.
        """
        try:
            return self._thread.run(self._inner.stored(timeout))
        except errors.WriteRejected as error:
            raise_rejected(self._thread, error)

    def synced(self, timeout: float | None = None) -> Seq:
        """Wait until it has come back with the feed. Otherwise as `stored`."""
        try:
            return self._thread.run(self._inner.synced(timeout))
        except errors.WriteRejected as error:
            raise_rejected(self._thread, error)

    def retry(self) -> "Write":
        """Send a rejected write again, as it is. Returns itself."""
        self._thread.run(self._inner.retry())
        return self

    def discard(self) -> None:
        """Forget a rejected write, or one that waits for what it builds on."""
        self._thread.run(self._inner.discard())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Write) and other._inner is self._inner

    def __hash__(self) -> int:
        return hash(self._inner)

    def __repr__(self) -> str:
        return repr(self._inner)


class WriteRejected(errors.WriteRejected):
    """A write of a replica was refused, and is in the list of its rejections.

    `write` is that write, with its `refusal`: `write.retry()` sends it again, `write.discard()` forgets it. Whoever
    catches `syncline.WriteRejected` catches this.
    """

    write: Write  # type: ignore[assignment]


def raise_rejected(thread: LoopThread, error: errors.WriteRejected) -> NoReturn:
    """Raise the same error with a write that blocks."""
    raised = WriteRejected(error.store, error.write)
    raised.write = Write(thread, error.write)
    raise raised from None
