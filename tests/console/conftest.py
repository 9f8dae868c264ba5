"""A browser and a server for the tests of the console.

They need Chromium, which `SYNCLINE_TEST_CHROMIUM` may name; without one they are skipped. Each test has a server
process of its own on a free port of loopback, in a folder of its own, and fails on anything that the browser
complains about.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from .chromium import Chromium, Page, find_chromium
from .fake_accounts import FakeServer
from .server import ServerProcess


@pytest.fixture(scope="package")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    executable = find_chromium()
    if executable is None:
        pytest.skip("no browser: install chromium, or let SYNCLINE_TEST_CHROMIUM name one")
    with Chromium(executable, tmp_path_factory.mktemp("chromium")) as started:
        yield started


@pytest.fixture
def page(browser: Chromium) -> Iterator[Page]:
    page = browser.page()
    # All servers of the tests have the same host, and cookies do not know ports.
    page.forget_cookies()
    yield page
    page.close()
    assert page.unexpected() == []


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path, "memory:") as started:
        yield started


@pytest.fixture
def fake() -> Iterator[FakeServer]:
    with FakeServer() as started:
        yield started
