"""Work that one thread hands to an event loop in another one, and waits for.

A job is made and waited for in the thread that wants it; `start`, `cancel` and `abandon` are called in the thread of
the loop. However it goes, `result` is settled in the end, so nobody waits for ever, unless nobody is to hear of it.
"""

import asyncio
import concurrent.futures
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

from syncline.errors import ClientClosed

__all__ = ["CoroutineJob", "FunctionJob", "Job"]

T = TypeVar("T")

#: Work that is cancelled may take so long to end before whoever was interrupted goes on without it.
_CANCEL_TIMEOUT_S = 1.0


class Job(ABC, Generic[T]):
    """Attributes:
    result: what comes of it; cancelled if the loop ended first.
    is_silent: leave the result open: the thread that waits for it is about to be cut off with the interpreter.
    """

    def __init__(self) -> None:
        self.is_silent = False
        self.result: concurrent.futures.Future[T] = concurrent.futures.Future()

    @abstractmethod
    def start(self) -> None:
        """Begin."""

    @abstractmethod
    def cancel(self) -> None:
        """End before it is done, if that can be."""

    def abandon(self) -> None:
        """Take note that the loop ended, if that came before this was done."""
        if not self.is_silent and not self.result.done():
            self.result.cancel()
            # Only this lets those know that wait for it to be settled.
            self.result.set_running_or_notify_cancel()

    def wait(self, post: Callable[[Callable[[], None]], None]) -> T:
        """Return what comes of it, or raise it. If this thread is interrupted, the work is cancelled and has ended.

        Args:
            post: has something called in the loop.

        Raises:
            ClientClosed: the loop ended first.
        """
        try:
            return self.result.result()
        except concurrent.futures.CancelledError:
            raise ClientClosed from None
        except BaseException:
            if not self.result.done():
                post(self.cancel)
                concurrent.futures.wait([self.result], _CANCEL_TIMEOUT_S)
            raise

    def _settle(self, work: Callable[[], T]) -> None:
        try:
            value = work()
        except BaseException as error:
            if not self.is_silent:
                self.result.set_exception(error)
        else:
            if not self.is_silent:
                self.result.set_result(value)


class FunctionJob(Job[T]):
    """The call of a plain function, which is not broken off."""

    def __init__(self, function: Callable[[], T]) -> None:
        super().__init__()
        self._function = function

    def start(self) -> None:
        self._settle(self._function)

    def cancel(self) -> None:
        pass


class CoroutineJob(Job[T]):
    """A coroutine, and how many seconds it has at most."""

    def __init__(self, coroutine: Coroutine[Any, Any, T], timeout_s: float | None) -> None:
        super().__init__()
        self._coroutine = coroutine
        self._timeout_s = timeout_s
        self._task: asyncio.Task[T] | None = None

    def start(self) -> None:
        work = self._coroutine if self._timeout_s is None else _within(self._timeout_s, self._coroutine)
        self._task = asyncio.get_running_loop().create_task(work, name="syncline-sync")
        self._task.add_done_callback(self._done)

    def cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def abandon(self) -> None:
        self._coroutine.close()
        super().abandon()

    def _done(self, task: "asyncio.Task[T]") -> None:
        if task.cancelled():
            super().abandon()
        else:
            self._settle(task.result)


async def _within(timeout_s: float, work: Coroutine[Any, Any, T]) -> T:
    async with asyncio.timeout(timeout_s):
        return await work
