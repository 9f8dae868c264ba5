"""The client's bytes: handshake, masked frames, requests; and what the load needs to see of a server's frames.

Nothing here parses JSON. Requests are made by one `%` each, and of a BATCH only the two cursors at its start are read,
because a load client that costs as much as the server would measure itself. All requests of one kind have one length
(ids and times have a fixed number of digits), so their frame header is made once.
"""

import os
import re
from collections.abc import Callable

__all__ = [
    "FIRST_ID",
    "HEARTBEAT",
    "HELLO",
    "KEY_MASK",
    "KEY_STEP",
    "SENT_AT",
    "STORE",
    "UPGRADE",
    "VALUE_BYTES",
    "adds",
    "batch_interval",
    "hello",
    "masked",
    "seq_of",
    "subscribe",
    "writes",
]

#: The store that all benchmarks use; each has a server and a file of its own.
STORE = "bench"

#: Size of a value's JSON text, as in the figures that Syncline is compared with.
VALUE_BYTES = 200

#: Ids begin here so that all have ten digits.
FIRST_ID = 1_000_000_000

UPGRADE = (
    b"GET /v1/ws HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Protocol: syncline.v1.json\r\n\r\n"
)

#: The times at which the values of a frame were sent, on `time.perf_counter_ns`.
SENT_AT = re.compile(rb'"t":"(\d{20})"')

_INTERVAL = re.compile(rb'\{"type":"BATCH","feed":"[^"]*","from":"([^"]+)","to":"([^"]+)","changes":\[')
_VALUE = b'{"t":"%%020d","x":"%b"}' % (b"x" * (VALUE_BYTES - len('{"t":"","x":""}') - 20))

#: Multiples of an odd number modulo 2^128 are all different and lie anywhere in the index, like random UUIDs.
KEY_STEP = 0x9E3779B97F4A7C15F39CC0605CEDC835
KEY_MASK = (1 << 128) - 1


def masked(payload: bytes) -> bytes:
    """Frame a client's text. The mask is zero: legal framing, and nothing to XOR on our side."""
    return _header(len(payload)) + payload


def _header(size: int) -> bytes:
    if size < 126:
        return b"\x81" + bytes([0x80 | size]) + b"\0\0\0\0"
    if size < 65536:
        return b"\x81\xfe" + size.to_bytes(2, "big") + b"\0\0\0\0"
    return b"\x81\xff" + size.to_bytes(8, "big") + b"\0\0\0\0"


def hello(token: str | None = None) -> bytes:
    """Return a framed HELLO, of somebody who logs in with a token or of nobody."""
    credentials = b"" if token is None else b',"token":"%b"' % token.encode()
    return masked(b'{"type":"HELLO","client":{"name":"benchmark"}%b}' % credentials)


HELLO = hello()
HEARTBEAT = masked(b'{"type":"HEARTBEAT"}')


def subscribe(after: str = "start") -> bytes:
    """Return a framed SUBSCRIBE with the id 1."""
    return masked(b'{"type":"SUBSCRIBE","id":1,"store":"%b","after":"%b"}' % (STORE.encode(), after.encode()))


def adds(key_prefix: str = "") -> Callable[[int, int], bytes]:
    """Return a maker of framed ADDs: (id, now_ns) → bytes. Each maker has keys of its own, with this before them."""
    names = (STORE.encode(), key_prefix.encode(), _VALUE)
    body = b'{"type":"ADD","id":%%d,"store":"%b","key":"%b%%032x","value":%b}' % names
    template = _header(len(body % (FIRST_ID, 0, 0))).replace(b"%", b"%%") + body
    base = int.from_bytes(os.urandom(16), "big")

    def make(request_id: int, now_ns: int) -> bytes:
        return template % (request_id, (base + request_id * KEY_STEP) & KEY_MASK, now_ns)

    return make


def writes(ops: int) -> Callable[[int, int], bytes]:
    """Return a maker of framed WRITEs of so many ADDs."""
    op = b'{"op":"ADD","key":"%%032x","value":%b}' % _VALUE
    body = b'{"type":"WRITE","id":%%d,"store":"%b","ops":[%b]}' % (STORE.encode(), b",".join([op] * ops))
    template = _header(len(body % (FIRST_ID, *([0, 0] * ops)))).replace(b"%", b"%%") + body
    base = int.from_bytes(os.urandom(16), "big")

    def make(request_id: int, now_ns: int) -> bytes:
        first = base + request_id * ops * KEY_STEP
        arguments = [now_ns] * (2 * ops)
        arguments[::2] = [(first + op * KEY_STEP) & KEY_MASK for op in range(ops)]
        return template % (request_id, *arguments)

    return make


def batch_interval(payload: bytes) -> tuple[bytes, bytes] | None:
    """Return the cursors `from` and `to` of a BATCH, or None if the payload begins otherwise."""
    match = _INTERVAL.match(payload)
    return None if match is None else (match[1], match[2])


def seq_of(cursor: bytes) -> int:
    """Return the seq of a cursor. Clients must not do this; a benchmark counts with it."""
    return int(cursor[cursor.rindex(b":") + 1 :].partition(b"~")[0])
