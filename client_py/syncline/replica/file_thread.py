"""The thread that a replica's file is written in.

Like the executor of one thread that the standard library has, but for the end of the interpreter. That one takes no
work any more once the main thread has ended, though other threads may go on, and with them the program and its
replicas. This one takes work to the last: it is a daemon, and the interpreter waits at its very end until what was
asked for is done. So a program that forgets to close a file ends, and no transaction is cut off.
"""

import atexit
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from queue import SimpleQueue
from typing import Any, ParamSpec, TypeVar
from weakref import WeakSet, finalize

__all__ = ["FileThread"]

P = ParamSpec("P")
T = TypeVar("T")

#: The interpreter waits so long at its end. A transaction takes milliseconds, unless another program locks the file.
_EXIT_TIMEOUT_S = 10.0

#: Those that somebody holds; the others are ended by that.
_held: "WeakSet[FileThread]" = WeakSet()


class FileThread(Executor):
    """Carries out one piece of work after the other."""

    def __init__(self) -> None:
        self._work: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._is_shut = False
        threading.Thread(target=_carry_out, args=(self._work,), name="syncline-replica", daemon=True).start()
        finalize(self, self._work.put, None).atexit = False
        _held.add(self)
        # It is registered once, however many there are.
        atexit.unregister(_drain_all)
        atexit.register(_drain_all)

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Have a function called in the thread."""
        if self._is_shut:
            raise RuntimeError("the thread of the file was ended")
        future: Future[T] = Future()
        self._work.put(lambda: _settle(future, lambda: fn(*args, **kwargs)))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the thread when it has done what was asked for so far; nothing can be asked for after that."""
        if wait:
            self.drain()
        self._is_shut = True
        _held.discard(self)
        self._work.put(None)

    def drain(self) -> None:
        """Wait until what was asked for is done, unless that takes too long."""
        done = threading.Event()
        self._work.put(done.set)
        done.wait(_EXIT_TIMEOUT_S)


def _drain_all() -> None:
    for thread in list(_held):
        thread.drain()


def _carry_out(work: "SimpleQueue[Callable[[], None] | None]") -> None:
    while (each := work.get()) is not None:
        each()
        # What it holds may go before the next one comes.
        del each


def _settle(future: Future[Any], function: Callable[[], object]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = function()
    except BaseException as error:
        future.set_exception(error)
    else:
        future.set_result(result)
    finally:
        del future
