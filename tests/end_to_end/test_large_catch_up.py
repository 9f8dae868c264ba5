"""A catch-up with much more than its log may hold, from a real server: the log stays short, and nothing is missing."""

import asyncio
from pathlib import Path

import syncline
from syncline.replica.local_file import WAL_BYTES_MAX
from tests.support.live_server import LiveServer

RECORDS, WRITE = 20_000, 500
VALUE = "x" * 2000

#: One local transaction takes what waits, which is bounded in bytes, and one more frame.
TRANSACTION_BYTES_MAX = 8 * 1024 * 1024


async def test_the_log_stays_short_during_a_large_catch_up(live_server: LiveServer, tmp_path: Path) -> None:
    live_server.create("notes")
    with live_server.client() as client:
        for first in range(0, RECORDS, WRITE):
            ops = [{"op": "ADD", "key": f"k{number}", "value": VALUE} for number in range(first, first + WRITE)]
            client.post("/v1/stores/notes/writes", json={"ops": ops}).raise_for_status()
    path, log = tmp_path / "notes.db", tmp_path / "notes.db-wal"
    sizes: list[int] = []
    async with syncline.connect(live_server.url) as client_py, asyncio.timeout(60):
        replica = await client_py.replica("notes", path)
        while not replica.is_caught_up:
            sizes.append(log.stat().st_size)
            await asyncio.sleep(0)
        assert len(replica) == RECORDS
    assert path.stat().st_size > 4 * WAL_BYTES_MAX
    assert max(sizes) < WAL_BYTES_MAX + TRANSACTION_BYTES_MAX
