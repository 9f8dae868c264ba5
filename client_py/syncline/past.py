"""The past of a store: how positions are named, and what changed between two of them."""

from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Literal

import httpx2
import msgspec

from syncline_protocol.cursor import Seq

from .errors import Misuse
from .record import Record, Walk
from .value import JsonValue

__all__ = ["Diff", "Difference", "Position", "position_text"]

#: A cursor, `start` or `now`; a seq; or a moment, which needs a time zone.
Position = str | int | datetime

#: What stands for the value of a DELETE.
_NULL = msgspec.Raw(b"null")

_decode_value = msgspec.json.Decoder().decode


def position_text(at: Position) -> str:
    """Return a position as requests carry it. Raises Misuse: a moment has no time zone."""
    if not isinstance(at, datetime):
        return str(at)
    if at.tzinfo is None:
        raise Misuse("a moment without a time zone names no position", hint="datetime.now(UTC) has one")
    return at.isoformat()


class Difference(msgspec.Struct, frozen=True):
    """A change between two positions: an ADD of a record that lives at the later one, or a DELETE of one that lived at
    the earlier one.

    `old` is what a DELETE took away, where that is still there; `raw` the JSON text of an ADD's value, null for a
    DELETE; `by` who made the change, if we may know.
    """

    seq: Seq
    op: Literal["ADD", "DELETE"]
    key: str
    time: int
    raw: msgspec.Raw = msgspec.field(name="value", default=_NULL)
    by: str | None = None
    old: Record | None = None

    @property
    def value(self) -> JsonValue:
        """The value of an ADD, decoded anew at each look; None for a DELETE."""
        decoded: JsonValue = _decode_value(self.raw)
        return decoded


class Diff(Walk[Difference]):
    """What changed between two positions, in the order of the log; made by `Client.diff`.

    Use it with `async for`, inside of `async with` if the loop may be left early. `cursor` is the later position:
    subscribe after it to go on from there.
    """

    def __init__(self, opening: AbstractAsyncContextManager[httpx2.Response]) -> None:
        super().__init__(opening, Difference)
