"""A disk that is really full: a small one of its own for a replica, and a limit on the size of files."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.live_server import LiveServer

RECORDS = 1000

#: Runs with a disk of 4 MB mounted in a namespace of its own, so nothing of it outlives the process.
_SMALL_DISK = r"""
import asyncio, os, subprocess, sys
import syncline
from syncline.errors import LocalFileFull

url, disk, records = sys.argv[1], sys.argv[2], int(sys.argv[3])
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", disk], check=True)
path, ballast = os.path.join(disk, "notes.db"), os.path.join(disk, "ballast")


def leave(room):
    "Fill the disk up to so many bytes."
    with open(ballast, "wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 4096)
        except OSError:
            pass
    os.truncate(ballast, max(0, os.path.getsize(ballast) - room))


async def full_while_opening(client):
    try:
        await client.replica("notes", path)
    except LocalFileFull as error:
        assert str(error).startswith(path + ": there is no room on the disk; make room"), error
    else:
        raise AssertionError("it opened")


async def full_error(replica):
    async with asyncio.timeout(30):
        async for status in replica.statuses():
            if isinstance(status.last_error, LocalFileFull):
                return


async def main():
    # The development mode also tells of steps that a busy machine made slow, which is no fault.
    asyncio.get_running_loop().slow_callback_duration = 60
    async with syncline.connect(url, wait=False) as client:
        leave(0)
        await full_while_opening(client)
        leave(400_000)
        replica = await client.replica("notes", path)
        await full_error(replica)
        print("full during the catch-up", len(replica))
        leave(200_000)
        kept, refused = [], 0
        for number in range(400):
            try:
                kept.append((await replica.add("y" * 1000, f"mine{number}")).key)
            except LocalFileFull:
                refused += 1
        assert {record.key for record in replica} == set(kept), "what was stored can be read"
        os.unlink(ballast)
        await replica.wait_caught_up(timeout=60)
        await replica.flush(timeout=60)
        assert {record.key for record in replica if record.key.startswith("mine")} == set(kept)
        print("went on by itself", len(replica) - len(kept), bool(refused))
        leave(0)
        await replica.aclose()
        os.unlink(ballast)
        replica = await client.replica("notes", path)
        print("opened again", len(replica) - len(kept))
        await replica.aclose()
        leave(0)
        await full_while_opening(client)
        os.unlink(ballast)
        replica = await client.replica("notes", path)
        print("and again", len(replica) - len(kept))


asyncio.run(main())
"""


def can_mount(directory: Path) -> bool:
    """Whether this user may mount a disk in a namespace of its own."""
    command = ["unshare", "--user", "--map-root-user", "--mount", "mount", "-t", "tmpfs", "none", str(directory)]
    try:
        return subprocess.run(command, capture_output=True, timeout=30, check=False).returncode == 0
    except FileNotFoundError:
        return False


@pytest.fixture
def filled_server(live_server: LiveServer) -> LiveServer:
    """A server whose store takes more room than there is at first."""
    live_server.create("notes")
    ops = [{"op": "ADD", "key": f"k{number}", "value": "x" * 1000} for number in range(RECORDS)]
    with live_server.client() as client:
        for first in range(0, RECORDS, 100):
            client.post("/v1/stores/notes/writes", json={"ops": ops[first : first + 100]}).raise_for_status()
    return live_server


def test_a_full_disk_while_opening_catching_up_and_writing(filled_server: LiveServer, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if not can_mount(disk):
        pytest.skip("a small disk cannot be mounted here (unshare, mount)")
    command = ["unshare", "--user", "--map-root-user", "--mount", sys.executable, "-X", "dev", "-W", "error"]
    command += ["-c", _SMALL_DISK, filled_server.url, str(disk), str(RECORDS)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "full during the catch-up 0",
        f"went on by itself {RECORDS} True",
        f"opened again {RECORDS}",
        f"and again {RECORDS}",
    ]


_SMALL_FILES = r"""
import asyncio, resource, sys
import syncline
from syncline.errors import LocalFileFailed

unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)


async def main():
    asyncio.get_running_loop().slow_callback_duration = 60
    async with syncline.connect("http://127.0.0.1:1", wait=False) as client:
        replica = await client.replica("notes", sys.argv[1])
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, unlimited[1]))
        kept, error = [], None
        while error is None:
            try:
                kept.append((await replica.add("y" * 1000)).key)
            except LocalFileFailed as failed:
                error = failed
        assert sys.argv[1] in str(error) and "check the disk" in error.hint, error
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
        kept.append((await replica.add("z")).key)
        assert [record.key for record in replica] == kept
    async with syncline.connect("http://127.0.0.1:1", wait=False) as client:
        replica = await client.replica("notes", sys.argv[1])
        assert [record.key for record in replica] == kept
        print(len(kept) > 10)


asyncio.run(main())
"""


def test_a_file_that_may_not_grow_fails_and_goes_on_when_it_may(tmp_path: Path) -> None:
    command = [sys.executable, "-X", "dev", "-W", "error", "-c", _SMALL_FILES, str(tmp_path / "notes.db")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.stderr, done.stdout) == ("", "True\n")
