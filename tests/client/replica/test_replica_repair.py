"""A replica that is not what the server says, and a server that breaks the rules: repaired, reported, not hammered."""

import asyncio
import contextlib
import random
from collections.abc import Callable

import msgspec
import pytest
from websockets.exceptions import ConnectionClosed

from syncline import ConnectionState, Repaired, Replica
from syncline_protocol import server as requested
from syncline_protocol.codec import encode
from syncline_protocol.messages import CaughtUp
from tests.client.fake_clock import FakeClock
from tests.client.fake_server import FakeConnection, FakeServer
from tests.client.replica.history import begin, cut
from tests.client.replica.holding import caught_up, held, is_equal, keys, reports_of, shown, turns, until
from tests.client.waiting import soon, turn

LIES: dict[str, Callable[[CaughtUp], CaughtUp]] = {
    "digest": lambda message: msgspec.structs.replace(message, digest="00bad000"),
    "count": lambda message: msgspec.structs.replace(message, count=message.count + 1),
}


def subscribes(server: FakeServer) -> int:
    """Return how often somebody subscribed."""
    return sum(b'"SUBSCRIBE"' in frame for frame in server.requests)


async def fill(server: FakeServer) -> None:
    for number in range(20):
        server.notes.commit(f"k{number}", b"0")
    server.notes.commit("k3", None)


@pytest.mark.parametrize("name", LIES)
async def test_a_wrong_sum_is_repaired_and_reported_and_what_was_shown_stays_meanwhile(
    server: FakeServer, path: str | None, name: str
) -> None:
    await fill(server)
    async with held(server, path) as replica:
        await caught_up(replica)
        write = await replica.add(1, "ours")
        await soon(write.synced())
        reports = reports_of(replica)
        server.lie = LIES[name]
        await cut(server, replica)
        await until(lambda: reports)
        server.lie = None
        before = shown(replica)
        while not replica.is_caught_up:
            assert shown(replica) == before
            assert len(replica) == len(before)
            await asyncio.sleep(0)
        assert is_equal(replica, server)
        assert [type(report) for report in reports] == [Repaired] * len(reports)
        assert next(report.attempt for report in reports if isinstance(report, Repaired)) == 1
        assert server.connections_made == 2


async def test_a_replica_that_lost_a_record_by_a_mistake_gets_it_back(server: FakeServer, path: str | None) -> None:
    await fill(server)

    async def swallow(connection: FakeConnection, frame: bytes) -> list[bytes]:
        return [frame.replace(b'{"seq":21,"op":"DELETE","key":"k3","time":1795400000000}', b"").replace(b",]", b"]")]

    server.outgoing = swallow
    async with held(server, path) as replica:
        reports = reports_of(replica)
        await until(lambda: reports)
        server.outgoing = None
        await caught_up(replica)
        assert is_equal(replica, server)
        assert "k3" not in replica


async def becomes_equal(replica: Replica, server: FakeServer, clock: FakeClock) -> None:
    """Let every rest pass until the replica is equal to the server."""
    async with asyncio.timeout(15):
        while not is_equal(replica, server):
            clock.advance(1)
            await turns(4)
            await turn()


async def test_a_server_that_stays_wrong_is_not_hammered(server: FakeServer, path: str | None) -> None:
    await fill(server)
    clock = FakeClock(chance=0.999)
    async with held(server, path, clock=clock) as replica:
        await caught_up(replica)
        reports = reports_of(replica)
        server.lie = LIES["digest"]
        await server.connections[0].drop()
        await until(lambda: replica.status.state is ConnectionState.OFFLINE)
        clock.advance(1)
        began = subscribes(server)
        for _ in range(300):
            await turns(300 if path else 20)
            clock.advance(1)
        assert 5 <= len(reports) <= 16
        assert subscribes(server) - began in (len(reports), len(reports) + 1)
        assert (len(replica), replica.is_caught_up) == (19, False)
        assert replica.status.state is ConnectionState.LAGGING
        await replica.add(1, "meanwhile")
        server.lie = None
        await becomes_equal(replica, server, clock)


async def test_a_server_that_contradicts_itself_after_every_catch_up_is_not_hammered(
    server: FakeServer, path: str | None
) -> None:
    await fill(server)
    clock = FakeClock(chance=0.999)

    async def contradict(connection: FakeConnection, frame: bytes) -> list[bytes]:
        if b'"CAUGHT_UP"' not in frame:
            return [frame]
        head = server.notes.head
        wrong = server.notes.change_texts(1, 2)[0].replace(b'"seq":2', b'"seq":%d' % (head + 1))
        batch = b'{"type":"BATCH","feed":"notes","from":"%b","to":"%b","changes":[%b]}' % (
            server.notes.cursor(head).encode(),
            server.notes.cursor(head + 1).encode(),
            wrong,
        )
        return [frame, batch]

    server.outgoing = contradict
    async with held(server, path, clock=clock) as replica:
        reports = reports_of(replica)
        for _ in range(300):
            await turns(300 if path else 20)
            clock.advance(1)
        assert 5 <= len(reports) <= 16
        assert len(replica) == 19


MALFORMED = {
    "a batch to nowhere": '{"type":"BATCH","feed":"notes","from":"inc1:21","to":"nowhere","changes":[]}',
    "a batch that goes back": '{"type":"BATCH","feed":"notes","from":"inc1:21","to":"inc1:20","changes":[]}',
    "a batch with a gap": '{"type":"BATCH","feed":"notes","from":"inc1:22","to":"inc1:23","changes":[]}',
    "a change outside": '{"type":"BATCH","feed":"notes","from":"inc1:21","to":"inc1:22","changes":'
    '[{"seq":23,"op":"DELETE","key":"k1","time":1}]}',
    "caught up elsewhere": '{"type":"CAUGHT_UP","feed":"notes","at":"inc1:20","count":1,"digest":"00000000"}',
    "behind nothing": '{"type":"BEHIND","feed":"notes","at":"x","head":"y"}',
    "an unknown feed": '{"type":"BATCH","feed":"f9","from":"inc1:21","to":"inc1:22","changes":[]}',
    "no JSON": "{",
}


@pytest.mark.parametrize("name", MALFORMED)
async def test_a_malformed_frame_ends_the_connection_and_changes_nothing(
    server: FakeServer, path: str | None, name: str
) -> None:
    await fill(server)
    async with held(server, path) as replica:
        await caught_up(replica)
        await server.connections[0].socket.send(MALFORMED[name], text=True)
        await until(lambda: not replica.is_caught_up)
        assert len(replica) == 19
        assert replica.status.cursor in (server.notes.cursor(21), "inc1:21")
        write = await replica.add(1, "k")
        assert "k" in replica
        if replica.status.state is not ConnectionState.CLOSED:
            await until(lambda: write.seq is not None or replica.status.state is ConnectionState.CLOSED)


BROKEN_LISTINGS = {
    "no ranges": ["{live}nonsense{last}"],
    "descending": ["{live}5,3{last}"],
    "overlapping": ["{live}1-5{more}", "{live}3-8{last}"],
    "above": ["{live}1-900{last}"],
    "none": [],
}


@pytest.mark.parametrize("name", BROKEN_LISTINGS)
async def test_a_listing_that_makes_no_sense_is_not_believed(server: FakeServer, path: str | None, name: str) -> None:
    frames = [
        text.replace("{live}", '{"type":"LIVE","feed":"notes","upto":"inc1:8","seqs":"')
        .replace("{more}", '"}')
        .replace("{last}", '","last":true}')
        .replace('"}', '"}')
        for text in BROKEN_LISTINGS[name]
    ]

    async def mislead(connection: FakeConnection, frame: bytes) -> list[bytes]:
        if b'"LIVE"' not in frame:
            return [frame]
        return [text.encode() for text in frames] if b'"last":true' in frame else []

    async with held(server, path) as replica:
        await begin(server, replica)
        before = keys(replica)
        server.notes.restore(8, "inc2")
        server.outgoing = mislead
        await cut(server, replica)
        await until(lambda: replica.status.state is ConnectionState.CLOSED)
        assert (keys(replica), "4501" in replica.status.reason) == (before, True)


async def test_random_frames_never_end_the_replica_itself(server: FakeServer, path: str | None) -> None:
    """Whatever comes, in whatever order: the connection may end for it, the replica does not."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    await fill(server)
    async with held(server, path) as replica:
        await caught_up(replica)
        for _ in range(60):
            if replica.status.state is ConnectionState.CLOSED or not server.connections:
                break
            (connection,) = server.connections[:1]
            at = chance.randrange(23)
            message = chance.choice(
                [
                    encode(server.notes.caught_up(min(at, 21))),
                    b'{"type":"LIVE","feed":"notes","upto":"inc1:21","seqs":"1-3","last":true}',
                    b'{"type":"FILL","feed":"notes","changes":[%b],"last":true}' % server.notes.change_texts(4, 5)[0],
                    b'{"type":"BEHIND","feed":"notes","at":"inc1:21","head":"inc1:30"}',
                    b'{"type":"WROTE","results":[{"id":77,"status":"ok","seq":1,"at":"inc1:1"}]}',
                    b'{"type":"ERROR","id":77,"code":"nonsense","message":"?","retry":true}',
                    b'{"type":"ENDED","id":1,"feed":"notes","reason":"resubscribe"}',
                ]
            )
            with contextlib.suppress(ConnectionClosed):
                await connection.socket.send(message, text=True)
            await turns(chance.randrange(4))
        await turns(50)
        assert len(replica) == len(keys(replica))
        assert "please report" not in replica.status.reason
        await replica.add(1)


async def test_a_feed_that_the_server_ends_again_and_again_is_asked_for_ever_more_rarely(
    server: FakeServer, path: str | None
) -> None:
    clock = FakeClock(chance=0.999)

    async def end(connection: FakeConnection, event: requested.ServerEvent) -> bool:
        if not isinstance(event, requested.SubscribeRequested):
            return False
        connection.session.subscribed(
            event.request.id,
            feed="notes",
            how="resume",
            at=server.notes.cursor(server.notes.head),
            head=server.notes.cursor(server.notes.head),
            store_id=server.notes.store_id,
            lineage=server.notes.lineage,
        )
        connection.session.ended(event.request.id, "resubscribe", None)
        return True

    server.intercept = end
    async with held(server, path, clock=clock) as replica:
        for _ in range(300):
            await turns(300 if path else 20)
            clock.advance(1)
        assert 5 <= subscribes(server) <= 20
        server.intercept = None
        await becomes_equal(replica, server, clock)
