"""Keys that the client makes: UUIDs of version 7 (RFC 9562), which sort by the time they were made.

Within one process each key sorts after the one before it, also within a millisecond and when the clock is set
back: the 12 bits after the time count up, and when they run over the time goes one ahead.
"""

from .clock import Clock

__all__ = ["KeyMaker"]

_COUNTER_BITS = 12
_COUNTER_MASK = (1 << _COUNTER_BITS) - 1
_CHANCE_BITS = 62
_CHANCE_MASK = (1 << _CHANCE_BITS) - 1


class KeyMaker:
    """Makes keys; never the same twice."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._last = 0

    def __call__(self) -> str:
        """Return the next key."""
        chance = int.from_bytes(self._clock.random_bytes(10), "big")
        # The counter begins in its lower half, at random, so that there is always room to count.
        begin = chance >> _CHANCE_BITS & _COUNTER_MASK >> 1
        self._last = max(int(self._clock.time() * 1000) << _COUNTER_BITS | begin, self._last + 1)
        time_ms, counter = self._last >> _COUNTER_BITS, self._last & _COUNTER_MASK
        # Written out here, since building a UUID object takes three times as long.
        digits = f"{time_ms << 80 | 7 << 76 | counter << 64 | 2 << 62 | chance & _CHANCE_MASK:032x}"
        return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
