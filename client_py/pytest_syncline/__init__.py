"""The pytest plugin: fixtures for tests of programs that use Syncline.

pytest imports this module at every start wherever Syncline is installed, needed or not. It therefore imports nothing
but pytest, and stands beside the package `syncline` instead of in it, since to import any part of that is to import
all of the client. What a fixture needs is imported when the fixture is used.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from syncline.testing import Server, VirtualClock

__all__ = ["pytest_configure", "syncline_clock", "syncline_server"]

#: By these names pytest may know pytest-asyncio: that of its entry point, or what somebody wrote after `-p`.
_PYTEST_ASYNCIO = ("asyncio", "pytest_asyncio.plugin")


def pytest_configure(config: pytest.Config) -> None:
    """Offer `syncline_client` in the form that pytest-asyncio takes, or one that says what is missing."""
    if any(config.pluginmanager.hasplugin(name) for name in _PYTEST_ASYNCIO):
        from . import client

        config.pluginmanager.register(client, "syncline-client")
    else:
        config.pluginmanager.register(_WithoutAsyncio(), "syncline-client")


@pytest.fixture
def syncline_server() -> "Iterator[Server]":
    """A Syncline server in this process, with no stores yet. Each test has one of its own."""
    from syncline.testing import Server

    with Server() as server:
        yield server


@pytest.fixture
def syncline_clock() -> "VirtualClock":
    """A clock that stands still until the test moves it."""
    from syncline.testing import VirtualClock

    return VirtualClock()


class _WithoutAsyncio:
    @pytest.fixture
    def syncline_client(self) -> None:
        """A Syncline client; not available, as it needs pytest-asyncio."""
        pytest.fail("the fixture syncline_client needs pytest-asyncio: pip install pytest-asyncio", pytrace=False)
