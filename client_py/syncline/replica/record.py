"""A record as a replica shows it: what the server has, seen through the outbox."""

from collections.abc import Iterable

import msgspec

from syncline.value import JsonValue
from syncline_protocol.cursor import Seq

from .database import Row
from .entry import SyncState
from .outbox import Shadow

__all__ = ["LocalRecord", "look", "look_all"]

_decode_value = msgspec.json.Decoder().decode


class LocalRecord(msgspec.Struct, frozen=True):
    """A record of a replica.

    Attributes:
        key: its key.
        text: the value as the JSON text that was written, every digit as it was.
        state: PENDING, ACKED or SYNCED: whether the server has it, as far as is known here.
        seq: its seq in the store, once that is known.
        time: when the server committed it, in ms since 1970, once that is known.
        by: who made it, if the server has said so.
    """

    key: str
    text: str
    state: SyncState = SyncState.SYNCED
    seq: Seq | None = None
    time: int | None = None
    by: str | None = None

    @property
    def value(self) -> JsonValue:
        """The value, decoded anew at each look."""
        decoded: JsonValue = _decode_value(self.text)
        return decoded


def look(key: str, row: Row | None, shadow: Shadow | None) -> LocalRecord | None:
    """Return the record of one key, given what is held of it and what the outbox says."""
    if shadow is None:
        return None if row is None else LocalRecord(row.key, row.text, SyncState.SYNCED, row.seq, row.time, row.by)
    if shadow.text is None:
        return None
    if row is not None:
        # The feed was faster than the ack: it is the same record, of which the seq is known already.
        return LocalRecord(key, row.text, shadow.entry.state, row.seq, row.time, row.by)
    return LocalRecord(key, shadow.text, shadow.entry.state, shadow.seq)


def look_all(rows: Iterable[Row], shadows: Iterable[tuple[str, Shadow]]) -> list[LocalRecord]:
    """Return the records of many keys: those that the server has in the order of `rows`, then the others as written."""
    left = dict(shadows)
    records = [look(row.key, row, left.pop(row.key, None)) for row in rows]
    written = sorted(left.items(), key=lambda item: item[1].written_order)
    records += [look(key, None, shadow) for key, shadow in written]
    return [record for record in records if record is not None]
