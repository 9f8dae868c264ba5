"""The task that completes new indexes: step by step, behind everything that goes on meanwhile.

One step is in the way of an append no longer than another append is, and the task rests after each as long as it took,
so that a build takes half of the writer's time at most. What was not finished when a server stopped is taken up by the
next one. Invariants: an index is built by one task; a build ends with its index or store.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Protocol, TypeVar

from syncline_protocol.errors import RemoteProtocolError
from syncline_protocol.index import INDEXES_MAX, IndexSpec, check_index
from syncline_server.log import Log
from syncline_server.storage.base import IndexInfo, IndexUnknown, Storage, StorageError, StoreUnknown

__all__ = ["IndexBuilder"]

T = TypeVar("T")

#: How long one step may keep the writer busy.
_STEP_S = 0.005

#: A step that failed is tried again after so long; the storage is opened anew meanwhile.
_RETRY_S = 1.0


class _Engine(Protocol):
    """What a builder needs of the hub."""

    storage: Storage
    log: Log
    now: Callable[[], float]
    now_ms: Callable[[], int]

    def spawn(self, work: Coroutine[object, object, None]) -> None:
        """Carry out what goes on behind a request."""

    def index_ready(self, store: str, index: str) -> None:
        """Take note of an index that is complete now."""

    async def changed(self, change: Coroutine[object, object, T]) -> T:
        """Wait for a change of the storage that is no append."""


class IndexBuilder:
    """Args:
    engine: whose indexes are built.
    sleep: rests for so many seconds.
    """

    def __init__(self, engine: _Engine, *, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        self._engine = engine
        self._sleep = sleep
        self._waiting: list[tuple[str, str]] = []
        self._is_running = False
        self._idle = asyncio.Event()
        self._declaring = asyncio.Lock()

    async def resume(self) -> None:
        """Take up what was left unfinished when the server stopped."""
        while True:
            try:
                infos = await self._engine.storage.stores()
                break
            except StorageError as error:
                self._engine.log.error("index_build_failed", error=str(error))
                await self._sleep(_RETRY_S)
        for info in infos:
            for index in info.indexes:
                self._add(info.name, index)
        if not self._is_running:
            self._idle.set()

    async def declare(
        self, store: str, spec: IndexSpec, allowed: Callable[[], object] = lambda: None
    ) -> tuple[IndexInfo, bool]:
        """Declare an index unless it is there; it is built from then on. Returns it, and whether it is new.

        Args:
            allowed: asked when its turn has come; raises what is raised if it may not be declared any more.

        Raises:
            RemoteProtocolError: `index_invalid`, also if the store has as many as it may have.
            StorageError: the store is not there, or has another index of this name.
        """
        engine = self._engine
        check_index(spec)
        async with self._declaring:
            there = [index.spec.name for index in (await engine.storage.info(store)).indexes]
            if len(there) >= INDEXES_MAX and spec.name not in there:
                message = f"the store {store!r} has {len(there)} indexes, and no store has more"
                raise RemoteProtocolError("index_invalid", message, hint="drop one that nobody asks for")
            allowed()
            info, created = await engine.changed(engine.storage.create_index(store, spec, engine.now_ms()))
        if created:
            engine.log.info("index_declared", store=store, index=spec.name, path=spec.path, kind=spec.kind)
            if info.state == "ready":
                engine.index_ready(store, spec.name)
        self._add(store, info)
        return info, created

    async def settled(self) -> None:
        """Return when everything that was declared is built."""
        await self._idle.wait()

    def _add(self, store: str, info: IndexInfo) -> None:
        if info.state == "building" and (store, info.spec.name) not in self._waiting:
            self._waiting.append((store, info.spec.name))
            if not self._is_running:
                self._is_running = True
                self._idle.clear()
                self._engine.spawn(self._run())

    async def _run(self) -> None:
        while self._waiting:
            # They take turns, so that a small one does not wait for a large one.
            store, index = self._waiting.pop(0)
            # It may be there again: dropped and declared anew while the step was under way.
            if await self._step(store, index) and (store, index) not in self._waiting:
                self._waiting.append((store, index))
        self._is_running = False
        self._idle.set()

    async def _step(self, store: str, index: str) -> bool:
        """Take more of a log into an index, and rest. Returns whether there is more."""
        engine = self._engine
        begun_at = engine.now()
        try:
            info = await engine.changed(engine.storage.build_index(store, index, _STEP_S))
        except (StoreUnknown, IndexUnknown):
            return False
        except Exception as error:
            # Nobody else would ever complete it.
            engine.log.error("index_build_failed", store=store, index=index, error=str(error))
            await self._sleep(_RETRY_S)
            return True
        if info.state == "ready":
            engine.index_ready(store, index)
            return False
        await self._sleep(max(0.0, engine.now() - begun_at))
        return True
