"""Waiting in tests for what has no other sign."""

import asyncio
from collections.abc import Callable

__all__ = ["until"]


async def until(holds: Callable[[], object]) -> None:
    """Wait until something holds. Whoever waits too long is cancelled by the fixture `patience`."""
    while not holds():
        await asyncio.sleep(0.005)
