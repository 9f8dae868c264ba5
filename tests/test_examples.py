"""What the docs let a reader run: the programs of `examples/`, and the requests of `docs/reference/http.md`."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.support.live_server import LiveServer, free_port, live_server

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


@pytest.mark.skipif(shutil.which("curl") is None, reason="the examples of http.md are run by curl")
def test_the_requests_of_the_reference_are_answered_as_shown(live_server: LiveServer) -> None:
    page = (EXAMPLES.parent / "docs" / "reference" / "http.md").read_text()
    examples = re.findall(r"^\$ curl (.+?)\n(?=[{H]|retry)(.+?)^```", page, re.DOTALL | re.MULTILINE)
    assert len(examples) == page.count("$ curl")
    for arguments, shown in examples:
        # A stream has no end of its own.
        limit = "--max-time 1" if arguments.startswith("-N") else "--max-time 20"
        command = f"curl -sS {limit} {arguments.replace('http://127.0.0.1:7171', live_server.url)}"
        answered = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False).stdout
        pattern = ".*".join(re.escape(plain(piece)) for piece in shown.split("…"))
        assert re.fullmatch(pattern, plain(answered), re.DOTALL), f"{command}\n{answered}"


def plain(text: str) -> str:
    """Return a text without blanks, and with ids, times and digests that are the same each time."""
    text = re.sub(r"\s+", "", text)
    text = re.sub(r"[0-9a-f]{16}(?=[:@\"])", "<id>", text)
    return re.sub(r"(?<=\"digest\":\")[0-9a-f]{8}|(?<=retry:)\d+|(?<=\":)\d{13}", "<any>", text)


def test_the_mounted_application_serves_both(tmp_path: Path) -> None:
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "--app-dir", str(EXAMPLES), "mount:app", "--port", str(port)]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        with httpx2.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
            deadline = time.monotonic() + _TIMEOUT_S
            while not answers(client):
                assert time.monotonic() < deadline
                time.sleep(0.05)
            assert "Syncline is at /sync/" in client.get("/").text
            assert client.put("/sync/v1/stores/notes").status_code == httpx2.codes.CREATED
            assert client.get("/sync/").headers["content-type"].startswith("text/html")
    finally:
        process.kill()
        process.wait()


def answers(client: httpx2.Client) -> bool:
    """Return whether the application takes requests."""
    try:
        return client.get("/sync/health/ready").status_code == httpx2.codes.OK
    except httpx2.TransportError:
        return False
