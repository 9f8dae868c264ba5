"""An application without a socket, for the tests of the HTTP routes."""

from collections.abc import AsyncIterator

import pytest

from tests.support.http import HttpApp, http_app


@pytest.fixture
async def app() -> AsyncIterator[HttpApp]:
    """An application on memory storage that has the store `notes`."""
    async with http_app() as app:
        yield app
