"""What every test of the public API runs with: each of the two APIs, a server, and a store that no other test uses."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from itertools import count

import pytest

import syncline
from syncline.testing import Server
from tests.client.api.adapter import Api, Async, Threads

_PATIENCE_S = 30.0

_numbers = count(1)


@pytest.fixture(params=[Async, Threads], ids=["async", "sync"])
def api(request: pytest.FixtureRequest) -> Api:
    made: Api = request.param()
    return made


@pytest.fixture(scope="module")
def shared() -> Iterator[Server]:
    """A server for all tests of a module that leave it alone."""
    with Server() as server:
        yield server


@pytest.fixture
def server() -> Iterator[Server]:
    """A server that a test may break."""
    with Server() as own:
        yield own


@pytest.fixture
def store(shared: Server) -> str:
    """The name of an empty store of the shared server."""
    name = f"store-{next(_numbers)}"
    shared.create(name)
    return name


@pytest.fixture
async def client(api: Api, shared: Server) -> AsyncIterator[syncline.Client]:
    async with api.connect(shared.url) as opened:
        yield opened


@pytest.fixture
async def other(shared: Server) -> AsyncIterator[syncline.Client]:
    """Somebody else, with the async API."""
    async with syncline.connect(shared.url) as opened:
        yield opened


@pytest.fixture(autouse=True)
async def patience() -> AsyncIterator[None]:
    """Cancel a test that waits for too long; closing its client then ends its threads too."""

    def cancel() -> None:
        for task in asyncio.all_tasks(loop):
            task.cancel("the test took too long")

    loop = asyncio.get_running_loop()
    timer = loop.call_later(_PATIENCE_S, cancel)
    yield
    timer.cancel()
