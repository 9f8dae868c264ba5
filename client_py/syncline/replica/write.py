"""A write of a replica as the application holds it: made at once, stored on the server later."""

import asyncio
from typing import TYPE_CHECKING

from syncline.errors import SynclineError, WriteRejected
from syncline_protocol.cursor import Cursor, Seq

from .entry import Entry, EntryId, Refusal, SyncState

if TYPE_CHECKING:
    from .replica import Replica

__all__ = ["Write"]

_HAS_IT = frozenset({SyncState.ACKED, SyncState.SYNCED})


class Write:
    """A write; made by the methods of a `Replica`, which return it once it is stored locally.

    It is kept and sent until the server has it or refuses it, also over restarts of the program: `Replica.pending`
    and `Replica.rejections` give it again.
    """

    def __init__(self, replica: "Replica", entry: Entry) -> None:
        self._replica = replica
        self._entry = entry
        self._waiting: list[tuple[frozenset[SyncState], asyncio.Future[None]]] = []
        self._ended_by: SynclineError | None = None

    @property
    def id(self) -> EntryId:
        """Its number among the writes of this replica."""
        return self._entry.id

    @property
    def state(self) -> SyncState:
        """PENDING, ACKED (the server has it), SYNCED (and it has come back with the feed), or REJECTED."""
        return self._entry.state

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys of its ops, in order."""
        return self._entry.keys

    @property
    def key(self) -> str:
        """The key of its first op; empty for a write that had nothing to do."""
        return self._entry.ops[0].key if self._entry.ops else ""

    @property
    def seq(self) -> Seq | None:
        """The seq of its last change, once the server has it."""
        return max(self._entry.seqs, default=None)

    @property
    def at(self) -> Cursor | None:
        """The position of its last change, once the server has it."""
        return self._entry.at

    @property
    def refusal(self) -> Refusal | None:
        """Why it was refused; of a PENDING one, what it waits for."""
        return self._entry.refusal

    async def stored(self, timeout: float | None = None) -> Seq:
        """Wait until the server has it; return the seq of its last change.

        Args:
            timeout: seconds to wait at most.

        Raises:
            WriteRejected: the server refused it.
            ClientClosed: the replica was closed first; the write is kept, and sent when it is opened again.
            TimeoutError: it took longer; the write goes on.
        """
        await self._reach(_HAS_IT, timeout)
        return self.seq or Seq(0)

    async def synced(self, timeout: float | None = None) -> Seq:
        """Wait until it has come back with the feed. Otherwise as `stored`."""
        await self._reach(frozenset({SyncState.SYNCED}), timeout)
        return self.seq or Seq(0)

    async def retry(self) -> "Write":
        """Send a rejected write again, as it is."""
        await self._replica.retry(self)
        return self

    async def discard(self) -> None:
        """Forget a rejected write, or one that waits for what it builds on."""
        await self._replica.discard(self)

    async def _reach(self, states: frozenset[SyncState], timeout: float | None) -> None:
        async with asyncio.timeout(timeout):
            while self.state not in states:
                if self.state is SyncState.REJECTED:
                    raise WriteRejected(self._replica.store, self)
                if self._ended_by is not None:
                    raise self._ended_by
                reached: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                self._waiting.append((states, reached))
                await reached

    # --- for the replica ---

    def moved(self, entry: Entry) -> None:
        """Take the entry as it is now."""
        self._entry = entry
        self._wake()

    def end(self, error: SynclineError | None) -> None:
        """Nothing will become of it in this process; None: it may again."""
        self._ended_by = error
        self._wake()

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for _, reached in waiting:
            if not reached.done():
                reached.set_result(None)

    def __repr__(self) -> str:
        return f"Write(id={self.id}, state={self.state.value}, keys={self.keys!r}, seq={self.seq})"
