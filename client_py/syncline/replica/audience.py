"""Those who follow a replica: watches, callbacks, and listeners to its reports.

What a callback raises is the application's: it is given to the event loop's exception handler, and stops nobody.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar
from weakref import WeakSet

from .report import Report
from .watch import Query, Watch

__all__ = ["Audience"]

T = TypeVar("T")


@dataclass(slots=True, eq=False)
class _Callback:
    """A query, and whom to call with its views."""

    query: Query[Any]
    callback: Callable[[Any], None]


class Audience:
    """Everybody who is told of changes."""

    def __init__(self) -> None:
        # A watch that nobody iterates over any more goes by itself.
        self._watches: WeakSet[Watch[Any]] = WeakSet()
        self._callbacks: list[_Callback] = []
        self._listeners: list[Callable[[Report], None]] = []

    def watch(self, watch: Watch[Any]) -> None:
        """Tell a watch what is touched."""
        self._watches.add(watch)

    def call(self, query: Query[T], callback: Callable[[T], None]) -> Callable[[], None]:
        """Call `callback` with the views after the first one. Returns what ends that."""
        entry = _Callback(query, callback)
        self._callbacks.append(entry)
        return lambda: _remove(self._callbacks, entry)

    def listen(self, listener: Callable[[Report], None]) -> Callable[[], None]:
        """Call `listener` with each report. Returns what ends that."""
        self._listeners.append(listener)
        return lambda: _remove(self._listeners, listener)

    def touched(self, keys: frozenset[str] | None) -> None:
        """Records of these keys look different now; of any with None."""
        for watch in list(self._watches):
            watch.touched(keys)
        for entry in list(self._callbacks):
            if entry.query.touch(keys):
                _protected(_look_and_call, entry)

    def reported(self, report: Report) -> None:
        """Pass a report on."""
        for listener in list(self._listeners):
            _protected(listener, report)

    def end(self) -> None:
        """Nothing follows: watches stop, callbacks are forgotten."""
        for watch in list(self._watches):
            watch.end()
        self._callbacks.clear()
        self._listeners.clear()


def _look_and_call(entry: _Callback) -> None:
    view = entry.query.next()
    if view is not None:
        entry.callback(view)


def _remove(items: list[T], item: T) -> None:
    if item in items:
        items.remove(item)


def _protected(work: Callable[[T], None], argument: T) -> None:
    try:
        work(argument)
    except Exception as error:
        asyncio.get_running_loop().call_exception_handler(
            {"message": "a callback of a Syncline replica failed", "exception": error}
        )
