"""A client that dies at each durable border on the way of a write: one effect or none, and the replica is whole."""

import subprocess
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.end_to_end.crashing_program import CATCH_UP_POINTS, CRASHED, WRITE_POINTS
from tests.support.live_server import LiveServer

ROOT = Path(__file__).parents[2]
NUMBERS = count(1)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    with LiveServer(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture
def store(server: LiveServer) -> str:
    """A store with the record `old`."""
    name = f"notes{next(NUMBERS)}"
    server.create(name)
    write(server, name, [{"op": "ADD", "key": "old", "value": 0}])
    return name


def write(server: LiveServer, store: str, ops: list[dict[str, Any]]) -> None:
    with server.client() as client:
        client.post(f"/v1/stores/{store}/writes", json={"ops": ops}).raise_for_status()


def head(server: LiveServer, store: str) -> int:
    with server.client() as client:
        cursor: str = client.get(f"/v1/stores/{store}").raise_for_status().json()["head"]
    return int(cursor.partition(":")[2])


def records(server: LiveServer, store: str) -> dict[str, Any]:
    with server.client() as client:
        page = client.get(f"/v1/stores/{store}/records", params={"limit": 1000}).raise_for_status().json()
    return {record["key"]: record["value"] for record in page["records"]}


def run(server: LiveServer, store: str, path: Path, point: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "tests.end_to_end.crashing_program", server.url, store, str(path), point]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=90, check=False)


def crash(server: LiveServer, store: str, path: Path, point: str) -> None:
    """Let the program die at a point; that it was reached is shown by the exit code."""
    done = run(server, store, path, point)
    assert done.returncode == CRASHED, done.stderr


def shown(server: LiveServer, store: str, path: Path) -> dict[str, Any]:
    """Open the replica again and let it settle; return what it shows."""
    done = run(server, store, path, "none")
    assert (done.returncode, done.stderr) == (0, "")
    found: dict[str, Any] = msgspec.json.decode(done.stdout)
    return found


@pytest.mark.parametrize("point", WRITE_POINTS)
def test_a_write_has_one_effect_if_it_was_stored_and_none_if_not(
    server: LiveServer, store: str, tmp_path: Path, point: str
) -> None:
    _, is_stored = WRITE_POINTS[point]
    path = tmp_path / "notes.db"
    crash(server, store, path, point)
    expected = {"new": {"n": 1}} if is_stored else {"old": 0}
    assert shown(server, store, path) == expected
    assert records(server, store) == expected
    assert head(server, store) == (3 if is_stored else 1), "each op of it is in the log once"


def test_a_write_survives_one_crash_after_another(server: LiveServer, store: str, tmp_path: Path) -> None:
    path = tmp_path / "notes.db"
    crash(server, store, path, "after-commit")
    for point in ("before-commit-of-ack", "within-commit-of-ack"):
        # It is sent anew each time; these two never learn that it has arrived.
        done = run(server, store, path, f"again-{point}")
        assert done.returncode == CRASHED, done.stderr
    assert shown(server, store, path) == {"new": {"n": 1}} == records(server, store)
    assert head(server, store) == 3


@pytest.mark.parametrize("point", CATCH_UP_POINTS)
def test_a_catch_up_that_is_cut_off_shows_all_of_it_or_nothing_and_goes_on(
    server: LiveServer, store: str, tmp_path: Path, point: str
) -> None:
    path = tmp_path / "notes.db"
    assert shown(server, store, path) == {"old": 0}
    ops: list[dict[str, Any]] = [{"op": "ADD", "key": f"k{number}", "value": number} for number in range(300)]
    write(server, store, [{"op": "DELETE", "key": "old"}, *ops])
    crash(server, store, path, point)
    expected = {f"k{number}": number for number in range(300)}
    is_shown = point == "after-commit-of-show"
    assert offline(path, store) == (expected if is_shown else {"old": 0})
    assert shown(server, store, path) == expected


def offline(path: Path, store: str) -> dict[str, Any]:
    """Return what the replica shows without a server."""
    program = (
        "import asyncio, json, sys, syncline\n"
        "async def main():\n"
        "    async with syncline.connect('http://127.0.0.1:1', wait=False) as client:\n"
        "        replica = await client.replica(sys.argv[2], sys.argv[1])\n"
        "        print(json.dumps({record.key: record.value for record in replica}))\n"
        "asyncio.run(main())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(path), store], capture_output=True, text=True, timeout=60, check=True
    )
    found: dict[str, Any] = msgspec.json.decode(done.stdout)
    return found
