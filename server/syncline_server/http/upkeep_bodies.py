"""The JSON objects of what is said of a store and its upkeep: settings, statistics, runs of clean-up.

Ages are in seconds as the settings of the server are, moments in ms since 1970. Members that say nothing are left out.
"""

from typing import Annotated, Literal

import msgspec

from syncline_protocol.limits import SEQ_MAX
from syncline_protocol.messages import Milliseconds
from syncline_server.maintenance import Policy, StoreState
from syncline_server.storage.base import Compacted, StoreSettings

from .bodies import Count, FloorsBody, SizesBody

__all__ = [
    "CompactBody",
    "EstimateBody",
    "IndexState",
    "PolicyBody",
    "RunBody",
    "SettingsBody",
    "StatsBody",
    "UpkeepBody",
    "estimate_body",
    "policy_body",
    "settings_body",
    "settings_of",
    "upkeep_body",
]

#: A hundred years: what is longer is a mistake, and what cannot be told in ms must not come in.
_SECONDS_MAX = 100 * 366 * 24 * 3600

_Age = Annotated[float, msgspec.Meta(ge=0, le=_SECONDS_MAX)]
_Retention = Annotated[float, msgspec.Meta(ge=1, le=_SECONDS_MAX)]
_Ratio = Annotated[float, msgspec.Meta(ge=0, le=1)]
_Amount = Annotated[int, msgspec.Meta(ge=0, le=SEQ_MAX)]


class SettingsBody(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What a store's owner says of it. What is not there is as the server's settings say, or without a bound.

    `records_max` and `bytes_max` bound the live records of all together; `retention_s` is the age at which a live
    record is deleted; the rest says when clean-up acts, and what it keeps.
    """

    description: Annotated[str, msgspec.Meta(max_length=1000)] = ""
    records_max: _Amount | None = None
    bytes_max: _Amount | None = None
    retention_s: _Retention | None = None
    history_s: _Age | None = None
    tombstones_s: _Age | None = None
    compact_ratio: _Ratio | None = None
    compact_bytes: _Amount | None = None


class PolicyBody(msgspec.Struct, frozen=True, omit_defaults=True):
    """What holds for a store: its owner's settings, and where he says nothing the server's."""

    history_s: float
    tombstones_s: float
    compact_ratio: float
    compact_bytes: int
    retention_s: float | None = None


class RunBody(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a run has done: records deleted by age, values and tombstones dropped, and the bytes of these.

    The totals are what it found to do, while it goes on; `ended` and `error` are there when it is over.
    """

    began: Milliseconds
    expired: Count
    values: Count
    tombstones: Count
    bytes: Count
    values_total: Count | msgspec.UnsetType = msgspec.UNSET
    tombstones_total: Count | msgspec.UnsetType = msgspec.UNSET
    ended: Milliseconds | msgspec.UnsetType = msgspec.UNSET
    error: str = ""


class UpkeepBody(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the upkeep of a store does: the run under way, the last one that did something, and when it is looked at.

    `pinned` are streams that read of the past now, and hold clean-up back.
    """

    state: Literal["idle", "expiring", "compacting", "failed"]
    run: RunBody | msgspec.UnsetType = msgspec.UNSET
    last: RunBody | msgspec.UnsetType = msgspec.UNSET
    next: Milliseconds | msgspec.UnsetType = msgspec.UNSET
    failures: int = 0
    pinned: int = 0


class EstimateBody(msgspec.Struct, frozen=True):
    """What a run would drop now."""

    values: Count
    tombstones: Count
    bytes: Count
    floors: FloorsBody


class CompactBody(msgspec.Struct, frozen=True, omit_defaults=True):
    """The answer to a wish for clean-up: the state of the run, or what it would do."""

    upkeep: UpkeepBody | msgspec.UnsetType = msgspec.UNSET
    estimate: EstimateBody | msgspec.UnsetType = msgspec.UNSET


class IndexState(msgspec.Struct, frozen=True):
    """An index of a store: on what, of which kind, and up to which seq the log was taken in."""

    name: str
    path: str
    kind: Literal["equality", "range", "multi"]
    state: Literal["building", "ready"]
    done: Count


class StatsBody(msgspec.Struct, frozen=True, omit_defaults=True):
    """Statistics of a store. `oldest` and `newest` are the times of the first and the last live record."""

    name: str
    created: Milliseconds
    seq: Count
    records: Count
    sizes: SizesBody
    floors: FloorsBody
    policy: PolicyBody
    upkeep: UpkeepBody
    indexes: tuple[IndexState, ...]
    oldest: Milliseconds | msgspec.UnsetType = msgspec.UNSET
    newest: Milliseconds | msgspec.UnsetType = msgspec.UNSET


def settings_body(settings: StoreSettings) -> SettingsBody:
    """Return what a store's owner says, as it is sent."""
    return SettingsBody(**msgspec.structs.asdict(settings))


def settings_of(body: SettingsBody) -> StoreSettings:
    """Return what was sent, as it is stored."""
    return StoreSettings(**msgspec.structs.asdict(body))


def policy_body(policy: Policy) -> PolicyBody:
    """Return what holds for a store."""
    return PolicyBody(
        policy.history_s, policy.tombstones_s, policy.compact_ratio, policy.compact_bytes, policy.retention_s
    )


def estimate_body(found: Compacted) -> EstimateBody:
    """Return what a run would do."""
    floors = FloorsBody(found.floors.history, found.floors.tombstones)
    return EstimateBody(found.values, found.tombstones, found.bytes, floors)


def upkeep_body(state: StoreState, next_ms: int | None, pinned: int) -> UpkeepBody:
    """Return what the upkeep of a store does."""
    run, last = state.progress, state.last
    return UpkeepBody(
        state.phase.value,
        msgspec.UNSET
        if run is None
        else RunBody(
            run.began_ms, run.expired, run.values, run.tombstones, run.bytes, run.values_total, run.tombstones_total
        ),
        msgspec.UNSET
        if last is None
        else RunBody(
            last.began_ms,
            last.expired,
            last.values,
            last.tombstones,
            last.bytes,
            ended=last.ended_ms,
            error=last.error,
        ),
        msgspec.UNSET if next_ms is None else next_ms,
        state.failures,
        pinned,
    )
