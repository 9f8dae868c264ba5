"""The examples that have Syncline mounted in an application: each runs under uvicorn and is used from outside."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

import syncline
from tests.support.live_server import free_port

EXAMPLES = Path(__file__).parent.parent / "examples"
_TIMEOUT_S = 20.0


@contextmanager
def mounted(name: str, directory: Path, **environ: str) -> Iterator[tuple[str, Path]]:
    """Serve an example; yields its address, and the file with what it prints."""
    port = free_port()
    url, printed = f"http://127.0.0.1:{port}", directory / "printed"
    command = [sys.executable, "-m", "uvicorn", "--app-dir", str(EXAMPLES), f"{name}:app", "--port", str(port)]
    with printed.open("w") as out:
        process = subprocess.Popen(
            command, cwd=directory, env=os.environ | environ, stdout=out, stderr=subprocess.STDOUT
        )
    try:
        deadline = time.monotonic() + _TIMEOUT_S
        while not is_ready(url):
            assert time.monotonic() < deadline, printed.read_text()
            time.sleep(0.05)
        yield url, printed
    finally:
        process.kill()
        process.wait()


def is_ready(url: str) -> bool:
    """Return whether the application takes requests."""
    try:
        return httpx2.get(f"{url}/sync/health/ready", trust_env=False).status_code == httpx2.codes.OK
    except httpx2.TransportError:
        return False


def test_the_mounted_application_serves_both_and_prints_how_to_begin(tmp_path: Path) -> None:
    with mounted("mount", tmp_path) as (url, printed), httpx2.Client(base_url=url, trust_env=False) as client:
        assert "Syncline is at /sync/" in client.get("/").text
        assert client.get("/sync/").headers["content-type"].startswith("text/html")
        assert client.put("/sync/v1/stores/notes").status_code == httpx2.codes.UNAUTHORIZED
        code = printed.read_text().partition("/sync/#setup=")[2].split()[0]
        administrator = {"code": code, "user": "ada", "password": "correct horse battery"}
        token = client.post("/sync/v1/setup", json=administrator).json()["token"]
        client.headers["Authorization"] = f"Bearer {token}"
        assert client.put("/sync/v1/stores/notes").status_code == httpx2.codes.CREATED


def test_users_of_the_application_have_what_it_grants_them(tmp_path: Path) -> None:
    with mounted("own_authentication", tmp_path, APP_KEYS="root=key-r alice=key-a bob=key-b") as (url, _):
        asyncio.run(share_with_alice(f"{url}/sync"))


async def share_with_alice(url: str) -> None:
    """Create a store as the application and write to it as one of its users; another one must not see it."""
    async with syncline.connect(url, token="key-r") as root:
        await root.stores.create("notes")
        await root.share("notes", "user:app:alice", "writer")
    async with syncline.connect(url, token="key-a") as alice:
        await alice.add("notes", {"text": "hello"})
        async for change in alice.subscribe("notes", after="start"):
            assert change.by == "app:alice"
            break
    async with syncline.connect(url, token="key-b") as bob:
        with pytest.raises(syncline.SubscriptionRefused) as refused:
            await anext(aiter(bob.subscribe("notes")))
        assert refused.value.code == "store_unknown"
    with pytest.raises(syncline.ConnectionForbidden):
        async with syncline.connect(url, token="another"):
            pass
