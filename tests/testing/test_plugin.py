"""The pytest plugin, as a project of somebody else has it: in a pytest of its own, by entry point."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

_SYNC = """
def test_each_test_has_a_server_of_its_own(syncline_server):
    assert syncline_server.running
    syncline_server.create("notes")
    syncline_server.create("notes")

def test_the_clock_stands_still(syncline_clock):
    before = syncline_clock.now()
    syncline_clock.advance(1)
    assert syncline_clock.now() == before + 1
"""

_ASYNC = """
import pytest, syncline

seen = []

{mark}
async def test_the_client_is_connected_and_has_the_clock_that_was_asked_for(
    syncline_server, syncline_client, syncline_clock
):
    assert syncline_client.url == syncline_server.url
    assert syncline_client.state is syncline.ConnectionState.LIVE
    syncline_server.create("notes")
    syncline_server.cut()
    syncline_clock.chance = 0.0
    assert (await syncline_client.add("notes", 1)).seq == 1
    assert 0.0 in syncline_clock.slept
    seen.append(syncline_client)

{mark}
async def test_without_a_clock_its_time_is_real(syncline_client, syncline_server):
    assert seen[0].state is syncline.ConnectionState.CLOSED
    syncline_server.create("notes")
    syncline_server.restart()
    assert (await syncline_client.add("notes", 1)).seq == 1
"""


def run_pytest(folder: Path, text: str, *arguments: str) -> str:
    """Run a test file and return what pytest said; a warning is an error."""
    (folder / "test_it.py").write_text(text)
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("SYNCLINE_", "PYTEST_"))}
    command = [sys.executable, "-m", "pytest", "-W", "error", "-p", "no:cacheprovider", "test_it.py", *arguments]
    if "no:asyncio" not in arguments:
        # Without this option pytest-asyncio has a warning of its own.
        command += ["-o", "asyncio_default_fixture_loop_scope=function"]
    return subprocess.run(
        command, cwd=folder, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60
    ).stdout


def test_server_and_clock_are_there_for_tests_that_are_not_async(tmp_path: Path) -> None:
    assert "2 passed" in run_pytest(tmp_path, _SYNC)


@pytest.mark.parametrize(("mode", "mark"), [("auto", ""), ("strict", "@pytest.mark.asyncio")])
def test_the_client_is_there_in_both_modes_of_pytest_asyncio(tmp_path: Path, mode: str, mark: str) -> None:
    out = run_pytest(tmp_path, _ASYNC.format(mark=mark), "-o", f"asyncio_mode={mode}")
    assert "2 passed" in out, out


def test_both_plugins_may_be_named_instead_of_found(tmp_path: Path) -> None:
    named = ("--disable-plugin-autoload", "-p", "pytest_asyncio.plugin", "-p", "pytest_syncline")
    out = run_pytest(tmp_path, _ASYNC.format(mark="@pytest.mark.asyncio"), *named)
    assert "2 passed" in out, out


def test_without_pytest_asyncio_the_client_says_what_to_install_and_the_rest_works(tmp_path: Path) -> None:
    out = run_pytest(tmp_path, _SYNC + "\ndef test_it(syncline_client): pass\n", "-p", "no:asyncio")
    assert "2 passed, 1 error" in out, out
    assert "the fixture syncline_client needs pytest-asyncio: pip install pytest-asyncio" in out
    assert "Traceback" not in out


def test_without_the_server_the_fixture_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text("import sys\nsys.modules['uvicorn'] = None\n")
    out = run_pytest(tmp_path, _SYNC)
    assert "1 passed, 1 error" in out, out
    assert "pip install 'syncline[server]'" in out


def test_pytest_lists_the_fixtures_with_what_they_are(tmp_path: Path) -> None:
    out = run_pytest(tmp_path, _SYNC, "--fixtures")
    for text in ("syncline_server --", "A Syncline server in this process", "syncline_clock --", "syncline_client --"):
        assert text in out, out


def test_the_plugin_costs_a_project_that_does_not_use_it_one_module() -> None:
    program = (
        "import sys, pytest; before = set(sys.modules); import pytest_syncline; print(*sorted(set(sys.modules)-before))"
    )
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60).stdout
    assert out.split() == ["pytest_syncline"]


def test_a_run_that_uses_no_fixture_imports_neither_client_nor_server(tmp_path: Path) -> None:
    text = "import sys\ndef test_it():\n    assert not {'syncline', 'syncline_server'} & set(sys.modules)\n"
    assert "1 passed" in run_pytest(tmp_path, text)
