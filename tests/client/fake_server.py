"""A small server on loopback that keeps its stores in memory and misbehaves when a test says so.

It speaks through the protocol's own `ServerSession`, so what it sends is legal unless a test makes it not. It keeps no
promise that a test does not need: every feed is live from its first batch on, and nothing is compacted.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from itertools import count

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from syncline_protocol import SUBPROTOCOL, Limits, Lineage, Seq, ServerSession, decide_resume, parse_cursor
from syncline_protocol import server as requested
from syncline_protocol.codec import batch_frame, encode, encode_change
from syncline_protocol.cursor import NOW, START, Cursor, Entry, Position, Rewind, Snapshot
from syncline_protocol.digest import digest_term, digest_text
from syncline_protocol.messages import CaughtUp, Live, ResumeHow, ServerMessage, Subscribe, WriteResult
from syncline_protocol.transaction import Op, Transaction

__all__ = ["FakeConnection", "FakeServer", "FakeStore"]


@dataclass
class FakeStore:
    """A log in memory: one row per change."""

    name: str
    incarnation: str = "inc1"
    rows: list[tuple[str, bytes | None]] = field(default_factory=list)
    lineage: Lineage = field(init=False)

    def __post_init__(self) -> None:
        self.lineage = Lineage((Entry(self.incarnation, Seq(0)),))

    @property
    def head(self) -> Seq:
        return Seq(len(self.rows))

    def cursor(self, seq: int) -> Cursor:
        return self.lineage.cursor(Seq(seq))

    def commit(self, key: str, value: bytes | None) -> Seq:
        """Append a change."""
        self.rows.append((key, value))
        return self.head

    def change_texts(self, after: int, to: int) -> list[bytes]:
        """Return the changes of an interval as BATCH carries them."""
        return [
            encode_change(Seq(seq), key, value, 1_795_400_000_000)
            for seq, (key, value) in enumerate(self.rows[after:to], start=after + 1)
        ]

    def live(self) -> dict[str, int]:
        """Return the seqs of the live records by key."""
        live: dict[str, int] = {}
        for seq, (key, value) in enumerate(self.rows, start=1):
            if value is None:
                live.pop(key, None)
            else:
                live[key] = seq
        return live

    def decide(self, op: Op) -> WriteResult:
        """Decide and commit one op, as PROTOCOL 6.2.1 says."""
        if op.fault is not None:
            return WriteResult(0, op.fault.status, code=op.fault.code, message=op.fault.message)
        added = next((seq for seq, row in enumerate(self.rows, 1) if row[0] == op.key and row[1] is not None), None)
        deleted = next((seq for seq, row in enumerate(self.rows, 1) if row == (op.key, None)), None)
        if op.value is None:
            if added is None:
                return WriteResult(0, "absent")
            return self._dup(deleted) if deleted is not None else self._ok(op)
        if added is None:
            return self._ok(op)
        if self.rows[added - 1][1] != op.value:
            return WriteResult(0, "conflict" if deleted is None else "gone")
        return self._dup(added)

    def _ok(self, op: Op) -> WriteResult:
        seq = self.commit(op.key, op.value)
        return WriteResult(0, "ok", seq, self.cursor(seq))

    def _dup(self, seq: int) -> WriteResult:
        return WriteResult(0, "dup", Seq(seq), self.cursor(seq))


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
            await self.socket.send(encode(message), text=True)

    async def flush(self) -> None:
        """Send what the session has ready, and close if it says so."""
        for frame in self.session.data_to_send():
            await self.socket.send(frame, text=True)
        if self.session.close_code is not None:
            await self.socket.close(self.session.close_code, self.session.close_reason)

    async def batch(self, store: FakeStore, after: int, to: int) -> None:
        """Send one batch, right or wrong."""
        frame = batch_frame(store.name, store.cursor(after), store.cursor(to), store.change_texts(after, to))
        await self.socket.send(frame, text=True)

    async def catch_up(self) -> None:
        """Bring every feed to its head."""
        for request_id, (store, at) in list(self.feeds.items()):
            if store.head > at:
                self.feeds[request_id] = (store, store.head)
                await self.batch(store, at, store.head)

    async def drop(self) -> None:
        """Break the connection without a word."""
        self.socket.transport.abort()
        await self.socket.wait_closed()


Handler = Callable[[FakeConnection, requested.ServerEvent], Awaitable[bool]]


class FakeServer:
    """The server.

    Attributes:
        stores: by name; a SUBSCRIBE or write of another one is refused.
        greet: called with each new connection; without True it goes no further.
        intercept: called with each request; with True it is not handled as usual.
        requests: every frame that came, in order.
    """

    def __init__(self, limits: Limits | None = None) -> None:
        self.stores: dict[str, FakeStore] = {"notes": FakeStore("notes")}
        self.connections: list[FakeConnection] = []
        self.connections_made = 0
        self.requests: list[bytes] = []
        self.greet: Callable[[FakeConnection], Awaitable[bool]] | None = None
        self.intercept: Handler | None = None
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
        if isinstance(event, requested.WriteRequested):
            await self._write(connection, event.id, event.transaction)
        elif isinstance(event, requested.SubscribeRequested):
            await self._subscribe(connection, event.request)
        elif isinstance(event, requested.UnsubscribeRequested):
            store, at = connection.feeds.pop(event.id)
            session.ended(event.id, "unsubscribed", store.cursor(at))

    async def _write(self, connection: FakeConnection, request_id: int, transaction: Transaction) -> None:
        store = self.stores.get(transaction.store)
        if store is None:
            connection.session.refuse(request_id, "store_unknown", f"there is no store {transaction.store!r}")
            return
        results = [store.decide(op) for op in transaction.ops]
        last = results[-1]
        connection.session.wrote([WriteResult(request_id, last.status, last.seq, last.at, code=last.code)])
        await connection.flush()
        await self.publish()

    async def _subscribe(self, connection: FakeConnection, request: Subscribe) -> None:
        store = self.stores.get(request.store)
        if store is None:
            connection.session.refuse(request.id, "store_unknown", f"there is no store {request.store!r}")
            return
        how, at, keep_to = self._resume(store, request)
        session = connection.session
        opened = session.subscribed(
            request.id,
            feed=store.name,
            how=how,
            at=at,
            head=store.head,
            store_id=f"id-{store.incarnation}",
            lineage=store.lineage,
            keep_to=keep_to,
        )
        await connection.flush()
        if not opened:
            return
        connection.feeds[request.id] = (store, at)
        if keep_to is not None:
            await connection.send(Live(store.name, store.cursor(at), "", last=True))
        await connection.catch_up()
        live = store.live()
        digest = digest_text(sum(digest_term(Seq(seq), key) for key, seq in live.items()))
        await connection.send(CaughtUp(store.name, store.cursor(store.head), len(live), digest))

    def _resume(self, store: FakeStore, request: Subscribe) -> tuple[ResumeHow, Seq, Seq | None]:
        if request.after == START:
            return "resume", Seq(0), None
        if request.after == NOW:
            return "resume", store.head, None
        after: Position = parse_cursor(request.after)
        known = Lineage.parse(request.known) if request.known else None
        verdict = decide_resume(store.lineage, store.head, after, known)
        if isinstance(verdict, Rewind):
            return "rewind", verdict.keep_to, verdict.keep_to
        if isinstance(verdict, Snapshot):
            return "snapshot", Seq(0), None
        return "resume", verdict.at, None
