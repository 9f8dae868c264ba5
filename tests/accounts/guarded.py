"""An engine where somebody has to log in, without sockets: accounts, grants, connections and HTTP on memory storage.

`Guarded` is wired as the application wires it: commits go into the directory before anybody is told of them, and the
directory tells the hub. `HeldStorage` lets a test stop any read of a store between the log and whoever asked for it.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from prometheus_client import CollectorRegistry
from starlette.applications import Starlette

from syncline_protocol.cursor import Seq
from syncline_protocol.messages import Hello
from syncline_protocol.seq_set import SeqSet
from syncline_protocol.server import ServerSession
from syncline_protocol.transaction import Transaction
from syncline_server.access.authority import Authority
from syncline_server.access.gate import Visitor
from syncline_server.access.grant import GrantLimits, Role
from syncline_server.accounts.accounts import Accounts
from syncline_server.accounts.audit import AuditLog
from syncline_server.accounts.directory import Directory
from syncline_server.accounts.gate import AccountsGate, Authenticate, TokenVerifier
from syncline_server.accounts.login_guard import LoginGuard
from syncline_server.accounts.password import PasswordHasher
from syncline_server.accounts.ticket import Tickets
from syncline_server.connection import Connection
from syncline_server.http.call import Api
from syncline_server.http.changes import CHANGES
from syncline_server.http.operation import Operation
from syncline_server.http.records import RECORDS
from syncline_server.http.route import exception_handlers_of, route_of
from syncline_server.http.stores import STORES
from syncline_server.http.walk import WALK
from syncline_server.http.writes import WRITES
from syncline_server.hub import Hub
from syncline_server.limits.admission import Admission
from syncline_server.limits.meter import Meter
from syncline_server.limits.throttle import Throttle
from syncline_server.log import Log, get_log
from syncline_server.settings import Settings
from syncline_server.storage.base import Appended, Chunk, Record, Row, Storage, StoreInfo, Summary
from syncline_server.storage.memory import MemoryStorage
from syncline_server.storage.selection import Selector
from tests.support.engine import Peer, TestClock

from .office import Office

__all__ = ["Asked", "Guarded", "GuardedPeer", "HeldStorage", "guarded", "turns"]

R = TypeVar("R")

_OPERATIONS: tuple[Operation, ...] = (*STORES, *RECORDS, *WALK, *WRITES, *CHANGES)


_NOBODY = Visitor()


async def turns(count: int) -> None:
    """Let what is ready run for so many turns of the event loop."""
    for _ in range(count):
        await asyncio.sleep(0)


class HeldStorage(MemoryStorage):
    """Memory storage whose reads of ordinary stores wait where a test says so, with what they have read in hand.

    An append takes `append_turns` turns of the event loop before it happens and as many after, as that of a disk does;
    `under_way` has the keys of those that are not over.
    """

    def __init__(self) -> None:
        super().__init__()
        self.append_turns = 0
        self.under_way: set[str] = set()
        self.waiting = 0
        self._held: dict[str, asyncio.Event] = {}

    def hold(self, *points: str) -> asyncio.Event:
        """Let everybody wait who has read by one of these methods, until the event is set."""
        gate = asyncio.Event()
        self._held.update(dict.fromkeys(points, gate))
        return gate

    async def _passed(self, point: str, store: str, found: R) -> R:
        if point in self._held and not store.startswith("_"):
            self.waiting += 1
            await self._held[point].wait()
            self.waiting -= 1
        return found

    async def info(self, store: str) -> StoreInfo:
        return await self._passed("info", store, await super().info(store))

    async def read(
        self,
        store: str,
        after: Seq,
        upto: Seq,
        *,
        deletes_to: Seq | None = None,
        selectors: Sequence[Selector] = (),
    ) -> Chunk:
        return await self._passed(
            "read", store, await super().read(store, after, upto, deletes_to=deletes_to, selectors=selectors)
        )

    async def fetch(self, store: str, ranges: Sequence[tuple[Seq, Seq]], upto: Seq) -> tuple[Row, ...]:
        return await self._passed("fetch", store, await super().fetch(store, ranges, upto))

    async def live_set(self, store: str, upto: Seq, selectors: Sequence[Selector] = ()) -> SeqSet:
        return await self._passed("live_set", store, await super().live_set(store, upto, selectors))

    async def summary(self, store: str, selectors: Sequence[Selector], upto: Seq) -> Summary:
        return await self._passed("summary", store, await super().summary(store, selectors, upto))

    async def get(self, store: str, key: str, at: Seq | None = None) -> Record | None:
        return await self._passed("get", store, await super().get(store, key, at))

    async def append(self, transactions: Sequence[Transaction], now_ms: int) -> Appended:
        keys = {op.key for transaction in transactions for op in transaction.ops}
        self.under_way |= keys
        try:
            await turns(self.append_turns)
            appended = await super().append(transactions, now_ms)
            await turns(self.append_turns)
            return appended
        finally:
            self.under_way -= keys

    def keys(self, store: str) -> set[str]:
        """Return the keys of all records that the store ever had; none if it is not there."""
        log = self._logs.get(store)
        return set() if log is None else set(log.used)


class GuardedPeer(Peer):
    """A client that brings credentials. `refused` is what its socket says when it is asked to write."""

    def __init__(
        self, hub: Hub, visitor: Visitor = _NOBODY, *, token: str | None = None, meter: Meter | None = None
    ) -> None:
        self.full = False
        self.payloads: list[bytes] = []
        self.closed_with: int | None = None
        self.close_reason = ""
        self.aborted = False
        self.reading = True
        seat = hub.admission.enter(visitor.address)
        session = ServerSession(session_id="s1", server="syncline/test", now=hub.now())
        assert not isinstance(seat, str)
        self.seat = seat
        self.connection = Connection(session, hub, visitor, seat=seat, meter=meter)  # type: ignore[arg-type]
        self.connection.opened(self)
        self.send(Hello(token=token))

    def write(self, payload: bytes) -> None:
        assert not self.aborted, "nothing is written to a socket that was dropped"
        super().write(payload)

    def close(self, code: int, reason: str) -> None:
        self.close_reason = reason
        super().close(code, reason)


class Asked:
    """One HTTP request: what was answered so far, piece by piece. `full` holds back whoever sends."""

    def __init__(
        self,
        app: Starlette,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: bytes = b"",
        *,
        address: str = "127.0.0.1",
        body_held: bool = False,
    ) -> None:
        plain, _, query = path.partition("?")
        scope: dict[str, Any] = {
            "type": "http",
            "method": method,
            "path": plain,
            "raw_path": plain.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "scheme": "http",
            "http_version": "1.1",
            "headers": [(b"host", b"127.0.0.1:7171")]
            + [(name.lower().encode(), value.encode()) for name, value in headers.items()],
            "server": ("127.0.0.1", 7171),
            "client": (address, 50_000),
            "extensions": {"syncline.abort": self._abort},
        }
        self.status = 0
        self.headers: dict[str, str] = {}
        self.pieces: list[bytes] = []
        self.ended = False
        self.aborted = False
        self.body_there = asyncio.Event()
        self.room = asyncio.Event()
        self.room.set()
        self._body = body
        self._body_given = False
        self._gone = asyncio.Event()
        if not body_held:
            self.body_there.set()
        self.task = asyncio.get_running_loop().create_task(app(scope, self._receive, self._send))

    def _abort(self) -> None:
        self.aborted = True
        self._gone.set()

    async def _receive(self) -> dict[str, Any]:
        if not self._body_given:
            await self.body_there.wait()
            self._body_given = True
            return {"type": "http.request", "body": self._body, "more_body": False}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Mapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {name.decode(): value.decode() for name, value in message["headers"]}
            return
        assert not self.aborted, "nothing is sent on a socket that was dropped"
        await self.room.wait()
        self.pieces.append(message.get("body", b""))
        self.ended = not message.get("more_body", False)

    @property
    def is_over(self) -> bool:
        """Whether the answer is whole, or was broken off."""
        return self.ended or self.aborted or self.task.done()

    async def leave(self) -> None:
        """Go away, and wait until the application has noticed."""
        self._gone.set()
        self.room.set()
        self.body_there.set()
        await asyncio.wait([self.task])
        error = self.task.exception()
        if error is not None:
            raise error


class Guarded:
    """The engine, its accounts, its clock.

    Args:
        tells: whether a change of the accounts reaches the hub; False is a fault that tests must notice.
    """

    def __init__(
        self,
        storage: Storage,
        clock: TestClock,
        *,
        tells: bool = True,
        admission: Admission | None = None,
        jwt: TokenVerifier | None = None,
        authenticate: Authenticate | None = None,
        rate: Throttle[str] | None = None,
        log: Log | None = None,
        tail_bytes_max: int = 1024 * 1024,
    ) -> None:
        self.clock = clock
        self.storage = storage
        made = clock.clock()
        self.log = log or get_log()
        office = Office(storage)
        self.directory = Directory(storage, self._write, now_ms=made.now_ms)
        self.tickets = Tickets(made.now_ms, office.mint)
        self.hub = Hub(
            storage,
            made,
            self.log,
            tail_bytes_max=tail_bytes_max,
            stall_timeout_s=30.0,
            gate=AccountsGate(
                self.directory, self.tickets, self.log, now_ms=made.now_ms, jwt=jwt, authenticate=authenticate
            ),
            authority=Authority(self.directory.grants_for),
            admission=admission,
        )
        self.accounts = Accounts(
            self.directory, PasswordHasher(), AuditLog(storage, self._write, made.now_ms), self.tickets, LoginGuard()
        )
        self.rate = rate
        self._tells = tells
        self._app: Starlette | None = None

    def _write(self, transaction: Transaction) -> Any:
        return self.hub.write(transaction)

    async def start(self) -> None:
        """Open the storage and read the accounts, as the application does."""
        await self.hub.start()
        await self.directory.open()
        await self.accounts.audit.open()
        self.hub.on_commit.append(self.directory.extend)
        if self._tells:
            self.directory.listeners.append(lambda: self.hub.rights_changed(self.directory.concern))

    async def stop(self) -> None:
        """Finish what is under way."""
        await self.accounts.audit.close()
        await self.hub.stop()

    def tick(self, seconds: float = 0.0) -> None:
        """Let time pass, and do what the second hand does without other processes."""
        self.clock.seconds += seconds
        self.hub.tick()
        self.directory.expire()

    # --- people ---

    async def user(self, name: str, *, expires_ms: int | None = None, is_admin: bool = False) -> str:
        """Make a user, begin a session of his, and return its token."""
        await self.directory.add_user(name, password_hash="h", is_admin=is_admin)
        return (await self.directory.add_token(name, "", kind="session", expires_ms=expires_ms))[1]

    async def grant(
        self, to: str, store: str = "notes", role: Role = "writer", *, expires_ms: int | None = None, **limits: Any
    ) -> str:
        """Grant something, and return the id of the grant."""
        made, _ = await self.directory.add_grant(
            to, store, role, by=None, limits=GrantLimits(**limits), expires_ms=expires_ms
        )
        return made.id

    def peer(self, token: str | None = None, *, meter: Meter | None = None, **visitor: Any) -> GuardedPeer:
        """Connect with a token in HELLO."""
        return GuardedPeer(self.hub, Visitor(**visitor), token=token, meter=meter)

    # --- HTTP ---

    @property
    def app(self) -> Starlette:
        """The routes of stores, records and changes."""
        if self._app is None:
            settings = Settings(store="memory:")
            api = Api(
                self.hub,
                CollectorRegistry(),
                "syncline/1",
                settings,
                frozenset(),
                b"{}",
                b"{}",
                accounts=self.accounts,
                rate=self.rate,
            )
            by_path: dict[str, list[Operation]] = {}
            for operation in _OPERATIONS:
                by_path.setdefault(operation.path, []).append(operation)
            self._app = Starlette(
                routes=[route_of(api, operations) for operations in by_path.values()],
                exception_handlers=exception_handlers_of(self.hub, frozenset()),
            )
        return self._app

    def ask(
        self, method: str, path: str, token: str | None = None, body: bytes = b"", *, accept: str = "", **options: Any
    ) -> Asked:
        """Send a request."""
        headers = {"accept": accept} if accept else {}
        if token is not None:
            headers["authorization"] = f"Bearer {token}"
        return Asked(self.app, method, path, headers, body, **options)


@asynccontextmanager
async def guarded(
    storage: Storage | None = None,
    *,
    clock: TestClock | None = None,
    stores: Sequence[str] = ("notes",),
    **options: Any,
) -> AsyncIterator[Guarded]:
    """Run a guarded engine with some stores."""
    made = Guarded(storage or HeldStorage(), clock or TestClock(), **options)
    await made.start()
    for store in stores:
        await made.hub.create(store)
    try:
        yield made
    finally:
        await made.stop()
