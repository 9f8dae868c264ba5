"""What the tests of the client share: a clock that they move, and a server that they break."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.client.fake_clock import FakeClock
from tests.client.fake_server import FakeServer


@pytest.fixture(autouse=True)
def nobody_is_logged_in(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep what `syncline login` has kept on this machine away from the tests, and theirs from it."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))
    monkeypatch.delenv("SYNCLINE_TOKEN", raising=False)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def server() -> AsyncIterator[FakeServer]:
    """A server with an empty store `notes`. A client that a test opened leaves no task behind."""
    before = asyncio.all_tasks()
    fake = FakeServer()
    await fake.start()
    yield fake
    await fake.stop()
    assert not {task for task in asyncio.all_tasks() - before if task.get_name() == "syncline-client"}
