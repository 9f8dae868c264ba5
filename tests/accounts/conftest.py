"""An office on each backend, and a process in it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from .office import BACKENDS, Office, Process


@pytest.fixture(params=BACKENDS)
async def office(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Office]:
    """An open storage of each backend."""
    storage = BACKENDS[request.param](tmp_path / "test.db")
    await storage.open()
    yield Office(storage)
    await storage.close()


@pytest.fixture
async def process(office: Office) -> Process:
    """A process whose directory is empty."""
    return await office.process()
