"""The client's session: it follows every feed, notices what is wrong, and is never crashed by its peer."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncline_protocol.client import (
    Answered,
    ClientSession,
    FeedBatch,
    FeedBehind,
    FeedCaughtUp,
    FeedEnded,
    FeedFill,
    FeedLive,
    FeedOpened,
    Refused,
)
from syncline_protocol.codec import encode, fill_frame
from syncline_protocol.cursor import Cursor, Seq
from syncline_protocol.errors import LocalProtocolError
from syncline_protocol.limits import DEFAULT_LIMITS, HEARTBEAT_S, HELLO_TIMEOUT_S
from syncline_protocol.messages import (
    Behind,
    CaughtUp,
    Delete,
    Ended,
    Error,
    Fetch,
    Hello,
    Live,
    Subscribe,
    Subscribed,
    Unsubscribe,
    Welcome,
    WriteResult,
    Wrote,
)
from syncline_protocol.states import SessionState

from .pair import LINEAGE, Pair, change
from .test_codec import CLIENT_MESSAGES, SERVER_MESSAGES


def at(seq: int) -> Cursor:
    return LINEAGE.cursor(Seq(seq))


def subscribed(request_id: int, feed: str = "f1", **members: Any) -> bytes:
    message = Subscribed(request_id, feed, "resume", at(60), at(60), "st1", LINEAGE.to_text())
    return encode(msgspec.structs.replace(message, **members))


# --- feeds ---


def test_a_feed_tiles_from_where_it_was_opened() -> None:
    pair = Pair.ready()
    request_id = pair.subscribe(at=49, head=60)
    events = [*pair.batch(49, 51, change(50), change(51, "b")), *pair.batch(51, 60, change(60, "b", None))]
    events += pair.push(encode(CaughtUp("f1", at(60), 1, "00000000")))
    events += pair.batch(60, 60)
    assert [type(event) for event in events] == [FeedBatch, FeedBatch, FeedCaughtUp, FeedBatch]
    assert {event.id for event in events if isinstance(event, FeedBatch)} == {request_id}
    assert pair.client.close_code is None


@pytest.mark.parametrize(("from_", "to"), [(59, 61), (61, 62), (0, 60)])
def test_a_batch_that_does_not_begin_at_the_cursor_is_desync(from_: int, to: int) -> None:
    pair = Pair.ready()
    pair.subscribe(at=60)
    assert pair.batch(from_, to) == []
    assert pair.client.close_code == 4006
    assert pair.batch(60, 61) == []


def test_the_same_seq_under_another_name_is_desync() -> None:
    pair = Pair.ready()
    pair.subscribe(at=60)
    frame = b'{"type":"BATCH","feed":"f1","from":"a01c:60","to":"k3f9:61","changes":[]}'
    assert pair.push(frame) == []
    assert pair.client.close_code == 4006


def test_caught_up_at_another_position_is_desync() -> None:
    pair = Pair.ready()
    pair.subscribe(at=60)
    assert pair.push(encode(CaughtUp("f1", at(61), 0, "00000000"))) == []
    assert pair.client.close_code == 4006


def test_a_rewound_feed_begins_at_keep_to_and_fills_do_not_move_it() -> None:
    pair = Pair.ready()
    request_id = pair.subscribe(at=55, how="rewind")
    (live,) = pair.push(encode(Live("f1", at(55), "1-3", True)))
    assert isinstance(live, FeedLive)
    pair.client.send(Fetch(request_id, "2"))
    (fill,) = pair.push(fill_frame("f1", [change(2)], last=True))
    assert isinstance(fill, FeedFill)
    assert len(pair.batch(55, 60)) == 1


def test_acks_and_heartbeats_do_not_move_a_cursor() -> None:
    pair = Pair.ready()
    pair.subscribe(at=60)
    assert len(pair.push(encode(Wrote((WriteResult(9, "ok", Seq(61), at(61)),))))) == 1
    pair.heads(notes=61)
    assert len(pair.batch(60, 61, change(61))) == 1


@pytest.mark.parametrize("head", [at(61), None])
def test_a_refusal_is_told_with_the_head_at_which_it_was_decided_if_the_server_sends_it(head: Cursor | None) -> None:
    pair = Pair.ready()
    pair.subscribe(at=60)
    results = (WriteResult(9, "conflict", head=head), WriteResult(10, "partial", at=at(7), head=head))
    assert pair.push(encode(Wrote(results))) == [Answered(result) for result in results]
    assert len(pair.batch(60, 61, change(61))) == 1


def test_behind_and_ended_are_told_and_the_feed_may_be_opened_again() -> None:
    pair = Pair.ready()
    request_id = pair.subscribe()
    (behind,) = pair.push(encode(Behind("f1", at(60), at(90))))
    (ended,) = pair.push(encode(Ended(request_id, "f1", "resubscribe", at(60))))
    assert isinstance(behind, FeedBehind)
    assert isinstance(ended, FeedEnded)
    again = pair.client.next_id()
    pair.client.subscribe(Subscribe(again, "notes"))
    (opened,) = pair.push(subscribed(again))
    assert isinstance(opened, FeedOpened)


def test_a_refused_subscription_leaves_nothing_behind() -> None:
    pair = Pair.ready()
    request_id = pair.client.next_id()
    pair.client.subscribe(Subscribe(request_id, "notes"))
    (refused,) = pair.push(encode(Error("store_unknown", "no", False, id=request_id)))
    assert isinstance(refused, Refused)
    pair.push(subscribed(request_id))
    assert pair.client.close_code == 4501


# --- a server that breaks the protocol ---


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"{}",
        b'{"type":"NOPE"}',
        b'{"type":"HELLO"}',
        b'{"type":"WELCOME"}',
        encode(Welcome("s", "t", DEFAULT_LIMITS, 15000, ())),
        b'{"type":"BATCH","feed":"f1","from":"k3f9:60","to":"k3f9:61"}',
        b'{"type":"BATCH","feed":"f9","from":"k3f9:60","to":"k3f9:61","changes":[]}',
        b'{"type":"BATCH","feed":"f1","from":"k3f9:60","to":"k3f9:62","changes":[%b,%b]}' % (change(62), change(61)),
        b'{"type":"BATCH","feed":"f1","from":"k3f9:60","to":"k3f9:61","changes":[%b,%b]}' % (change(61), change(61)),
        b'{"type":"BATCH","feed":"f1","from":"k3f9:60","to":"k3f9:61",'
        b'"changes":[{"seq":61,"op":"ADD","key":"k","time":1}]}',
        b'{"type":"BATCH","feed":"f1","from":"k3f9:60","to":"k3f9:61",'
        b'"changes":[{"seq":61,"op":"DELETE","key":"k","time":1,"value":1}]}',
        fill_frame("f9", [], last=True),
        fill_frame("f1", [change(3), change(2)], last=True),
        encode(Live("f9", Cursor("k3f9:1"), "", True)),
        encode(CaughtUp("f9", Cursor("k3f9:60"), 0, "00000000")),
        encode(Behind("f9", Cursor("k3f9:60"), Cursor("k3f9:60"))),
        encode(Ended(1, "f9", "unsubscribed")),
        encode(Ended(77, "f1", "unsubscribed")),
        subscribed(1, "f2"),
        subscribed(77),
        encode(Wrote((WriteResult(1, "ok", Seq(1)),))),
        encode(Wrote((WriteResult(1, "dup", Seq(1), Cursor("nowhere")),))),
        encode(Wrote((WriteResult(1, "conflict", head=Cursor("nowhere")),))),
        encode(
            Wrote((WriteResult(2, "ok", Seq(61), Cursor("k3f9:61")), WriteResult(1, "gone", head=Cursor("k3f9:-1"))))
        ),
        b'{"type":"HEARTBEAT"}',
        b'{"type":"BYE"}',
    ],
    ids=lambda frame: repr(frame[:60]),
)
def test_a_frame_that_breaks_the_protocol_ends_the_connection_and_yields_nothing(frame: bytes) -> None:
    pair = Pair.ready()
    assert pair.subscribe() == 1
    assert pair.push(frame) == []
    assert pair.client.close_code == 4501
    assert pair.client.close_reason
    assert pair.client.state is SessionState.CLOSED
    assert pair.push(b'{"type":"HEARTBEAT","heads":{}}') == []


@pytest.mark.parametrize(
    "members",
    [
        {"how": "rewind"},
        {"keep_to": 60},
        {"at": "nowhere"},
        {"head": "nowhere"},
        {"lineage": ""},
        {"lineage": "a@1,b@1"},
    ],
)
def test_a_subscribed_that_cannot_be_acted_on_ends_the_connection(members: dict[str, Any]) -> None:
    pair = Pair.ready()
    request_id = pair.client.next_id()
    pair.client.subscribe(Subscribe(request_id, "notes"))
    assert pair.push(subscribed(request_id, **members)) == []
    assert pair.client.close_code == 4501


def test_a_feed_that_is_open_already_cannot_be_opened_for_another_id() -> None:
    pair = Pair.ready()
    pair.subscribe()
    second = pair.client.next_id()
    pair.client.subscribe(Subscribe(second, "notes"))
    assert pair.push(subscribed(second)) == []
    assert pair.client.close_code == 4501


@pytest.mark.parametrize("heartbeat_ms", [0, -1])
def test_a_welcome_without_a_possible_heartbeat_is_refused(heartbeat_ms: int) -> None:
    client = ClientSession(Hello(), now=0)
    assert client.receive(encode(Welcome("s", "t", DEFAULT_LIMITS, heartbeat_ms, ())), 0) == []
    assert client.close_code == 4501


# --- our own mistakes ---


@pytest.mark.parametrize("message", [Delete(1, "notes", "k"), Unsubscribe(1), Fetch(1, "1")])
def test_nothing_but_hello_is_sent_before_welcome(message: Delete | Unsubscribe | Fetch) -> None:
    client = ClientSession(Hello(), now=0)
    client.data_to_send()
    with pytest.raises(LocalProtocolError):
        client.send(message)
    with pytest.raises(LocalProtocolError):
        client.subscribe(Subscribe(1, "notes"))
    assert client.data_to_send() == []


def test_a_subscription_that_is_not_open_cannot_be_ended_or_fetched_from() -> None:
    pair = Pair.ready()
    request_id = pair.client.next_id()
    pair.client.subscribe(Subscribe(request_id, "notes"))
    for message in (Unsubscribe(request_id), Fetch(request_id, "1"), Unsubscribe(99)):
        with pytest.raises(LocalProtocolError) as caught:
            pair.client.send(message)
        assert caught.value.code == "not_subscribed"


def test_a_subscription_id_cannot_be_used_twice() -> None:
    pair = Pair.ready()
    request_id = pair.subscribe()
    with pytest.raises(LocalProtocolError):
        pair.client.subscribe(Subscribe(request_id, "notes"))


def test_nothing_is_sent_after_the_end() -> None:
    pair = Pair.ready()
    pair.client.close()
    with pytest.raises(LocalProtocolError):
        pair.client.send(Delete(1, "notes", "k"))
    assert pair.client.next_deadline() is None


# --- time ---


def test_a_server_that_does_not_welcome_is_given_up() -> None:
    client = ClientSession(Hello(), now=10)
    assert client.next_deadline() == 10 + HELLO_TIMEOUT_S
    client.tick(10 + HELLO_TIMEOUT_S)
    assert client.close_code == 4004


def test_a_silent_server_is_given_up_after_three_periods() -> None:
    pair = Pair.ready()
    while pair.client.close_code is None:
        deadline = pair.client.next_deadline()
        assert deadline is not None
        pair.now = deadline
        pair.client.tick(pair.now)
    assert pair.client.close_code == 4003
    assert pair.now == 3 * HEARTBEAT_S
    assert pair.client.data_to_send() == [b'{"type":"HEARTBEAT"}'] * 2


def test_a_feed_that_stands_still_while_its_store_moves_is_desync() -> None:
    pair = Pair.ready()
    pair.subscribe(at=60)
    for _ in range(2):
        pair.now += HEARTBEAT_S
        pair.heads(notes=61)
        assert pair.client.close_code is None
    pair.now += HEARTBEAT_S
    pair.heads(notes=61)
    assert pair.client.close_code == 4006


def test_any_frame_of_a_feed_shows_that_it_moves() -> None:
    for move in range(3):
        pair = Pair.ready()
        pair.subscribe(at=60)
        for step in range(10):
            pair.now += HEARTBEAT_S
            match move:
                case 0:
                    pair.batch(60 + step, 61 + step)
                case 1:
                    pair.push(encode(Live("f1", at(60), "")))
                case _:
                    pair.push(fill_frame("f1", [], last=False))
            pair.heads(notes=90)
        assert pair.client.close_code is None


def test_a_feed_that_stands_still_with_its_store_is_fine() -> None:
    pair = Pair.ready()
    pair.subscribe(at=60)
    for _ in range(20):
        pair.now += HEARTBEAT_S
        pair.heads(notes=60, other=99)
    assert pair.client.close_code is None


# --- anything at all ---

_FRAMES = [encode(message) for message in SERVER_MESSAGES] + [subscribed(1), subscribed(2, "f2")]


@given(st.lists(st.sampled_from(_FRAMES) | st.binary(max_size=30), max_size=20), st.booleans())
def test_no_sequence_of_frames_makes_the_session_raise(frames: list[bytes], welcomed: bool) -> None:
    client = ClientSession(Hello(), now=0)
    if welcomed:
        client.receive(_FRAMES[0], 0)
        client.subscribe(Subscribe(1, "notes"))
        client.subscribe(Subscribe(2, "other"))
    for frame in frames:
        was_closed = client.close_code is not None
        events = client.receive(frame, 0)
        if was_closed:
            assert events == []
        assert all(not isinstance(event, Answered) or event.result.id >= 0 for event in events)


def test_the_samples_cover_every_message() -> None:
    assert len({type(message) for message in SERVER_MESSAGES}) == 12
    assert len({type(message) for message in CLIENT_MESSAGES}) == 8
