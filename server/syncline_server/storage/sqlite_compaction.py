"""Clean-up of one store of a file: values of dead records, and tombstones; in bounded steps.

A step is one transaction in the writer's thread, so that an append waits for one step at most. Live rows, the record of
used keys and the row at the head are never touched.

Records die in another order than they came, so dropping values as the DELETEs come would rewrite a page of the log for
each row. A `Sweep` takes many DELETEs together instead: it gathers what they deleted, moves the history floor above all
of them, and only then drops the rows, in the order in which they lie in the file. That a sweep is under way is in the
file (`meta`, from which floor it began), so whoever opens it after a kill gathers the same again and goes on.
"""

import sqlite3
import time
from dataclasses import dataclass, field, replace

import msgspec

from syncline_protocol.cursor import Seq

from .base import Compacted, Floors, Horizon, Sizes, StoreInfo

__all__ = ["CompactionStep", "Sweep", "estimate", "sweep_note"]

#: DELETEs that are looked at before the clock is, and values of one sweep, which are held in memory meanwhile.
_DELETES_AT_ONCE = 500
_SWEEP_MAX = 1_000_000

#: Rows that are dropped before the clock is looked at: as many as take about so long, as a value may have a megabyte.
_ROWS_MIN, _ROWS_MAX = 16, 1024
_SLICE_S = 0.002

#: Seqs whose rows lie together, more or less.
_REGION_SEQS = 4096

#: DELETEs of whole transactions, found by the index that has nothing but DELETEs.
_DELETES = """SELECT seq, last_seq, partner FROM log_{store} INDEXED BY deletes_{store}
              WHERE partner < seq AND seq > ? AND seq <= ? AND last_seq <= ? ORDER BY seq"""


@dataclass(slots=True)
class Sweep:
    """Values that go together: those that the DELETEs in (after, upto] deleted, by the regions of their seqs.

    `is_begun`: the history floor is above them, so they go whatever the horizon is by now.
    """

    after: Seq
    upto: Seq
    is_begun: bool
    count: int = 0
    regions: dict[int, list[Seq]] = field(default_factory=dict)

    def gather(self, deletes: list[tuple[Seq, Seq, Seq]]) -> None:
        """Take seqs, last seqs and partners of the next DELETEs."""
        for _, _, partner in deletes:
            self.regions.setdefault(partner // _REGION_SEQS, []).append(partner)
        self.count += len(deletes)
        self.upto = deletes[-1][1]

    def take(self, rows: int) -> list[Seq]:
        """Give away the next values, in the order of the log, at most so many."""
        region = min(self.regions)
        seqs = sorted(self.regions.pop(region))
        if len(seqs) > rows:
            self.regions[region] = seqs[rows:]
        return seqs[:rows]


class CompactionStep:
    """One step, inside the caller's transaction.

    Args:
        connection: the writer's.
        store: the id of the store in the file.
        info: the store.
        horizon: how far clean-up may go.
        sweep: what the step before has left, if it was one of this process.

    What it leaves, `info` and `sweep`, is true once the transaction is committed.
    """

    def __init__(
        self, connection: sqlite3.Connection, store: int, info: StoreInfo, horizon: Horizon, sweep: Sweep | None
    ) -> None:
        self.info = info
        self.sweep = sweep
        self._connection = connection
        self._store = store
        self._horizon = horizon
        self._rows = _ROWS_MIN
        self._done = Sizes()

    def carry_out(self, budget_s: float) -> Compacted:
        """Carry out `Storage.compact`."""
        before = self.info
        until = time.monotonic() + budget_s
        is_done = False
        while not is_done:
            is_done = not (self._drop_values() or self._drop_tombstones())
            if time.monotonic() >= until:
                break
        if self.info != before:
            self._write()
        done = self._done
        return Compacted(done.dead_values, done.tombstones, done.dead_bytes, is_done, self.info.floors)

    def _write(self) -> None:
        floors, sizes = self.info.floors, self.info.sizes
        self._connection.execute(
            """UPDATE stores SET history_floor = ?, tombstone_floor = ?, dead_values = ?, dead_bytes = ?, tombstones = ?
               WHERE id = ?""",
            (floors.history, floors.tombstones, sizes.dead_values, sizes.dead_bytes, sizes.tombstones, self._store),
        )

    # --- values ---

    def _drop_values(self) -> bool:
        """Do a piece of a sweep. Returns whether there was one to do."""
        sweep = self.sweep = self._current_sweep()
        gathers_upto = self.info.floors.history if sweep.is_begun else self._horizon.values
        if sweep.count < _SWEEP_MAX or sweep.is_begun:
            found = self._next_deletes(sweep.upto, gathers_upto)
            if found:
                sweep.gather(found)
                return True
        if not (sweep.count or sweep.is_begun):
            self.sweep = None
            return False
        if not sweep.is_begun:
            self._connection.execute("INSERT INTO meta VALUES (?, ?)", (self._note, sweep.after))
            self.info = replace(self.info, floors=Floors(sweep.upto, self.info.floors.tombstones))
            sweep.is_begun = True
        elif sweep.regions:
            freed = self._drop(sweep.take(self._rows))
            self._count(Sizes(0, len(freed), sum(freed), 0))
        else:
            self._connection.execute("DELETE FROM meta WHERE name = ?", (self._note,))
            self.sweep = None
        return True

    def _current_sweep(self) -> Sweep:
        """Return the sweep that is under way, here or in the file, or a new one."""
        history = self.info.floors.history
        sweep = self.sweep
        if sweep is None:
            row = self._connection.execute("SELECT value FROM meta WHERE name = ?", (self._note,)).fetchone()
            after = history if row is None else row[0]
            return Sweep(after, after, row is not None)
        if not sweep.is_begun and sweep.upto > self._horizon.values:
            # A reader has been pinned since below what was gathered.
            return Sweep(history, history, is_begun=False)
        return sweep

    @property
    def _note(self) -> str:
        return sweep_note(self._store)

    # --- tombstones ---

    def _drop_tombstones(self) -> bool:
        """Drop some DELETEs. Returns whether there were some."""
        floors = self.info.floors
        upto = _tombstones_upto(self.info, floors.history, self._horizon)
        found = self._next_deletes(floors.tombstones, upto, self._rows)
        if not found:
            return False
        freed = self._drop([seq for seq, _, _ in found])
        self._count(Sizes(0, 0, sum(freed), len(freed)))
        self.info = replace(self.info, floors=Floors(floors.history, found[-1][1]))
        return True

    # --- both ---

    def _next_deletes(self, after: Seq, upto: Seq, limit: int = _DELETES_AT_ONCE) -> list[tuple[Seq, Seq, Seq]]:
        """Return seq, last seq and partner of the next DELETEs, up to the end of a transaction."""
        if after >= upto:
            return []
        sql = _DELETES.format(store=self._store)
        found = self._connection.execute(f"{sql} LIMIT ?", (after, upto, upto, limit)).fetchall()
        if len(found) == limit:
            seq, last_seq, _ = found[-1]
            found += self._connection.execute(sql, (seq, last_seq, last_seq)).fetchall()
        return found

    def _drop(self, seqs: list[Seq]) -> list[int]:
        """Drop rows of the log. Returns the bytes of each that was still there."""
        began = time.monotonic()
        sql = f"""DELETE FROM log_{self._store} WHERE seq IN (SELECT value FROM json_each(?))
                  RETURNING length(CAST(change AS BLOB))"""
        rows = self._connection.execute(sql, (msgspec.json.encode(seqs).decode(),)).fetchall()
        if time.monotonic() - began < _SLICE_S / 2:
            self._rows = min(_ROWS_MAX, self._rows * 2)
        elif time.monotonic() - began > _SLICE_S:
            self._rows = max(_ROWS_MIN, self._rows // 2)
        return [size for (size,) in rows]

    def _count(self, dropped: Sizes) -> None:
        """Take note of values or tombstones that are gone; `dead_bytes` are those of either."""
        done, sizes = self._done, self.info.sizes
        self._done = Sizes(
            0,
            done.dead_values + dropped.dead_values,
            done.dead_bytes + dropped.dead_bytes,
            done.tombstones + dropped.tombstones,
        )
        of_values = dropped.dead_bytes if dropped.dead_values else 0
        left = Sizes(
            sizes.live_bytes,
            sizes.dead_values - dropped.dead_values,
            sizes.dead_bytes - of_values,
            sizes.tombstones - dropped.tombstones,
        )
        self.info = replace(self.info, sizes=left)


def sweep_note(store: int) -> str:
    """Return the name under which `meta` says from which floor a sweep has begun."""
    return f"sweep_{store}"


def _tombstones_upto(info: StoreInfo, history: Seq, horizon: Horizon) -> Seq:
    """Return how far tombstones may go: their values have gone, and the newest row of the log stays."""
    return Seq(min(horizon.tombstones, history, info.head.seq - 1))


def estimate(connection: sqlite3.Connection, store: int, info: StoreInfo, horizon: Horizon) -> Compacted:
    """Carry out `Storage.estimate`."""
    floors = info.floors
    # A sweep that has begun is to be ended whatever the horizon: what it has not dropped yet is below the floor.
    begun = connection.execute("SELECT value FROM meta WHERE name = ?", (sweep_note(store),)).fetchone()
    after = floors.history if begun is None else begun[0]
    deletes = f"log_{store} AS deletes INDEXED BY deletes_{store}"
    values, of_values, history = connection.execute(
        f"""SELECT count(*), sum(length(CAST(added.change AS BLOB))), max(deletes.last_seq)
            FROM {deletes} CROSS JOIN log_{store} AS added ON added.seq = deletes.partner
            WHERE deletes.partner < deletes.seq AND deletes.seq > ?1 AND deletes.seq <= ?2
              AND deletes.last_seq <= ?2""",
        (after, max(horizon.values, floors.history)),
    ).fetchone()
    history = Seq(max(history or 0, floors.history))
    upto = _tombstones_upto(info, history, horizon)
    tombstones, of_tombstones, tombstone = connection.execute(
        f"""SELECT count(*), sum(length(CAST(change AS BLOB))), max(last_seq) FROM {deletes}
            WHERE partner < seq AND seq > ?1 AND seq <= ?2 AND last_seq <= ?2""",
        (floors.tombstones, upto),
    ).fetchone()
    left = Floors(history, Seq(tombstone or floors.tombstones))
    is_done = begun is None and values + tombstones == 0
    return Compacted(values, tombstones, (of_values or 0) + (of_tombstones or 0), is_done, left)
