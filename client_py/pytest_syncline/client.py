"""The fixture `syncline_client`, for pytest-asyncio in either of its modes; imported only where that is installed."""

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

if TYPE_CHECKING:
    from syncline import Client
    from syncline.testing import Server

__all__ = ["syncline_client"]


@pytest_asyncio.fixture
async def syncline_client(request: pytest.FixtureRequest, syncline_server: "Server") -> "AsyncIterator[Client]":
    """A Syncline client, connected to `syncline_server`. A test that asks for `syncline_clock` too moves its time."""
    import syncline

    clock = request.getfixturevalue("syncline_clock") if "syncline_clock" in request.fixturenames else None
    async with syncline.connect(syncline_server.url, clock=clock) as client:
        yield client
