"""A token ends while a program runs, and no token function could bring another: nothing hangs."""

import asyncio

import pytest

import syncline
import syncline.sync
from syncline import AuthRequired, ConnectionState, Status, SubscriptionRefused
from syncline_protocol import CloseCode
from syncline_protocol import server as requested
from tests.client.fake_clock import FakeClock
from tests.client.fake_server import FakeConnection
from tests.client.guarded_server import GuardedServer, guarded
from tests.client.waiting import soon, state

__all__ = ["guarded"]


async def test_without_a_token_function_nothing_that_is_asked_for_hangs_until_somebody_has_logged_in(
    guarded: GuardedServer, clock: FakeClock
) -> None:
    async with syncline.connect(guarded.url, clock=clock, wait=False) as client:
        subscription = client.subscribe("notes")
        waiting = [
            asyncio.ensure_future(each)
            for each in (client.add("notes", 1, "k"), anext(subscription), subscription.wait_caught_up())
        ]
        await state(client, ConnectionState.NEEDS_AUTH)
        later = client.subscribe("other")
        waiting += [
            asyncio.ensure_future(each) for each in (client.delete("notes", "k"), anext(later), later.wait_caught_up())
        ]
        for each in waiting:
            with pytest.raises(AuthRequired, match=r"wants a token; log in, and call authenticate\(\).*function$"):
                await soon(each)
        assert client.unanswered_writes == 0
        client.authenticate("good")
        assert (await soon(client.add("notes", 2, "k2"))).status == "ok"
        assert (await soon(anext(subscription))).key == "k2"
        with pytest.raises(SubscriptionRefused, match="no store 'other'"):
            await soon(later.wait_caught_up())


async def test_a_write_that_was_sent_when_the_token_ended_says_that_its_outcome_is_unknown(
    guarded: GuardedServer, clock: FakeClock
) -> None:
    async def end(connection: FakeConnection, event: requested.ServerEvent) -> bool:
        if isinstance(event, requested.WriteRequested):
            await connection.socket.close(CloseCode.TOKEN_EXPIRED, "expired")
            return True
        return False

    guarded.intercept = end
    async with syncline.connect(guarded.url, clock=clock, token="good") as client:
        first = asyncio.ensure_future(client.add("notes", 1, "k"))
        behind = asyncio.ensure_future(client.delete("notes", "k"))
        with pytest.raises(AuthRequired, match="it is not known whether this write was stored"):
            await soon(first)
        with pytest.raises(AuthRequired, match=r"give a token function$"):
            await soon(behind)
        guarded.intercept = None
        client.authenticate("good")
        assert (await soon(client.add("notes", 1, "k"))).status == "ok"


async def test_whoever_authenticates_when_the_status_says_so_has_nothing_fail(
    guarded: GuardedServer, clock: FakeClock
) -> None:
    async with syncline.connect(guarded.url, clock=clock, token="bad", wait=False) as client:

        def log_in(status: Status) -> None:
            if status.state is ConnectionState.NEEDS_AUTH:
                client.authenticate("good")

        client.on_status(log_in)
        assert (await soon(client.add("notes", 1))).status == "ok"


async def test_the_client_for_threads_raises_the_same(guarded: GuardedServer) -> None:
    def use() -> str:
        with syncline.sync.connect(guarded.url, token="bad", wait=False) as client:
            subscription = client.subscribe("notes")
            with pytest.raises(AuthRequired, match="does not accept the token; log in"):
                client.add("notes", 1)
            with pytest.raises(AuthRequired):
                next(iter(subscription))
            client.authenticate("good")
            return client.add("notes", 1).status

    assert await soon(asyncio.to_thread(use)) == "ok"
