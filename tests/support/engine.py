"""The server's engine without sockets: a hub on memory storage, a clock that tests move, transports that record.

`Peer` is the client's end of one connection: it sends messages and reads what the server wrote. A test decides when
its transport is full.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import msgspec

from syncline_protocol.codec import decode_server_message, encode
from syncline_protocol.messages import (
    Add,
    Batch,
    ClientMessage,
    Hello,
    ServerMessage,
    Subscribe,
)
from syncline_protocol.server import ServerSession
from syncline_server.connection import Connection
from syncline_server.frame import Frame
from syncline_server.hub import Clock, Hub
from syncline_server.log import get_log
from syncline_server.maintenance import Policy
from syncline_server.storage import open_storage
from syncline_server.storage.base import Storage

__all__ = ["Peer", "SlowPeer", "TestClock", "engine", "seqs_of", "settle"]


class TestClock:
    """Time that only moves when a test moves it."""

    __test__ = False

    def __init__(self) -> None:
        self.seconds = 1000.0

    def clock(self) -> Clock:
        """Return the form that a hub takes."""
        return Clock(now=lambda: self.seconds, now_ms=lambda: 1_795_400_000_000 + int(self.seconds * 1000))


async def settle() -> None:
    """Let everything that is ready run; memory storage never makes anybody wait longer."""
    for _ in range(50):
        await asyncio.sleep(0)


@asynccontextmanager
async def engine(
    storage: Storage | None = None,
    *,
    clock: TestClock | None = None,
    tail_bytes_max: int = 1024 * 1024,
    stores: Sequence[str] = ("notes",),
    policy: Policy | None = None,
    compact_every_s: float = 0.0,
) -> AsyncIterator[Hub]:
    """Run a hub with some stores."""
    hub = Hub(
        storage or open_storage("memory:"),
        (clock or TestClock()).clock(),
        get_log(),
        tail_bytes_max=tail_bytes_max,
        stall_timeout_s=30.0,
        policy=policy,
        compact_every_s=compact_every_s,
    )
    await hub.start()
    for store in stores:
        await hub.create(store)
    try:
        yield hub
    finally:
        await hub.stop()


class Peer:
    """A client without a socket, which is also the transport of the server's end."""

    def __init__(self, hub: Hub, *, greet: bool = True) -> None:
        self.full = False
        self.payloads: list[bytes] = []
        self.closed_with: int | None = None
        self.aborted = False
        self.reading = True
        self.connection = Connection(ServerSession(session_id="s1", server="syncline/test", now=hub.now()), hub)
        self.connection.opened(self)
        if greet:
            self.send(Hello())

    # --- the client's end ---

    def send(self, message: ClientMessage) -> None:
        """Send one message."""
        self.connection.receive(encode(message))

    async def ask(self, message: ClientMessage) -> list[ServerMessage]:
        """Send one message and return everything that came since the last look."""
        self.send(message)
        await settle()
        return self.take()

    def take(self) -> list[ServerMessage]:
        """Return the messages that came since the last look."""
        payloads, self.payloads = self.payloads, []
        return [decode_server_message(payload) for payload in payloads]

    def add(self, request_id: int, key: str, value: bytes = b"1", store: str = "notes") -> None:
        """Send an ADD."""
        self.send(Add(request_id, store, key, msgspec.Raw(value)))

    async def subscribe(self, after: str = "start", store: str = "notes", request_id: int = 900) -> list[ServerMessage]:
        """Subscribe and return everything that came."""
        return await self.ask(Subscribe(request_id, store, after))

    def set_full(self, full: bool) -> None:
        """Say that the socket takes nothing more, or takes again."""
        self.full = full
        if full:
            self.connection.on_full()
        else:
            self.connection.on_drained()

    # --- the transport of the server's end ---

    def write(self, payload: bytes) -> None:
        assert self.closed_with is None, "nothing is written after the close"
        self.payloads.append(payload)

    def write_frame(self, frame: Frame) -> None:
        self.write(frame.payload)

    def unsent_bytes(self) -> int:
        return 1_000_000 if self.full else 0

    @property
    def holds_back(self) -> bool:
        return self.full

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def close(self, code: int, reason: str) -> None:
        self.closed_with = code
        self.connection.lost()

    def abort(self) -> None:
        self.aborted = True
        self.connection.lost()


class SlowPeer(Peer):
    """A client whose socket fills as a real one does, and empties when the test lets it read."""

    def __init__(self, hub: Hub, *, high_water: int = 1000) -> None:
        self.high_water = high_water
        self.unsent = 0
        self.unsent_max = 0
        super().__init__(hub)

    def write(self, payload: bytes) -> None:
        super().write(payload)
        self.unsent += len(payload)
        self.unsent_max = max(self.unsent_max, self.unsent)
        if self.unsent > self.high_water and not self.full:
            self.set_full(True)

    def unsent_bytes(self) -> int:
        return self.unsent

    def drain(self) -> list[ServerMessage]:
        """Read everything that was written so far, once."""
        messages = self.take()
        self.unsent = 0
        if self.full:
            self.set_full(False)
        return messages


def seqs_of(messages: Sequence[ServerMessage]) -> list[int]:
    """Return the seqs of all changes in the batches, checking that the batches tile."""
    seqs: list[int] = []
    previous: Batch | None = None
    for message in messages:
        if isinstance(message, Batch):
            assert previous is None or message.from_ == previous.to
            previous = message
            seqs += [change.seq for change in message.changes]
    return seqs
