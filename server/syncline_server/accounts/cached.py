"""A document of somebody else that is kept for a while: a key set, or what an OpenID provider says of itself.

It is loaded when it is first needed, and again when it is older than 10 minutes. When that fails, the old one goes on
for up to 24 hours, so that an outage of the provider does not log anybody out. One load runs at a time, whoever waits
for it, and at least 30 s lie between two, so that no flood of requests becomes a flood at the provider.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from .web import FetchFailed

__all__ = ["FRESH_S", "PAUSE_S", "STALE_S", "Cached"]

T = TypeVar("T")

FRESH_S = 10 * 60
STALE_S = 24 * 60 * 60
PAUSE_S = 30


class Cached(Generic[T]):
    """Args:
    load: gets the document. Raises FetchFailed.
    now: the time in seconds. It may jump: an age that makes no sense counts as too old.
    """

    def __init__(self, load: Callable[[], Awaitable[T]], now: Callable[[], float]) -> None:
        self._load = load
        self._now = now
        self._document: T | None = None
        self._loaded_at: float | None = None
        self._tried_at: float | None = None
        self._problem = "it was not loaded yet"
        self._loading: asyncio.Task[None] | None = None

    async def get(self, *, must_be_new: bool = False) -> T:
        """Return the document.

        Args:
            must_be_new: load it again although it is fresh, if the last time is longer ago than the pause. It may
                have changed, since something is missing in it.

        Raises:
            FetchFailed: there is none, and it cannot be loaded now.
        """
        if must_be_new or not self._is_within(self._loaded_at, FRESH_S):
            await self._refresh()
        if self._document is None or not self._is_within(self._loaded_at, STALE_S):
            raise FetchFailed(self._problem)
        return self._document

    async def close(self) -> None:
        """Break off a load that is under way; those who wait for it are cancelled too."""
        if self._loading is not None:
            self._loading.cancel()
            await asyncio.gather(self._loading, return_exceptions=True)

    async def _refresh(self) -> None:
        if self._loading is None:
            if self._is_within(self._tried_at, PAUSE_S):
                return
            self._tried_at = self._now()
            self._loading = asyncio.create_task(self._load_once())
        # Shielded, because others may wait for the same load when this caller is cancelled.
        await asyncio.shield(self._loading)

    async def _load_once(self) -> None:
        try:
            self._document = await self._load()
            self._loaded_at = self._now()
        except FetchFailed as error:
            self._problem = str(error)
        finally:
            self._loading = None

    def _is_within(self, then: float | None, span_s: float) -> bool:
        return then is not None and 0 <= self._now() - then < span_s
