"""What is said of a store and done for it: settings, statistics, clean-up. Values, as the server sends them.

Ages are in seconds, moments in ms since 1970.
"""

import msgspec

from syncline_protocol.cursor import Seq

__all__ = ["CleanUp", "Estimate", "Floors", "IndexState", "Policy", "Sizes", "StoreSettings", "StoreStats", "Upkeep"]


class StoreSettings(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a store's owner says of it. None: as the server's settings say, or without a bound.

    Attributes:
        description: for people.
        records_max: no more live records than this.
        bytes_max: their texts are no longer together.
        retention_s: a live record that is older is deleted, by the server.
        history_s: the value of a deleted record is kept so long, so that the past can be read.
        tombstones_s: a DELETE is kept so long; who was away longer reconciles.
        compact_ratio: dead values are dropped once they are this part of all values, 0 to 1 ...
        compact_bytes: ... or have so many bytes.
    """

    description: str = ""
    records_max: int | None = None
    bytes_max: int | None = None
    retention_s: float | None = None
    history_s: float | None = None
    tombstones_s: float | None = None
    compact_ratio: float | None = None
    compact_bytes: int | None = None


class Floors(msgspec.Struct, frozen=True):
    """How far clean-up has come: of every position from `history` on all records can be read, and every DELETE above
    `tombstones` is there.
    """

    history: Seq = Seq(0)
    tombstones: Seq = Seq(0)


class Sizes(msgspec.Struct, frozen=True):
    """How large a store is: bytes of its live records, values of dead ones that are still there, DELETEs."""

    live_bytes: int = 0
    dead_values: int = 0
    dead_bytes: int = 0
    tombstones: int = 0


class Policy(msgspec.Struct, frozen=True):
    """What holds for a store: its settings, and where they say nothing those of the server."""

    history_s: float
    tombstones_s: float
    compact_ratio: float
    compact_bytes: int
    retention_s: float | None = None


class CleanUp(msgspec.Struct, frozen=True):
    """A run of clean-up: records deleted by age, values and tombstones dropped, and the bytes of these.

    The totals are what it found to do, as long as it goes on; `ended` is None until it is over, `error` what it failed
    with.
    """

    began: int = 0
    expired: int = 0
    values: int = 0
    tombstones: int = 0
    bytes: int = 0
    values_total: int = 0
    tombstones_total: int = 0
    ended: int | None = None
    error: str = ""


class Upkeep(msgspec.Struct, frozen=True):
    """What the server does for a store: `idle`, `expiring`, `compacting` or `failed`.

    `run` is under way, `last` the last one that did something, `next` when the store is looked at again.
    """

    state: str
    run: CleanUp | None = None
    last: CleanUp | None = None
    next: int | None = None
    failures: int = 0
    pinned: int = 0


class Estimate(msgspec.Struct, frozen=True):
    """What clean-up would drop now, and how far it would come."""

    values: int
    tombstones: int
    bytes: int
    floors: Floors


class IndexState(msgspec.Struct, frozen=True):
    """An index: on what, of which kind, whether it is `building` or `ready`, and up to which seq it has the log."""

    name: str
    path: str
    kind: str
    state: str
    done: Seq


class StoreStats(msgspec.Struct, frozen=True):
    """Statistics of a store. `oldest` and `newest` are the times of its first and last live record, if it has some."""

    name: str
    created: int
    seq: Seq
    records: int
    sizes: Sizes
    floors: Floors
    policy: Policy
    upkeep: Upkeep
    indexes: tuple[IndexState, ...] = ()
    oldest: int | None = None
    newest: int | None = None
