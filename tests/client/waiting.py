"""Waiting in tests: for an answer, for a state, for the next changes. Nothing here waits for ever."""

import asyncio
import time
from collections.abc import Awaitable
from typing import TypeVar

from syncline import Change, Client, ConnectionState, Status, Subscription
from tests.client.fake_clock import FakeClock

__all__ = ["come_back", "soon", "state", "take", "turn"]

T = TypeVar("T")

#: Short, and long enough for a thread that waits for the interpreter to wake up.
_BREATH_S = 20e-6


async def soon(work: Awaitable[T]) -> T:
    """Wait, and fail instead of hanging."""
    async with asyncio.timeout(15):
        return await work


async def state(client: Client, wanted: ConnectionState) -> Status:
    """Wait until the client is in this state."""
    async with asyncio.timeout(15):
        async for status in client.statuses():
            if status.state is wanted:
                return status
    raise AssertionError("the client was closed")


async def come_back(client: Client, clock: FakeClock) -> None:
    """Let the wait before the next attempt pass."""
    status = await state(client, ConnectionState.OFFLINE)
    assert status.retry_at is not None
    clock.advance(status.retry_at - clock.time())
    await state(client, ConnectionState.LIVE)


async def turn() -> None:
    """Let the loop turn once, and the thread of a file have the interpreter.

    A loop that is never idle gives the interpreter away only for the moment in which it looks at its sockets, and has
    it back, as a rule, before another thread has woken up. The thread of a file needs it again after each call of
    SQLite: one transaction of milliseconds has taken more than 8 s beside a test that only turned the loop.
    """
    await asyncio.sleep(0)
    time.sleep(_BREATH_S)  # noqa: ASYNC251 that it blocks the loop is its purpose


async def take(subscription: Subscription, count: int) -> list[Change]:
    """Return the next changes, and say that they were dealt with by asking no more."""
    return [await soon(anext(subscription)) for _ in range(count)]
