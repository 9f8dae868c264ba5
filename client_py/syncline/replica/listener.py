"""Whom a keeper tells what has happened, once it is saved.

The replica, or a test, replaces the methods of what it wants to hear of; they are called in the event loop.
"""

from .entry import Entry
from .report import Report

__all__ = ["Listener"]


class Listener:
    """Whom the keeper tells; the replica replaces what it wants to hear of."""

    def touched(self, keys: frozenset[str] | None) -> None:
        """Records of these keys look different now; of any with None."""

    def moved(self, entry: Entry) -> None:
        """An entry is in another state now."""

    def reported(self, report: Report) -> None:
        """Something happened that the application may want to know."""

    def stirred(self) -> None:
        """The feed, or the keeper itself, is in another state now."""
