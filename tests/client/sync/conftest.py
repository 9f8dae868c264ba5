"""What the tests of the plain API share: a server, a store that no other test uses, a client."""

from collections.abc import Iterator
from itertools import count

import pytest

import syncline.sync
from syncline.testing import Server

_numbers = count(1)


@pytest.fixture(scope="module")
def shared() -> Iterator[Server]:
    """A server for all tests of a module that leave it alone."""
    with Server() as server:
        yield server


@pytest.fixture
def store(shared: Server) -> str:
    """The name of an empty store of the shared server."""
    name = f"store-{next(_numbers)}"
    shared.create(name)
    return name


@pytest.fixture
def client(shared: Server) -> Iterator[syncline.sync.Client]:
    with syncline.sync.connect(shared.url) as opened:
        yield opened
