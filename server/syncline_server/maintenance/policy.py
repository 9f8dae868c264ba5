"""By which rules a store is kept: what the server's settings say, and what its owner says instead. Pure.

Invariant: the rules of users never reach the server's own stores; what these hold is nobody's to delete by age.
"""

from dataclasses import dataclass

from syncline_server.storage.base import StoreInfo

__all__ = ["Policy", "is_due", "policy_of"]


@dataclass(frozen=True, slots=True)
class Policy:
    """Attributes:
    history_s: the value of a dead record is kept so long after its DELETE.
    tombstones_s: a DELETE is kept so long.
    compact_ratio: dead values are dropped once they are this part of all values ...
    compact_bytes: ... or have so many bytes.
    retention_s: a live record that is older is deleted; None: none is.
    """

    history_s: float = 7 * 24 * 3600.0
    tombstones_s: float = 90 * 24 * 3600.0
    compact_ratio: float = 0.25
    compact_bytes: int = 64 * 1024 * 1024
    retention_s: float | None = None


def policy_of(info: StoreInfo, defaults: Policy) -> Policy:
    """Return what holds for a store."""
    own = info.settings
    if info.is_system:
        return defaults
    return Policy(
        defaults.history_s if own.history_s is None else own.history_s,
        defaults.tombstones_s if own.tombstones_s is None else own.tombstones_s,
        defaults.compact_ratio if own.compact_ratio is None else own.compact_ratio,
        defaults.compact_bytes if own.compact_bytes is None else own.compact_bytes,
        own.retention_s,
    )


def is_due(info: StoreInfo, policy: Policy) -> bool:
    """Return whether so many values are dead that dropping them is worth the work."""
    dead = info.sizes.dead_values
    if not dead:
        return False
    return info.sizes.dead_bytes >= policy.compact_bytes or dead >= policy.compact_ratio * (dead + info.head.count)
