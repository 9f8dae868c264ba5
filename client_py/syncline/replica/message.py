"""An outbox entry as the message that is sent: the same to the letter each time (PROTOCOL 11.3.2)."""

import msgspec

from syncline.write import WriteMessage
from syncline_protocol import messages
from syncline_protocol.codec import encode
from syncline_protocol.limits import ID_MAX

from .entry import Entry, EntryOp

__all__ = ["message_of", "ops_of"]


def message_of(entry: Entry, store: str, store_id: str | None) -> tuple[WriteMessage, int]:
    """Return the message, with the longest id, and the bytes of its frame."""
    if len(entry.ops) == 1 and entry.atomic:
        message = _single(entry.ops[0], store, store_id)
    else:
        ops = tuple([_op_of(op) for op in entry.ops])
        message = messages.Write(ID_MAX, store, ops, entry.atomic, store_id)
    return message, len(encode(message))


def _single(op: EntryOp, store: str, store_id: str | None) -> WriteMessage:
    if op.text is None:
        return messages.Delete(ID_MAX, store, op.key, store_id)
    return messages.Add(ID_MAX, store, op.key, msgspec.Raw(op.text.encode()), store_id)


def _op_of(op: EntryOp) -> messages.WriteOp:
    if op.text is None:
        return messages.WriteOp("DELETE", op.key)
    return messages.WriteOp("ADD", op.key, msgspec.Raw(op.text.encode()))


def ops_of(message: WriteMessage) -> tuple[EntryOp, ...]:
    """Return the ops of a message whose keys and values were checked."""
    if isinstance(message, messages.Write):
        return tuple([_entry_op(op.key, op.value) for op in message.ops])
    return (_entry_op(message.key, message.value if isinstance(message, messages.Add) else msgspec.UNSET),)


def _entry_op(key: str, value: msgspec.Raw | msgspec.UnsetType) -> EntryOp:
    return EntryOp(key, bytes(value).decode() if isinstance(value, msgspec.Raw) else None)
