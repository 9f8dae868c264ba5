"""A small server on loopback that keeps its stores in memory and misbehaves when a test says so.

It speaks through the protocol's own `ServerSession`, so what it sends is legal unless a test makes it not. It keeps no
promise that a test does not need: every feed is live from its first batch on, and nothing is compacted.
"""

import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from itertools import count

import msgspec
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from syncline_protocol import SUBPROTOCOL, Limits, Lineage, Seq, ServerSession, decide_resume, parse_cursor
from syncline_protocol import server as requested
from syncline_protocol.codec import batch_frame, encode, fill_frame
from syncline_protocol.cursor import NOW, START, Position, Reconcile, Rewind, Snapshot
from syncline_protocol.messages import Behind, CaughtUp, EndReason, Fetch, Live, ResumeHow, ServerMessage, Subscribe
from syncline_protocol.ranges import format_ranges, parse_ranges
from syncline_protocol.server import FETCH_RANGES_MAX
from syncline_protocol.transaction import Transaction
from tests.client.fake_store import FakeStore

__all__ = ["FakeConnection", "FakeServer", "FakeStore"]

#: What is listed and fetched comes in frames so small that tests have several of them.
_LIVE_RANGES_MAX = 2
_FILL_RECORDS_MAX = 2


@dataclass(eq=False)
class FakeConnection:
    """One client of the server."""

    server: "FakeServer"
    socket: ServerConnection
    session: ServerSession
    feeds: dict[int, tuple[FakeStore, Seq]] = field(default_factory=dict)

    async def send(self, *messages: ServerMessage) -> None:
        """Send any message, legal or not."""
        for message in messages:
            await self._put(encode(message))

    async def flush(self) -> None:
        """Send what the session has ready, and close if it says so."""
        for frame in self.session.data_to_send():
            await self._put(frame)
        if self.session.close_code is not None:
            await self.socket.close(self.session.close_code, self.session.close_reason)

    async def _put(self, frame: bytes) -> None:
        for each in await self.server.outgoing(self, frame) if self.server.outgoing else [frame]:
            await self.socket.send(each, text=True)

    async def batch(self, store: FakeStore, after: int, to: int) -> None:
        """Send one batch, right or wrong."""
        frame = batch_frame(store.name, store.cursor(after), store.cursor(to), store.change_texts(after, to))
        await self._put(frame)

    async def catch_up(self) -> None:
        """Bring every feed to its head."""
        for request_id, (store, at) in list(self.feeds.items()):
            for after, to in store.intervals(at, self.server.batch_changes_max):
                self.feeds[request_id] = (store, Seq(to))
                await self.batch(store, after, to)

    async def fall_behind(self) -> None:
        """Bring every feed to its head as a catch-up does: BEHIND, what is missing, CAUGHT_UP."""
        for store, at in list(self.feeds.values()):
            await self.send(Behind(store.name, store.cursor(at), store.cursor(store.head)))
            await self.catch_up()
            await self.caught_up(store, store.head)

    async def caught_up(self, store: FakeStore, at: int) -> None:
        """Send CAUGHT_UP, as it is right or as the test has it."""
        message = store.caught_up(at)
        await self.send(self.server.lie(message) if self.server.lie else message)

    async def end(self, reason: EndReason) -> None:
        """End every feed."""
        for request_id, (store, at) in list(self.feeds.items()):
            del self.feeds[request_id]
            self.session.ended(request_id, reason, store.cursor(at))
        await self.flush()

    async def drop(self) -> None:
        """Break the connection without a word."""
        self.socket.transport.abort()
        await self.socket.wait_closed()


Handler = Callable[[FakeConnection, requested.ServerEvent], Awaitable[bool]]
Outgoing = Callable[[FakeConnection, bytes], Awaitable[list[bytes]]]


class FakeServer:
    """The server.

    Attributes:
        stores: by name; a SUBSCRIBE or write of another one is refused.
        greet: called with each new connection; without True it goes no further.
        intercept: called with each request; with True it is not handled as usual.
        requests: every frame that came, in order.
        outgoing: called with each frame before it is sent; returns what is sent instead.
        lie: called with each CAUGHT_UP; returns what is sent instead.
        how: how the next subscriptions with a cursor are answered, instead of as their cursors say.
        acks_first: answer a write before, or after it is in the feeds; None leaves the feeds to `publish`.
        batch_changes_max: a batch has so many changes, or one transaction.
    """

    def __init__(self, limits: Limits | None = None) -> None:
        self.stores: dict[str, FakeStore] = {"notes": FakeStore("notes")}
        self.connections: list[FakeConnection] = []
        self.connections_made = 0
        self.requests: list[bytes] = []
        self.greet: Callable[[FakeConnection], Awaitable[bool]] | None = None
        self.intercept: Handler | None = None
        self.outgoing: Outgoing | None = None
        self.lie: Callable[[CaughtUp], CaughtUp] | None = None
        self.how: ResumeHow | None = None
        self.acks_first: bool | None = True
        self.batch_changes_max = 1000
        self._limits = limits or Limits()
        self._session_ids = count(1)
        self._server: Server | None = None
        self._port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def notes(self) -> FakeStore:
        """The store that most tests use."""
        return self.stores["notes"]

    async def start(self) -> None:
        """Listen, on the same port as before if there was one."""
        self._server = await serve(
            self._serve,
            "127.0.0.1",
            self._port,
            subprotocols=[Subprotocol(SUBPROTOCOL)],
            compression=None,
            ping_interval=None,
            close_timeout=1,
            max_size=None,
        )
        self._port = next(iter(self._server.sockets)).getsockname()[1]

    async def stop(self, code: int = 1001) -> None:
        """Close every connection with this code, and listen no more."""
        assert self._server is not None
        self._server.close(close_connections=False)
        for connection in list(self.connections):
            await connection.socket.close(code)
        await self._server.wait_closed()

    async def publish(self) -> None:
        """Bring every feed of every connection to its head."""
        for connection in list(self.connections):
            # One that is gone is the affair of its own task.
            with contextlib.suppress(ConnectionClosed):
                await connection.catch_up()

    async def _serve(self, socket: ServerConnection) -> None:
        session = ServerSession(session_id=str(next(self._session_ids)), server="fake/1", now=0.0, limits=self._limits)
        connection = FakeConnection(self, socket, session)
        self.connections_made += 1
        self.connections.append(connection)
        try:
            if self.greet is None or await self.greet(connection):
                await self._talk(connection)
        except ConnectionClosed:
            pass
        finally:
            self.connections.remove(connection)

    async def _talk(self, connection: FakeConnection) -> None:
        async for frame in connection.socket:
            assert isinstance(frame, str)
            self.requests.append(frame.encode())
            event = connection.session.receive(frame, 0.0)
            if event is not None and not (self.intercept and await self.intercept(connection, event)):
                await self.handle(connection, event)
            await connection.flush()

    async def handle(self, connection: FakeConnection, event: requested.ServerEvent) -> None:
        """Do what a request asks for."""
        session = connection.session
        if isinstance(event, requested.Opened):
            session.welcome()
        elif isinstance(event, requested.WriteRequested):
            await self._write(connection, event.id, event.transaction)
        elif isinstance(event, requested.SubscribeRequested):
            await self._subscribe(connection, event.request)
        elif isinstance(event, requested.UnsubscribeRequested):
            store, at = connection.feeds.pop(event.id)
            session.ended(event.id, "unsubscribed", store.cursor(at))
        elif isinstance(event, requested.FetchRequested):
            await self._fill(connection, event.request)

    async def _write(self, connection: FakeConnection, request_id: int, transaction: Transaction) -> None:
        session, store = connection.session, self.stores.get(transaction.store)
        if store is None:
            session.refuse(request_id, "store_unknown", f"there is no store {transaction.store!r}")
            return
        if transaction.store_id not in (None, store.store_id):
            session.refuse(request_id, "store_mismatch", f"{transaction.store!r} is another store now")
            return
        result = store.write(transaction)
        if self.acks_first is False:
            await self.publish()
        session.wrote([msgspec.structs.replace(result, id=request_id)])
        await connection.flush()
        if self.acks_first:
            await self.publish()

    async def _subscribe(self, connection: FakeConnection, request: Subscribe) -> None:
        store = self.stores.get(request.store)
        if store is None:
            connection.session.refuse(request.id, "store_unknown", f"there is no store {request.store!r}")
            return
        how, at, keep_to = self._resume(store, request)
        opened = connection.session.subscribed(
            request.id,
            feed=store.name,
            how=how,
            at=store.cursor(at),
            head=store.cursor(store.head),
            store_id=store.store_id,
            lineage=store.lineage,
            keep_to=keep_to,
        )
        await connection.flush()
        if not opened:
            return
        connection.feeds[request.id] = (store, at)
        if how in ("rewind", "reconcile"):
            await self._list(connection, store, at)
        await connection.catch_up()
        await connection.caught_up(store, store.head)

    async def _list(self, connection: FakeConnection, store: FakeStore, at: int) -> None:
        """Send LIVE."""
        seqs = [(Seq(seq), Seq(seq)) for seq in store.live(at).values()]
        for first in range(0, max(len(seqs), 1), _LIVE_RANGES_MAX):
            to = first + _LIVE_RANGES_MAX
            text = format_ranges(seqs[first:to])
            await connection.send(Live(store.name, store.cursor(at), text, last=to >= len(seqs)))

    async def _fill(self, connection: FakeConnection, request: Fetch) -> None:
        """Answer a FETCH."""
        store, at = connection.feeds[request.id]
        wanted = parse_ranges(request.seqs, ranges_max=FETCH_RANGES_MAX)
        live = [seq for seq in store.live(at).values() if any(first <= seq <= last for first, last in wanted)]
        for first in range(0, max(len(live), 1), _FILL_RECORDS_MAX):
            to = first + _FILL_RECORDS_MAX
            texts = [store.change_texts(seq - 1, seq)[0] for seq in live[first:to]]
            await connection._put(fill_frame(store.name, texts, last=to >= len(live)))

    def _resume(self, store: FakeStore, request: Subscribe) -> tuple[ResumeHow, Seq, Seq | None]:
        if request.after == START:
            return "resume", Seq(0), None
        if request.after == NOW:
            return "resume", store.head, None
        if self.how is not None:
            at = Seq(0) if self.how == "snapshot" else min(parse_cursor(request.after).seq, store.head)
            return self.how, at, at if self.how == "rewind" else None
        after: Position = parse_cursor(request.after)
        known = Lineage.parse(request.known) if request.known else None
        verdict = decide_resume(store.lineage, store.head, after, known, store.view)
        if isinstance(verdict, Rewind):
            return "rewind", verdict.keep_to, verdict.keep_to
        if isinstance(verdict, Snapshot):
            return "snapshot", Seq(0), None
        if isinstance(verdict, Reconcile):
            return "reconcile", verdict.at, None
        if request.reconcile and verdict.at:
            return "reconcile", verdict.at, None
        return "resume", verdict.at, None
