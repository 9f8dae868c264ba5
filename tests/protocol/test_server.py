"""The server's session: which frame is answered how, and what its deadlines do."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncline_protocol.client import FeedEnded, GoodbyeSaid, Refused, Welcomed
from syncline_protocol.codec import decode_server_message, encode
from syncline_protocol.cursor import Cursor, Seq
from syncline_protocol.limits import (
    DEFAULT_LIMITS,
    HEARTBEAT_S,
    HELLO_TIMEOUT_S,
    ID_MAX,
    INCARNATION_CHARS_MAX,
    SEQ_MAX,
    SILENCE_MAX_S,
)
from syncline_protocol.messages import Add, Hello, OpResult, Subscribe, WriteResult, Wrote
from syncline_protocol.server import (
    FEATURES,
    FetchRequested,
    Opened,
    ServerSession,
    SubscribeRequested,
    UnsubscribeRequested,
    WriteRequested,
)
from syncline_protocol.states import SessionState

from .pair import LINEAGE, Pair
from .test_codec import CLIENT_MESSAGES


def errors_of(pair: Pair) -> list[tuple[str, int | None]]:
    return [(e.message.code, e.message.id) for e in pair.client_events if isinstance(e, Refused)]


# --- the first message ---


def test_hello_is_answered_with_welcome_and_only_known_features() -> None:
    pair = Pair(hello=Hello(features=("digest", "teleport")))
    pair.exchange()
    (welcomed,) = pair.client_events
    assert isinstance(welcomed, Welcomed)
    assert welcomed.welcome.features == ("digest",)
    assert welcomed.welcome.limits == DEFAULT_LIMITS
    assert isinstance(pair.server_events[0], Opened)
    assert pair.server.state is pair.client.state is SessionState.READY
    assert frozenset({"digest", "bitmaps"}) == FEATURES


@pytest.mark.parametrize("message", CLIENT_MESSAGES, ids=lambda message: type(message).__name__)
def test_any_other_message_before_hello_is_misuse(message: Add) -> None:
    session = ServerSession(session_id="s", server="t", now=0)
    event = session.receive(encode(message), 0)
    if isinstance(message, Hello):
        assert isinstance(event, Opened)
        return
    assert event is None
    (frame,) = session.data_to_send()
    assert b'"hello_expected"' in frame
    assert session.close_code == 4501


@pytest.mark.parametrize("frame", [b"", b"{}", b'{"type":"NOPE"}', b'{"type":"HELLO","client":1}', b"\xff"])
def test_a_frame_that_is_no_message_before_hello_ends_the_connection(frame: bytes) -> None:
    session = ServerSession(session_id="s", server="t", now=0)
    assert session.receive(frame, 0) is None
    assert len(session.data_to_send()) == 1
    assert session.close_code == 4501
    assert session.receive(b'{"type":"HELLO"}', 0) is None
    assert session.data_to_send() == []


def test_a_second_hello_is_misuse() -> None:
    pair = Pair.ready()
    pair.say(b'{"type":"HELLO"}')
    assert errors_of(pair) == [("hello_repeated", None)]
    assert pair.server.close_code == 4501


# --- requests ---


def test_a_write_is_handed_over_and_its_id_is_free_after_the_answer() -> None:
    pair = Pair.ready()
    add = Add(pair.client.next_id(), "notes", "k", msgspec.Raw(b"1"))
    for _ in range(2):
        pair.client.send(add)
        pair.exchange()
        assert isinstance(pair.server_events.pop(), WriteRequested)
        assert pair.server.in_flight == 1
        pair.server.wrote([WriteResult(add.id, "ok", Seq(1), LINEAGE.cursor(Seq(1)))])
        assert pair.server.in_flight == 0
        pair.exchange()
    assert errors_of(pair) == []


def test_an_id_that_is_open_is_refused_and_the_open_request_goes_on() -> None:
    pair = Pair.ready()
    request_id = pair.subscribe()
    frame = b'{"type":"DELETE","id":9,"store":"notes","key":"k"}'
    pair.say(frame)
    pair.say(frame)
    pair.say(b'{"type":"SUBSCRIBE","id":9,"store":"notes"}')
    pair.say(b'{"type":"DELETE","id":%d,"store":"notes","key":"k"}' % request_id)
    assert errors_of(pair) == [("id_in_use", 9), ("id_in_use", 9), ("id_in_use", request_id)]
    assert pair.server.in_flight == 1


@pytest.mark.parametrize(
    ("members", "code"),
    [
        (b'"store":"../x"', "store_name_invalid"),
        (b'"store":"notes","filter":null', "filter_invalid"),
        (b'"store":"notes","filter":{"index":"room","eq":1,"lt":2}', "filter_invalid"),
        (b'"store":"notes","after":"tomorrow"', "cursor_invalid"),
        (b'"store":"notes","known":"?"', "cursor_invalid"),
        (b'"store":"notes","position":1', "unknown_parameter"),
    ],
)
def test_a_subscribe_of_the_wrong_form_is_refused_and_its_id_is_free(members: bytes, code: str) -> None:
    pair = Pair.ready()
    for _ in range(2):
        pair.say(b'{"type":"SUBSCRIBE","id":3,%b}' % members)
    assert errors_of(pair) == [(code, 3)] * 2
    pair.say(b'{"type":"SUBSCRIBE","id":3,"store":"notes"}')
    assert isinstance(pair.server_events[-1], SubscribeRequested)


def test_a_second_subscription_to_a_feed_is_refused() -> None:
    pair = Pair.ready()
    pair.subscribe()
    second = pair.client.next_id()
    pair.client.subscribe(Subscribe(second, "notes"))
    pair.exchange()
    opened = pair.server.subscribed(
        second,
        feed="f1",
        how="resume",
        at=LINEAGE.cursor(Seq(0)),
        head=LINEAGE.cursor(Seq(1)),
        store_id="st1",
        lineage=LINEAGE,
    )
    pair.exchange()
    assert not opened
    assert errors_of(pair) == [("already_subscribed", second)]


def test_there_is_a_bound_on_subscriptions_also_while_they_are_being_opened() -> None:
    pair = Pair.ready()
    for request_id in range(DEFAULT_LIMITS.subscriptions_max + 1):
        pair.say(b'{"type":"SUBSCRIBE","id":%d,"store":"notes"}' % request_id)
    assert errors_of(pair) == [("too_many_subscriptions", DEFAULT_LIMITS.subscriptions_max)]


@pytest.mark.parametrize("frame", [b'{"type":"UNSUBSCRIBE","id":9}', b'{"type":"FETCH","id":9,"seqs":"1"}'])
def test_what_needs_a_subscription_is_refused_without_one_and_before_it_is_open(frame: bytes) -> None:
    pair = Pair.ready()
    pair.say(frame)
    pair.say(b'{"type":"SUBSCRIBE","id":9,"store":"notes"}')
    pair.say(frame)
    assert errors_of(pair) == [("not_subscribed", 9)] * 2


def test_unsubscribe_and_fetch_are_handed_over() -> None:
    pair = Pair.ready()
    request_id = pair.subscribe()
    pair.say(b'{"type":"FETCH","id":%d,"seqs":"1-3"}' % request_id)
    pair.say(b'{"type":"UNSUBSCRIBE","id":%d}' % request_id)
    assert [type(event) for event in pair.server_events[-2:]] == [FetchRequested, UnsubscribeRequested]
    pair.server.ended(request_id, "unsubscribed", LINEAGE.cursor(Seq(60)))
    pair.exchange()
    assert isinstance(pair.client_events[-1], FeedEnded)
    pair.say(b'{"type":"SUBSCRIBE","id":%d,"store":"notes"}' % request_id)
    assert isinstance(pair.server_events[-1], SubscribeRequested)


def test_a_refused_fetch_leaves_the_subscription_open() -> None:
    pair = Pair.ready()
    request_id = pair.subscribe()
    pair.server.refuse(request_id, "bad_message", "no ranges")
    pair.exchange()
    assert errors_of(pair) == [("bad_message", request_id)]
    pair.say(b'{"type":"UNSUBSCRIBE","id":%d}' % request_id)
    assert isinstance(pair.server_events[-1], UnsubscribeRequested)


def test_a_write_that_is_wrong_as_a_whole_is_refused_with_its_id() -> None:
    pair = Pair.ready()
    pair.say(b'{"type":"WRITE","id":4,"store":"notes","ops":[]}')
    pair.say(b'{"type":"DELETE","id":5,"store":"..","key":"k"}')
    assert errors_of(pair) == [("bad_message", 4), ("store_name_invalid", 5)]
    assert pair.server.in_flight == 0


def test_no_wrote_frame_outgrows_what_a_client_takes() -> None:
    pair = Pair.ready()
    fault = OpResult("invalid", code="value_invalid", message="x" * 200)
    longest = Cursor(f"{'i' * INCARNATION_CHARS_MAX}:{SEQ_MAX}")
    pair.server.wrote(WriteResult(n, "refused", ops=(fault,) * 5000, head=longest) for n in range(3))
    frames = pair.server.data_to_send()
    assert len(frames) == 3
    assert max(len(frame) for frame in frames) < DEFAULT_LIMITS.batch_bytes_max
    pair.server.wrote(WriteResult(ID_MAX - n, "conflict", at=longest, head=longest) for n in range(6000))
    (frame,) = pair.server.data_to_send()
    assert len(frame) < DEFAULT_LIMITS.batch_bytes_max
    pair.server.wrote(WriteResult(n, "absent") for n in range(1000))
    (frame,) = pair.server.data_to_send()
    message = decode_server_message(frame)
    assert isinstance(message, Wrote)
    assert [result.id for result in message.results] == list(range(1000))


def test_too_many_invalid_frames_in_a_row_end_the_connection() -> None:
    pair = Pair.ready()
    for _ in range(99):
        pair.say(b"x")
    pair.say(b'{"type":"HEARTBEAT"}')
    for _ in range(99):
        pair.say(b'{"type":"HEARTBEAT","id":')
    assert pair.server.close_code is None
    pair.say(b"x")
    assert pair.server.close_code == 4502


# --- the end ---


def test_goodbye_before_hello_does_not_look_like_misuse_to_the_client() -> None:
    pair = Pair()
    pair.server.bye("drain", 500, 4000)
    for frame in pair.server.data_to_send():
        pair.client_events += pair.client.receive(frame, 0)
    assert isinstance(pair.client_events[0], GoodbyeSaid)
    assert pair.client.close_code is None
    pair.exchange()
    assert isinstance(pair.client_events[1], Welcomed)


def test_after_goodbye_requests_are_still_answered() -> None:
    pair = Pair.ready()
    request_id = pair.subscribe()
    pair.server.bye("drain", 500, 4000)
    pair.server.bye("drain", 500, 4000)
    pair.exchange()
    assert sum(isinstance(event, GoodbyeSaid) for event in pair.client_events) == 1
    assert pair.server.state is pair.client.state is SessionState.DRAINING
    pair.say(b'{"type":"UNSUBSCRIBE","id":%d}' % request_id)
    pair.server.ended(request_id, "unsubscribed", None)
    pair.exchange()
    assert isinstance(pair.client_events[-1], FeedEnded)
    assert pair.client.close_code is None


def test_the_first_decision_to_close_stays() -> None:
    session = ServerSession(session_id="s", server="t", now=0)
    session.close(4000, "first")
    session.close(4501, "second")
    assert (session.close_code, session.close_reason) == (4000, "first")


# --- time ---


def test_a_connection_without_hello_is_closed_in_time() -> None:
    session = ServerSession(session_id="s", server="t", now=100)
    assert session.next_deadline() == 100 + HELLO_TIMEOUT_S
    assert not session.tick(100 + HELLO_TIMEOUT_S - 0.01)
    assert session.close_code is None
    assert not session.tick(100 + HELLO_TIMEOUT_S)
    assert session.close_code == 4004
    assert session.next_deadline() is None


def test_a_heartbeat_is_due_every_period_and_a_silent_client_is_given_up() -> None:
    pair = Pair.ready()
    due = 0
    while pair.server.close_code is None:
        deadline = pair.server.next_deadline()
        assert deadline is not None
        assert deadline > pair.now
        pair.now = deadline
        due += pair.server.tick(pair.now)
    assert pair.server.close_code == 4003
    assert pair.now == SILENCE_MAX_S
    assert due == SILENCE_MAX_S // HEARTBEAT_S - 1


def test_a_client_that_sends_heartbeats_is_never_given_up() -> None:
    pair = Pair.ready()
    for _ in range(100):
        if pair.advance(HEARTBEAT_S):
            pair.heads()
        pair.exchange()
    assert pair.server.close_code is None
    assert pair.client.close_code is None


# --- anything at all ---


@given(
    st.lists(
        st.sampled_from(
            [encode(message) for message in CLIENT_MESSAGES]
            + [b"", b"{}", b'{"type":"FETCH","id":7,"seqs":"x"}', b'{"type":"WRITE","id":1,"store":"s","ops":[]}']
        )
        | st.binary(max_size=30),
        max_size=20,
    )
)
def test_no_sequence_of_frames_makes_the_session_raise(frames: list[bytes]) -> None:
    session = ServerSession(session_id="s", server="t", now=0)
    for frame in frames:
        was_closed = session.close_code is not None
        event = session.receive(frame, 0)
        for answer in session.data_to_send():
            decode_server_message(answer)
        if was_closed:
            assert event is None
