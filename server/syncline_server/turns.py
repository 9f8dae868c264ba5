"""Who goes first when an append and fan-out want the interpreter at once: the append, for a moment.

An append works in the storage's thread and needs the interpreter's lock a dozen times, a microsecond each. Beside an
event loop that is busy writing to a thousand sockets it waits for each of them, and a commit of half a millisecond
takes ten. So the pieces of a fan-out round wait while an append is under way, but no longer than
`_APPEND_FIRST_S` after it began: beyond that it is the disk that takes the time.
"""

import asyncio
from collections.abc import Callable

__all__ = ["Turns"]

_APPEND_FIRST_S = 0.002


#: Turns of the event loop from a frame that waits in a socket to the append that it asks for, and one to spare.
_TURNS_OF_OTHERS = 4


class Turns:
    """Args:
    now: a monotonic clock in seconds.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._append_began_at: float | None = None
        self._waiting: list[Callable[[], None]] = []
        self._patience: asyncio.TimerHandle | None = None

    def append_begins(self) -> None:
        """An append is about to start."""
        self._append_began_at = self._now()

    def append_ended(self) -> None:
        """It is over, well or not."""
        self._append_began_at = None
        self._let_go()

    def soon(self, work: Callable[[], None]) -> None:
        """Call `work` from the event loop when its turn comes."""
        loop = asyncio.get_running_loop()
        began_at = self._append_began_at
        patience_s = 0.0 if began_at is None else began_at + _APPEND_FIRST_S - self._now()
        if patience_s <= 0:
            loop.call_soon(work)
            return
        self._waiting.append(work)
        if self._patience is None:
            self._patience = loop.call_later(patience_s, self._let_go)

    def soon_after_others(self, work: Callable[[], None], turns: int = _TURNS_OF_OTHERS) -> None:
        """As `soon`, but first let the event loop read what has come in, so that an append of it can begin."""
        if turns == 0:
            self.soon(work)
        else:
            asyncio.get_running_loop().call_soon(self.soon_after_others, work, turns - 1)

    def _let_go(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
        waiting, self._waiting = self._waiting, []
        for work in waiting:
            asyncio.get_running_loop().call_soon(work)
