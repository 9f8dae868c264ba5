"""Ctrl-C while a call blocks: it ends the call, and leaves the client as it was."""

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType

import pytest

import syncline.sync
from syncline import ConnectionState, Misuse
from syncline.testing import Server

_TIMEOUT_S = 20.0


@pytest.fixture(autouse=True)
def ctrl_c_raises() -> Iterator[None]:
    """A process that was started in the background may have been told to ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def interrupt_when_it_waits(work: Callable[[], object]) -> None:
    """Do something, interrupt it as soon as this thread waits, and see that it ends of that."""
    main = threading.get_ident()
    is_over = threading.Event()

    def interrupt() -> None:
        while not is_over.is_set():
            if is_waiting(sys._current_frames()[main]):
                signal.pthread_kill(main, signal.SIGINT)
                return

    interrupting = threading.Thread(target=interrupt)
    interrupting.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            work()
    finally:
        is_over.set()
        interrupting.join()


def is_waiting(frame: FrameType | None) -> bool:
    """Whether a thread waits for the loop, as far down as it can."""
    if frame is None or frame.f_code.co_name != "wait":
        return False
    while frame is not None and not frame.f_code.co_filename.endswith("job.py"):
        frame = frame.f_back
    return frame is not None


def tasks_of(client: syncline.sync.Client) -> int:
    """Count what the loop is asked for."""
    return client._thread.call(lambda: len(client._thread._loop._jobs)) - 1


def test_an_interrupted_wait_for_a_change_loses_none(client: syncline.sync.Client, store: str) -> None:
    subscription = client.subscribe(store)
    for number in range(10):
        interrupt_when_it_waits(lambda: next(subscription))
        assert tasks_of(client) == 0
        client.add(store, number)
        assert next(subscription).value == number


def test_an_interrupted_watch_goes_on(client: syncline.sync.Client, store: str) -> None:
    replica = client.replica(store)
    watch = replica.watch(prefix="k")
    assert len(next(watch)) == 0
    interrupt_when_it_waits(lambda: next(watch))
    replica.add(1, "k")
    assert len(watch.next(_TIMEOUT_S)) == 1
    interrupt_when_it_waits(lambda: list(replica.watch(lambda record: False)))
    assert tasks_of(client) == 0


def test_an_interrupted_wait_for_a_write_leaves_the_write(store: str) -> None:
    with Server() as server, syncline.sync.connect(server.url) as client:
        replica = client.replica("notes")
        replica.wait_caught_up()
        server.kill()
        write = replica.add(1)
        for wait in (write.stored, replica.flush, lambda: client.add("notes", 2)):
            interrupt_when_it_waits(wait)
        assert tasks_of(client) == 0
        server.start()
        assert write.synced(_TIMEOUT_S) >= 1
        assert client.add("notes", 3).status == "ok"


def test_an_interrupted_walk_does_not_look_complete(client: syncline.sync.Client, store: str) -> None:
    client.add(store, 1)
    records = client.records(store)
    # The same happens to the walk as when it is interrupted.
    with pytest.raises(TimeoutError):
        records.next(0.0)
    for _ in range(2):
        with pytest.raises(Misuse, match="broken off"):
            next(records)
    assert [record.value for record in client.records(store)] == [1]


def test_an_interrupted_connect_leaves_nothing() -> None:
    before = threading.active_count()

    def never() -> str:
        blocked.wait(_TIMEOUT_S)
        return "late"

    blocked = threading.Event()
    with Server() as server:
        interrupt_when_it_waits(lambda: syncline.sync.connect(server.url, token=never, timeout=_TIMEOUT_S))
        blocked.set()
        with syncline.sync.connect(server.url) as client:
            assert client.state is ConnectionState.LIVE
    deadline = threading.Event()
    while threading.active_count() > before:
        assert not deadline.wait(0.01)
