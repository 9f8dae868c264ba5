"""Text to messages and back; the only module that knows JSON on the wire.

Decoding is strict and bounded and never raises anything but `FrameInvalid`. Encoding gives UTF-8 bytes of one
line. The frames that many subscribers share are put together from already encoded changes (`batch_frame`), so
that a change is encoded once, when it is committed.
"""

import json
from collections.abc import Iterable
from typing import TypeVar

import msgspec

from .cursor import Cursor, Seq
from .errors import FrameInvalid
from .limits import ID_MAX
from .messages import Change, ClientMessage, ServerMessage

__all__ = [
    "batch_frame",
    "decode_change",
    "decode_client_message",
    "decode_server_message",
    "encode",
    "encode_change",
    "fill_frame",
    "found_frame",
    "is_utf8",
    "without_author",
]

M = TypeVar("M")

_client: msgspec.json.Decoder[ClientMessage] = msgspec.json.Decoder(ClientMessage)
_server: msgspec.json.Decoder[ServerMessage] = msgspec.json.Decoder(ServerMessage)
_change: msgspec.json.Decoder[Change] = msgspec.json.Decoder(Change)
_text: msgspec.json.Encoder = msgspec.json.Encoder()


class _Stem(msgspec.Struct):
    """What can be read of a frame that is no message: enough to answer it by name."""

    type: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    id: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_stem: msgspec.json.Decoder[_Stem] = msgspec.json.Decoder(_Stem)


def is_utf8(payload: bytes) -> bool:
    """Return whether a frame is text in UTF-8."""
    if payload.isascii():
        return True
    try:
        payload.decode()
    except UnicodeDecodeError:
        return False
    return True


def decode_client_message(frame: bytes | str) -> ClientMessage:
    """Read one frame of a client.

    Raises:
        FrameInvalid: with `bad_json`, `bad_message`, `unknown_message` or `unknown_parameter`, and the id of the
            request if it could be read.
    """
    return _decode(_client, frame)


def decode_server_message(frame: bytes | str) -> ServerMessage:
    """Read one frame of a server. Raises as `decode_client_message`."""
    return _decode(_server, frame)


def decode_change(text: bytes) -> Change:
    """Read what `encode_change` wrote."""
    return _change.decode(text)


def _decode(decoder: "msgspec.json.Decoder[M]", frame: bytes | str) -> M:
    try:
        message = decoder.decode(frame)
    except msgspec.ValidationError as error:
        raise _explain(frame, error) from error
    except (msgspec.DecodeError, UnicodeDecodeError, UnicodeEncodeError) as error:
        text = f"the frame is not a JSON object in UTF-8: {error}"
        raise FrameInvalid("bad_json", text, request_id=_id_in(frame)) from error
    except RecursionError as error:
        raise FrameInvalid("bad_json", "the frame is nested too deep") from error
    return message


def _explain(frame: bytes | str, error: msgspec.ValidationError) -> FrameInvalid:
    """Name what is wrong with a frame that is JSON but no message."""
    try:
        stem = _stem.decode(frame)
        name = msgspec.json.decode(stem.type) if isinstance(stem.type, msgspec.Raw) else None
        request_id = msgspec.json.decode(stem.id) if isinstance(stem.id, msgspec.Raw) else None
    except (msgspec.DecodeError, UnicodeDecodeError):
        return FrameInvalid("bad_json", "the frame is not a JSON object")
    except RecursionError:
        # The first reading stopped at the fault and never came to what is nested behind it.
        return FrameInvalid("bad_json", "the frame is nested too deep")
    if not isinstance(request_id, int) or isinstance(request_id, bool) or not 0 <= request_id <= ID_MAX:
        request_id = None
    text = str(error)
    # A path may end in a member's name, and that is as long as the peer likes.
    shown = text if len(text) <= 200 else text[:200] + "…"
    if not isinstance(name, str):
        return FrameInvalid("bad_message", "the message has no type", request_id=request_id)
    if "Invalid value" in text and text.endswith("`$.type`"):
        return FrameInvalid("unknown_message", f"there is no message {name[:40]!r}", request_id=request_id)
    if "unknown field" in text:
        return FrameInvalid("unknown_parameter", f"{name}: {shown}", request_id=request_id)
    return FrameInvalid("bad_message", f"{name}: {shown}", request_id=request_id)


def _id_in(frame: bytes | str) -> int | None:
    """Return the id of a frame that only a more generous parser can read: with NaN, or with a lone surrogate.

    A client whose write got no answer sends it again for ever; one whose write was refused by name does not.
    """
    try:
        members = json.loads(frame)
    except (ValueError, RecursionError):
        return None
    request_id = members.get("id") if isinstance(members, dict) else None
    return request_id if type(request_id) is int and 0 <= request_id <= ID_MAX else None


def encode(message: ClientMessage | ServerMessage) -> bytes:
    """Write one message as a frame's text in UTF-8."""
    return _text.encode(message)


def encode_change(seq: Seq, key: str, value: bytes | None, time_ms: int, by: str | None = None) -> bytes:
    """Write one committed change as BATCH carries it; a change without a value is a DELETE.

    The author comes last, so that `without_author` can cut him off.
    """
    name = _text.encode(key)
    if value is None:
        text = b'{"seq":%d,"op":"DELETE","key":%b,"time":%d}' % (seq, name, time_ms)
    else:
        text = b'{"seq":%d,"op":"ADD","key":%b,"value":%b,"time":%d}' % (seq, name, value, time_ms)
    return text if by is None else b'%b,"by":%b}' % (text[:-1], _text.encode(by))


def without_author(text: bytes) -> bytes:
    """Return what `encode_change` wrote as it would be without `by`."""
    # Without an author the text ends with the digits of its time. What a key or value holds stands before the member,
    # and what the name holds cannot look like it, as in a JSON string every quote has a backslash before it.
    return text[: text.rindex(b',"by":"')] + b"}" if text.endswith(b'"}') else text


def batch_frame(feed: str, from_: Cursor, to: Cursor, changes: Iterable[bytes]) -> bytes:
    """Put a BATCH together from encoded changes. Feed and cursors have no character that JSON escapes."""
    return b'{"type":"BATCH","feed":"%b","from":"%b","to":"%b","changes":[%b]}' % (
        feed.encode(),
        from_.encode(),
        to.encode(),
        b",".join(changes),
    )


def fill_frame(feed: str, changes: Iterable[bytes], *, last: bool) -> bytes:
    """Put a FILL together from encoded changes."""
    return b'{"type":"FILL","feed":"%b","changes":[%b]%b}' % (
        feed.encode(),
        b",".join(changes),
        b',"last":true' if last else b"",
    )


def found_frame(
    request_id: int, at: Cursor, records: Iterable[bytes], *, following: str | None, count: int | None
) -> bytes:
    """Put a FOUND together from encoded changes. `following` is its `next`, without a character that JSON escapes."""
    return b'{"type":"FOUND","id":%d,"at":"%b","records":[%b]%b%b}' % (
        request_id,
        at.encode(),
        b",".join(records),
        b"" if following is None else b',"next":"%b"' % following.encode(),
        b"" if count is None else b',"count":%d' % count,
    )
