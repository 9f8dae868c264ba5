"""One write of a replica, from the moment it is stored locally until the server has it for good.

    PENDING ──ok, dup──> ACKED ──the shown records have passed it──> SYNCED
       ▲ │                │                                             │
       │ └──refused──> REJECTED ──discarded──> gone                     │
       │                  │                                             │
       └──────────────────┴── asked again; or the server lost it ───────┘

An entry keeps the exact text of its values: a retry has to be the same to the letter (PROTOCOL 11.3.2). Its `id`
is its place in the order of the replica's writes, also when it goes back from ACKED or SYNCED to PENDING.
"""

from collections.abc import Sequence
from enum import Enum
from typing import Literal

import msgspec

from syncline_protocol.cursor import Cursor, Seq

__all__ = ["Edit", "Entry", "EntryId", "EntryOp", "SyncState", "Refusal", "deletions_of"]

EntryId = int

#: Many records are deleted in transactions of so many at most: each is a frame of tens of kilobytes.
_DELETES_MAX = 500


class SyncState(Enum):
    """How far a write has come."""

    PENDING = "pending"
    ACKED = "acked"
    SYNCED = "synced"
    REJECTED = "rejected"


class EntryOp(msgspec.Struct, frozen=True, omit_defaults=True):
    """One op: an ADD with the value's JSON text, a DELETE without."""

    key: str
    text: str | None = None


class Refusal(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why the server refused a write.

    Attributes:
        status: that of the write (PROTOCOL 6.2), or `store_replaced` if the store was dropped and made anew.
        ops: that of each op.
        code: the protocol's error code, if there was one.
        message: in words.
        head: the position of the log at which it was decided.
    """

    status: str
    ops: tuple[str, ...] = ()
    code: str | None = None
    message: str | None = None
    head: Cursor | None = None


class Edit(msgspec.Struct, frozen=True, omit_defaults=True):
    """What an entry means to the collections: one attribute of one document gets a new value.

    Attributes:
        document: the document's path.
        attribute: its name; the empty name is the document's marker.
        key: the key that the new value is added under.
        on: the key of the value that is replaced, or None if there was none.
        base: the text of that value.
        policy: what to do if somebody else was first: `last`, `merge` or `report`.
    """

    document: str
    attribute: str
    key: str
    on: str | None = None
    base: str | None = None
    policy: Literal["last", "merge", "report"] = "last"


class Entry(msgspec.Struct, frozen=True, omit_defaults=True):
    """One write.

    Attributes:
        ops: in the order in which they are sent.
        made_ms: when it was made, in ms since 1970.
        atomic: all or none. An entry that is not only has DELETEs: it is about records that shall be gone.
        edits: what it means to the collections; such an entry is made anew when somebody else was first.
        returned: the server had lost it, or lost what it builds on: what it lacks may still come back.
        restores: it is no write of ours, but puts back a record that the server had lost.
        at: the position of its last change, once it was acked.
        seqs: those of its ops, once it was acked; 0 for an op that had nothing to do.
        refusal: why it was refused; for a PENDING one, why it waits.
    """

    id: EntryId
    ops: tuple[EntryOp, ...]
    made_ms: int
    state: SyncState = SyncState.PENDING
    atomic: bool = True
    edits: tuple[Edit, ...] = ()
    returned: bool = False
    restores: bool = False
    at: Cursor | None = None
    seqs: tuple[Seq, ...] = ()
    refusal: Refusal | None = None

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys that it touches."""
        return tuple([op.key for op in self.ops])

    @property
    def added(self) -> frozenset[str]:
        """The keys that it adds."""
        return frozenset([op.key for op in self.ops if op.text is not None])

    @property
    def deleted(self) -> frozenset[str]:
        """The keys that it deletes."""
        return frozenset([op.key for op in self.ops if op.text is None])

    @property
    def lacks(self) -> bool:
        """Whether it waits for what it builds on to come back, which the server lost."""
        return self.returned and self.refusal is not None and "absent" in self.refusal.ops

    @property
    def is_overtaken(self) -> bool:
        """Whether it waits to be made anew, since a rival was first."""
        return (
            self.state is SyncState.PENDING
            and self.refusal is not None
            and bool(self.edits)
            and not self.lacks
            and "denied" not in self.refusal.ops
        )

    @property
    def size(self) -> int:
        """About how many bytes it takes in memory."""
        return 200 + sum([120 + len(op.key) + len(op.text or "") for op in self.ops])

    def with_state(self, state: SyncState, **changes: object) -> "Entry":
        """Return it in another state."""
        return msgspec.structs.replace(self, state=state, **changes)


def deletions_of(keys: Sequence[str]) -> list[tuple[EntryOp, ...]]:
    """Return what deletes records, in transactions of a bounded size."""
    return [tuple([EntryOp(key) for key in keys[at : at + _DELETES_MAX]]) for at in range(0, len(keys), _DELETES_MAX)]
