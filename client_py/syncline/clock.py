"""Time and chance, in one place that tests replace.

Everything in this package that waits, looks at a clock or throws dice does it through a `Clock`; nothing else
imports `time` or `random`.
"""

import asyncio
import os
import random
import time

__all__ = ["Clock"]


class Clock:
    """The real clock. A test passes one of its own with the same methods."""

    def now(self) -> float:
        """Return monotonic seconds."""
        return time.monotonic()

    def time(self) -> float:
        """Return seconds since 1970."""
        return time.time()

    def random(self) -> float:
        """Return a number from 0 up to, but not including, 1."""
        return random.random()

    def random_bytes(self, count: int) -> bytes:
        """Return bytes that nobody can guess."""
        return os.urandom(count)

    async def sleep(self, seconds: float) -> None:
        """Return after so many seconds."""
        await asyncio.sleep(seconds)
