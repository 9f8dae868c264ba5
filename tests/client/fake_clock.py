"""A clock that stands still until a test moves it, and dice that fall as the test says."""

import asyncio
from collections.abc import Callable

from syncline import Clock

__all__ = ["FakeClock"]

_BORN_AT = 1_795_400_000.0


class FakeClock(Clock):
    """Time for tests.

    Attributes:
        chance: what `random` returns.
        slept: how long every sleep was, in the order in which they began.
    """

    def __init__(self, chance: float = 0.5) -> None:
        self.chance = chance
        self.slept: list[float] = []
        self._now = 1000.0
        self._sleepers: list[tuple[float, asyncio.Event]] = []
        self._began = asyncio.Event()

    def now(self) -> float:
        return self._now

    def time(self) -> float:
        return _BORN_AT + self._now

    def random(self) -> float:
        return self.chance

    async def sleep(self, seconds: float) -> None:
        woken = asyncio.Event()
        sleeper = (self._now + seconds, woken)
        self._sleepers.append(sleeper)
        self.slept.append(seconds)
        self._began.set()
        try:
            await woken.wait()
        finally:
            self._sleepers.remove(sleeper)

    def advance(self, seconds: float) -> None:
        """Let time pass, and wake who slept for as long."""
        self._now += seconds
        for wake_at, woken in self._sleepers:
            if wake_at <= self._now:
                woken.set()

    async def sleeper(self, fits: Callable[[float], bool]) -> float:
        """Wait until somebody sleeps for a time that fits, and return it."""
        while True:
            for wake_at, woken in self._sleepers:
                left = wake_at - self._now
                if not woken.is_set() and fits(left):
                    return left
            self._began.clear()
            await self._began.wait()
