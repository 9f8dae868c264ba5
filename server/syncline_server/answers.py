"""What a storage says, in the words of the wire: error codes and the results of writes."""

from syncline_protocol.messages import WriteResult
from syncline_protocol.transaction import Transaction

from .committer import Answer
from .storage.base import (
    HistoryGone,
    IndexBuilding,
    IndexTaken,
    IndexUnknown,
    Outcome,
    StorageError,
    StorageFull,
    StorageUnavailable,
    StoreMismatch,
    StoreUnknown,
    Unsupported,
)

__all__ = ["error_code_of", "result_of"]

#: A client whose write got no certain answer is asked to wait this long.
_RETRY_AFTER_MS = 1000


def error_code_of(error: StorageError) -> str:
    """Return the wire code for what a storage raised."""
    match error:
        case StoreUnknown():
            return "store_unknown"
        case StoreMismatch():
            return "store_mismatch"
        case StorageFull():
            return "storage_full"
        case HistoryGone():
            return "history_gone"
        case IndexUnknown():
            return "index_unknown"
        case IndexTaken():
            return "index_taken"
        case IndexBuilding():
            return "index_building"
        case Unsupported():
            return "unsupported"
        case _:
            return "storage_unavailable"


def result_of(request_id: int, transaction: Transaction, answer: Answer) -> WriteResult:
    """Return the result of a write that got this answer, other than that there is no such store."""
    if isinstance(answer, StorageUnavailable):
        return WriteResult(
            request_id, "retry", code=error_code_of(answer), message=answer.message, after_ms=_RETRY_AFTER_MS
        )
    assert isinstance(answer, Outcome), answer
    if transaction.single:
        op = answer.ops[0]
        return WriteResult(
            request_id, op.status, op.seq, answer.at, op.deleted, code=op.code, message=op.message, head=answer.head
        )
    return WriteResult(request_id, answer.status, at=answer.at, ops=answer.ops, head=answer.head)
