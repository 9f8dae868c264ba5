"""What changes a store besides appends: settings, indexes, clean-up.

Each step is one transaction in the writer's thread; what the writer knows of the store changes when it is committed.
"""

from collections.abc import Callable
from dataclasses import replace

import msgspec

from syncline_protocol.index import IndexSpec

from .base import Compacted, Horizon, IndexInfo, IndexTaken, StoreInfo, StoreSettings
from .sqlite_compaction import CompactionStep, Sweep
from .sqlite_index import build_step, declare, drop, new_index
from .sqlite_space import reclaim_step
from .sqlite_writer import SqliteWriter, StoreState

__all__ = ["Upkeep"]


class Upkeep:
    """Args:
    writer: whose transactions these are.
    """

    def __init__(self, writer: SqliteWriter) -> None:
        self._writer = writer
        self._connection = writer.connection

    def configure(self, store: str, settings: StoreSettings) -> StoreInfo:
        """Carry out `Storage.configure`."""

        def work(state: StoreState) -> tuple[StoreInfo, StoreInfo]:
            text = msgspec.json.encode(settings).decode()
            self._connection.execute("UPDATE stores SET settings = ? WHERE id = ?", (text, state.id))
            info = replace(state.info, settings=settings)
            return info, info

        return self._writer.change(store, work)

    def create_index(self, store: str, spec: IndexSpec, uid: str, now_ms: int) -> tuple[IndexInfo, bool]:
        """Carry out `Storage.create_index`."""

        def work(state: StoreState) -> tuple[tuple[IndexInfo, bool], StoreInfo]:
            for known in state.info.indexes:
                if known.spec == spec:
                    return (known, False), state.info
                if known.spec.name == spec.name:
                    raise IndexTaken(store, known.spec)
            made = new_index(uid, spec, state.info.head.seq, now_ms)
            declare(self._connection, state.id, made)
            return (made, True), replace(state.info, indexes=(*state.info.indexes, made))

        return self._writer.change(store, work)

    def build_index(self, store: str, name: str, budget_s: float) -> IndexInfo:
        """Carry out `Storage.build_index`."""

        def build(state: StoreState, known: IndexInfo) -> IndexInfo:
            if known.state == "ready":
                return known
            return build_step(self._connection, state.id, state.indexes, known, budget_s)

        return self._change_index(store, name, build)

    def drop_index(self, store: str, name: str) -> IndexInfo:
        """Carry out `Storage.drop_index`."""

        def work(state: StoreState) -> tuple[IndexInfo, StoreInfo]:
            known = state.info.index(name)
            drop(self._connection, state.indexes.tables[known.uid])
            left = tuple([index for index in state.info.indexes if index is not known])
            return known, replace(state.info, indexes=left)

        return self._writer.change(store, work)

    def _change_index(self, store: str, name: str, change: Callable[[StoreState, IndexInfo], IndexInfo]) -> IndexInfo:
        def work(state: StoreState) -> tuple[IndexInfo, StoreInfo]:
            known = state.info.index(name)
            changed = change(state, known)
            indexes = tuple([changed if index is known else index for index in state.info.indexes])
            return changed, replace(state.info, indexes=indexes)

        return self._writer.change(store, work)

    def compact(self, store: str, horizon: Horizon, budget_s: float) -> Compacted:
        """Carry out `Storage.compact`."""
        sweeps = self._writer.sweeps

        def work(state: StoreState) -> tuple[tuple[Compacted, int, Sweep | None], StoreInfo]:
            # It is put back only when the step is committed: after a failure the file says what is under way.
            step = CompactionStep(self._connection, state.id, state.info, horizon, sweeps.pop(state.id, None))
            done = step.carry_out(budget_s)
            return (done, state.id, step.sweep), step.info

        with self._writer.unhurried():
            done, id_, sweep = self._writer.change(store, work)
        if sweep is not None:
            sweeps[id_] = sweep
        return done

    def reclaim(self, budget_s: float) -> int:
        """Carry out `Storage.reclaim`."""
        with self._writer.unhurried():
            return self._writer.carry_out(lambda: reclaim_step(self._connection, budget_s))
