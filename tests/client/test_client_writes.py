"""Writes through the client, against a server that loses answers on purpose."""

import asyncio

import pytest

import syncline
from syncline import (
    Add,
    Delete,
    WriteRefused,
)
from syncline_protocol import Limits, Seq
from syncline_protocol import server as requested
from syncline_protocol.messages import WriteResult
from tests.client.fake_clock import FakeClock
from tests.client.fake_server import FakeConnection, FakeServer
from tests.client.waiting import come_back, soon


async def test_an_add_is_answered_with_its_seq_and_position(server: FakeServer, clock: FakeClock) -> None:
    async with syncline.connect(server.url, clock=clock) as client:
        written = await soon(client.add("notes", {"x": 1}, "k1"))
        assert (written.status, written.key, written.seq, written.at) == ("ok", "k1", 1, "inc1:1")
        again = await soon(client.add("notes", {"x": 1}, "k1"))
        assert (again.status, again.seq) == ("dup", 1)


async def test_a_key_that_is_left_out_is_made_and_told(server: FakeServer, clock: FakeClock) -> None:
    async with syncline.connect(server.url, clock=clock) as client:
        first, second = await soon(client.add("notes", 1)), await soon(client.add("notes", 1))
        assert first.key is not None
        assert second.key is not None
        assert first.key < second.key
        assert [key for key, _ in server.notes.rows] == [first.key, second.key]


async def test_many_writes_travel_together_and_each_gets_its_own_answer(server: FakeServer, clock: FakeClock) -> None:
    async with syncline.connect(server.url, clock=clock) as client:
        results = await soon(asyncio.gather(*(client.add("notes", i, f"k{i}") for i in range(500))))
        assert [result.seq for result in results] == list(range(1, 501))
        assert client.unanswered_writes == 0


async def test_writes_in_flight_stay_below_the_limit_of_the_server(clock: FakeClock) -> None:
    server = FakeServer(limits=Limits(in_flight_max=3))
    most = 0

    async def hold(connection: FakeConnection, event: requested.ServerEvent) -> bool:
        nonlocal most
        most = max(most, connection.session.in_flight)
        if connection.session.in_flight == 3 or len(server.requests) == 11:
            for id in sorted(held):
                connection.session.wrote([WriteResult(id, "ok", Seq(id), server.notes.cursor(id))])
            held.clear()
        return True

    held: set[int] = set()

    async def collect(connection: FakeConnection, event: requested.ServerEvent) -> bool:
        if isinstance(event, requested.WriteRequested):
            held.add(event.id)
            return await hold(connection, event)
        return False

    server.intercept = collect
    await server.start()
    async with syncline.connect(server.url, clock=clock) as client:
        await soon(asyncio.gather(*(client.add("notes", i) for i in range(10))))
    await server.stop()
    assert most == 3


@pytest.mark.parametrize(("key", "status"), [("live", "conflict"), ("dead", "gone")])
async def test_a_refused_add_raises_with_the_result(
    server: FakeServer, clock: FakeClock, key: str, status: str
) -> None:
    for name in ("live", "dead"):
        server.notes.commit(name, b"1")
    server.notes.commit("dead", None)
    async with syncline.connect(server.url, clock=clock) as client:
        with pytest.raises(WriteRefused, match=status) as raised:
            await soon(client.add("notes", 2, key))
        assert raised.value.result.key == key
        assert raised.value.hint


async def test_deleting_what_never_was_is_refused_and_deleting_twice_is_not(
    server: FakeServer, clock: FakeClock
) -> None:
    server.notes.commit("k", b"1")
    async with syncline.connect(server.url, clock=clock) as client:
        with pytest.raises(WriteRefused, match="absent"):
            await soon(client.delete("notes", "nothing"))
        assert (await soon(client.delete("notes", "k"))).status == "ok"
        assert (await soon(client.delete("notes", "k"))).status == "dup"


async def test_a_write_to_a_store_that_is_not_there_says_so(server: FakeServer, clock: FakeClock) -> None:
    async with syncline.connect(server.url, clock=clock) as client:
        with pytest.raises(WriteRefused, match="there is no store 'nowhere'") as raised:
            await soon(client.write("nowhere", [Add("k", 1), Delete("j")]))
        assert raised.value.code == "store_unknown"


async def test_an_op_that_breaks_a_rule_is_refused_without_asking_the_server(
    server: FakeServer, clock: FakeClock
) -> None:
    async with syncline.connect(server.url, clock=clock) as client:
        with pytest.raises(WriteRefused, match="the number nan, which JSON does not have"):
            await client.add("notes", float("nan"))
        assert len(server.requests) == 1


async def test_a_write_whose_ack_was_lost_is_sent_again_unchanged_and_has_one_effect(
    server: FakeServer, clock: FakeClock
) -> None:
    async def lose(connection: FakeConnection, event: requested.ServerEvent) -> bool:
        if isinstance(event, requested.WriteRequested) and len(server.requests) == 2:
            server.notes.decide(event.transaction.ops[0])
            await connection.drop()
        return False

    server.intercept = lose
    async with syncline.connect(server.url, clock=clock) as client:
        adding = asyncio.ensure_future(client.add("notes", syncline.Json('{"n":1.50}'), "k"))
        await come_back(client, clock)
        assert (await soon(adding)).status == "dup"
    assert server.notes.rows == [("k", b'{"n":1.50}')]
    adds = [frame for frame in server.requests if b'"ADD"' in frame]
    assert len(adds) == 2
    assert all(b'"value":{"n":1.50}' in add for add in adds)


async def test_a_retry_answer_is_obeyed_and_the_write_sent_again(server: FakeServer, clock: FakeClock) -> None:
    async def put_off(connection: FakeConnection, event: requested.ServerEvent) -> bool:
        if isinstance(event, requested.WriteRequested) and len(server.requests) == 2:
            connection.session.wrote([WriteResult(event.id, "retry", after_ms=2500)])
            return True
        return False

    server.intercept = put_off
    async with syncline.connect(server.url, clock=clock) as client:
        adding = asyncio.ensure_future(client.add("notes", 1, "k"))
        await soon(clock.sleeper(lambda left: left == 2.5))
        assert len(server.requests) == 2
        clock.advance(2.5)
        assert (await soon(adding)).status == "ok"


async def test_an_error_that_allows_it_is_tried_again(server: FakeServer, clock: FakeClock) -> None:
    async def refuse_first(connection: FakeConnection, event: requested.ServerEvent) -> bool:
        if not isinstance(event, requested.WriteRequested) or len(server.requests) > 2:
            return False
        connection.session.refuse(event.id, "storage_unavailable", "the disk is away", after_ms=700)
        return True

    server.intercept = refuse_first
    async with syncline.connect(server.url, clock=clock) as client:
        adding = asyncio.ensure_future(client.add("notes", 1, "k"))
        await soon(clock.sleeper(lambda left: left == pytest.approx(0.7)))
        clock.advance(0.7)
        assert (await soon(adding)).status == "ok"


async def test_a_write_that_was_cancelled_is_not_sent_again(server: FakeServer, clock: FakeClock) -> None:
    reached = asyncio.Event()

    async def swallow(connection: FakeConnection, event: requested.ServerEvent) -> bool:
        if len(server.requests) == 2:
            reached.set()
            return True
        return False

    server.intercept = swallow
    async with syncline.connect(server.url, clock=clock) as client:
        adding = asyncio.ensure_future(client.add("notes", 1, "k"))
        await soon(reached.wait())
        adding.cancel()
        await server.connections[0].drop()
        await come_back(client, clock)
        await soon(client.add("notes", 2, "j"))
    assert [key for key, _ in server.notes.rows] == ["j"]
