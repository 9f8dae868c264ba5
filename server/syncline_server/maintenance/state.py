"""What is known of the upkeep of one store: what is being done, how far it is, and what came of it last.

Values for whoever shows them: statistics, metrics, logs. `Progress` grows while a run goes on and becomes the result.
"""

from dataclasses import dataclass, field
from enum import Enum

from syncline_protocol.cursor import Seq

__all__ = ["LastRun", "Phase", "Progress", "StoreState"]


class Phase(Enum):
    """What the upkeep of a store is doing.

    IDLE ──> EXPIRING ──> COMPACTING ──> IDLE; from each of them to FAILED, and from there on as from IDLE.
    """

    IDLE = "idle"
    EXPIRING = "expiring"
    COMPACTING = "compacting"
    FAILED = "failed"


@dataclass(slots=True)
class Progress:
    """What a run has done so far: records deleted by age, values and tombstones dropped, and the bytes of these.

    `values_total` and `tombstones_total` are what there is to do, as it was estimated at the beginning.
    """

    began_ms: int
    expired: int = 0
    values: int = 0
    tombstones: int = 0
    bytes: int = 0
    values_total: int = 0
    tombstones_total: int = 0


@dataclass(frozen=True, slots=True)
class LastRun:
    """A run that is over. `error` is what it failed with; what it had done by then stays done."""

    began_ms: int
    ended_ms: int
    expired: int
    values: int
    tombstones: int
    bytes: int
    error: str = ""


@dataclass(slots=True)
class StoreState:
    """The upkeep of one store.

    Attributes:
        progress: of the run under way.
        last: the last run that had something to do, or failed.
        failures: how often it has failed since it last succeeded.
        next_at: when it is looked at again, by the monotonic clock.
        expired_upto: everything up to there that was to be deleted by age is deleted.
        store_id: the store that all of this is about.
    """

    store_id: str
    next_at: float
    phase: Phase = Phase.IDLE
    progress: Progress | None = None
    last: LastRun | None = None
    failures: int = 0
    expired_upto: Seq = field(default=Seq(0))
