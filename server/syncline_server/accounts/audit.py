"""The audit log of a server: entries of `syncline_protocol.audit` in a system store, one record each.

The key of a record is the number of its entry, so of two processes that append at once one is refused, reads the new
end and appends behind it: the chain never forks. `record` returns when its entry is durable and raises when it cannot
be stored; who asks then refuses the action (fail closed). The entry is written before the effect, so after a failure
there may be an entry for something that did not happen, but never the other way round.

Invariants: entry n has seq n + 1, as nothing else is ever written to the store; entries of one process are in the
order of the calls. Only the end is read to go on, not all of it: `syncline audit verify` reads all.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import msgspec

from syncline_protocol.audit import (
    NO_HEAD,
    AuditEntry,
    AuditHead,
    AuditOutcome,
    decode_entry,
    encode_entry,
    entry_hash,
    make_entry,
)
from syncline_protocol.codec import decode_change
from syncline_protocol.cursor import Seq
from syncline_protocol.limits import DEFAULT_LIMITS
from syncline_protocol.transaction import Op, Transaction, make_op
from syncline_server.storage.base import Outcome, Storage, StorageError, StorageUnavailable, StoreMismatch

__all__ = ["AUDIT_STORE", "ENTRIES_MAX", "AuditLog"]

#: The system store that has the log. No client can name it.
AUDIT_STORE = "_audit"

#: So many entries are read at once.
ENTRIES_MAX = 1000

#: One transaction takes so many entries and bytes, so that it always fits into a frame.
_BATCH_ENTRIES_MAX = 256
_BATCH_BYTES_MAX = 256 * 1024

#: Each refusal means that a rival has written, so this ends only if others write all the time and we never do.
_TRIES_MAX = 100

#: What an op of ours is if its number was taken by a rival. That goes for `dup` and `exists` too: two servers that
#: record the very same event in the same millisecond make the same text, and these are two events.
_TAKEN = {"conflict", "exists", "dup", "skipped"}


@dataclass(frozen=True, slots=True)
class _Waiting:
    """An entry that has all but its place in the chain, and who waits for it."""

    draft: AuditEntry
    size: int
    done: "asyncio.Future[AuditEntry]"


class AuditLog:
    """Args:
    storage: is read from; open.
    write: commits a transaction, durably, and returns or raises what became of it.
    now_ms: the wall clock in ms since 1970.
    """

    def __init__(
        self,
        storage: Storage,
        write: Callable[[Transaction], Awaitable[Outcome | StorageError]],
        now_ms: Callable[[], int],
    ) -> None:
        self._storage = storage
        self._write = write
        self._now_ms = now_ms
        self._store_id = ""
        self._head = NO_HEAD
        #: Whether `_head` was the end when last looked at. If the outcome of a write is unknown it is not.
        self._is_current = False
        self._waiting: list[_Waiting] = []
        self._writing: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Create the store if it is missing, and find the end of the log.

        Raises:
            StorageError: it cannot be read, or its end is not an audit log's.
        """
        info, _ = await self._storage.create(AUDIT_STORE, self._now_ms())
        self._store_id = info.store_id
        self._head = NO_HEAD
        self._is_current = await self.read_head() == self._head

    async def close(self) -> None:
        """Return when nothing is being written any more."""
        while self._writing is not None:
            await asyncio.wait([self._writing])

    @property
    def head(self) -> AuditHead:
        """The newest entry that this process knows of."""
        return self._head

    async def record(
        self,
        action: str,
        *,
        actor: str | None,
        subject: str | None = None,
        outcome: AuditOutcome = "ok",
        address: str | None = None,
        **detail: str,
    ) -> AuditEntry:
        """Append an entry; it is durable on return. Calls that wait at the same time go out as one transaction.

        Args:
            action: one of `ACTIONS`.
            actor: who did it; None if nobody was logged in.
            subject: to what.
            outcome: what became of it. `begun` before an effect that takes long or destroys.
            address: from where.
            detail: what else is worth knowing.

        Raises:
            StorageError: it was not stored, or that is unknown. The action must not be carried out.
            ValueError: there is no such action, or too many details.
        """
        draft = make_entry(
            NO_HEAD,
            self._now_ms(),
            action,
            actor=actor,
            subject=subject,
            outcome=outcome,
            address=address,
            detail=detail,
        )
        # Encoded once before it waits: an entry that must not be written fails its own caller and nobody else.
        size = len(encode_entry(draft))
        loop = asyncio.get_running_loop()
        waiting = _Waiting(draft, size, loop.create_future())
        self._waiting.append(waiting)
        if self._writing is None:
            self._writing = loop.create_task(self._write_all(), name="audit log")
        return await waiting.done

    # --- reading ---

    async def read_head(self) -> AuditHead:
        """Return the newest entry's number and hash, freshly read: other processes write too.

        Raises:
            StorageError: it cannot be read, or the log is not the one that this process has seen.
        """
        # What was known before the storage is asked has to be there; what is written meanwhile need not.
        known = self._head
        head = await self._read_end()
        if head.n < known.n:
            raise _broken(f"it ends at entry {head.n}, but there was an entry {known.n}")
        if head.n == known.n and head.hash != known.hash:
            raise _broken(f"entry {head.n} was altered")
        self._note(head)
        return head

    async def entries(self, after: int = -1, limit: int = ENTRIES_MAX) -> tuple[bytes, ...]:
        """Return the exact texts of the entries above number `after`, `limit` or `ENTRIES_MAX` numbers at most.

        They come as they are in the store. Nothing is checked, so that a broken log can be read and the fault be found.
        """
        end = (await self._storage.info(AUDIT_STORE)).head.seq
        at, last = after + 1, min(after + 1 + min(limit, ENTRIES_MAX), end)
        texts: list[bytes] = []
        while at < last:
            rows = await self._storage.fetch(AUDIT_STORE, [(Seq(at + 1), Seq(last))], end)
            texts += [_text_in(row.text) for row in rows]
            at = rows[-1].seq if rows else last
        return tuple(texts)

    async def walk(self, after: int = -1) -> AsyncIterator[bytes]:
        """Yield the exact texts of all entries above number `after`, at least up to the head of now. As `entries`."""
        end = (await self._storage.info(AUDIT_STORE)).head.seq
        while after < end - 1:
            for text in await self.entries(after):
                yield text
            after += ENTRIES_MAX

    async def _read_end(self) -> AuditHead:
        info = await self._storage.info(AUDIT_STORE)
        if info.store_id != self._store_id:
            raise StoreMismatch(AUDIT_STORE)
        n = info.head.seq - 1
        if n < 0:
            return NO_HEAD
        record = await self._storage.get(AUDIT_STORE, _key_of(n))
        if record is None:
            raise _broken(f"entry {n} is not there")
        text = _text_in(record.text)
        try:
            entry = decode_entry(text)
        except ValueError as error:
            raise _broken(f"entry {n}: {error}") from error
        if entry.n != n:
            raise _broken(f"entry {entry.n} is in the place of entry {n}")
        return AuditHead(n, entry_hash(text))

    def _note(self, head: AuditHead) -> None:
        if head.n > self._head.n:
            self._head = head

    # --- writing ---

    async def _write_all(self) -> None:
        """Write until nobody waits. Those that come while a transaction is under way share the next one."""
        try:
            while batch := self._take():
                await self._write_batch(batch)
        finally:
            self._writing = None

    def _take(self) -> list[_Waiting]:
        batch: list[_Waiting] = []
        size = 0
        while self._waiting and len(batch) < _BATCH_ENTRIES_MAX and size < _BATCH_BYTES_MAX:
            waiting = self._waiting.pop(0)
            # Who no longer waits does not act either.
            if not waiting.done.done():
                batch.append(waiting)
                size += waiting.size
        return batch

    async def _write_batch(self, batch: list[_Waiting]) -> None:
        try:
            entries = await self._append([waiting.draft for waiting in batch])
        except Exception as error:
            # A mistake of ours leaves no more certainty than a disk that fails, and callers know one error.
            cause = error if isinstance(error, StorageError) else StorageUnavailable(f"the audit log failed: {error!r}")
            for waiting in batch:
                if not waiting.done.done():
                    waiting.done.set_exception(cause)
        else:
            for waiting, entry in zip(batch, entries, strict=True):
                if not waiting.done.done():
                    waiting.done.set_result(entry)

    async def _append(self, drafts: list[AuditEntry]) -> list[AuditEntry]:
        """Write entries behind the end, wherever rivals have moved it."""
        for _ in range(_TRIES_MAX):
            before = self._head if self._is_current else await self.read_head()
            # Until the answer is there, and if none comes, nobody knows where the end is.
            self._is_current = False
            entries, ops, head = _chain(before, drafts)
            outcome = await self._write(Transaction(AUDIT_STORE, ops, store_id=self._store_id))
            if isinstance(outcome, StorageError):
                raise outcome
            if outcome.status == "ok":
                if outcome.last_seq != head.n + 1:
                    raise _broken(f"entry {head.n} became change {outcome.last_seq}: entries before it are missing")
                self._note(head)
                self._is_current = self._head == head
                return entries
            if outcome.status not in ("refused", "dup") or not {op.status for op in outcome.ops} <= _TAKEN:
                raise StorageUnavailable(f"the audit log was refused: {outcome.status}")
        raise StorageUnavailable(f"other servers were faster {_TRIES_MAX} times to write to the audit log")


def _chain(before: AuditHead, drafts: list[AuditEntry]) -> tuple[list[AuditEntry], tuple[Op, ...], AuditHead]:
    """Give drafts their places behind `before`. Returns the entries, the ops that add them, and the new head."""
    entries: list[AuditEntry] = []
    ops: list[Op] = []
    head = before
    for draft in drafts:
        entry = msgspec.structs.replace(draft, n=head.n + 1, prev=head.hash)
        text = encode_entry(entry)
        op = make_op(_key_of(entry.n), text, DEFAULT_LIMITS)
        assert op.fault is None, op.fault
        entries.append(entry)
        ops.append(op)
        head = AuditHead(entry.n, entry_hash(text))
    return entries, tuple(ops), head


def _key_of(n: int) -> str:
    return f"{n:016}"


def _text_in(change: bytes) -> bytes:
    """Return the exact text of the entry that a change added."""
    value = decode_change(change).value
    assert isinstance(value, msgspec.Raw), "only ADDs are asked for"
    return bytes(value)


def _broken(reason: str) -> StorageError:
    hint = "nothing is recorded any more; see what `syncline audit verify` says, and keep a copy of the stores"
    return StorageError(f"the audit log is broken: {reason}", hint=hint)
