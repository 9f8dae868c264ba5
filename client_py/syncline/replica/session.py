"""The client's connection as a replica needs it; tests give it another one."""

from collections.abc import Callable
from typing import Protocol

from syncline.follower import Follower
from syncline.status import Status
from syncline.write import PendingWrite
from syncline_protocol import Limits

__all__ = ["Session"]


class Session(Protocol):
    """The connection, as a replica needs it."""

    @property
    def status(self) -> Status:
        """Where it stands."""

    @property
    def limits(self) -> Limits:
        """The bounds of the server."""

    def put(self, write: PendingWrite) -> None:
        """Take a write, to be sent."""

    def wake(self) -> None:
        """Something may be due to be sent."""

    def follow(self, follower: Follower) -> None:
        """Take a feed, to be opened."""

    def on_status(self, listener: Callable[[Status], None]) -> Callable[[], None]:
        """Call the listener with each status; returns what ends that."""
