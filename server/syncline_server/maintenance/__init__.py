"""The life of stores: what is deleted by age, what is cleaned up and when, and the space that is given back.

`policy` says what holds for a store, purely; `retention` deletes what has become too old; `upkeep` is the state of each
store and carries out a run; `maintenance` is the task that does so by the clock, or when somebody asks.
"""

from .maintenance import Maintenance
from .policy import Policy, policy_of
from .state import LastRun, Phase, Progress, StoreState

__all__ = ["LastRun", "Maintenance", "Phase", "Policy", "Progress", "StoreState", "policy_of"]
