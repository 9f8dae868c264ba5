"""The clock that tests of applications move."""

import asyncio

import pytest

from syncline import Clock, Misuse
from syncline.testing import VirtualClock
from tests.client.waiting import soon


async def settle() -> None:
    """Let everything that is ready run."""
    for _ in range(10):
        await asyncio.sleep(0)


def test_time_stands_still_until_it_is_advanced() -> None:
    clock = VirtualClock()
    now, time = clock.now(), clock.time()
    assert (clock.now(), clock.time()) == (now, time)
    clock.advance(2.5)
    assert (clock.now() - now, clock.time() - time) == (2.5, 2.5)
    with pytest.raises(Misuse, match="advance by 0 or more"):
        clock.advance(-1)


def test_the_wall_clock_can_be_set_back_while_the_other_one_goes_on() -> None:
    clock = VirtualClock()
    time = clock.time()
    clock.epoch -= 3600
    clock.advance(1)
    assert (clock.now(), clock.time()) == (1001.0, time - 3599)


async def test_sleepers_wake_in_the_order_of_their_times_and_not_before() -> None:
    clock = VirtualClock()
    woken: list[float] = []

    async def sleep(seconds: float) -> None:
        await clock.sleep(seconds)
        woken.append(seconds)

    async with asyncio.TaskGroup() as tasks:
        for seconds in (3.0, 1.0, 2.0):
            tasks.create_task(sleep(seconds))
        await settle()
        clock.advance(0.5)
        await settle()
        assert woken == []
        clock.advance(1.5)
        await settle()
        assert woken == [1.0, 2.0]
        clock.advance(1.0)
    assert woken == [1.0, 2.0, 3.0]
    assert clock.slept == [3.0, 1.0, 2.0]


async def test_a_sleep_of_no_time_is_over_at_once() -> None:
    clock = VirtualClock()
    await soon(clock.sleep(0.0))
    await soon(clock.sleep(-1.0))
    assert clock.now() == VirtualClock().now()


async def test_a_wait_that_was_computed_from_the_wall_clock_is_long_enough() -> None:
    clock = VirtualClock()
    for part in range(1, 50):
        sleep = asyncio.create_task(clock.sleep(part / 7))
        await settle()
        retry_at = clock.time() + part / 7
        clock.advance(retry_at - clock.time())
        await soon(sleep)


async def test_sleeper_waits_until_somebody_sleeps_for_a_time_that_fits() -> None:
    clock = VirtualClock()
    short = asyncio.create_task(clock.sleep(1.0))
    assert await soon(clock.sleeper()) == 1.0
    found = asyncio.create_task(clock.sleeper(lambda seconds: seconds > 5))
    await settle()
    assert not found.done()
    long = asyncio.create_task(clock.sleep(10.0))
    assert await soon(found) == 10.0
    clock.advance(await clock.sleeper())
    await soon(short)
    clock.advance(await clock.sleeper())
    await soon(long)


async def test_a_sleeper_that_was_cancelled_is_no_longer_there() -> None:
    clock = VirtualClock()
    sleep = asyncio.create_task(clock.sleep(1.0))
    await soon(clock.sleeper())
    sleep.cancel()
    await asyncio.wait([sleep])
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await clock.sleeper()


def test_chance_is_what_the_test_says() -> None:
    clock = VirtualClock(chance=0.25)
    assert clock.random() == 0.25
    clock.chance = 0.75
    assert clock.random() == 0.75


def test_bytes_differ_at_every_call_and_are_the_same_in_every_run() -> None:
    first, again, other = VirtualClock(), VirtualClock(), VirtualClock(seed=1)
    drawn = [first.random_bytes(10) for _ in range(100)]
    assert len(set(drawn)) == 100
    assert {len(each) for each in drawn} == {10}
    assert drawn == [again.random_bytes(10) for _ in range(100)]
    assert not {other.random_bytes(10) for _ in range(100)} & set(drawn)


def test_it_has_everything_that_the_real_clock_has() -> None:
    for name in vars(Clock):
        if not name.startswith("_"):
            assert name in vars(VirtualClock), name
