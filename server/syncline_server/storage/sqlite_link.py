"""One SQLite connection and the thread it lives in."""

import sqlite3
from collections.abc import Callable
from typing import Self, TypeVar

import aiosqlite

__all__ = ["Link"]

T = TypeVar("T")


class Link(aiosqlite.Connection):
    """Args:
    connector: opens the connection, in the thread.
    """

    def __init__(self, connector: Callable[[], sqlite3.Connection]) -> None:
        super().__init__(connector, 64)
        # A program that forgets to close its storage must still end; what matters is on disk by then.
        self._thread.daemon = True
        self.waiting = 0

    @classmethod
    async def connect(cls, connector: Callable[[], sqlite3.Connection]) -> Self:
        """Start the thread and open the connection. Raises what `connector` raises."""
        link = cls(connector)
        try:
            await link
        except Exception:
            # The thread is about to end; it must not outlive the event loop that it reports its end to.
            link._thread.join()
            raise
        return link

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Carry out `work` in the thread.

        Each call of aiosqlite's public methods is a way to the thread and back, about 100 µs. An append is dozens of
        statements; handed over as one function it costs one such way, and no other append can come between them.
        """
        self.waiting += 1
        try:
            result: T = await self._execute(work, self._conn)  # type: ignore[no-untyped-call]
            return result
        finally:
            self.waiting -= 1
