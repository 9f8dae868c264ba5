"""What the docs let a reader run: the programs of `examples/`, and the requests of the reference of HTTP."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.accounts.provider import CLIENT_ID, LiveProvider
from tests.support.live_server import LiveServer, live_server

__all__ = ["live_server"]

EXAMPLES = Path(__file__).parent.parent / "examples"
_TIMEOUT_S = 20.0


def start(server: LiveServer, name: str, *arguments: str) -> subprocess.Popen[str]:
    """Start an example against a server."""
    environ = os.environ | {"SYNCLINE_URL": server.url}
    command = [sys.executable, str(EXAMPLES / name), *arguments]
    return subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def end(process: subprocess.Popen[str]) -> None:
    """Kill a program that runs for ever."""
    process.kill()
    process.communicate()


def add(server: LiveServer, *keys: str) -> None:
    """Add a record of each key to the store `notes`."""
    with server.client() as client:
        for key in keys:
            client.put(f"/v1/stores/notes/records/{key}", json={"n": key}).raise_for_status()


def lines_of(path: Path) -> list[dict[str, Any]]:
    """Return the whole lines of a file."""
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def wait_for_seq(path: Path, seq: int) -> list[dict[str, Any]]:
    """Wait until the file has the position of this seq; return its lines."""
    deadline = time.monotonic() + _TIMEOUT_S
    while not (lines := lines_of(path)) or not str(lines[-1].get("to")).endswith(f":{seq}"):
        assert time.monotonic() < deadline, lines
        time.sleep(0.02)
    return lines


@pytest.mark.parametrize("name", sorted(path.name for path in EXAMPLES.glob("*.py")))
def test_an_example_is_short(name: str) -> None:
    assert (EXAMPLES / name).read_text().count("\n") < 80


def test_a_feed_in_a_file_goes_on_where_it_stopped(live_server: LiveServer, tmp_path: Path) -> None:
    live_server.create("notes")
    path = tmp_path / "notes.log"
    add(live_server, "a", "b")
    first = start(live_server, "follow.py", "notes", str(path))
    wait_for_seq(path, 2)
    end(first)
    # What a crash may leave behind: a change without its position, and half a line.
    with path.open("a") as file:
        file.write('{"seq":3,"op":"ADD","key":"never","value":1,"time":1}\n{"to": "x:')
    live_server.restart(kill=True)
    add(live_server, "c")
    second = start(live_server, "follow.py", "notes", str(path))
    try:
        lines = wait_for_seq(path, 3)
    finally:
        end(second)
    assert [line["key"] for line in lines if "key" in line] == ["a", "b", "c"]
    assert all(line["known"] for line in lines if "to" in line)


def test_two_that_count_at_once_lose_no_step(live_server: LiveServer) -> None:
    both = [start(live_server, "replace.py", "counter", "25") for _ in range(2)]
    counted: list[int] = []
    for process in both:
        out, err = process.communicate(timeout=_TIMEOUT_S)
        assert process.returncode == 0, err
        counted += [int(line) for line in out.split()]
    assert sorted(counted) == list(range(1, 51))
    with live_server.client() as client:
        records = client.get("/v1/stores/counter/records").json()["records"]
    assert [record["value"] for record in records] == [50]


needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="the examples of the reference are run by curl")


@needs_curl
def test_the_requests_of_the_reference_are_answered_as_shown(live_server: LiveServer) -> None:
    check_page("http.md", {"http://127.0.0.1:7171": live_server.url}, {})


@needs_curl
def test_the_requests_of_the_reference_of_accounts_are_answered_as_shown(tmp_path: Path) -> None:
    provider = LiveProvider().start()
    try:
        oidc = ("--oidc-issuer", provider.issuer, "--oidc-client-id", CLIENT_ID)
        with LiveServer(tmp_path, auth="accounts", arguments=oidc) as server:
            places = {"http://127.0.0.1:7171": server.url, "https://login.example.com": provider.issuer}
            check_page("http-accounts.md", places, {"CODE": server.setup_code()})
    finally:
        provider.stop()


def check_page(name: str, places: dict[str, str], variables: dict[str, str]) -> None:
    """Do what the blocks of a page show, step by step: requests, and `$ NAME=BEGIN…`, which keeps a part of an answer.

    `places` are the addresses that the page has, each with that in its stead.
    """
    page = (EXAMPLES.parent / "docs" / "reference" / name).read_text()
    for shown, real in places.items():
        page = page.replace(shown, real)
    steps = [
        step
        for block in re.findall(r"^```\n(\$ .+?)^```", page, re.DOTALL | re.MULTILINE)
        for step in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]
    ]
    assert sum(step.startswith("curl ") for step in steps) == page.count("$ curl")
    answered = ""
    for step in steps:
        if step.startswith("curl "):
            answered = check_request(step, variables)
            continue
        kept = re.fullmatch(r"([A-Z]+)=(\w+)…\n", step)
        assert kept, step
        found = re.search(rf'"({kept[2]}[\w-]+)"', answered)
        assert found, f"{step}{answered}"
        variables[kept[1]] = found[1]


def check_request(step: str, variables: dict[str, str]) -> str:
    """Run curl as a step says, compare the answer with what it shows, and return it."""
    example = re.fullmatch(r"curl (.+?)\n(?=[{H]|retry)(.+)", step, re.DOTALL)
    assert example, step
    arguments, shown = example.groups()
    # A stream has no end of its own.
    limit = "--max-time 1" if arguments.startswith("-N") else "--max-time 20"
    command = f"curl -sS {limit} {arguments}"
    environ = os.environ | variables
    run = subprocess.run(["bash", "-c", command], env=environ, capture_output=True, text=True, check=False)
    pattern = ".*".join(re.escape(plain(piece)) for piece in shown.split("…"))
    assert re.fullmatch(pattern, plain(run.stdout), re.DOTALL), f"{command}\n{run.stdout}{run.stderr}"
    return run.stdout


def plain(text: str) -> str:
    """Return a text without blanks, and with ids, times and digests that are the same each time."""
    text = re.sub(r"\s+", "", text)
    text = re.sub(r"[0-9a-f]{16}(?=[:@\"])", "<id>", text)
    return re.sub(r"(?<=\"digest\":\")[0-9a-f]{8}|(?<=retry:)\d+|(?<=\":)\d{13}", "<any>", text)
