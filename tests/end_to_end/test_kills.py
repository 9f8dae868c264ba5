"""kill -9 at random moments under writers: what was acknowledged is there, what is there was sent (P1, P5)."""

import asyncio
import contextlib
import os
import random
from pathlib import Path

import syncline
from tests.support.live_server import LiveServer

CYCLES = 8
WRITERS = 8


async def write_on(client: syncline.Client, writer: int, acknowledged: dict[str, int], sent: set[str]) -> None:
    """Add records one after the other, and note which were acknowledged, until cancelled."""
    number = 0
    while True:
        key = f"w{writer}.{number}"
        sent.add(key)
        written = await client.add("notes", {"writer": writer, "number": number}, key)
        assert written.seq is not None
        acknowledged[key] = written.seq
        number += 1


async def kill_repeatedly(server: LiveServer, seed: int) -> None:
    """Let it run for a random while, kill it, start it again."""
    moments = random.Random(seed)
    for _ in range(CYCLES):
        await asyncio.sleep(moments.uniform(0.05, 0.4))
        await asyncio.to_thread(server.restart, kill=True)


async def test_no_acknowledged_change_is_lost_and_none_is_invented(tmp_path: Path) -> None:
    seed = int.from_bytes(os.urandom(4), "big")
    print(f"seed {seed}")
    acknowledged: dict[str, int] = {}
    sent: set[str] = set()
    with LiveServer(tmp_path) as server:
        server.create("notes")
        async with syncline.connect(server.url) as client:
            writers = [asyncio.create_task(write_on(client, number, acknowledged, sent)) for number in range(WRITERS)]
            await kill_repeatedly(server, seed)
            for writer in writers:
                writer.cancel()
            for writer in writers:
                with contextlib.suppress(asyncio.CancelledError):
                    await writer
        found: dict[str, int] = {}
        async with syncline.connect(server.url) as client:
            async for event in client.subscribe("notes").events():
                if isinstance(event, syncline.Change):
                    assert event.key not in found
                    found[event.key] = event.seq
                elif isinstance(event, syncline.CaughtUp):
                    break
    assert len(acknowledged) > CYCLES * WRITERS, "too little happened to mean anything"
    assert acknowledged.items() <= found.items()
    assert found.keys() <= sent
    assert sorted(found.values()) == list(range(1, len(found) + 1))
