"""The cases against the real engine on memory storage, with a link in memory and a clock of our own: no sockets."""

import asyncio
import copy
from collections import deque
from collections.abc import AsyncIterator, Sequence

import msgspec
import pytest

from syncline_protocol import SUBPROTOCOL
from syncline_protocol.index import IndexSpec
from syncline_protocol.server import ServerSession
from syncline_protocol.transaction import Transaction
from syncline_server.connection import Connection
from syncline_server.frame import Frame
from syncline_server.hub import Clock, Hub
from syncline_server.log import get_log
from syncline_server.storage.base import Appended, StorageFull, StorageUnavailable
from syncline_server.storage.memory import MemoryStorage

from .runner import Case, Closed, Link, cases, run

_FAULTS = {"storage_unavailable": StorageUnavailable, "storage_full": StorageFull}


class _FailingStorage(MemoryStorage):
    """Memory storage whose next append can be made to fail."""

    fault: str | None = None

    async def append(self, transactions: Sequence[Transaction], now_ms: int) -> Appended:
        fault, self.fault = self.fault, None
        if fault is not None:
            raise _FAULTS[fault]("this failure was asked for")
        return await super().append(transactions, now_ms)


class _ServerEnd:
    """The server's end of a connection in memory: a `Transport` that writes into a queue."""

    def __init__(self) -> None:
        self.full = False
        self.arrived: deque[bytes | Closed] = deque()
        self.connection: Connection | None = None

    def write(self, payload: bytes) -> None:
        assert not any(isinstance(item, Closed) for item in self.arrived), "nothing is written after the close"
        self.arrived.append(payload)

    def write_frame(self, frame: Frame) -> None:
        self.write(frame.payload)

    def unsent_bytes(self) -> int:
        return 1 if self.full else 0

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def close(self, code: int, reason: str) -> None:
        self.arrived.append(Closed(code))
        assert self.connection is not None
        asyncio.get_running_loop().call_soon(self.connection.lost)

    @property
    def holds_back(self) -> bool:
        return False

    def abort(self) -> None:
        self.close(1006, "")


class MemoryLink:
    """The client's end of a connection in memory."""

    def __init__(self, target: "MemoryTarget") -> None:
        self._end = _ServerEnd()
        session = ServerSession(session_id="s1", server="syncline/test", now=target.now)
        self._connection = self._end.connection = Connection(session, target.hub)
        self._connection.opened(self._end)

    async def send(self, data: bytes, *, binary: bool = False) -> None:
        if binary:
            self._connection.receive_binary()
        else:
            self._connection.receive(data)
        await asyncio.sleep(0)

    async def receive(self, *, waiting: bool = True) -> bytes | Closed:
        for _ in range(2000 if waiting else 50):
            if self._end.arrived:
                return self._end.arrived.popleft()
            await asyncio.sleep(0)
        raise TimeoutError

    async def close(self) -> None:
        self._connection.lost()

    def set_slow(self, slow: bool) -> None:
        self._end.full = slow
        if slow:
            self._connection.on_full()
        else:
            self._connection.on_drained()


class MemoryTarget:
    """One engine."""

    abilities = frozenset({"restart", "restore", "clock", "fault", "slow", "tail", "drain", "indexes"})

    def __init__(self) -> None:
        self.now = 1000.0
        self.storage = _FailingStorage()
        self.hub: Hub = self._make_hub()

    def _make_hub(self) -> Hub:
        clock = Clock(now=lambda: self.now, now_ms=lambda: 1_795_400_000_000 + int(self.now * 1000))
        return Hub(self.storage, clock, get_log(), tail_bytes_max=1024 * 1024, stall_timeout_s=30.0)

    async def connect(self, subprotocol: str | None) -> Link:
        assert subprotocol == SUBPROTOCOL
        return MemoryLink(self)

    async def create(self, store: str) -> None:
        await self.hub.create(store)

    async def drop(self, store: str) -> None:
        await self.hub.drop(store)
        await self.settle()

    async def declare(self, store: str, name: str, path: str, kind: str) -> None:
        spec = msgspec.convert({"name": name, "path": path, "kind": kind}, IndexSpec)
        await self.hub.builder.declare(store, spec)
        while (await self.storage.info(store)).index(name).state != "ready":
            await asyncio.sleep(0)

    async def drop_index(self, store: str, name: str) -> None:
        await self.hub.drop_index(store, name)
        await self.settle()

    async def settle(self) -> None:
        for _ in range(200):
            await asyncio.sleep(0)

    async def restart(self) -> None:
        await self.hub.stop()
        self.hub = self._make_hub()
        await self.hub.start()

    async def copy(self) -> object:
        return copy.deepcopy(self.storage._logs)

    async def restore(self, kept: object) -> None:
        await self.hub.stop()
        assert isinstance(kept, dict)
        self.storage._logs = copy.deepcopy(kept)
        self.hub = self._make_hub()
        await self.hub.start()

    async def advance(self, seconds: float) -> None:
        self.now += seconds
        self.hub.tick()
        await self.settle()

    def fail_next_append(self, kind: str) -> None:
        self.storage.fault = kind

    async def drain(self) -> None:
        await self.hub.drain(after_ms=500, jitter_ms=4000, patience_s=2)

    async def http(
        self, method: str, path: str, headers: dict[str, str], body: bytes | None
    ) -> tuple[int, dict[str, str], bytes]:
        raise AssertionError("there is no HTTP in memory")


@pytest.fixture
async def target() -> AsyncIterator[MemoryTarget]:
    made = MemoryTarget()
    await made.hub.start()
    yield made
    await made.hub.stop()


@pytest.mark.parametrize("case", cases("server", MemoryTarget.abilities), ids=lambda case: case.id)
async def test_the_engine_in_memory_conforms(case: Case, target: MemoryTarget) -> None:
    await run(case, target, f"s-{case.id}"[:50])
