"""Streams and long polls end when they have to, also in the moments in which that is least convenient."""

import asyncio
import time

from syncline_server.access.gate import Visitor
from syncline_server.access.principal import Principal
from syncline_server.http.stream import Wait

from .guarded import guarded, turns


async def _for_ever() -> None:
    await asyncio.Event().wait()


async def _striking(wait: Wait) -> asyncio.Task[bool]:
    """Let a wait run into its time limit, up to the moment before whoever waits has his turn."""
    waiting = asyncio.get_running_loop().create_task(wait.until(_for_ever, 0.01))
    await turns(1)
    # The loop stands still, so that the limit strikes in its next turn.
    time.sleep(0.02)  # noqa: ASYNC251
    await turns(1)
    assert not waiting.done()
    return waiting


async def test_a_loss_in_the_moment_in_which_a_wait_runs_out_ends_it() -> None:
    rights = {"read"}
    wait = Wait(lambda: "read" in rights)
    waiting = await _striking(wait)
    rights.clear()
    wait.recheck()
    assert wait.gone
    assert not await waiting


async def test_a_drain_in_the_moment_in_which_a_wait_runs_out_ends_it() -> None:
    wait = Wait()
    waiting = await _striking(wait)
    wait.stop()
    assert not await waiting
    assert wait.stopped


async def test_a_mistake_with_one_stream_leaves_the_others_nothing_that_they_may_not_have() -> None:
    async with guarded() as world:
        ann = await world.user("ann")
        grant = await world.grant("user:ann")

        def fail() -> bool:
            raise RuntimeError("a mistake")

        broken = [Wait(fail) for _ in range(20)]
        world.hub.waiting.update(broken)
        stream = world.ask("GET", "/v1/stores/notes/changes", ann, accept="text/event-stream")
        await turns(20)
        assert stream.status == 200
        await world.directory.remove_grant(grant)
        await turns(5)
        assert stream.aborted
        world.hub.waiting.difference_update(broken)
        await stream.leave()


async def test_a_stream_ends_with_the_credentials_of_whom_others_vouch_for() -> None:
    ends_ms = 1_795_400_000_000 + 1_060_000

    def authenticate(token: str, visitor: Visitor) -> Principal:
        return Principal("app:eve", "external", expires_ms=ends_ms)

    async with guarded(authenticate=authenticate) as world:
        await world.grant("user:app:eve", role="reader")
        lines = world.ask("GET", "/v1/stores/notes/changes", "x", accept="application/x-ndjson")
        poll = world.ask("GET", "/v1/stores/notes/changes?after=now&wait=60", "x")
        await turns(20)
        assert lines.status == 200
        world.tick(59.0)
        await turns(20)
        assert not lines.is_over
        assert not poll.is_over
        world.tick(1.0)
        await turns(20)
        assert lines.aborted
        assert poll.status == 401
        await lines.leave()
        await poll.leave()


async def test_a_change_that_is_not_about_a_stream_does_not_judge_it() -> None:
    async with guarded() as world:
        directory = world.directory
        ann = await world.user("ann")
        await directory.put_group("staff", ["ann"])
        grant = await world.grant("group:staff")
        stream = world.ask("GET", "/v1/stores/notes/changes", ann, accept="text/event-stream")
        await turns(20)
        (wait,) = world.hub.waiting
        assert isinstance(wait, Wait)
        judged, really = [0], wait._allowed

        def counted() -> bool:
            judged[0] += 1
            return really()

        wait._allowed = counted
        await world.grant("user:app:eve", "others")
        await world.grant("user:app:eve", "notes")
        await world.grant("everyone", "others")
        await directory.add_user("bob", password_hash="h")
        assert judged[0] == 0
        # A group that she came into later counts as well.
        await directory.put_group("late", ["ann"])
        late = await world.grant("group:late")
        assert judged[0] == 2
        await directory.remove_grant(grant)
        assert judged[0] == 3
        assert not stream.is_over
        await directory.remove_grant(late)
        await turns(5)
        assert stream.aborted
        await stream.leave()
