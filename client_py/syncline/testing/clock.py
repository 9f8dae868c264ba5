"""Time and chance for tests: a clock that stands still until a test moves it, and dice that fall as the test says."""

import asyncio
import hashlib
from collections.abc import Callable

from syncline.clock import Clock
from syncline.errors import Misuse

__all__ = ["VirtualClock"]

#: Seconds since 1970 have no more digits, so that a wait which was computed from them may come out shorter by as much.
_RESOLUTION_S = 1e-6


class VirtualClock(Clock):
    """Time that passes only in `advance`.

    Args:
        chance: what `random` returns, from 0 up to, but not including, 1. With 0 a client that lost its connection
            tries again at once.
        seed: what `random_bytes` derives from. Clocks of one seed give the same bytes, so that clients which each have
            a clock of their own need different ones, or they make the same keys.

    Attributes:
        chance: may be changed at any time.
        epoch: what `time` returned when `now` was 0; change it to set the wall clock.
        slept: how long every sleep was to be, in the order in which they began.
    """

    def __init__(self, chance: float = 0.5, *, seed: int = 0) -> None:
        self.chance = chance
        self.epoch = 1_795_400_000.0
        self.slept: list[float] = []
        self._now = 1000.0
        self._seed = seed
        self._draws = 0
        self._sleepers: list[tuple[float, asyncio.Event]] = []
        self._began = asyncio.Event()

    def now(self) -> float:
        """Return monotonic seconds: 1000 at first."""
        return self._now

    def time(self) -> float:
        """Return seconds since 1970; they begin at the same moment in every test."""
        return self.epoch + self._now

    def random(self) -> float:
        """Return `chance`."""
        return self.chance

    def random_bytes(self, count: int) -> bytes:
        """Return bytes that are others at every call, and the same in every run of the test."""
        self._draws += 1
        return hashlib.shake_256(f"{self._seed}:{self._draws}".encode()).digest(count)

    async def sleep(self, seconds: float) -> None:
        """Return once the clock has been advanced by so much; at once if that is nothing."""
        self.slept.append(seconds)
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        sleeper = (self._now + seconds, asyncio.Event())
        self._sleepers.append(sleeper)
        self._began.set()
        try:
            await sleeper[1].wait()
        finally:
            self._sleepers.remove(sleeper)

    def advance(self, seconds: float) -> None:
        """Let time pass, and wake who has slept for as long; they go on when the event loop runs next."""
        if seconds < 0:
            raise Misuse(f"time cannot pass by {seconds} s", hint="advance by 0 or more")
        self._now += seconds
        due = sorted((s for s in self._sleepers if s[0] <= self._now + _RESOLUTION_S), key=lambda sleeper: sleeper[0])
        for wake_at, woken in due:
            self._now = max(self._now, wake_at)
            woken.set()

    async def sleeper(self, fits: Callable[[float], bool] = lambda seconds: True) -> float:
        """Wait until somebody sleeps who will wake in a time that fits, in seconds, and return it.

        Where several do, it is the one who fell asleep first. A client that is connected always sleeps, for its next
        heartbeat: wait until it is offline before you look for the wait that comes before it tries again.
        """
        while True:
            for wake_at, woken in self._sleepers:
                left = wake_at - self._now
                if not woken.is_set() and fits(left):
                    return left
            self._began.clear()
            await self._began.wait()
