"""Many threads with one client, callbacks, and programs that have an event loop of their own."""

import asyncio
import gc
import logging
import queue
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

import syncline.sync
from syncline import ConnectionState, Misuse, SyncState
from syncline.sync import Client, Replica
from syncline.testing import Server

_THREADS = 8
_ROUNDS = 40
_TIMEOUT_S = 60.0


def in_threads(work: Callable[[int], None]) -> None:
    """Do something in all threads at once, and raise what any of them raises."""
    together = threading.Barrier(_THREADS)

    def start(number: int) -> None:
        together.wait(_TIMEOUT_S)
        work(number)

    with ThreadPoolExecutor(_THREADS) as pool:
        for each in [pool.submit(start, number) for number in range(_THREADS)]:
            each.result(_TIMEOUT_S)


def test_eight_threads_hammer_one_client(client: Client, store: str) -> None:
    seen: list[int] = []
    subscription = client.subscribe(store)

    def read() -> None:
        for change in subscription:
            seen.append(change.seq)
            if len(seen) == _THREADS * _ROUNDS:
                return

    reading = threading.Thread(target=read)
    reading.start()

    def work(number: int) -> None:
        for turn in range(_ROUNDS):
            key = f"{number}-{turn}"
            assert client.add(store, turn, key).key == key
            if turn % 10 == 0:
                record = client.get(store, key)
                assert record is not None
                assert record.value == turn
                assert sum(1 for _ in client.records(store)) > turn
                assert client.status.state is ConnectionState.LIVE

    in_threads(work)
    reading.join(_TIMEOUT_S)
    assert seen == list(range(1, _THREADS * _ROUNDS + 1))


def test_eight_threads_hammer_one_replica(client: Client, store: str) -> None:
    replica = client.replica(store)
    replica.wait_caught_up(_TIMEOUT_S)
    rooms = replica.collection("rooms")
    shared = rooms.create(id="shared")

    def work(number: int) -> None:
        watch = replica.watch(prefix=f"{number}-")
        assert len(next(watch)) == 0
        for turn in range(_ROUNDS):
            key = f"{number}-{turn}"
            write = replica.add(turn, key)
            record = replica.get(key)
            assert record is not None
            assert record.value == turn
            assert key in replica
            if turn % 10 == 0:
                assert write.synced(_TIMEOUT_S) > 0
                assert len(list(replica)) > turn
                shared.set({f"by{number}": turn})
                assert len(replica.find(prefix=f"{number}-")) == turn + 1
        view = watch.next(_TIMEOUT_S)
        while len(view) < _ROUNDS:
            view = watch.next(_TIMEOUT_S)

    in_threads(work)
    replica.flush(_TIMEOUT_S)
    assert sum(1 for record in replica if not record.key.startswith("rooms")) == _THREADS * _ROUNDS
    last = 10 * ((_ROUNDS - 1) // 10)
    assert rooms["shared"].attributes == {f"by{number}": last for number in range(_THREADS)}


def test_two_threads_do_not_share_an_iterator(client: Client, store: str) -> None:
    subscription = client.subscribe(store)
    subscription.wait_caught_up(_TIMEOUT_S)
    assert isinstance(subscription.events().next(_TIMEOUT_S), syncline.CaughtUp)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(next, subscription)
        while not subscription._reading.locked():
            pass
        with pytest.raises(Misuse, match="two threads"):
            next(subscription)
        client.add(store, 1)
        assert waiting.result(_TIMEOUT_S).value == 1


def test_closing_in_one_thread_ends_what_others_wait_for() -> None:
    with Server() as server, ThreadPoolExecutor(4) as pool:
        client = syncline.sync.connect(server.url)
        client.stores.create("notes")
        replica = client.replica("other")
        replica.wait_caught_up()
        server.kill()
        write = replica.add(1)
        refused = [pool.submit(work) for work in (lambda: client.add("notes", 1), write.stored, replica.flush)]
        stopped = pool.submit(lambda: [status.state for status in client.statuses()])
        while not client.unanswered_writes:
            pass
        client.close()
        for each in refused:
            assert isinstance(each.exception(_TIMEOUT_S), syncline.ClientClosed)
        assert stopped.result(_TIMEOUT_S)[-1] is ConnectionState.CLOSED
        assert write.state is SyncState.PENDING


# --- callbacks ---


def test_a_callback_may_look_and_must_not_wait(client: Client, store: str) -> None:
    replica = client.replica(store)
    told: queue.Queue[object] = queue.Queue()

    def look(view: syncline.View) -> None:
        told.put((len(replica), replica.status.pending, threading.current_thread().name))
        try:
            replica.add("from a callback")
        except Misuse as error:
            told.put(error)

    replica.on_change(look)
    assert told.get(timeout=_TIMEOUT_S) == (0, 0, "syncline")
    assert isinstance(told.get(timeout=_TIMEOUT_S), Misuse)
    replica.add(1)
    assert told.get(timeout=_TIMEOUT_S) == (1, 1, "syncline")


def test_what_a_callback_raises_is_logged_and_hurts_nobody(
    client: Client, store: str, caplog: pytest.LogCaptureFixture
) -> None:
    replica = client.replica(store)
    calls: list[int] = []

    def fail(view: syncline.View) -> None:
        calls.append(len(view))
        if len(calls) > 1:
            raise KeyError("mine")

    with caplog.at_level(logging.ERROR, "asyncio"):
        replica.on_change(fail)
        replica.add(1).synced(_TIMEOUT_S)
    assert "mine" in caplog.text
    assert len(calls) > 1


# --- a loop of one's own ---


async def test_a_program_with_a_running_loop_may_block_it(shared: Server, store: str) -> None:
    assert asyncio.get_running_loop().is_running()
    with syncline.sync.connect(shared.url) as client:
        replica = client.replica(store)
        assert replica.add(1).synced(_TIMEOUT_S) == 1
        assert [record.value for record in next(replica.watch())] == [1]


# --- what is left behind ---


def audience_of(replica: Replica) -> int:
    """Count the watches that a replica keeps up."""
    return replica._thread.call(lambda: len(replica._inner._audience._watches))


def test_loops_that_are_left_early_leave_nothing(client: Client, store: str) -> None:
    for number in range(3):
        client.add(store, number)
    for _ in range(3):
        # The second round is not told that this client is subscribed already.
        for change in client.subscribe(store):
            assert change.value == 0
            break
        for record in client.records(store):
            assert record.value == 0
            break
    replica = client.replica(store)
    rooms = replica.collection("rooms")
    for _ in range(3):
        for _view in replica.watch():
            break
        for _rooms in rooms.watch(lambda room: True, order_by=lambda room: room.id):
            break
        for _status in replica.statuses():
            break
    del _view, _rooms
    gc.collect()
    assert audience_of(replica) == 0
    assert client._thread.call(lambda: len(client._thread._loop._background)) == 0
