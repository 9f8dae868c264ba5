"""What a subscription hands to the application.

`Change` is one committed change. The others say what happened to the subscription; the plain iterator keeps them to
itself, `Subscription.events` yields them all, in order.
"""

from dataclasses import dataclass
from typing import Literal

import msgspec

from syncline_protocol import messages
from syncline_protocol.codec import encode_change
from syncline_protocol.cursor import Cursor, Seq, parse_cursor
from syncline_protocol.messages import EndReason

from .value import JsonValue

__all__ = ["Behind", "CaughtUp", "Change", "Ended", "Restarted", "Rewound", "SubscriptionEvent"]

_decode = msgspec.json.Decoder().decode


class Change:
    """One committed change of a store.

    `ends_batch`: with it a batch ends, and so a transaction. Transactions lie within batches, so a program that
    applies changes up to a `Change` that ends a batch, and saves its `cursor`, never stands inside of one.
    """

    __slots__ = ("_batch", "_row", "ends_batch")

    def __init__(self, row: messages.Change, batch: messages.Batch) -> None:
        self._row = row
        self._batch = batch
        self.ends_batch = row is batch.changes[-1]

    @property
    def seq(self) -> Seq:
        """Its number in the store: 1, 2, 3 … in commit order."""
        return self._row.seq

    @property
    def op(self) -> Literal["ADD", "DELETE"]:
        """What it did."""
        return self._row.op

    @property
    def key(self) -> str:
        """The key of the record."""
        return self._row.key

    @property
    def time(self) -> int:
        """When the server committed it, in ms since 1970."""
        return self._row.time

    @property
    def by(self) -> str | None:
        """Who made it; None if nobody had logged in, or if it is not for us to know."""
        return self._row.by

    @property
    def text(self) -> str | None:
        """The value as the JSON text that was sent, every digit as it was; None for a DELETE."""
        return bytes(self._row.value).decode() if isinstance(self._row.value, msgspec.Raw) else None

    @property
    def value(self) -> JsonValue:
        """The value, decoded anew at each look; None for a DELETE."""
        if not isinstance(self._row.value, msgspec.Raw):
            return None
        decoded: JsonValue = _decode(self._row.value)
        return decoded

    @property
    def cursor(self) -> Cursor:
        """The position just after it, to subscribe from later. It may be inside of a transaction: see `ends_batch`.

        In a batch in which the server began a new incarnation, positions inside have a name that cannot be told from
        here. There it is the position before the batch, from which this change comes again.
        """
        if self.ends_batch:
            return self._batch.to
        before, after = parse_cursor(self._batch.from_), parse_cursor(self._batch.to)
        if before.incarnation != after.incarnation:
            return self._batch.from_
        view = "" if after.view is None else f"~{after.view}"
        return Cursor(f"{after.incarnation}:{self._row.seq}{view}")

    def to_json(self) -> bytes:
        """Return it as one line of JSON, as it is on the wire."""
        value = bytes(self._row.value) if isinstance(self._row.value, msgspec.Raw) else None
        return encode_change(self._row.seq, self._row.key, value, self._row.time, self._row.by)

    def __repr__(self) -> str:
        return f"Change(seq={self.seq}, op={self.op!r}, key={self.key!r}, text={self.text!r})"


@dataclass(frozen=True, slots=True)
class CaughtUp:
    """Everything up to `at` was handed out. `count` and `digest` are of the records that live at exactly `at`."""

    at: Cursor
    count: int
    digest: str


@dataclass(frozen=True, slots=True)
class Behind:
    """The subscription fell behind, at `at`, and catches up to `head` or beyond; `CaughtUp` says when."""

    at: Cursor
    head: Cursor


@dataclass(frozen=True, slots=True)
class Rewound:
    """History forked: changes above `keep_to` that were handed out never happened here. `at` is where it goes on.

    That holds for DELETEs too: a record whose DELETE was above `keep_to` lives again, and is not handed out a second
    time. A program that forgot it cannot go on from here; it subscribes from the start instead.
    """

    keep_to: Seq
    at: Cursor

    def __str__(self) -> str:
        return f"it forked after {self.keep_to}"


@dataclass(frozen=True, slots=True)
class Restarted:
    """The walk begins again from the start; what was handed out and is not seen again until `CaughtUp` is gone.

    `how` is `snapshot` if the server has none of the history that was read, `reconcile` if another part of the store
    may be seen now, or the position is older than what the server remembers of deleted records.
    """

    at: Cursor
    how: Literal["snapshot", "reconcile"] = "snapshot"

    def __str__(self) -> str:
        return (
            "it is another history"
            if self.how == "snapshot"
            else "another part of it may be seen, or the position is too old"
        )


@dataclass(frozen=True, slots=True)
class Ended:
    """The subscription is over; nothing follows."""

    reason: EndReason
    at: Cursor | None


SubscriptionEvent = Change | CaughtUp | Behind | Rewound | Restarted | Ended
