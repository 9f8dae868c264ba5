"""The status of a client or a replica, each time that it changes, as a blocking iterator.

Each page is the first news of an async iteration that begins anew, since that begins with the status as it is. So there
is nothing that an interrupt could break, and nothing to be closed.
"""

from collections.abc import AsyncIterator, Callable
from typing import TypeVar

from .loop_thread import LoopThread
from .pages import Pages

__all__ = ["Statuses"]

S = TypeVar("S")


class Statuses(Pages[S]):
    """The status as it is, and each time that it changes; made by `statuses` of a `Client` or a `Replica`.

    It stops when that is closed. Short-lived ones may be left out.
    """

    _stops_with_client = True

    def __init__(self, thread: LoopThread, statuses: Callable[[], AsyncIterator[S]], current: Callable[[], S]) -> None:
        super().__init__(thread, None)
        self._statuses = statuses
        self._current = current
        self._last: S | None = None

    async def _fetch(self) -> list[S]:
        async for status in self._statuses():
            if status != self._last:
                self._last = status
                return [status]
        return []

    def _left(self) -> list[S]:
        last, self._last = self._last, self._current()
        return [] if self._last == last else [self._last]
