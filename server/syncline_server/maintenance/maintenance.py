"""The task that keeps stores in shape: by the clock, or at once when somebody asks.

It works in steps of a few ms, each no longer in the way of an append than another append is, and rests after each half
as long as it took. What fails is logged and tried again later; nothing that goes wrong here reaches a writer or reader.
Invariants: a store is kept by one run at a time; no step goes beyond what a pin holds.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Protocol, TypeVar

from syncline_protocol.cursor import Seq
from syncline_protocol.transaction import Transaction
from syncline_server.committer import Answer
from syncline_server.log import Log
from syncline_server.metrics import Counts
from syncline_server.pins import Pins
from syncline_server.storage.base import Compacted, Horizon, Storage, StorageError, StoreInfo, StoreUnknown

from .policy import Policy, is_due, policy_of
from .retention import expire
from .state import LastRun, Phase, Progress, StoreState

__all__ = ["Engine", "Maintenance"]

T = TypeVar("T")

#: How long one step may keep the writer busy.
_STEP_S = 0.01

#: Stores are looked at so often, for what is to be deleted by age and for runs that are due.
_LOOK_S = 60.0

#: After a failure a store is left alone for so long, twice as long after each further one, and never longer than this.
_RETRY_S = 30.0
_RETRY_MAX_S = 3600.0


class Engine(Protocol):
    """What maintenance needs of the hub."""

    storage: Storage
    counts: Counts
    log: Log
    pins: Pins
    now: Callable[[], float]
    now_ms: Callable[[], int]

    async def write(self, transaction: Transaction) -> Answer:
        """Commit one transaction."""

    async def changed(self, change: Coroutine[object, object, T]) -> T:
        """Wait for a change of the storage that is no append."""


class Maintenance:
    """Args:
    engine: whose stores are kept.
    defaults: what holds where a store's owner says nothing else.
    every_s: time between two looks at a store whether it is due; 0: none is cleaned up by the clock.
    sleep: rests for so many seconds.
    """

    def __init__(
        self,
        engine: Engine,
        defaults: Policy,
        *,
        every_s: float,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.defaults = defaults
        self.every_s = every_s
        self._engine = engine
        self._sleep = sleep
        self._states: dict[str, StoreState] = {}
        self._runs: dict[str, asyncio.Task[None]] = {}
        self._reclaiming = asyncio.Lock()

    # --- by the clock ---

    async def run(self) -> None:
        """Look after all stores for ever. What was dropped before the start is given back first."""
        await self._guarded(self.reclaim())
        while True:
            await self._sleep(_LOOK_S if not self.every_s else min(_LOOK_S, self.every_s))
            await self._guarded(self.look())

    async def _guarded(self, work: Coroutine[object, object, object]) -> None:
        try:
            await work
        except Exception as error:
            self._engine.log.error("maintenance_failed", error=str(error))

    async def look(self) -> None:
        """Look at every store once, and do what is due. Raises StorageError: the list of stores cannot be read."""
        infos = await self._engine.storage.stores()
        self._forget({info.name: info.store_id for info in infos})
        for info in infos:
            state = self.state(info)
            by_age = policy_of(info, self.defaults).retention_s is not None
            is_time = self._engine.now() >= state.next_at
            if state.phase is Phase.FAILED and not is_time:
                continue
            if by_age or (self.every_s and is_time):
                self._start(info, compacts=bool(self.every_s) and is_time, is_asked=False)
                await self.settled(info.name)

    def _forget(self, there: dict[str, str]) -> None:
        for name, state in list(self._states.items()):
            if there.get(name) != state.store_id and name not in self._runs:
                del self._states[name]

    # --- when somebody asks ---

    async def compact(self, store: str) -> StoreState:
        """Begin to clean up a store, whether it is due or not, unless that is under way. Returns its state.

        Raises:
            StoreUnknown: it is not there.
        """
        info = await self._engine.storage.info(store)
        self._start(info, compacts=True, is_asked=True)
        return self.state(info)

    async def settled(self, store: str) -> None:
        """Return when no run of a store is under way."""
        while (run := self._runs.get(store)) is not None:
            await asyncio.wait([run])

    async def estimate(self, store: str) -> Compacted:
        """Return what `compact` would drop. Raises StorageError."""
        info = await self._engine.storage.info(store)
        horizon = await self._horizon(info, policy_of(info, self.defaults), drops_values=True)
        return await self._engine.storage.estimate(store, self._within_pins(store, horizon))

    def state(self, info: StoreInfo) -> StoreState:
        """Return what is known of the upkeep of a store."""
        state = self._states.get(info.name)
        if state is None or (state.store_id != info.store_id and info.name not in self._runs):
            # A server that is started often must come to it too.
            state = StoreState(info.store_id, self._engine.now() + min(self.every_s, _LOOK_S))
            self._states[info.name] = state
        return state

    def phases(self) -> dict[str, int]:
        """Return how many stores are in each phase, of those that were looked at."""
        phases = [state.phase for state in self._states.values()]
        return {phase.value: phases.count(phase) for phase in Phase}

    def next_ms(self, state: StoreState) -> int | None:
        """Return when a store is looked at next, in ms since 1970; None: never by the clock."""
        if not self.every_s:
            return None
        return self._engine.now_ms() + max(0, round((state.next_at - self._engine.now()) * 1000))

    async def stop(self) -> None:
        """End all runs between two steps. What they did stays done."""
        runs = list(self._runs.values())
        for run in runs:
            run.cancel()
        await asyncio.gather(*runs, return_exceptions=True)

    # --- one run ---

    def _start(self, info: StoreInfo, *, compacts: bool, is_asked: bool) -> None:
        """Begin a run, unless one is under way."""
        if info.name in self._runs:
            return
        state = self.state(info)
        state.progress = Progress(self._engine.now_ms())
        work = self._keep(info, state, state.progress, compacts=compacts, is_asked=is_asked)
        run = self._runs[info.name] = asyncio.get_running_loop().create_task(work, name=f"upkeep of {info.name}")
        run.add_done_callback(lambda _: self._runs.pop(info.name))

    async def _keep(
        self, info: StoreInfo, state: StoreState, progress: Progress, *, compacts: bool, is_asked: bool
    ) -> None:
        """Carry out a run, and note what came of it."""
        engine, error = self._engine, ""
        try:
            policy = policy_of(info, self.defaults)
            state.phase = Phase.EXPIRING
            await self._expire(info, policy, state, progress)
            if compacts:
                state.phase = Phase.COMPACTING
                info = await engine.storage.info(info.name)
                await self._compact(info, policy, progress, drops_values=is_asked or is_due(info, policy))
            state.phase, state.failures = Phase.IDLE, 0
        except asyncio.CancelledError:
            state.phase, error = Phase.IDLE, "it was stopped"
            raise
        except StoreUnknown:
            # It was dropped meanwhile, and nobody is left to be told.
            state.phase = Phase.IDLE
        except Exception as failure:
            state.phase, error = Phase.FAILED, str(failure) or type(failure).__name__
            state.failures += 1
            engine.counts.upkeep_failures += 1
            engine.log.error("upkeep_failed", store=info.name, error=error, failures=state.failures)
        finally:
            self._note(info, state, progress, error, compacts=compacts, is_asked=is_asked)

    def _note(
        self, info: StoreInfo, state: StoreState, progress: Progress, error: str, *, compacts: bool, is_asked: bool
    ) -> None:
        engine = self._engine
        state.progress = None
        if state.failures:
            state.next_at = engine.now() + min(_RETRY_S * 2 ** (state.failures - 1), _RETRY_MAX_S)
        elif compacts:
            state.next_at = engine.now() + self.every_s
        counts = engine.counts.cleaned_up
        done = {"expired": progress.expired, "values": progress.values, "tombstones": progress.tombstones}
        counts.update(done)
        if any(done.values()) or error or is_asked:
            state.last = LastRun(progress.began_ms, engine.now_ms(), **done, bytes=progress.bytes, error=error)
        if any(done.values()):
            engine.log.info("store_cleaned_up", store=info.name, **done, bytes=progress.bytes)

    async def _expire(self, info: StoreInfo, policy: Policy, state: StoreState, progress: Progress) -> None:
        if policy.retention_s is None:
            return
        engine = self._engine
        before_ms = engine.now_ms() - round(policy.retention_s * 1000)
        async for upto, count in expire(
            engine.storage, engine.write, info, after=state.expired_upto, before_ms=before_ms
        ):
            state.expired_upto = upto
            progress.expired += count
            await self._sleep(0)

    async def _compact(self, info: StoreInfo, policy: Policy, progress: Progress, *, drops_values: bool) -> None:
        engine, store = self._engine, info.name
        horizon = await self._horizon(info, policy, drops_values=drops_values)
        total = await engine.storage.estimate(store, self._within_pins(store, horizon))
        progress.values_total, progress.tombstones_total = total.values, total.tombstones
        is_done = total.is_done
        while not is_done:
            began = engine.now()
            async with engine.pins.step(store, horizon.values) as allowed:
                step = Horizon(allowed, Seq(min(horizon.tombstones, allowed)))
                # A step that has begun is carried out whatever happens, and a pin that waits for its end must not be
                # let go before.
                done = await _to_its_end(engine.changed(engine.storage.compact(store, step, _STEP_S)))
            progress.values += done.values
            progress.tombstones += done.tombstones
            progress.bytes += done.bytes
            is_done = done.is_done
            await self._sleep((engine.now() - began) / 2)
        if progress.values or progress.tombstones:
            await self.reclaim()

    async def _horizon(self, info: StoreInfo, policy: Policy, *, drops_values: bool) -> Horizon:
        """Return how far a store may be cleaned up by its policy."""
        storage, now_ms = self._engine.storage, self._engine.now_ms()
        values = info.floors.history
        if drops_values:
            values = max(values, await storage.position_at(info.name, now_ms - round(policy.history_s * 1000)))
        tombstones = await storage.position_at(info.name, now_ms - round(policy.tombstones_s * 1000))
        return Horizon(values, Seq(min(tombstones, values)))

    def _within_pins(self, store: str, horizon: Horizon) -> Horizon:
        lowest = self._engine.pins.lowest(store)
        if lowest is None:
            return horizon
        return Horizon(Seq(min(horizon.values, lowest)), Seq(min(horizon.tombstones, lowest)))

    # --- space ---

    async def reclaim(self) -> int:
        """Give back what dropped stores and cleaned-up ones have left, in steps. Returns the bytes, about.

        Raises:
            StorageError: the storage failed.
        """
        engine, total = self._engine, 0
        async with self._reclaiming:
            while True:
                began = engine.now()
                freed = await _to_its_end(engine.changed(engine.storage.reclaim(_STEP_S)))
                if not freed:
                    return total
                total += freed
                engine.counts.reclaimed_bytes += freed
                await self._sleep((engine.now() - began) / 2)

    async def reclaim_soon(self) -> None:
        """Give back what a store that was dropped has left; a failure is logged, and the next start tries again."""
        try:
            await self.reclaim()
        except StorageError as error:
            self._engine.log.error("reclaim_failed", error=str(error))


async def _to_its_end(step: Coroutine[object, object, T]) -> T:
    """Wait for a step of the storage. Whoever is cancelled meanwhile is so after it."""
    task = asyncio.get_running_loop().create_task(step)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise
