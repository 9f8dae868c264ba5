"""Group commit: everything that waits goes to the storage in one append, with one flush.

While one append is under way new writes gather for the next, so the batch grows with the load and a lone writer
waits for nobody. Owns the order of things after a commit: durable, then published to the feeds, then acknowledged
(P1, P2). A failed append has an unknown outcome, whatever it failed with: its writes are answered `retry`, the
storage is opened anew and the feeds are checked against it before the next append.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

from syncline_protocol.transaction import Transaction

from .access.principal import Principal
from .log import Log
from .metrics import Counts
from .storage.base import Appended, Commit, Outcome, Storage, StorageError, StorageFull, StorageUnavailable
from .turns import Turns

__all__ = ["Answer", "Committer", "Writer"]

#: What a writer gets for each of its transactions.
Answer = Outcome | StorageError

#: An append takes at most about so many ops and bytes, so that an ack never waits for a whole flood.
_APPEND_OPS_MAX = 4096
_APPEND_BYTES_MAX = 8 * 1024 * 1024

#: So many turns of the event loop, about 20 µs each, may bring nothing before those that wait are committed.
_IDLE_TURNS_MAX = 8

#: Between two tries to open a storage that failed.
_REOPEN_S = 0.5


class Writer(Protocol):
    """Who submits transactions and is told what became of them; a `Connection` is one."""

    @property
    def principal(self) -> Principal:
        """In whose name he writes."""

    def answered(self, answers: "list[tuple[int, Transaction, Answer]]") -> None:
        """Take the answers of one append to all the transactions of this writer in it."""


class Committer:
    """Args:
    turns: lets appends go before fan-out.
    publish: takes each commit, before the acks go out.
    recheck: compares the feeds with the storage after it was opened anew.
    now_ms: the wall clock in ms since 1970; now: a monotonic clock in seconds.
    """

    def __init__(
        self,
        storage: Storage,
        counts: Counts,
        log: Log,
        turns: Turns,
        *,
        publish: Callable[[Commit], None],
        recheck: "Callable[[], asyncio.Future[None]]",
        now_ms: Callable[[], int],
        now: Callable[[], float],
    ) -> None:
        self._storage = storage
        self._counts = counts
        self._log = log
        self._turns = turns
        self._publish = publish
        self._recheck = recheck
        self._now_ms = now_ms
        self._now = now
        self._waiting: list[tuple[Transaction, Writer, int]] = []
        self._answered = 0
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._task: asyncio.Task[None] | None = None
        self._suspicion: StorageUnavailable | None = None
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

    def revise(self, judge: Callable[[Transaction, Writer], Transaction | StorageError]) -> None:
        """Judge everything anew that waits and is not in an append yet; what gets an error goes no further."""
        refused: list[tuple[Transaction, Writer, int]] = []
        errors: list[Answer] = []
        kept: list[tuple[Transaction, Writer, int]] = []
        for transaction, writer, request_id in self._waiting:
            judged = judge(transaction, writer)
            if isinstance(judged, StorageError):
                refused.append((transaction, writer, request_id))
                errors.append(judged)
            else:
                kept.append((judged, writer, request_id))
        self._waiting = kept
        self._answer(refused, errors)

    def suspect(self, error: StorageUnavailable) -> None:
        """Open the storage anew: something beside an append failed, and left it in an unknown state.

        The next append would find that out, but readers cannot wait until somebody writes.
        """
        if self.available and not isinstance(error, StorageFull):
            self._suspicion = error
            self._wake.set()
            self._idle.clear()

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            if self._suspicion is not None:
                await self._recover([], self._suspicion)
            else:
                await self._gather()
                await self._commit(self._take())
            if not self._waiting and self._suspicion is None:
                self._wake.clear()
                self._idle.set()

    async def _commit(self, batch: list[tuple[Transaction, Writer, int]]) -> None:
        self._answered = len(batch)
        try:
            appended = await self._append(batch)
            for commit in appended.commits:
                self._publish(commit)
        except StorageFull as error:
            self._log.error("storage_full", error=str(error))
            self._answer(batch, [error] * len(batch))
        except Exception as error:
            # A mistake of ours leaves no more certainty than a disk that fails; a committer that is dead would leave
            # every writer without an answer.
            await self._recover(batch, error)
        else:
            self._answer(batch, appended.outcomes)

    async def _gather(self) -> None:
        """Wait for those who were just answered, as long as they come: a flush for all of them costs no more.

        Each turn of the event loop reads what has arrived; a few in a row that bring nothing end it. A lone writer
        waits for nobody.
        """
        idle_turns = 0
        while len(self._waiting) < self._answered and idle_turns < _IDLE_TURNS_MAX:
            before = len(self._waiting)
            await asyncio.sleep(0)
            idle_turns = idle_turns + 1 if len(self._waiting) == before else 0

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
        self._turns.append_begins()
        try:
            appended = await self._storage.append(transactions, self._now_ms())
        finally:
            self._turns.append_ended()
        self._counts.commits += 1
        self._counts.commit_seconds.observe(self._now() - began)
        self._counts.commit_ops.observe(sum([len(transaction.ops) for transaction in transactions]))
        return appended

    def _answer(self, batch: list[tuple[Transaction, Writer, int]], answers: Sequence[Answer]) -> None:
        by_writer: dict[Writer, list[tuple[int, Transaction, Answer]]] = {}
        for (transaction, writer, request_id), answer in zip(batch, answers, strict=True):
            by_writer.setdefault(writer, []).append((request_id, transaction, answer))
        for writer, own in by_writer.items():
            try:
                writer.answered(own)
            except Exception:
                # One writer's trouble with its answer is not the others'.
                self._log.exception("answer_failed")

    async def _recover(self, batch: list[tuple[Transaction, Writer, int]], error: Exception) -> None:
        """Open the storage anew; until that succeeds every write is answered `retry` at once."""
        self.available = False
        self._suspicion = None
        self._counts.commit_failures += 1
        reason = self._unavailable("storage_failed", error)
        self._answer(batch, [reason] * len(batch))
        while True:
            waiting, self._waiting = self._waiting, []
            self._answer(waiting, [reason] * len(waiting))
            # Nothing waits and nothing is under way: who drains or stops must not wait for a storage that stays away.
            self._idle.set()
            try:
                await self._storage.open()
                await self._recheck()
                break
            except Exception as again:
                reason = self._unavailable("storage_still_failing", again)
                await asyncio.sleep(_REOPEN_S)
        self.available = True
        self._log.warning("storage_reopened")

    def _unavailable(self, event: str, error: Exception) -> StorageUnavailable:
        """Log a failure and return the form in which writers are told of it."""
        if isinstance(error, StorageUnavailable):
            self._log.error(event, error=str(error))
            return error
        self._log.error(event, exc_info=error)
        return StorageUnavailable(f"the server failed: {type(error).__name__}")
