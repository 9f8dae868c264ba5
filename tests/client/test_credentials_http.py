"""Tokens of requests over HTTP: one new one for all who were refused, and then an error that says it."""

import asyncio

import pytest

import syncline
from syncline import AuthRequired, ConnectionFailed, ConnectionState, RequestRefused
from tests.client.fake_clock import FakeClock
from tests.client.guarded_server import GuardedServer, Login, guarded

__all__ = ["guarded"]


async def test_requests_that_are_refused_together_make_one_new_token_and_are_sent_once_more(
    guarded: GuardedServer, clock: FakeClock
) -> None:
    guarded.valid = {"good", "fresh"}
    login = Login("good", "good", "fresh")
    async with syncline.connect(guarded.url, clock=clock, token=login) as client:
        guarded.valid = {"fresh"}
        assert await asyncio.gather(*(client.stores.list() for _ in range(5))) == [[]] * 5
    assert login.asked == 3
    assert guarded.shown_over_http == ["good"] * 5 + ["fresh"] * 5


async def test_a_request_whose_second_token_is_refused_too_raises_what_the_server_said(
    guarded: GuardedServer, clock: FakeClock
) -> None:
    login = Login("good", "bad", "worse", "bad", "bad")
    async with syncline.connect(guarded.url, clock=clock, token=login) as client:
        for _ in range(2):
            with pytest.raises(RequestRefused, match="HTTP 401") as raised:
                await client.get("notes", "k")
            assert raised.value.status == 401
        assert client.state is ConnectionState.LIVE
    assert guarded.shown_over_http == ["bad", "worse", "bad"]


async def test_a_request_for_which_somebody_has_to_log_in_says_so(guarded: GuardedServer, clock: FakeClock) -> None:
    login = Login("good", AuthRequired("log in"), "bad", AuthRequired("log in again"), OSError("away"))
    async with syncline.connect(guarded.url, clock=clock, token=login) as client:
        with pytest.raises(AuthRequired, match="log in"):
            await client.stores.list()
        with pytest.raises(AuthRequired, match="log in again"):
            await client.stores.list()
        with pytest.raises(ConnectionFailed, match="there is no token"):
            await client.stores.list()


async def test_a_walk_over_records_gets_another_token_before_it_begins(
    guarded: GuardedServer, clock: FakeClock
) -> None:
    async with syncline.connect(guarded.url, clock=clock, token=Login("good", "bad", "good")) as client:
        assert await client.records("notes").cursor() is None
    assert guarded.shown_over_http == ["bad", "good"]
