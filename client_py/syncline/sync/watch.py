"""Live queries as blocking iterators.

One view at a time: while nobody asks for the next one, what changes is put together, so nothing is fetched ahead.
"""

from collections.abc import Callable
from typing import Any, TypeVar

from syncline.replica import watch

from .loop_thread import LoopThread
from .pages import Pages

__all__ = ["Watch"]

V = TypeVar("V")


class Watch(Pages[V]):
    """The views of one query; made by `watch` of a `Replica` or a `Collection`.

    Use it with `for`; `next(timeout)` waits for a limited time. It stops when the replica is closed. A loop may be left
    early: the watch ends when nobody holds it any more.

    Args:
        shown: makes of a view what is handed out.
    """

    _stops_with_client = True

    def __init__(self, thread: LoopThread, inner: watch.Watch[Any], shown: Callable[[Any], V]) -> None:
        super().__init__(thread, inner.aclose)
        self._inner = inner
        self._shown = shown

    async def _fetch(self) -> list[V]:
        try:
            return [self._shown(await anext(self._inner))]
        except StopAsyncIteration:
            return []
