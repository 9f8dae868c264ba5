"""How long to wait before the next attempt to connect: pure.

Full jitter: the n-th wait is uniform between 0 and a ceiling that starts at 1 s and doubles up to 30 s, so that a
thousand clients of a server that restarts come back spread out. The ceiling falls back only after progress. A
server that accepts and closes at once gives none, so it is not hammered. What BYE asks for is a lower bound.
"""

from collections.abc import Callable

__all__ = ["Backoff"]

_CEILING_FIRST_S = 1.0
_CEILING_MAX_S = 30.0


class Backoff:
    """The waits between attempts.

    Args:
        random: returns a number in [0, 1).
    """

    def __init__(self, random: Callable[[], float]) -> None:
        self._random = random
        self._attempts = 0
        self._at_least_s = 0.0

    @property
    def attempts(self) -> int:
        """How many attempts followed each other without progress."""
        return self._attempts

    def progressed(self) -> None:
        """Note that the server did something useful: the next wait is a short one again."""
        self._attempts = 0

    def asked_to_wait(self, after_ms: int, jitter_ms: int) -> None:
        """Note what BYE said: the next wait is at least `after_ms` and a random part of `jitter_ms`."""
        self._at_least_s = (max(0, after_ms) + self._random() * max(0, jitter_ms)) / 1000

    def next_wait_s(self) -> float:
        """Return the seconds to wait before the next attempt, and count it."""
        ceiling_s = min(_CEILING_MAX_S, _CEILING_FIRST_S * 2.0 ** min(self._attempts, 16))
        wait_s = max(self._random() * ceiling_s, self._at_least_s)
        self._attempts += 1
        self._at_least_s = 0.0
        return wait_s
