"""An event loop in a thread of its own: where the client lives while the program calls it from other threads.

`run` and `call` carry work over and wait for what comes of it. Invariants:

- what is carried over is carried out or refused, and whoever waits for it gets an answer, however the loop ends. Only
  daemons that wait at the end of the interpreter hear nothing: they end with it, in silence;
- an interrupt (Ctrl-C) while somebody waits cancels the work, and the work has ended when the interrupt goes on;
- what was opened with `enter` is closed in the loop before the thread ends: by `end`, when nobody holds the
  `LoopThread` any more, or when the interpreter ends;
- nobody waits in the loop's own thread: `call` goes straight through there, `run` raises `Misuse`.

The thread is a daemon and holds a `_Loop` only, so that the `LoopThread` can be let go of while it runs.
"""

import asyncio
import atexit
import contextlib
import threading
import weakref
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from functools import partial
from typing import Any, TypeVar

from syncline.errors import ClientClosed, Misuse

from .job import CoroutineJob, FunctionJob, Job

__all__ = ["LoopThread"]

T = TypeVar("T")

#: Those who wait for something of a client that is closed have so long to hear it before the loop ends.
_GRACE_S = 1.0

#: At the end of the interpreter a client may take so long to close. With a server that answers it is milliseconds.
_EXIT_TIMEOUT_S = 5.0


class LoopThread:
    """Starts the thread; `end` ends it. Safe to use from any thread."""

    def __init__(self) -> None:
        self._loop = _Loop()
        weakref.finalize(self, self._loop.ask_to_end).atexit = False
        self._loop.start()

    def run(self, coroutine: Coroutine[Any, Any, T], timeout: float | None = None) -> T:
        """Run a coroutine in the loop and wait for its result; with a timeout, in seconds, cancel it then.

        Raises:
            Exception: what the coroutine raises.
            TimeoutError: it took longer.
            ClientClosed: the thread has ended, or ended meanwhile.
            Misuse: this is the loop's own thread, which cannot wait for itself.
        """
        job = CoroutineJob(coroutine, timeout)
        try:
            if self._loop.is_current:
                raise _waiting_for_itself()
            if not self._loop.take(job):
                raise ClientClosed
        except BaseException:
            coroutine.close()
            raise
        return job.wait(self._loop.post)

    def call(self, function: Callable[[], T]) -> T:
        """Call a plain function in the loop's thread, and return what it returns or raise what it raises.

        When the thread has ended nothing changes any more, and it is called right here.
        """
        if self._loop.is_current:
            return function()
        job = FunctionJob(function)
        if not self._loop.take(job):
            return function()
        return job.wait(self._loop.post)

    def post(self, work: Callable[[], Coroutine[Any, Any, object]]) -> None:
        """Let the loop do something some time, if it still runs. Waits for nothing, so a finalizer may use it."""
        self._loop.post(partial(self._loop.begin, work))

    def enter(self, context: AbstractAsyncContextManager[T]) -> T:
        """Enter a context in the loop; it is left when the thread ends. Raises as `run`."""
        return self.run(self._loop.contexts.enter_async_context(context))

    def end(self) -> None:
        """Leave what was entered, end the thread, and wait until it has ended. Safe to call again.

        Raises:
            Exception: what a context raised as it was left.
            Misuse: this is the loop's own thread.
        """
        if self._loop.is_current:
            raise _waiting_for_itself()
        self._loop.ask_to_end()
        self._loop.wait_for_end(None)
        failure, self._loop.failure = self._loop.failure, None
        if failure is not None:
            raise failure


class _Loop:
    """The loop and its thread.

    Attributes:
        contexts: what is left at the end.
        failure: what was raised by that.
    """

    def __init__(self) -> None:
        self.contexts = AsyncExitStack()
        self.failure: BaseException | None = None
        self._loop = asyncio.new_event_loop()
        self._is_to_end = asyncio.Event()
        self._is_over = False
        self._is_exiting = False
        self._thread = threading.Thread(target=self._serve, name="syncline", daemon=True)
        self._background: set[asyncio.Task[object]] = set()
        # Those who wait hold them.
        self._jobs: weakref.WeakSet[Job[Any]] = weakref.WeakSet()
        # Reentrant, since the garbage collector may run anything at any point of a thread that holds it.
        self._lock = threading.RLock()

    @property
    def is_current(self) -> bool:
        # The identity of a thread is a number that another one may get when it has ended.
        return threading.current_thread() is self._thread

    # --- from other threads ---

    def start(self) -> None:
        self._thread.start()
        atexit.register(self._end_with_interpreter)

    def take(self, job: Job[Any]) -> bool:
        """Have a job started, and see to it that it is settled. False if the loop has ended."""
        if self._is_exiting and threading.current_thread().daemon:
            # A daemon in the middle of something. It is not told of the end, which it does not live to see.
            job.is_silent = True
            return True
        if not self._is_over and not self._thread.is_alive():
            raise ClientClosed("the client belongs to the process that this one was forked from", hint="open another")
        with self._lock:
            if self._is_over:
                return False
            self._jobs.add(job)
            self._loop.call_soon_threadsafe(self._start, job)
        return True

    def post(self, work: Callable[[], None]) -> None:
        """Have something called in the loop, if it still runs."""
        if self._thread.is_alive():
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(work)

    def ask_to_end(self) -> None:
        self.post(self._is_to_end.set)

    def wait_for_end(self, timeout_s: float | None) -> None:
        self._thread.join(timeout_s)

    def _end_with_interpreter(self) -> None:
        with self._lock:
            self._is_exiting = True
            for job in list(self._jobs):
                # By now only daemons wait for anything; an error would be the last that is heard of them.
                job.is_silent = True
        self.ask_to_end()
        self.wait_for_end(_EXIT_TIMEOUT_S)

    # --- in the loop's thread ---

    def _start(self, job: Job[Any]) -> None:
        # What was let go of before this was asked for ends before it begins.
        if self._background:
            self._loop.call_soon(job.start)
        else:
            job.start()

    def begin(self, work: Callable[[], Coroutine[Any, Any, object]]) -> None:
        """Start work that nobody waits for."""
        task: asyncio.Task[object] = self._loop.create_task(work(), name="syncline-sync")
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    def _serve(self) -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                runner.run(self._until_asked())
        except BaseException as error:
            self.failure = error
        finally:
            self._finish()

    async def _until_asked(self) -> None:
        try:
            await self._is_to_end.wait()
            await self.contexts.aclose()
        finally:
            with self._lock:
                self._is_over = True
            # What was taken before that begins now, and has its time too.
            await asyncio.sleep(0)
            others = asyncio.all_tasks() - {asyncio.current_task()}
            if others:
                await asyncio.wait(others, timeout=_GRACE_S)

    def _finish(self) -> None:
        with self._lock:
            self._is_over = True
            jobs = list(self._jobs)
        for job in jobs:
            job.abandon()
        if not self._is_exiting:
            atexit.unregister(self._end_with_interpreter)


def _waiting_for_itself() -> Misuse:
    return Misuse(
        "a callback runs in the client's own thread, where nothing may wait",
        hint="let it put what it has to say into a queue, and do the work in another thread",
    )
