"""Frames: whatever comes is a message or a FrameInvalid with the right code; what goes is read back alike."""

from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from syncline_protocol.codec import (
    batch_frame,
    decode_change,
    decode_client_message,
    decode_server_message,
    encode,
    encode_change,
    fill_frame,
)
from syncline_protocol.cursor import Cursor, Seq
from syncline_protocol.errors import FrameInvalid
from syncline_protocol.limits import DEFAULT_LIMITS, ID_MAX
from syncline_protocol.messages import (
    Add,
    Batch,
    Behind,
    Bye,
    CaughtUp,
    Change,
    ClientInfo,
    ClientMessage,
    Delete,
    Ended,
    Error,
    Fetch,
    Fill,
    Heads,
    Heartbeat,
    Hello,
    Live,
    OpResult,
    ServerMessage,
    Subscribe,
    Subscribed,
    Unsubscribe,
    Welcome,
    Write,
    WriteOp,
    WriteResult,
    Wrote,
)

_DEEP = 10**6
_AT = Cursor("k3f9:7")

CLIENT_MESSAGES: list[ClientMessage] = [
    Hello(),
    Hello(ClientInfo("c91", "test", "1"), "secret", ("digest",)),
    Add(1, "notes", "k1", msgspec.Raw(b'{"x":9007199254740993}')),
    Add(0, "notes", "k1", msgspec.Raw(b"null"), "st1"),
    Delete(ID_MAX, "notes", "k1"),
    Write(3, "notes", (WriteOp("DELETE", "k1"), WriteOp("ADD", "k2", msgspec.Raw(b"[1, 2]")))),
    Write(3, "notes", (WriteOp("DELETE", "k1"),), False, "st1"),
    Subscribe(7, "notes"),
    Subscribe(7, "notes", "k3f9:1204", "k3f9@0", "st1", msgspec.Raw(b"{}")),
    Unsubscribe(7),
    Fetch(7, "1-44,46"),
    Heartbeat(),
]
SERVER_MESSAGES: list[ServerMessage] = [
    Welcome("s1", "test/1", DEFAULT_LIMITS, 15000, ("digest",)),
    Wrote((WriteResult(1, "ok", Seq(7), _AT), WriteResult(2, "refused", ops=(OpResult("gone"), OpResult("skipped"))))),
    Wrote((WriteResult(1, "conflict", head=_AT), WriteResult(2, "partial", at=_AT, ops=(OpResult("gone"),), head=_AT))),
    Wrote((WriteResult(1, "retry", after_ms=500, code="storage_unavailable", message="no"),)),
    Subscribed(7, "f1", "rewind", _AT, _AT, "st1", "k3f9@0", Seq(7)),
    Batch("f1", _AT, _AT, ()),
    Batch("f1", _AT, _AT, (Change(Seq(8), "ADD", "k", 5, msgspec.Raw(b"1.0")), Change(Seq(9), "DELETE", "k", 5))),
    Live("f1", _AT, "1-3", True),
    Fill("f1", (Change(Seq(8), "ADD", "k", 5, msgspec.Raw(b"null")),)),
    CaughtUp("f1", _AT, 0, "00000000"),
    Behind("f1", _AT, _AT),
    Ended(7, "f1", "store_dropped", _AT),
    Heads({"notes": _AT}),
    Error("bad_json", "no", False),
    Error("storage_unavailable", "no", True, 7, 500),
    Bye("drain", 2000, 8000),
]


def plain(message: Any) -> Any:
    return msgspec.to_builtins(msgspec.json.decode(encode(message)))


@pytest.mark.parametrize("message", CLIENT_MESSAGES, ids=lambda message: type(message).__name__)
def test_a_client_message_is_read_back_as_it_was_written(message: ClientMessage) -> None:
    again = decode_client_message(encode(message))
    assert type(again) is type(message)
    assert encode(again) == encode(message)
    assert plain(decode_client_message(encode(message).decode())) == plain(message)


@pytest.mark.parametrize("message", SERVER_MESSAGES, ids=lambda message: type(message).__name__)
def test_a_server_message_is_read_back_as_it_was_written(message: ServerMessage) -> None:
    again = decode_server_message(encode(message))
    assert type(again) is type(message)
    assert encode(again) == encode(message)


@pytest.mark.parametrize(
    "frame",
    [
        *(b"", b" ", b"{", b"}", b"null", b"1", b'"HELLO"', b"[]", b'[{"type":"HEARTBEAT"}]', b"nul", b"{]"),
        *(b'{"type":"HEARTBEAT"} x', b'{"type":"HEARTBEAT"}{"type":"HEARTBEAT"}', b"\xef\xbb\xbf{}", b"\x00", b"\xff"),
        b'{"type":"ADD","id":1,"store":"s","key":"k","value":NaN}',
        b'{"type":"ADD","id":1,"store":"s","key":"k","value":-Infinity}',
        b'{"type":"ADD","id":1,"store":"s","key":"k","value":}',
        b'{"type":"DELETE","id":1,"store":"s","key":"a\tb"}',
        b'{"type":"DELETE","id":1,"store":"s","key":"\\ud800"}',
        b'{"type":"DELETE","id":1,"store":"s","key":"\xff"}',
        b'{"type":"DELETE","id":1,"store":"s","\\ud800":1}',
        b'{"type":"\xff"}',
        '{"type":"DELETE","id":1,"store":"s","key":"\ud800"}',
        b"[" * _DEEP,
        b'{"a":' * _DEEP,
        b'{"type":' + b"[" * _DEEP + b"]" * _DEEP + b"}",
        b'{"x":' + b"[" * _DEEP + b"]" * _DEEP + b',"type":"NOPE"}',
        b'{"type":"NOPE","x":' + b"[" * _DEEP + b"]" * _DEEP + b"}",
        b'{"type":"HEARTBEAT","x":' + b"[" * _DEEP + b"]" * _DEEP + b"}",
        b'{"type":"ADD","id":"x","store":"s","key":"k","value":' + b"[" * _DEEP + b"]" * _DEEP + b"}",
        b'{"type":"ADD","id":1,"store":"s","key":"k","value":' + b'{"a":' * _DEEP + b"1" + b"}" * _DEEP + b"}",
    ],
    ids=lambda frame: repr(frame[:30]),
)
def test_what_is_no_json_object_is_bad_json(frame: bytes | str) -> None:
    with pytest.raises(FrameInvalid) as caught:
        decode_client_message(frame)
    assert caught.value.code == "bad_json"
    with pytest.raises(FrameInvalid):
        decode_server_message(frame)


@pytest.mark.parametrize(
    ("frame", "code", "request_id"),
    [
        (b"{}", "bad_message", None),
        (b'{"id":4}', "bad_message", 4),
        (b'{"type":null,"id":4}', "bad_message", 4),
        (b'{"type":7,"id":4}', "bad_message", 4),
        (b'{"type":"hello"}', "unknown_message", None),
        (b'{"type":"NOPE","id":4}', "unknown_message", 4),
        (b'{"type":"WELCOME","id":4}', "unknown_message", 4),
        (b'{"type":"UNSUBSCRIBE"}', "bad_message", None),
        (b'{"type":"UNSUBSCRIBE","id":null}', "bad_message", None),
        (b'{"type":"UNSUBSCRIBE","id":"4"}', "bad_message", None),
        (b'{"type":"UNSUBSCRIBE","id":-1}', "bad_message", None),
        (b'{"type":"UNSUBSCRIBE","id":4.0}', "bad_message", None),
        (b'{"type":"UNSUBSCRIBE","id":true}', "bad_message", None),
        (b'{"type":"UNSUBSCRIBE","id":9007199254740992}', "bad_message", None),
        (b'{"type":"UNSUBSCRIBE","id":4,"nope":1}', "unknown_parameter", 4),
        (b'{"type":"ADD","id":4,"store":"s","key":"k"}', "bad_message", 4),
        (b'{"type":"ADD","id":4,"store":"s","key":null,"value":1}', "bad_message", 4),
        (b'{"type":"ADD","id":4,"store":"s","key":"k","value":1,"ttl":5}', "unknown_parameter", 4),
        (b'{"type":"WRITE","id":4,"store":"s","ops":[{"op":"PUT","key":"k"}]}', "bad_message", 4),
        (b'{"type":"WRITE","id":4,"store":"s","ops":[{"op":"DELETE","key":"k","if":1}]}', "unknown_parameter", 4),
        (b'{"type":"WRITE","id":4,"store":"s","ops":{}}', "bad_message", 4),
        (b'{"type":"SUBSCRIBE","id":4,"store":"s","after":12}', "bad_message", 4),
        (b'{"type":"SUBSCRIBE","id":4,"store":"s","from":"start"}', "unknown_parameter", 4),
        (b'{"type":"HELLO","client":5}', "bad_message", None),
        (b'{"type":"HELLO","features":"digest"}', "bad_message", None),
    ],
    ids=lambda value: repr(value[:40]) if isinstance(value, bytes) else None,
)
def test_an_object_that_is_no_message_is_refused_by_name(frame: bytes, code: str, request_id: int | None) -> None:
    with pytest.raises(FrameInvalid) as caught:
        decode_client_message(frame)
    assert (caught.value.code, caught.value.request_id) == (code, request_id)


@pytest.mark.parametrize("value", ["NaN", '"\\ud800"', '{"\\udc00x":Infinity}'])
def test_bad_json_that_other_parsers_read_is_refused_with_its_id(value: str) -> None:
    with pytest.raises(FrameInvalid) as caught:
        decode_client_message(f'{{"type":"ADD","id":4,"store":"s","key":"k","value":{value}}}')
    assert (caught.value.code, caught.value.request_id) == ("bad_json", 4)


def test_members_that_are_unknown_are_ignored_outside_of_requests() -> None:
    assert decode_client_message(b'{"type":"HEARTBEAT","n":1}') == Heartbeat()
    assert decode_client_message(b'{"type":"HELLO","client":{"os":"x"},"more":[]}') == Hello()
    frame = b'{"type":"CAUGHT_UP","feed":"f","at":"a:1","count":0,"digest":"00000000","floor":3}'
    assert decode_server_message(frame) == CaughtUp("f", Cursor("a:1"), 0, "00000000")


def test_a_result_says_its_head_and_one_without_is_read_as_an_older_server_writes_it() -> None:
    result = b'{"type":"WROTE","results":[{"id":1,"status":"gone"%b}]}'
    for member, head in ((b"", None), (b',"head":"k3f9:7"', _AT)):
        message = Wrote((WriteResult(1, "gone", head=head),))
        assert encode(message) == result % member
        assert decode_server_message(result % member) == message


@pytest.mark.parametrize("number", [b"-1", b"9007199254740992", b"1.5", b"9" * 40, b"null", b'"1"'])
def test_a_seq_that_no_log_can_have_makes_a_frame_of_the_server_no_message(number: bytes) -> None:
    change = b'{"seq":%b,"op":"DELETE","key":"k","time":1}' % number
    with pytest.raises(FrameInvalid):
        decode_server_message(b'{"type":"BATCH","feed":"f","from":"a:1","to":"a:2","changes":[%b]}' % change)


def test_an_error_never_repeats_much_of_what_was_sent() -> None:
    long = b"x" * 100_000
    for frame in (
        b'{"type":"%b"}' % long,
        b'{"type":"UNSUBSCRIBE","id":1,"%b":1}' % long,
        b'{"type":"WRITE","id":1,"store":"s","ops":[{"op":"%b","key":"k"}]}' % long,
    ):
        with pytest.raises(FrameInvalid) as caught:
            decode_client_message(frame)
        assert len(caught.value.message) < 300


def test_a_value_keeps_its_text_digit_by_digit() -> None:
    text = b'{"n": 9007199254740993, "f":1.0, "e":1E5, "s":"\\u00e9"}'
    message = decode_client_message(b'{"type":"ADD","id":1,"store":"s","key":"k","value": %b }' % text)
    assert isinstance(message, Add)
    assert bytes(message.value) == text
    assert text in encode(message)


def test_shared_frames_are_the_messages_that_they_claim_to_be() -> None:
    add = encode_change(Seq(8), 'k"\\ü\U0001f642', b'{"n":9007199254740993}', 5)
    delete = encode_change(Seq(9), "k2", None, 6)
    batch = decode_server_message(batch_frame("f1", Cursor("a:7"), Cursor("a:9"), [add, delete]))
    assert isinstance(batch, Batch)
    assert (batch.from_, batch.to) == ("a:7", "a:9")
    assert [(c.seq, c.op, c.key, c.time) for c in batch.changes] == [
        (8, "ADD", 'k"\\ü\U0001f642', 5),
        (9, "DELETE", "k2", 6),
    ]
    value = batch.changes[0].value
    assert isinstance(value, msgspec.Raw)
    assert bytes(value) == b'{"n":9007199254740993}'
    assert batch.changes[1].value is msgspec.UNSET
    assert decode_server_message(batch_frame("f1", Cursor("a:7"), Cursor("a:7"), [])) == Batch("f1", _a(7), _a(7), ())
    for last in (False, True):
        fill = decode_server_message(fill_frame("f1", [delete], last=last))
        assert fill == Fill("f1", (decode_change(delete),), last)


def _a(seq: int) -> Cursor:
    return Cursor(f"a:{seq}")


# --- anything at all ---


def survives(frame: bytes | str) -> None:
    for decode in (decode_client_message, decode_server_message):
        try:
            message = decode(frame)
        except FrameInvalid as error:
            assert error.code in ("bad_json", "bad_message", "unknown_message", "unknown_parameter")  # noqa: PT017
            assert error.request_id is None or 0 <= error.request_id <= ID_MAX  # noqa: PT017
            error.message.encode()
        else:
            encode(message)


@given(st.binary(max_size=200))
@example(b'{"type":"HEARTBEAT","heads":{"\\ud800":"a:1"}}')
def test_any_bytes_are_a_message_or_refused(frame: bytes) -> None:
    survives(frame)


@given(st.text(st.characters(codec=None), max_size=200))
def test_any_text_is_a_message_or_refused(frame: str) -> None:
    survives(frame)


_SAMPLES = [encode(message) for message in (*CLIENT_MESSAGES, *SERVER_MESSAGES)]
_PIECES = [
    b'"',
    b"\\",
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"1e999",
    b"\xff",
    b"\x00",
    b"null",
    b"-",
    b'\\ud800"',
    b" ",
]


@given(st.sampled_from(_SAMPLES), st.lists(st.tuples(st.integers(0, 300), st.sampled_from(_PIECES)), max_size=3))
def test_a_damaged_message_is_a_message_or_refused(frame: bytes, damages: list[tuple[int, bytes]]) -> None:
    for at, piece in damages:
        at %= len(frame) + 1
        frame = frame[:at] + piece + frame[at + 1 :]
    survives(frame)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(st.sampled_from(_SAMPLES), st.data())
def test_a_message_with_a_member_of_any_other_kind_is_a_message_or_refused(frame: bytes, data: st.DataObject) -> None:
    members = msgspec.json.decode(frame)
    members[data.draw(st.sampled_from([*members, "more"]))] = data.draw(_JSON)
    survives(msgspec.json.encode(members))
