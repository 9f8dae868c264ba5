"""The thread with the event loop: what is carried over, and how it ends."""

import asyncio
import contextlib
import gc
import os
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from syncline import ClientClosed, Misuse
from syncline.sync.loop_thread import LoopThread

_TIMEOUT_S = 20.0


@pytest.fixture
def thread() -> Iterator[LoopThread]:
    made = LoopThread()
    yield made
    made.end()


async def double(number: int) -> int:
    await asyncio.sleep(0)
    return 2 * number


def loop_threads() -> list[threading.Thread]:
    return [each for each in threading.enumerate() if each.name == "syncline"]


def test_coroutines_and_functions_run_in_one_other_thread(thread: LoopThread) -> None:
    async def where() -> int:
        return threading.get_ident()

    there = thread.run(where())
    assert there != threading.get_ident()
    assert thread.call(threading.get_ident) == there
    assert thread.run(double(2)) == 4


def test_what_is_raised_there_is_raised_here(thread: LoopThread) -> None:
    async def fail() -> None:
        raise KeyError("there")

    def fail_too() -> None:
        raise StopIteration("there")

    with pytest.raises(KeyError, match="there"):
        thread.run(fail())
    with pytest.raises(StopIteration, match="there"):
        thread.call(fail_too)


def test_what_takes_too_long_is_cancelled(thread: LoopThread) -> None:
    cancelled = threading.Event()

    async def wait() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    with pytest.raises(TimeoutError):
        thread.run(wait(), 0.01)
    assert cancelled.is_set()
    assert thread.run(double(2), 10) == 4


def test_the_loop_does_not_wait_for_itself(thread: LoopThread) -> None:
    assert thread.call(lambda: thread.call(lambda: 1)) == 1
    with pytest.raises(Misuse, match="own thread"):
        thread.call(lambda: thread.run(double(2)))
    with pytest.raises(Misuse, match="own thread"):
        thread.call(thread.end)
    assert thread.run(double(2)) == 4


def test_what_was_entered_is_left_in_the_loop_at_the_end() -> None:
    happened: list[str] = []

    @contextlib.asynccontextmanager
    async def context() -> AsyncIterator[str]:
        happened.append("entered")
        yield "it"
        happened.append(f"left in {threading.current_thread().name}")

    thread = LoopThread()
    assert thread.enter(context()) == "it"
    thread.end()
    thread.end()
    assert happened == ["entered", "left in syncline"]


def test_what_a_context_raises_as_it_is_left_is_raised_by_the_end_once() -> None:
    @contextlib.asynccontextmanager
    async def context() -> AsyncIterator[None]:
        yield
        raise OSError("on leaving")

    thread = LoopThread()
    thread.enter(context())
    with pytest.raises(OSError, match="on leaving"):
        thread.end()
    thread.end()


def test_after_the_end_coroutines_are_refused_and_functions_called_here() -> None:
    thread = LoopThread()
    thread.end()
    with pytest.raises(ClientClosed):
        thread.run(double(2))
    assert thread.call(threading.get_ident) == threading.get_ident()
    thread.post(lambda: double(2))
    assert not loop_threads()


def test_who_waits_when_it_ends_is_told() -> None:
    thread = LoopThread()
    began = threading.Event()

    async def wait() -> None:
        began.set()
        await asyncio.Event().wait()

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(lambda: thread.run(wait()))
        assert began.wait(_TIMEOUT_S)
        thread.end()
        with pytest.raises(ClientClosed):
            waiting.result(_TIMEOUT_S)


def test_who_comes_as_it_ends_gets_an_answer() -> None:
    for _ in range(30):
        thread = LoopThread()
        started = threading.Barrier(5)

        def ask(thread: LoopThread = thread, started: threading.Barrier = started) -> int:
            started.wait(_TIMEOUT_S)
            count = 0
            with contextlib.suppress(ClientClosed):
                while True:
                    count += thread.run(double(1)) // 2
                    assert thread.call(lambda: 3) == 3
            return count

        with ThreadPoolExecutor(4) as pool:
            asking = [pool.submit(ask) for _ in range(4)]
            started.wait(_TIMEOUT_S)
            thread.run(double(1))
            thread.end()
            for each in asking:
                each.result(_TIMEOUT_S)


def test_nothing_is_left_when_nobody_holds_it() -> None:
    before = set(loop_threads())
    thread = LoopThread()
    (own,) = set(loop_threads()) - before
    del thread
    gc.collect()
    own.join(_TIMEOUT_S)
    assert not own.is_alive()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_process_is_told_that_the_thread_is_not_its_own(thread: LoopThread) -> None:
    thread.run(double(1))
    child = os.fork()
    if child == 0:
        status = 1
        with contextlib.suppress(ClientClosed):
            thread.run(double(1))
            status = 2
        try:
            thread.call(lambda: 1)
        except ClientClosed:
            status -= 1
        os._exit(status)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert thread.run(double(2)) == 4
