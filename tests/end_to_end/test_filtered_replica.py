"""Replicas of a part of a store, which a real server selects and proves by count and digest."""

from pathlib import Path

import syncline
from syncline_protocol.filter import Filter
from tests.end_to_end.test_put_back import keys_of
from tests.end_to_end.test_replica import QuickClock, until
from tests.support.live_server import LiveServer


async def test_a_filtered_replica_has_what_fits_and_another_filter_makes_it_right(
    live_server: LiveServer, tmp_path: Path
) -> None:
    live_server.create("notes")
    path = tmp_path / "part.db"
    async with syncline.connect(live_server.url, wait=False, clock=QuickClock()) as client:
        for number in range(10):
            await client.add("notes", number, f"a/{number}")
            await client.add("notes", number, f"b/{number}")
    async with syncline.connect(live_server.url, wait=False, clock=QuickClock()) as client:
        replica = await client.replica("notes", path, filter=Filter(key_prefix="a/"))
        await replica.wait_caught_up(30)
        assert keys_of(replica) == {f"a/{number}" for number in range(10)}
        await client.add("notes", 1, "b/late")
        write = await replica.add(1)
        await write.synced(30)
        assert write.key.startswith("a/")
        await client.delete("notes", write.key)
        await until(lambda: write.key not in replica)
    async with syncline.connect(live_server.url, wait=False, clock=QuickClock()) as client:
        replica = await client.replica("notes", path, filter=Filter(key_prefix="b/"))
        await until(lambda: keys_of(replica) == {*[f"b/{number}" for number in range(10)], "b/late"})
        await replica.wait_caught_up(30)
    async with syncline.connect(live_server.url, wait=False, clock=QuickClock()) as client:
        replica = await client.replica("notes", path)
        await until(lambda: len(replica) == 21)
        await replica.wait_caught_up(30)
