"""Who reads what of the past, so that clean-up takes nothing away from under a walk.

A walk, a stream or a diff holds a pin at the position that it shows; a step of clean-up asks how far it may go and says
when it is over. Invariant: while a pin is held nobody drops a value or a tombstone that is needed above its position.

Hazard: a step that is under way was told how far it may go before the pin came. So whoever pins waits for it, which
takes as long as a step does, and looks at the floors only then.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from syncline_protocol.cursor import Seq

__all__ = ["Pins"]


class Pins:
    """Pins of all stores, by their names: a store that is made anew under one is held back for longer, no more."""

    def __init__(self) -> None:
        self._held: dict[str, Counter[Seq]] = {}
        self._steps: dict[str, tuple[Seq, asyncio.Event]] = {}

    @asynccontextmanager
    async def hold(self, store: str, at: Seq) -> AsyncIterator[None]:
        """Pin a position of a store. What is gone already stays gone: look at the floors inside."""
        held = self._held.setdefault(store, Counter())
        held[at] += 1
        try:
            step = self._steps.get(store)
            if step is not None and step[0] > at:
                await step[1].wait()
            yield
        finally:
            held[at] -= 1
            if not held[at]:
                del held[at]
            if not held and self._held.get(store) is held:
                del self._held[store]

    def lowest(self, store: str) -> Seq | None:
        """Return the lowest position of a store that is pinned."""
        held = self._held.get(store)
        return min(held) if held else None

    def count(self, store: str) -> int:
        """Return how many hold a pin on a store."""
        return sum(self._held.get(store, Counter()).values())

    @asynccontextmanager
    async def step(self, store: str, upto: Seq) -> AsyncIterator[Seq]:
        """Carry out a step of clean-up inside; what is entered is how far it may go. One step of a store at a time."""
        assert store not in self._steps, "a store is cleaned up by one task"
        lowest = self.lowest(store)
        allowed = upto if lowest is None else min(upto, lowest)
        over = asyncio.Event()
        self._steps[store] = (allowed, over)
        try:
            yield allowed
        finally:
            del self._steps[store]
            over.set()
