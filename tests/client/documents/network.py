"""Replicas and the server's engine in one process, joined without sockets: everything else is the real thing.

A `Network` is the server: hub, committer and feeds on storage in memory, which can be stopped, started, and set back to
a copy. A `Station` is a program with one replica: keeper, link and session, on a database that survives the program.
Nothing waits for time, so a test that lets the event loop turn decides how far everything has come.
"""

import asyncio
import contextlib
import copy
import shutil
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import cast

import msgspec
from websockets.exceptions import ConnectionClosedError

from syncline import Replica, Report, Status
from syncline.credentials import Credentials
from syncline.follower import Follower
from syncline.link import Link, LinkObserver
from syncline.replica.database import Database
from syncline.replica.schema import Identity
from syncline.status import ConnectionState
from syncline.testing import VirtualClock
from syncline.wire import Wire
from syncline.write import PendingWrite, WriteQueue
from syncline_protocol import DEFAULT_LIMITS, ClientSession, Limits, ServerSession
from syncline_protocol.cursor import Seq
from syncline_protocol.messages import Change, Hello
from syncline_server.connection import Connection
from syncline_server.frame import Frame
from syncline_server.hub import Hub
from syncline_server.log import get_guest_log
from syncline_server.storage.memory import MemoryStorage
from tests.client.waiting import turn
from tests.support.engine import TestClock

__all__ = ["STORE", "Network", "Station", "turns", "until"]

STORE = "app"


async def turns(count: int) -> None:
    """Let the loop turn so many times."""
    for _ in range(count):
        await asyncio.sleep(0)


async def until(condition: Callable[[], object], what: Callable[[], object] = lambda: "") -> None:
    """Let the loop turn until something is so; fails if that takes too long."""
    try:
        async with asyncio.timeout(20):
            while not condition():
                await turn()
    except TimeoutError:
        raise AssertionError(f"it never came about: {what()}") from None


class Network:
    """The server, and the ways to it."""

    def __init__(self) -> None:
        self.clock = TestClock()
        self.storage = MemoryStorage()
        self.hub: Hub | None = None
        self._wires: set[MemoryWire] = set()

    async def start(self) -> None:
        """Begin a run."""
        assert self.hub is None
        hub = Hub(self.storage, self.clock.clock(), get_guest_log(), tail_bytes_max=1 << 20, stall_timeout_s=30.0)
        await hub.start()
        await hub.create(STORE)
        self.hub = hub

    async def stop(self) -> None:
        """End the run; every connection is lost."""
        hub, self.hub = self.hub, None
        for wire in list(self._wires):
            wire.break_off()
        if hub is not None:
            # A request that was taken has begun by then, or its coroutine would never be awaited.
            await turns(3)
            await hub.stop()

    async def restart(self) -> None:
        """End the run and begin another one."""
        await self.stop()
        await self.start()

    def backup(self) -> MemoryStorage:
        """Return the log as it is now."""
        return copy.deepcopy(self.storage)

    async def restore(self, copied: MemoryStorage) -> None:
        """Put a copy of the log in the place of what is there, as an operator would."""
        await self.stop()
        self.storage = copy.deepcopy(copied)
        await self.start()

    def changes(self) -> list[Change]:
        """Return the log."""
        return [msgspec.json.decode(row.text, type=Change) for row in self.storage._logs[STORE].rows.values()]

    def contents(self) -> dict[str, tuple[int, str]]:
        """Return seq and text of every record that lives on the server."""
        log = self.storage._logs[STORE]
        return {
            change.key: (change.seq, bytes(change.value).decode())
            for change in self.changes()
            if isinstance(change.value, msgspec.Raw) and log.get(change.key, None) is not None
        }

    @property
    def head(self) -> Seq:
        """The seq of the last change."""
        return self.storage._logs[STORE].info.head.seq

    def accept(self, wire: "MemoryWire") -> Connection:
        """Take a connection."""
        assert self.hub is not None
        session = ServerSession(session_id="s1", server="syncline/test", now=self.hub.now())
        connection = Connection(session, self.hub)
        connection.opened(wire.transport)
        self._wires.add(wire)
        return connection

    def gone(self, wire: "MemoryWire") -> None:
        """Forget a connection."""
        self._wires.discard(wire)


class MemoryWire:
    """One connection, as the client's link uses it."""

    def __init__(self, network: Network) -> None:
        self.is_deaf = False
        self.is_over = False
        self.transport = _ServerEnd(self)
        self._network = network
        self._frames: deque[bytes] = deque()
        self._came = asyncio.Event()
        self._server = network.accept(self)

    def break_off(self) -> None:
        """Lose it, with all that is under way."""
        if not self.is_over:
            self.is_over = True
            self._frames.clear()
            self._came.set()
            self._network.gone(self)
            self._server.lost()

    def put(self, frame: bytes) -> None:
        """Give the client a frame."""
        if not self.is_over:
            self._frames.append(frame)
            self._came.set()

    def deliver(self, frame: bytes) -> None:
        """Give the server a frame."""
        if not self.is_over:
            self._server.receive(frame)

    async def recv(self, decode: bool = False) -> bytes:
        while not self._frames:
            if self.is_over:
                raise ConnectionClosedError(None, None)
            self._came.clear()
            await self._came.wait()
        return self._frames.popleft()

    async def send_frames(self, frames: Iterable[bytes]) -> None:
        if self.is_over:
            raise ConnectionClosedError(None, None)
        for frame in frames:
            if not self.is_deaf:
                self.transport.take(frame)

    async def close(self, code: int = 1000, reason: str = "") -> None:
        self.break_off()

    def accept_frames(self, bytes_max: int) -> None:
        pass


class _ServerEnd:
    """The transport of the server's end; it is never full."""

    full = False

    def __init__(self, wire: MemoryWire) -> None:
        self._wire = wire
        self._held: list[bytes] | None = None

    def take(self, frame: bytes) -> None:
        """Take a frame of the client's, unless the server does not read."""
        if self._held is not None:
            self._held.append(frame)
        else:
            self._wire.deliver(frame)

    def write(self, payload: bytes) -> None:
        self._wire.put(payload)

    def write_frame(self, frame: Frame) -> None:
        self._wire.put(frame.payload)

    def unsent_bytes(self) -> int:
        return 0

    def pause_reading(self) -> None:
        self._held = self._held or []

    def resume_reading(self) -> None:
        held, self._held = self._held or [], None
        for frame in held:
            self.take(frame)

    def close(self, code: int, reason: str) -> None:
        self._wire.break_off()

    @property
    def holds_back(self) -> bool:
        return False

    def abort(self) -> None:
        self._wire.break_off()


class _KeptDatabase(Database):
    """A database in memory that outlives the program, as a file does."""

    async def close(self) -> None:
        pass

    async def burn(self) -> None:
        """Close it in earnest."""
        await super().close()


class Station:
    """A program with one replica of the store.

    Args:
        path: the file of the replica; without it, in memory that survives restarts.
        seed: what ids and versions derive from.

    Attributes:
        reports: what the replica said so far, over all runs.
        prepare: what the program does first, after each start.
    """

    def __init__(self, network: Network, name: str, *, path: Path | None = None, prefix: str = "", seed: int = 0):
        self.network = network
        self.name = name
        self.clock = VirtualClock(seed=seed)
        self.reports: list[Report] = []
        self.status = Status(ConnectionState.OFFLINE)
        self.prepare: Callable[[Replica], object] = lambda replica: None
        self._path = path
        self._prefix = prefix
        self._memory: _KeptDatabase | None = None
        self._replica: Replica | None = None
        self._wire: MemoryWire | None = None
        self._link: Link | None = None
        self._running: asyncio.Task[object] | None = None
        self._writes = WriteQueue()
        self._followers: list[Follower] = []
        self._runs = 0

    # --- the program ---

    async def open(self) -> "Station":
        """Start it."""
        assert self._replica is None
        self._writes, self._followers = WriteQueue(), []
        self._replica = Replica(self, self.clock, STORE, await self._database(), self._prefix, 1 << 28, None)
        self._replica.on_report(self.reports.append)
        self.prepare(self._replica)
        return self

    async def _database(self) -> Database:
        identity = Identity(STORE, self._prefix)
        if self._path is not None:
            return await Database.open(str(self._path), identity)
        if self._memory is None:
            opened = await _KeptDatabase.open(None, identity)
            assert isinstance(opened, _KeptDatabase)
            self._memory = opened
        return self._memory

    @property
    def replica(self) -> Replica:
        """The replica of this run."""
        assert self._replica is not None
        return self._replica

    @property
    def is_open(self) -> bool:
        """Whether the program runs."""
        return self._replica is not None

    async def close(self) -> None:
        """End it in order."""
        await self.cut()
        replica, self._replica = self._replica, None
        if replica is not None:
            await replica.aclose()

    async def crash(self) -> None:
        """End it without a word: what was not saved is lost."""
        await self.cut()
        replica, self._replica = self._replica, None
        assert replica is not None
        if self._path is not None:
            # What is on the disk at this moment is all that there is; what the old run saves from now on counts not.
            self._runs += 1
            kept = self._path.with_name(f"{self.name}-{self._runs}.db")
            for ending in ("", "-wal"):
                if Path(f"{self._path}{ending}").exists():
                    shutil.copyfile(f"{self._path}{ending}", f"{kept}{ending}")
            self._path = kept
            await replica.aclose()
            return
        keeper = replica._keeper
        for task in (keeper._task, *keeper._timers):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def burn(self) -> None:
        """End it for good."""
        if self._replica is not None:
            await self.close()
        if self._memory is not None:
            await self._memory.burn()

    # --- the connection ---

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection."""
        return self._running is not None and not self._running.done()

    async def connect(self) -> None:
        """Make a connection, unless there is one or the server is down."""
        if self.is_connected or self.network.hub is None or self._replica is None:
            return
        await self.cut()
        self._wire = MemoryWire(self.network)
        session = ClientSession(Hello(), now=self.clock.now())
        observer = LinkObserver(lambda _: None, lambda _: None, lambda: None, lambda after_ms, jitter_ms: None)
        wire, nobody = cast(Wire, self._wire), Credentials("memory", None)
        self._link = Link(wire, session, self.clock, self._writes, self._followers, observer, None, nobody)
        self.status = Status(ConnectionState.LIVE)
        self._running = asyncio.create_task(self._link.run())

    def go_deaf(self) -> None:
        """Let what is sent from now on never arrive."""
        if self._wire is not None:
            self._wire.is_deaf = True

    async def cut(self) -> None:
        """Lose the connection, if there is one."""
        running, wire, self._running, self._wire, self._link = self._running, self._wire, None, None, None
        self.status = Status(ConnectionState.OFFLINE)
        if wire is not None:
            wire.break_off()
        if running is not None:
            await running

    # --- what the replica needs of a client ---

    @property
    def limits(self) -> Limits:
        return DEFAULT_LIMITS

    def put(self, write: PendingWrite) -> None:
        self._writes.put(write)
        self.wake()

    def wake(self) -> None:
        if self._link is not None:
            self._link.wake()

    def follow(self, follower: Follower) -> None:
        self._followers.append(follower)
        self.wake()

    def on_status(self, listener: Callable[[Status], None]) -> Callable[[], None]:
        return lambda: None

    # --- what it shows ---

    def contents(self) -> dict[str, tuple[int | None, str]]:
        """Return seq and text of every record, as a program sees it."""
        return {record.key: (record.seq, record.text) for record in self.replica}

    @property
    def is_at_rest(self) -> bool:
        """Whether it has caught up and done all that it can; what is pending and not under way waits for something."""
        keeper = self.replica._keeper
        is_settled = keeper.is_settled and not keeper.feed.items and not keeper._orders
        if not (self.is_connected and self.replica.is_caught_up and is_settled):
            return False
        return keeper.fold.seq == self.network.head and not keeper.outbox._under_way
