"""Deletion by age: live records that are older than their store keeps them are deleted, as somebody would do it.

Each is an ordinary DELETE that goes through the committer, in transactions of a bounded size, so subscribers see what
happens and writers wait for no more than one of them. A DELETE that somebody else was faster with changes nothing.
"""

from collections.abc import AsyncIterator, Awaitable, Callable

from syncline_protocol.codec import decode_change
from syncline_protocol.cursor import Seq
from syncline_protocol.transaction import Op, Transaction
from syncline_server.committer import Answer
from syncline_server.storage.base import Row, Storage, StorageError, StorageUnavailable, StoreInfo

__all__ = ["expire"]

#: One transaction deletes so many at most, which keeps the writers behind it waiting for a few ms.
_OPS_MAX = 500


async def expire(
    storage: Storage,
    write: Callable[[Transaction], Awaitable[Answer]],
    info: StoreInfo,
    *,
    after: Seq,
    before_ms: int,
) -> AsyncIterator[tuple[Seq, int]]:
    """Delete what was added before a time, above a position. Yields how far that has come, and how many it were.

    Raises:
        StorageError: the storage failed, or the store is gone. What was deleted by then stays deleted.
    """
    end = await storage.position_at(info.name, before_ms)
    while after < end:
        chunk = await storage.read(info.name, after, info.head.seq, deletes_to=Seq(0))
        old = [row for row in chunk.rows if row.seq <= end]
        count = 0
        for start in range(0, len(old), _OPS_MAX):
            count += await _delete(write, info, old[start : start + _OPS_MAX], before_ms)
        after = chunk.to
        yield Seq(min(after, end)), count


async def _delete(
    write: Callable[[Transaction], Awaitable[Answer]], info: StoreInfo, rows: list[Row], before_ms: int
) -> int:
    changes = [decode_change(row.text) for row in rows]
    # Where the clock of the server went back, one below the position may be younger.
    ops = tuple([Op(change.key) for change in changes if change.time <= before_ms])
    if not ops:
        return 0
    answer = await write(Transaction(info.name, ops, atomic=False, store_id=info.store_id))
    if isinstance(answer, StorageError):
        raise answer
    refused = {result.status for result in answer.ops} - {"ok", "dup", "absent"}
    if refused:
        raise StorageUnavailable(f"records of {info.name!r} could not be deleted by age: {', '.join(sorted(refused))}")
    return sum(result.status == "ok" for result in answer.ops)
