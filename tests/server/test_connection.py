"""One connection and the engine: answers, back-pressure, deadlines, the drain."""

import msgspec

from syncline_protocol.cursor import Cursor
from syncline_protocol.errors import CloseCode
from syncline_protocol.limits import DEFAULT_LIMITS, HEARTBEAT_S, SILENCE_MAX_S
from syncline_protocol.messages import (
    Batch,
    Bye,
    CaughtUp,
    Ended,
    Error,
    Fetch,
    Fill,
    Heads,
    Heartbeat,
    Live,
    Subscribe,
    Subscribed,
    Unsubscribe,
    Welcome,
    Write,
    WriteOp,
    Wrote,
)
from syncline_server.transport import HIGH_WATER_BYTES
from tests.support.engine import Peer, SlowPeer, TestClock, engine, seqs_of, settle
from tests.support.faulty_storage import FaultyStorage


async def test_the_acks_of_one_commit_come_in_one_frame() -> None:
    async with engine() as hub:
        peer = Peer(hub)
        peer.take()
        for number in range(30):
            peer.add(number, f"k{number}")
        await settle()
        (wrote,) = peer.take()
        assert isinstance(wrote, Wrote)
        assert [result.seq for result in wrote.results] == list(range(1, 31))


async def test_a_write_of_one_op_is_answered_op_by_op_all_the_same() -> None:
    async with engine() as hub:
        peer = Peer(hub)
        op = WriteOp("ADD", "k1", msgspec.Raw(b"1"))
        wrote = (await peer.ask(Write(1, "notes", (op,))))[-1]
        assert isinstance(wrote, Wrote)
        assert wrote.results[0].ops is not None
        assert wrote.results[0].ops[0].seq == 1


async def test_a_write_to_a_store_that_is_not_there_is_refused_by_name() -> None:
    async with engine() as hub:
        peer = Peer(hub)
        peer.take()
        peer.add(1, "k1", store="nowhere")
        await settle()
        (error,) = peer.take()
        assert isinstance(error, Error)
        assert (error.id, error.code) == (1, "store_unknown")


async def test_a_peer_with_too_many_open_writes_is_not_read_from_until_they_are_answered() -> None:
    async with engine() as hub:
        peer = Peer(hub)
        for number in range(DEFAULT_LIMITS.in_flight_max):
            peer.add(number, f"k{number}")
        assert not peer.reading
        await settle()
        assert peer.reading


async def test_a_peer_that_does_not_read_its_answers_is_not_read_from() -> None:
    async with engine() as hub:
        peer = SlowPeer(hub)
        for number in range(2000):
            if peer.reading:
                peer.send(Unsubscribe(number))
        assert not peer.reading
        assert peer.unsent < peer.high_water + 100_000
        peer.drain()
        assert peer.reading


async def test_a_peer_that_is_slow_to_take_its_catch_up_is_heard_all_the_while() -> None:
    clock = TestClock()
    async with engine(clock=clock) as hub:
        writer, peer = Peer(hub), SlowPeer(hub)
        for number in range(40):
            writer.add(number, f"k{number}", b'"' + b"x" * 20_000 + b'"')
        await settle()
        received = await peer.subscribe()
        heard = 0
        for _ in range(300):
            clock.seconds += 1
            hub.tick()
            if peer.reading:
                peer.send(Heartbeat())
                heard += 1
            if clock.seconds % 60 == 0 and not isinstance(received[-1], CaughtUp):
                received += peer.drain()
            elif peer.unsent:
                peer.unsent -= 1  # not stalled
            await settle()
        assert peer.closed_with is None
        assert heard == 300
        # It can also leave in the middle, and its writes are answered.
        peer.add(1, "own")
        peer.send(Unsubscribe(900))
        await settle()
        assert {type(message) for message in peer.take()} >= {Wrote, Ended}


async def test_a_peer_that_is_not_read_from_is_not_called_silent() -> None:
    clock = TestClock()
    storage = FaultyStorage()
    async with engine(storage, clock=clock) as hub:
        peer = Peer(hub)
        gate = storage.hold("before_append")
        for number in range(DEFAULT_LIMITS.in_flight_max):
            peer.add(number, f"k{number}")
        assert not peer.reading
        for _ in range(3):
            clock.seconds += SILENCE_MAX_S
            hub.tick()
        gate.set()
        await settle()
        hub.tick()
        assert peer.reading
        assert peer.closed_with is None


async def test_a_peer_with_many_bytes_of_open_writes_is_not_read_from_until_they_are_answered() -> None:
    storage = FaultyStorage()
    async with engine(storage) as hub:
        peer = Peer(hub)
        gate = storage.hold("before_append")
        taken = 0
        while peer.reading:
            peer.add(taken, f"k{taken}", b'"' + b"x" * 500_000 + b'"')
            taken += 1
            assert taken < 20
        gate.set()
        while peer.connection.session.in_flight:
            await settle()
        assert peer.reading


async def test_what_is_fetched_waits_for_a_peer_that_does_not_read() -> None:
    async with engine() as hub:
        writer, peer = Peer(hub), SlowPeer(hub)
        for number in range(60):
            writer.add(number, f"k{number}", b'"' + b"x" * 50_000 + b'"')
        await settle()
        await peer.subscribe("now")
        peer.unsent_max = 0
        for _ in range(5):
            peer.send(Fetch(900, "1-60"))
        await settle()
        assert peer.unsent_max < 400_000
        fills: list[Fill] = []
        while len(fills) < 5 or sum(fill.last for fill in fills) < 5:
            fills += [message for message in peer.drain() if isinstance(message, Fill)]
            await settle()
        # FILLs do not say which FETCH they answer, so one is answered after the other.
        assert [change.seq for fill in fills for change in fill.changes] == [*range(1, 61)] * 5
        assert peer.unsent_max < 400_000


async def test_a_fetch_in_the_middle_of_a_catch_up_starves_neither() -> None:
    async with engine() as hub:
        writer, peer = Peer(hub), SlowPeer(hub, high_water=HIGH_WATER_BYTES)
        for number in range(60):
            writer.add(number, f"k{number}", b'"' + b"x" * 50_000 + b'"')
        await settle()
        received = await peer.subscribe()
        peer.send(Fetch(900, "1-60"))
        kinds: list[str] = []
        while not kinds or peer.unsent:
            received += (drained := peer.drain())
            kinds += [type(message).__name__ for message in drained]
            await settle()
        assert seqs_of(received) == list(range(1, 61))
        assert kinds.count("Fill") > 5
        assert "Batch" in kinds[kinds.index("Fill") + 1 : kinds.index("Fill") + 3]


async def test_a_peer_may_leave_while_its_fetch_waits() -> None:
    async with engine() as hub:
        writer, peer = Peer(hub), SlowPeer(hub)
        for number in range(10):
            writer.add(number, f"k{number}", b'"' + b"x" * 50_000 + b'"')
        await settle()
        await peer.subscribe("now")
        peer.send(Fetch(900, "1-10"))
        await settle()
        peer.connection.lost()
        await settle()
        assert not hub._tasks


async def test_a_request_that_fails_by_a_mistake_of_ours_closes_its_connection_alone() -> None:
    storage = FaultyStorage()
    async with engine(storage) as hub:
        peer, other = Peer(hub), Peer(hub)
        storage.fail("after_info", ZeroDivisionError("a bug"))
        peer.send(Subscribe(1, "notes"))
        await settle()
        assert peer.closed_with == CloseCode.FAILED
        assert isinstance((await other.subscribe())[-1], CaughtUp)


async def test_a_stalled_peer_is_closed_and_a_slow_one_is_not() -> None:
    clock = TestClock()
    async with engine(clock=clock) as hub:
        peer = Peer(hub)
        peer.set_full(True)
        for _ in range(20):
            clock.seconds += 1
            hub.tick()
        assert peer.closed_with is None
        for _ in range(20):
            clock.seconds += 1
            hub.tick()
        assert peer.closed_with == CloseCode.STALLED


async def test_heartbeats_carry_the_heads_of_the_stores_that_are_followed() -> None:
    clock = TestClock()
    async with engine(clock=clock, stores=("notes", "other")) as hub:
        peer = Peer(hub)
        await peer.subscribe()
        peer.take()
        clock.seconds += HEARTBEAT_S
        hub.tick()
        (heads,) = peer.take()
        assert isinstance(heads, Heads)
        assert set(heads.heads) == {"notes"}


async def test_a_peer_that_says_nothing_for_too_long_is_closed() -> None:
    clock = TestClock()
    async with engine(clock=clock) as hub:
        silent, mute = Peer(hub), Peer(hub, greet=False)
        clock.seconds += 5
        hub.tick()
        assert mute.closed_with == CloseCode.HELLO_TIMEOUT
        assert silent.closed_with is None
        clock.seconds += SILENCE_MAX_S
        hub.tick()
        assert silent.closed_with == CloseCode.NO_HEARTBEAT


async def test_a_drain_answers_open_writes_says_goodbye_and_closes() -> None:
    async with engine() as hub:
        peer = Peer(hub)
        peer.take()
        peer.add(1, "k1")
        await hub.drain(after_ms=100, jitter_ms=200, patience_s=5)
        kinds = peer.take()
        assert [type(message) for message in kinds] == [Bye, Wrote]
        assert peer.closed_with == CloseCode.DRAIN
        assert not hub.ready


async def test_a_binary_frame_and_broken_utf8_close_with_the_codes_of_the_rfc() -> None:
    async with engine() as hub:
        binary, broken = Peer(hub), Peer(hub)
        binary.connection.receive_binary()
        assert binary.closed_with == 1003
        broken.connection.receive(b'{"type":"HEARTBEAT","x":"\xff"}')
        assert broken.closed_with == 1007


async def test_a_forked_history_is_rewound_with_the_live_seqs_and_fills_what_is_fetched() -> None:
    async with engine() as hub:
        writer = Peer(hub)
        for number in range(6):
            writer.add(number, f"k{number}")
        await settle()
        peer = Peer(hub)
        subscribed = (await peer.subscribe())[1]
        assert isinstance(subscribed, Subscribed)
        ahead = Cursor(subscribed.head.partition(":")[0] + ":9")
        other = Peer(hub)
        messages = await other.ask(Subscribe(1, "notes", ahead, known=subscribed.lineage))
        how = messages[1]
        assert isinstance(how, Subscribed)
        assert (how.how, how.keep_to) == ("rewind", 6)
        live = messages[2]
        assert isinstance(live, Live)
        assert (live.seqs, live.last) == ("1-6", True)
        (fill,) = await other.ask(Fetch(1, "2-3,6"))
        assert isinstance(fill, Fill)
        assert [change.seq for change in fill.changes] == [2, 3, 6]
        assert fill.last


async def test_a_cursor_ahead_of_the_log_mints_one_incarnation_a_minute_at_most() -> None:
    clock = TestClock()
    async with engine(clock=clock) as hub:
        writer = Peer(hub)
        names = set()
        for number in range(6):
            writer.add(number, f"k{number}")
            await settle()
            head = (await hub.storage.info("notes")).head
            names.add(head.lineage.current.incarnation)
            ahead = f"{head.lineage.current.incarnation}:99"
            await Peer(hub).subscribe(ahead)
            clock.seconds += 1
        assert len(names) == 2


async def test_a_store_made_anew_under_its_name_refuses_writes_that_mean_the_old_one() -> None:
    async with engine() as hub:
        peer = Peer(hub)
        welcome, subscribed, _ = await peer.subscribe()
        assert isinstance(welcome, Welcome)
        assert isinstance(subscribed, Subscribed)
        await hub.drop("notes")
        await hub.create("notes")
        peer.take()
        op = WriteOp("ADD", "k1", msgspec.Raw(b"1"))
        (error,) = await peer.ask(Write(2, "notes", (op,), store_id=subscribed.store_id))
        assert isinstance(error, Error)
        assert error.code == "store_mismatch"


async def test_own_changes_come_through_the_feed() -> None:
    async with engine() as hub:
        peer = Peer(hub)
        await peer.subscribe()
        peer.add(1, "k1")
        await settle()
        messages = peer.take()
        assert {type(message) for message in messages} >= {Wrote, Batch}
        assert seqs_of(messages) == [1]
