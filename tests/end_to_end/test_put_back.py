"""A server restored from an older copy, under replicas with more than it: what any has, all have again."""

import asyncio
import contextlib
from functools import partial
from pathlib import Path

import syncline
from syncline import NotPutBack, PutBack, Replica
from tests.end_to_end.test_replica import QuickClock, assert_equal, back_up, held, restore, stored, until
from tests.support.live_server import LiveServer


async def fill(server: LiveServer, keys: list[str]) -> None:
    """Let somebody write who is not there any more afterwards."""
    async with syncline.connect(server.url, clock=QuickClock()) as passer_by:
        for key in keys:
            await passer_by.add("notes", {"of": key}, key)


def keys_of(replica: Replica) -> set[str]:
    """Return the keys that a replica shows."""
    return {record.key for record in replica}


def holds(replica: Replica, count: int) -> bool:
    """Return whether a replica shows so many records."""
    return len(replica) == count


def is_settled_with(replica: Replica, keys: set[str]) -> bool:
    """Return whether a replica shows exactly these keys, and has nothing to send."""
    return keys_of(replica) == keys and not replica.pending


async def test_a_restored_server_ends_with_all_that_any_client_still_had(
    live_server: LiveServer, tmp_path: Path
) -> None:
    live_server.create("notes")
    await fill(live_server, [f"old{number}" for number in range(20)])
    copies = await asyncio.to_thread(back_up, live_server)
    await fill(live_server, [f"new{number}" for number in range(20)])
    async with held(live_server, tmp_path / "away.db") as away:
        # One that is away when it happens, and holds what came until then.
        await until(lambda: len(away) == 40)
        own = await away.add({"of": "away"}, "away")
        await own.synced(30)
    await fill(live_server, [f"late{number}" for number in range(20)])
    everything = {f"{kind}{number}" for kind in ("old", "new", "late") for number in range(20)} | {"away"}
    async with contextlib.AsyncExitStack() as stack:
        here = [await stack.enter_async_context(held(live_server, path)) for path in (None, tmp_path / "here.db")]
        for replica in here:
            await until(partial(holds, replica, 61))
        reports: list[syncline.Report] = []
        here[0].on_report(reports.append)
        await asyncio.to_thread(restore, live_server, copies)
        back = await stack.enter_async_context(held(live_server, tmp_path / "away.db"))
        for replica in (*here, back):
            await until(partial(is_settled_with, replica, everything))
            await replica.wait_caught_up(30)
            await assert_equal(live_server, replica)
            assert replica.rejections == []
        assert {key for key, _, _ in await stored(live_server)} == everything
        (put_back,) = [report for report in reports if isinstance(report, PutBack)]
        assert set(put_back.keys) == everything - {f"old{number}" for number in range(20)}
        assert not any(isinstance(report, NotPutBack) for report in reports)


async def test_a_replica_that_puts_back_its_own_only_lets_go_of_what_others_wrote(live_server: LiveServer) -> None:
    live_server.create("notes")
    async with syncline.connect(live_server.url, wait=False, clock=QuickClock()) as client:
        replica = await client.replica("notes", restores="own")
        await fill(live_server, ["old"])
        copies = await asyncio.to_thread(back_up, live_server)
        await fill(live_server, ["theirs"])
        await (await replica.add(1, "ours")).synced(30)
        await until(lambda: keys_of(replica) == {"old", "theirs", "ours"})
        await asyncio.to_thread(restore, live_server, copies)
        await until(lambda: keys_of(replica) == {"old", "ours"} and not replica.pending)
        await assert_equal(live_server, replica)
