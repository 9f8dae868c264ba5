"""A blocking iterator over what happens in the loop: what waits there comes over as one page.

A way to the loop and back costs as much as a hundred looks at a list, so what is there anyway comes along. What has
come over is kept here until it is asked for: a timeout or an interrupt while the next page is fetched loses nothing.
"""

import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, ClassVar, Generic, Self, TypeVar
from weakref import finalize

from syncline.errors import ClientClosed, Misuse

from .loop_thread import LoopThread

__all__ = ["Pages"]

T_co = TypeVar("T_co", covariant=True)


class Pages(ABC, Generic[T_co], Iterator[T_co]):
    """What blocking iterators have in common.

    Args:
        close: ends it in the loop; done too when nobody holds the iterator any more.
    """

    #: Whether the iteration stops when the client is closed; otherwise it raises `ClientClosed`.
    _stops_with_client: ClassVar[bool] = False

    def __init__(self, thread: LoopThread, close: Callable[[], Coroutine[Any, Any, None]] | None) -> None:
        self._thread = thread
        self._close = close
        self._page: deque[T_co] = deque()
        self._reading = threading.Lock()
        if close is not None:
            finalize(self, thread.post, close).atexit = False

    @abstractmethod
    async def _fetch(self) -> Sequence[T_co]:
        """Wait, in the loop, until there is something, and return what there is; nothing at the end.

        After the last `await` it must not fail, nor be cancelled, without what it took being given back.
        """

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T_co:
        return self.next()

    def next(self, timeout: float | None = None) -> T_co:
        """Return what comes next, as `next(iterator)` does, but wait for it so many seconds at most.

        Raises:
            TimeoutError: nothing came. It can be asked for again.
            StopIteration: nothing follows.
            Misuse: another thread waits for it already.
        """
        if not self._reading.acquire(blocking=False):
            raise Misuse("two threads iterate over one iterator", hint="let one read and pass it on")
        try:
            if not self._page:
                self._fill(timeout)
            if not self._page:
                raise StopIteration
            return self._page.popleft()
        finally:
            self._reading.release()

    def _fill(self, timeout: float | None) -> None:
        try:
            self._thread.run(self._turn(), timeout)
        except ClientClosed:
            if not self._stops_with_client:
                raise
            self._page.extend(self._left())

    async def _turn(self) -> None:
        self._page.extend(await self._fetch())

    def _left(self) -> Sequence[T_co]:
        """Return what is left to be handed out when the client is closed."""
        return ()

    def close(self) -> None:
        """End it: whoever iterates stops. What holds nothing open goes on."""
        if self._close is not None:
            self._page.clear()
            with suppress(ClientClosed):
                self._thread.run(self._close())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
