"""A disk that is full or read-only, and a file that is taken: named errors, and nothing acknowledged is lost."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.live_server import LiveServer, free_port
from tests.support.raw_socket import RawSocket


def mount(folder: Path, options: str) -> None:
    """Mount a small file system in memory, or skip where that is not allowed."""
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        pytest.skip(f"mounting a tmpfs needs root: {done.stderr.strip()}")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 2 MiB."""
    folder = tmp_path / "disk"
    mount(folder, "size=2m")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
def read_only_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk that cannot be written to."""
    folder = tmp_path / "disk"
    mount(folder, "size=1m,ro")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def start_in_vain(store: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Start a server that cannot start, and return how it ended."""
    return subprocess.run(
        [sys.executable, "-m", "syncline_server", "--port", str(free_port()), "--store", store, *arguments],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )


def test_a_full_disk_refuses_writes_by_name_serves_readers_and_recovers(tmp_path: Path, small_disk: Path) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"x" * 900_000)
    acknowledged: list[int] = []
    with LiveServer(tmp_path, store=f"sqlite:///{small_disk / 'syncline.db'}") as server:
        server.create("notes")
        with RawSocket(server.port) as writer, RawSocket(server.port) as reader:
            reader.send({"type": "SUBSCRIBE", "id": 1, "store": "notes"})
            reader.receive_until("CAUGHT_UP")
            number = 0
            while True:
                writer.send({"type": "ADD", "id": number, "store": "notes", "key": f"k{number}", "value": "x" * 20_000})
                (result,) = writer.receive()["results"]
                if result["status"] != "ok":
                    break
                acknowledged.append(result["seq"])
                number += 1
            assert (result["status"], result["code"]) == ("retry", "storage_full")
            assert acknowledged
            # Others go on reading, and the very same request succeeds once there is room.
            with server.client() as http:
                assert http.get("/v1/stores/notes").json()["seq"] == len(acknowledged)
            ballast.unlink()
            writer.send({"type": "ADD", "id": number, "store": "notes", "key": f"k{number}", "value": "x" * 20_000})
            (result,) = writer.receive()["results"]
            assert (result["status"], result["seq"]) == ("ok", len(acknowledged) + 1)
            received = 0
            while received < len(acknowledged) + 1:
                received += len(reader.receive()["changes"])
        server.restart(kill=True)
        with server.client() as http:
            assert http.get("/v1/stores/notes").json()["seq"] == len(acknowledged) + 1


def test_a_disk_that_is_read_only_stops_the_start_and_is_named(read_only_disk: Path) -> None:
    ended = start_in_vain(f"sqlite:///{read_only_disk / 'syncline.db'}")
    assert ended.returncode == 4
    assert str(read_only_disk) in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_second_server_on_the_same_file_is_refused_by_name(tmp_path: Path) -> None:
    with LiveServer(tmp_path) as server:
        server.create("notes")
        ended = start_in_vain(f"sqlite:///{tmp_path / 'syncline.db'}")
        assert ended.returncode == 4
        assert str(tmp_path / "syncline.db") in ended.stderr
        assert str(server.pid) in ended.stderr
        assert "Traceback" not in ended.stderr
        with server.client() as http:
            assert http.put("/v1/stores/notes/records/k1", content=b"1").status_code == 201


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--host", "0.0.0.0"), "--insecure"),
        (("--store", "mysql://x"), "mysql"),
        (("--log-level", "loud"), "log_level"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_in_one_line(arguments: tuple[str, ...], named: str) -> None:
    ended = start_in_vain("memory:", *arguments)
    assert ended.returncode in (2, 4)
    assert named in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with LiveServer(tmp_path) as server:
        ended = start_in_vain("memory:", "--port", str(server.port))
        assert ended.returncode == 4
        assert str(server.port) in ended.stderr
