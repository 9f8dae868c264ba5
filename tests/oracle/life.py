"""One random life: a server, its model, and readers with every kind of filter; each step is carried out on both.

The steps are methods, so that a hypothesis machine and a seeded loop can both call them. After each one every answer
was compared; `settle` lets all readers catch up and compares them all with the model.
"""

import asyncio
import copy
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from syncline_protocol import DEFAULT_LIMITS
from syncline_protocol.codec import decode_change
from syncline_protocol.cursor import Seq
from syncline_protocol.filter import parse_filter
from syncline_protocol.index import IndexSpec
from syncline_protocol.transaction import Transaction, make_op
from syncline_server.hub import Hub
from syncline_server.log import get_log
from syncline_server.storage.base import Floors, FoundRow, HistoryGone, Horizon, Outcome, Place, StoreUnknown
from tests.support.engine import TestClock

from .model import INDEXES, Model, ModelStore, Wanted, digest_of
from .places import PLACES
from .reader import STORE, Reader

__all__ = ["FILTERS", "INDEXES", "Life"]

FILTERS: tuple[dict[str, Any] | None, ...] = (
    None,
    {"key_prefix": "a"},
    {"index": "e", "eq": 1},
    {"index": "n", "ge": 1, "lt": 3},
    {"index": "n", "prefix": "x"},
    {"index": "t", "eq": "red"},
    {"index": "t", "eq": True, "key_prefix": "b"},
)

#: What nothing but a mistake takes longer than.
_PATIENCE_S = 20.0


class Life:
    """Args:
    backend: one of `PLACES`.
    folder: where a backend with files may put them.
    tail_bytes_max: how much of the log the server keeps in memory; little of it makes readers read the storage.
    """

    def __init__(
        self,
        backend: str,
        folder: Path,
        *,
        tail_bytes_max: int = 2000,
        filters: Sequence[dict[str, Any] | None] = FILTERS,
    ) -> None:
        self._place = PLACES[backend](folder)
        self._clock = TestClock()
        self._tail_bytes_max = tail_bytes_max
        self.model = Model()
        self._by_id: dict[str, ModelStore] = {}
        self.readers = [Reader(f"r{n}", Wanted(wanted), self._by_id.__getitem__) for n, wanted in enumerate(filters)]
        self._copies: list[tuple[object, dict[str, ModelStore]]] = []
        self._floors = Floors()
        self.hub: Hub
        self.steps = 0

    def store(self) -> ModelStore | None:
        """Return the store as the model has it."""
        return self.model.stores.get(STORE)

    async def begin(self) -> None:
        """Start the first process."""
        await self._start()
        await self.create()

    async def _start(self) -> None:
        self.hub = Hub(
            self._place.storage,
            self._clock.clock(),
            get_log(),
            tail_bytes_max=self._tail_bytes_max,
            stall_timeout_s=1e9,
        )
        await self.hub.start()
        for reader in self.readers:
            reader.connect(self.hub)

    async def end(self) -> None:
        """Compare everything once more, and stop."""
        await self.settle()
        await self.hub.stop()

    # --- steps ---

    async def create(self) -> None:
        """Create the store, unless it is there."""
        info, created = await self.hub.create(STORE)
        assert created == (STORE not in self.model.stores)
        if created:
            self.model.stores[STORE] = self._by_id[info.store_id] = ModelStore(info.store_id)
            self._floors = Floors()

    async def drop(self) -> None:
        """Drop the store, if it is there."""
        if self.model.stores.pop(STORE, None) is None:
            return
        await self.hub.drop(STORE)

    async def write(self, ops: list[tuple[str, str | None]], *, single: bool) -> None:
        """Carry out a write and compare its answer."""
        made = tuple(make_op(key, None if value is None else value.encode(), DEFAULT_LIMITS) for key, value in ops)
        answer = await self.hub.write(Transaction(STORE, made, atomic=not single, single=single))
        store = self.store()
        if store is None:
            assert isinstance(answer, StoreUnknown)
            return
        assert isinstance(answer, Outcome), answer
        assert (answer.status, [op.status for op in answer.ops]) == store.write(ops, single=single)

    async def create_index(self, name: str) -> None:
        """Declare an index, if the store is there, and build it."""
        store = self.store()
        if store is None:
            return
        path, kind = INDEXES[name]
        await self.hub.storage.create_index(STORE, IndexSpec(name, path, kind), self.hub.now_ms())  # type: ignore[arg-type]
        while (await self.hub.storage.build_index(STORE, name, 0.0)).state == "building":
            self.steps += 1
        store.indexes.add(name)

    async def drop_index(self, name: str) -> None:
        """Drop an index, if it is there."""
        store = self.store()
        if store is None or name not in store.indexes:
            return
        store.indexes.remove(name)
        dropped = await self.hub.storage.drop_index(STORE, name)
        await self.hub.feeds.index_dropped(STORE, dropped.uid)

    async def compact(self, values: int, tombstones: int) -> None:
        """Clean up to these positions, as far as no reader is ahead of what was published."""
        store = self.store()
        if store is None:
            return
        feeds = [feed.published.seq for feed in self.hub.feeds.all() if feed.store == STORE]
        top = min([store.head, *feeds])
        horizon = Horizon(Seq(min(values, top)), Seq(min(tombstones, values, top)))
        estimate = await self.hub.storage.estimate(STORE, horizon)
        dropped = values_dropped = 0
        while True:
            done = await self.hub.storage.compact(STORE, horizon, 0.0)
            values_dropped += done.values
            dropped += done.tombstones
            if done.is_done:
                break
        assert (estimate.values, estimate.tombstones) == (values_dropped, dropped)
        info = await self.hub.storage.info(STORE)
        assert info.floors.history >= self._floors.history
        assert info.floors.tombstones >= self._floors.tombstones
        assert info.floors.history <= max(top, self._floors.history)
        assert info.floors.tombstones <= max(top, self._floors.tombstones)
        self._floors = info.floors

    async def reclaim(self) -> None:
        """Give back space."""
        while await self.hub.storage.reclaim(0.0):
            self.steps += 1

    async def crash(self) -> None:
        """Let the process die, and start another."""
        await self._place.crash()
        await self.hub.stop()
        await self._start()

    async def backup(self) -> None:
        """Make a copy."""
        self._copies.append((await self._place.backup(), self.model.copy()))

    async def restore(self, which: int) -> None:
        """Put one of the copies in place."""
        if not self._copies:
            return
        copied, stores = self._copies[which % len(self._copies)]
        await self.hub.stop()
        await self._place.restore(copied)
        self.model.stores = copy.deepcopy(stores)
        self._by_id |= {store.store_id: store for store in self.model.stores.values()}
        self._floors = Floors()
        await self._start()

    # --- readers ---

    async def read(self, which: int) -> None:
        """Let a reader take what has come; it subscribes if it does not follow."""
        reader = self.readers[which % len(self.readers)]
        if reader.peer is not None and (reader.peer.aborted or reader.peer.closed_with is not None):
            reader.connect(self.hub)
        if not reader.is_open:
            reader.subscribe()
        for _ in range(20):
            await asyncio.sleep(0)
            reader.take()

    async def leave(self, which: int) -> None:
        """Let a reader lose its connection with what it has not read."""
        self.readers[which % len(self.readers)].connect(self.hub)

    async def stuff(self, which: int, *, full: bool) -> None:
        """Let a reader's socket take nothing more, or take again."""
        peer = self.readers[which % len(self.readers)].peer
        if peer is not None and peer.full != full and not peer.aborted and peer.closed_with is None:
            peer.set_full(full)

    # --- comparing ---

    async def settle(self) -> None:
        """Let every reader catch up with the head, and compare; a refusal has to be for what is not there."""
        for which, reader in enumerate(self.readers):
            await self.stuff(which, full=False)
            until = time.monotonic() + _PATIENCE_S
            while not self._is_served(reader):
                assert time.monotonic() < until, reader
                await self._let_time_pass()
                await self.read(which)
                await asyncio.sleep(0.0005 if until - time.monotonic() < _PATIENCE_S - 0.2 else 0)

    def _is_served(self, reader: Reader) -> bool:
        store, wanted = self.store(), reader.wanted.filter
        if store is None:
            return reader.refused == "store_unknown"
        if wanted is not None and "index" in wanted and wanted["index"] not in store.indexes:
            return reader.refused == "index_unknown"
        return reader.has_everything(store.head)

    async def _let_time_pass(self) -> None:
        """Let the second hand move so far that what is put off is sent."""
        self._clock.seconds += 6.0
        for reader in self.readers:
            reader.stay()
        self.hub.tick()
        await asyncio.sleep(0)

    async def look(self, at: int) -> None:
        """Ask the storage directly: what lives, now and then, by key, by index, as a set and as a sum."""
        store = self.store()
        if store is None:
            return
        while not store.is_boundary(at):
            at += 1
        storage, living = self.hub.storage, store.living(at)
        floors = (await storage.info(STORE)).floors
        for key in {*living, *store.living(), "absent"}:
            fact = living.get(key)
            try:
                record = await storage.get(STORE, key, Seq(at))
            except HistoryGone:
                assert at < floors.history
                break
            assert (None if record is None else record.seq) == (None if fact is None else fact.seq), key
        if at >= floors.history:
            summary = await storage.summary(STORE, (), Seq(at))
            of_all = {key: fact.seq for key, fact in living.items()}
            assert (summary.count, summary.digest) == (len(of_all), int(digest_of(of_all), 16))
            live = await storage.live_set(STORE, Seq(at))
            assert [seq for first, last in live.ranges() for seq in range(first, last + 1)] == sorted(of_all.values())
            assert len(live) == len(of_all)

    async def find(self, which: int, *, descending: bool, limit: int) -> None:
        """Find by a filter, in pages, and count."""
        wanted, store = FILTERS[which % len(FILTERS)], self.store()
        if wanted is None or store is None or wanted.get("index", "n") not in store.indexes:
            return
        asked = parse_filter(json.dumps(wanted).encode())
        if asked.index is None or asked.key_prefix:
            return
        terms = asked.term_range()
        rows: list[FoundRow] = []
        place = None
        while True:
            found = await self.hub.storage.find(
                STORE, asked.index, terms, after=place, descending=descending, limit=limit
            )
            rows += found.rows
            if found.is_last:
                break
            last = found.rows[-1]
            place = Place(last.term, last.seq)
        order = [(row.term, row.seq) for row in rows]
        assert order == sorted(order, reverse=descending)
        seen = store.seen(Wanted(wanted))
        assert {decode_change(row.text).key: row.seq for row in rows} == seen
        assert await self.hub.storage.count(STORE, asked.index, terms) == len(seen)
