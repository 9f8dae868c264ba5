"""Group commit: everything that waits goes to the storage in one append, with one flush.

While one append is under way new writes gather for the next, so the batch grows with the load and a lone writer
waits for nobody. Owns the order of things after a commit: durable, then published to the feeds, then acknowledged
(P1, P2). A failed append has an unknown outcome: its writes are answered `retry`, the storage is opened anew and
the feeds are checked against it before the next append.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

from syncline_protocol.transaction import Transaction

from .log import Log
from .metrics import Counts
from .storage.base import Appended, Commit, Outcome, Storage, StorageError, StorageFull, StorageUnavailable

__all__ = ["Answer", "Committer", "Writer"]

#: What a writer gets for each of its transactions.
Answer = Outcome | StorageError

#: An append takes at most about so many ops and bytes, so that an ack never waits for a whole flood.
_APPEND_OPS_MAX = 4096
_APPEND_BYTES_MAX = 8 * 1024 * 1024

#: Between two tries to open a storage that failed.
_REOPEN_S = 0.5


class Writer(Protocol):
    """Who submits transactions and is told what became of them; a `Connection` is one."""

    def answered(self, answers: "list[tuple[int, Transaction, Answer]]") -> None:
        """Take the answers of one append to all the transactions of this writer in it."""


class Committer:
    """Args:
    publish: takes each commit, before the acks go out.
    recheck: compares the feeds with the storage after it was opened anew.
    now_ms: the wall clock in ms since 1970; now: a monotonic clock in seconds.
    """

    def __init__(
        self,
        storage: Storage,
        counts: Counts,
        log: Log,
        *,
        publish: Callable[[Commit], None],
        recheck: "Callable[[], asyncio.Future[None]]",
        now_ms: Callable[[], int],
        now: Callable[[], float],
    ) -> None:
        self._storage = storage
        self._counts = counts
        self._log = log
        self._publish = publish
        self._recheck = recheck
        self._now_ms = now_ms
        self._now = now
        self._waiting: list[tuple[Transaction, Writer, int]] = []
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._task: asyncio.Task[None] | None = None
        self.available = True

    def start(self) -> None:
        """Begin to commit. The storage is open."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name="committer")

    async def stop(self) -> None:
        """Commit what waits, then stop."""
        if self._task is not None:
            await self._idle.wait()
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def drained(self) -> None:
        """Return when nothing waits and no append is under way."""
        await self._idle.wait()

    def submit(self, transaction: Transaction, writer: Writer, request_id: int) -> None:
        """Take a transaction; `writer.answered` will get the answer under this id."""
        self._waiting.append((transaction, writer, request_id))
        self._wake.set()
        self._idle.clear()

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            batch = self._take()
            try:
                appended = await self._append(batch)
            except StorageFull as error:
                self._log.error("storage_full", error=str(error))
                self._answer(batch, [error] * len(batch))
            except StorageError as error:
                await self._recover(batch, error)
            else:
                for commit in appended.commits:
                    self._publish(commit)
                self._answer(batch, appended.outcomes)
            if not self._waiting:
                self._wake.clear()
                self._idle.set()

    def _take(self) -> list[tuple[Transaction, Writer, int]]:
        waiting = self._waiting
        ops = size = 0
        for index, (transaction, _, _) in enumerate(waiting):
            ops += len(transaction.ops)
            size += sum([len(op.value) for op in transaction.ops if op.value is not None])
            if ops >= _APPEND_OPS_MAX or size >= _APPEND_BYTES_MAX:
                self._waiting = waiting[index + 1 :]
                return waiting[: index + 1]
        self._waiting = []
        return waiting

    async def _append(self, batch: list[tuple[Transaction, Writer, int]]) -> Appended:
        transactions = [transaction for transaction, _, _ in batch]
        began = self._now()
        appended = await self._storage.append(transactions, self._now_ms())
        self._counts.commits += 1
        self._counts.commit_seconds.observe(self._now() - began)
        self._counts.commit_ops.observe(sum([len(transaction.ops) for transaction in transactions]))
        return appended

    def _answer(self, batch: list[tuple[Transaction, Writer, int]], answers: Sequence[Answer]) -> None:
        by_writer: dict[Writer, list[tuple[int, Transaction, Answer]]] = {}
        for (transaction, writer, request_id), answer in zip(batch, answers, strict=True):
            by_writer.setdefault(writer, []).append((request_id, transaction, answer))
        for writer, own in by_writer.items():
            writer.answered(own)

    async def _recover(self, batch: list[tuple[Transaction, Writer, int]], error: StorageError) -> None:
        """Open the storage anew; until that succeeds every write is answered `retry` at once."""
        self.available = False
        self._counts.commit_failures += 1
        self._log.error("storage_failed", error=str(error))
        self._answer(batch, [error] * len(batch))
        while True:
            waiting, self._waiting = self._waiting, []
            self._answer(waiting, [error] * len(waiting))
            try:
                await self._storage.open()
                break
            except StorageError as again:
                self._log.error("storage_still_failing", error=str(again))
                error = again if isinstance(again, StorageUnavailable) else error
                await asyncio.sleep(_REOPEN_S)
        await self._recheck()
        self.available = True
        self._log.warning("storage_reopened")
