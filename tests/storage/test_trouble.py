"""A file whose commits fail, whose disk is full and whose process dies, beside a log in memory that knows no trouble.

Appends, settings, indexes, clean-up and drops come in random order, every few of them into trouble; what failed for
sure did not happen, what may have happened is looked up. The memory is never cleaned up: it still knows the past. The
limits of all steps are drawn anew for each life and small, so that each of them is met within a few records.
"""

import random
import shutil
import sqlite3
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pytest

from syncline_protocol import DEFAULT_LIMITS, Seq, Transaction
from syncline_protocol.codec import decode_change
from syncline_protocol.index import IndexSpec, TermRange, encode_term, kind_range
from syncline_protocol.transaction import Op, Quota
from syncline_server.storage import (
    memory_log,
    sqlite_compaction,
    sqlite_find,
    sqlite_gone,
    sqlite_index,
    sqlite_reader,
    sqlite_selected,
    sqlite_space,
)
from syncline_server.storage.base import (
    Appended,
    HistoryGone,
    Horizon,
    IndexInfo,
    Place,
    Row,
    Selector,
    Storage,
    StorageError,
    StorageFull,
    StorageUnavailable,
    StoreInfo,
    StoreSettings,
)
from syncline_server.storage.memory import MemoryStorage
from syncline_server.storage.selection import Condition
from syncline_server.storage.sqlite import SqliteStorage

from .backends import Fault, Mint, check
from .conftest import add, delete

T = TypeVar("T")


class Killer(Fault):
    """A fault of which the process may die: `left` is where a copy goes of what is in its files at that moment."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.left: Path | None = None

    def __call__(self, point: str) -> None:
        if point == self.point and self.left is not None:
            for ending in ("", "-wal"):
                shutil.copyfile(f"{self.path}{ending}", f"{self.left}{ending}")
        super().__call__(point)


SPECS = [IndexSpec("n", "/n", "range"), IndexSpec("t", "/t", "multi"), IndexSpec("e", "/n")]
SCALARS: list[Any] = [None, True, 0, 1, 1.0, -2.5, 2**60 + 1, "", "a", "x" * 256, "x" * 300 + "1", "x" * 300 + "2"]


class Twins:
    """A file and a memory that live the same life.

    Args:
        seed: of everything that is random.
        folder: for the file, and for those of the processes after a crash.
    """

    def __init__(self, seed: int, folder: Path) -> None:
        self.dice = random.Random(seed)
        self.folder = folder
        self.path = folder / "0.db"
        self.fault, self.mint = Killer(self.path), Mint()
        self.file = SqliteStorage(self.path, mint=self.mint, fault=self.fault)
        self.memory: Storage = MemoryStorage(Mint())
        self.now_ms = 1000
        self.keys: list[str] = []
        self.sent: list[Transaction] = []
        self.troubles: Counter[str] = Counter()

    async def begin(self) -> None:
        for storage in (self.file, self.memory):
            await storage.open()
            await storage.create("notes", 1)

    # --- trouble ---

    async def try_on_file(self, work: Callable[[Storage], Awaitable[T]]) -> tuple[bool, T | StorageError | None]:
        """Carry out a work on the file, perhaps into trouble. Returns whether it happened, and its result if known."""
        trouble = self.dice.choice([""] * 6 + ["before_commit", "after_commit", "full", "full"])
        self.fault.at(trouble)
        self.fault.left = self._next_path() if self.dice.random() < 0.5 else None
        await self._limit_pages(0 if trouble == "full" else 2**30)
        try:
            return True, await work(self.file)
        except StorageFull:
            self.troubles["full"] += 1
            return False, None
        except StorageUnavailable:
            self.troubles[trouble] += 1
            return trouble == "after_commit", None
        except StorageError as refusal:
            return True, refusal
        finally:
            if self.fault.has_fired:
                await (self.file.open() if self.fault.left is None else self._go_on_in(self.fault.left))
            self.fault.at("")
            await self._limit_pages(2**30)

    async def _limit_pages(self, more: int) -> None:
        """Let the file become so many pages longer, as a disk does that is full."""
        assert self.file._link is not None

        def limit(connection: sqlite3.Connection) -> None:
            # Pages that are free in the file would be taken first.
            connection.execute("PRAGMA incremental_vacuum").fetchall()
            (pages,) = connection.execute("PRAGMA page_count").fetchone()
            connection.execute(f"PRAGMA max_page_count = {pages + more}").fetchall()
            # So that pages go to the log of SQLite also before the commit.
            connection.execute("PRAGMA cache_size = 10").fetchall()

        await self.file._link.run(limit)

    async def on_both(self, work: Callable[[Storage], Awaitable[T]], shown: Callable[[T], object]) -> None:
        """Carry out a work on the file, then on the memory if it happened, and compare what it shows."""
        happened, result = await self.try_on_file(work)
        if not happened:
            return
        expected: T | StorageError
        try:
            expected = await work(self.memory)
        except StorageError as refusal:
            expected = refusal
        if isinstance(result, StorageError) or isinstance(expected, StorageError):
            assert type(result) is type(expected)
        elif result is not None:
            assert shown(result) == shown(expected)

    def _next_path(self) -> Path:
        return self.folder / f"{self.dice.random()}.db"

    async def _go_on_in(self, left: Path) -> None:
        """Be the next process, on what the one before has left."""
        await self.file.close()
        self.path = self.fault.path = left
        self.file = SqliteStorage(left, mint=self.mint, fault=self.fault)
        await self.file.open()

    # --- steps ---

    async def step(self) -> None:
        """Carry out one step, and compare what is said of the store."""
        steps = [self.append] * 6 + [self.compact] * 2 + [self.declare, self.build, self.forget, self.configure]
        await self.dice.choice([*steps, self.reclaim, self.remake, self.look, self.look])()
        ours, theirs = await self.file.info("notes"), await self.memory.info("notes")
        assert _of_info(ours) == _of_info(theirs)
        assert self.file._writer is not None
        assert self.file._writer.stores["notes"].info == ours, "what the writer knows is what the file says"

    async def append(self) -> None:
        self.now_ms += self.dice.choice([0, 1, 5, -3])
        transactions, now_ms = self._transactions(), self.now_ms
        await self.on_both(lambda storage: storage.append(transactions, now_ms), _of_append)

    def _transactions(self) -> list[Transaction]:
        dice = self.dice
        made = []
        for _ in range(dice.choice([1, 2, 6])):
            ops = tuple([self._op() for _ in range(dice.choice([1, 1, 2, 5]))])
            by, is_single = dice.choice([None, "ann", "bob"]), len(ops) == 1 and dice.random() < 0.7
            quota = Quota(dice.choice([None, 5]), dice.choice([None, 6000])) if by and dice.random() < 0.5 else None
            is_atomic = not is_single and dice.random() < 0.7
            made.append(Transaction("notes", ops, is_atomic, single=is_single, by=by, quota=quota))
        if dice.random() < 0.05:
            ops = tuple([self._new("z" * 4000) for _ in range(DEFAULT_LIMITS.batch_bytes_max // 4000)])
            made.append(Transaction("notes", ops))
        self.sent += made
        return [*made, dice.choice(self.sent)]

    def _op(self) -> Op:
        dice = self.dice
        if dice.random() < 0.55 or not self.keys:
            terms = [dice.choice(SCALARS) for _ in range(dice.choice([0, 1, 3, 70]))]
            pad = "p" * dice.choice([0, 0, 5000])
            return self._new({"n": dice.choice([*SCALARS, [1]]), "t": terms, "pad": pad} if dice.random() < 0.9 else 1)
        return delete(dice.choice(self.keys[-40:]), dice.choice([None, None, None, "ann"]))

    def _new(self, value: object) -> Op:
        self.keys.append(f"{self.dice.choice('ab')}{len(self.keys)}")
        return add(self.keys[-1], value)

    async def compact(self) -> None:
        head = (await self.memory.info("notes")).head.seq
        values = Seq(round(head * self.dice.choice([1, self.dice.random()])))
        horizon = Horizon(values, Seq(round(values * self.dice.choice([0, 1, self.dice.random()]))))
        for _ in range(self.dice.choice([1, 3, 30])):
            await self.try_on_file(lambda storage: storage.compact("notes", horizon, 0))

    async def declare(self) -> None:
        spec = self.dice.choice(SPECS)
        await self.on_both(lambda storage: storage.create_index("notes", spec, 1), lambda made: (made[0].spec, made[1]))

    async def build(self) -> None:
        name = self.dice.choice(SPECS).name
        for _ in range(self.dice.choice([1, 30])):
            await self.try_on_file(lambda storage: storage.build_index("notes", name, 0))

    async def forget(self) -> None:
        name = self.dice.choice(SPECS).name
        await self.on_both(lambda storage: storage.drop_index("notes", name), lambda dropped: dropped.spec)

    async def configure(self) -> None:
        dice = self.dice
        settings = StoreSettings(
            records_max=dice.choice([None, 40]), bytes_max=dice.choice([None, 90_000]), history_s=5
        )
        await self.on_both(lambda storage: storage.configure("notes", settings), lambda info: info.settings)

    async def reclaim(self) -> None:
        for _ in range(self.dice.choice([1, 30])):
            await self.try_on_file(lambda storage: storage.reclaim(0))

    async def remake(self) -> None:
        if self.dice.random() < 0.2:
            await self.on_both(lambda storage: storage.drop("notes"), lambda info: info.head.seq)
            for storage in (self.file, self.memory):
                await storage.create("notes", 1)

    # --- comparing ---

    async def look(self) -> None:
        """Compare what is read from a position that the file still knows."""
        ours, theirs = await self.file.info("notes"), await self.memory.info("notes")
        ends = sorted({0, ours.head.seq, *[row.last_seq for row in await _walk(self.memory, 0, ours.head.seq)]})
        upto = self.dice.choice([end for end in ends if end >= ours.floors.history])
        after = self.dice.choice([end for end in ends if end <= upto])
        parts = self._parts(ours)
        seen = [
            await _read(storage, after, upto, _selectors(parts, info), ours.floors.tombstones)
            for storage, info in ((self.file, ours), (self.memory, theirs))
        ]
        assert seen[0] == seen[1]
        for key in self.dice.sample(self.keys, min(5, len(self.keys))):
            assert await self.file.get("notes", key, Seq(upto)) == await self.memory.get("notes", key, Seq(upto))
            assert await self.file.get("notes", key) == await self.memory.get("notes", key)
            if ours.floors.history:
                with pytest.raises(HistoryGone):
                    await self.file.get("notes", key, Seq(ours.floors.history - 1))
        await self._find(ours)

    def _parts(self, info: StoreInfo) -> list[tuple[str, dict[str, TermRange]]]:
        ready = [index.spec.name for index in info.indexes if index.state == "ready"]
        return [
            (self.dice.choice(["", "a", "b1"]), {name: self._terms() for name in ready if self.dice.random() < 0.5})
            for _ in range(self.dice.randrange(3))
        ]

    def _terms(self) -> TermRange:
        first, last = sorted([encode_term(self.dice.choice(SCALARS)) for _ in range(2)])
        choices = [TermRange(first, first + b"\0"), TermRange(), TermRange(first, last), TermRange(last)]
        return self.dice.choice([*choices, kind_range(self.dice.choice(SCALARS))])

    async def _find(self, info: StoreInfo) -> None:
        """Compare all the pieces of what is found, from the beginning or from any place."""
        dice = self.dice
        name = dice.choice([None, *[index.spec.name for index in info.indexes if index.state == "ready"]])
        terms = self._terms() if name else dice.choice([TermRange(), TermRange(b"a", b"b"), TermRange(b"a1\xff")])
        place = (
            Place(encode_term(dice.choice(SCALARS)), Seq(dice.randrange(50))) if name and dice.random() < 0.5 else None
        )
        descending, limit = dice.random() < 0.5, dice.choice([1, 3, 50])
        while True:
            ours, theirs = [
                await storage.find("notes", name, terms, after=place, descending=descending, limit=limit)
                for storage in (self.file, self.memory)
            ]
            assert (ours.rows, ours.is_last) == (theirs.rows, theirs.is_last)
            if ours.is_last:
                break
            place = Place(ours.rows[-1].term, ours.rows[-1].seq)
        assert await self.file.count("notes", name, terms) == await self.memory.count("notes", name, terms)


def _of_info(info: StoreInfo) -> object:
    """What both twins say alike: incarnations differ, and the memory keeps its past."""
    head, specs = info.head, [index.spec for index in info.indexes]
    return head.seq, head.count, head.digest, info.sizes.live_bytes, info.settings, specs


def _of_append(appended: Appended) -> object:
    outcomes = [
        type(outcome) if isinstance(outcome, StorageError) else (outcome.status, outcome.ops, outcome.last_seq)
        for outcome in appended.outcomes
    ]
    # Indexes have other names in either twin, and come in the order of their declaration.
    commits = [
        (commit.rows, commit.partners, [list(terms.values()) for terms in commit.terms]) for commit in appended.commits
    ]
    return outcomes, commits


def _selectors(parts: Sequence[tuple[str, dict[str, TermRange]]], info: StoreInfo) -> list[Selector]:
    def index(name: str) -> IndexInfo:
        return info.index(name)

    return [
        Selector(prefix, tuple([Condition(index(name).uid, terms) for name, terms in conditions.items()]))
        for prefix, conditions in parts
    ]


async def _walk(
    storage: Storage, after: int, upto: int, selectors: Sequence[Selector] = (), deletes_to: Seq | None = None
) -> list[Row]:
    at, rows = Seq(after), list[Row]()
    while at < upto:
        chunk = await storage.read("notes", at, Seq(upto), deletes_to=deletes_to, selectors=selectors)
        assert chunk.after == at < chunk.to <= upto
        rows += chunk.rows
        at = chunk.to
    return rows


async def _read(
    storage: Storage, after: int, upto: int, selectors: Sequence[Selector], tombstone_floor: Seq
) -> list[object]:
    """Everything that is read up to a position, without the DELETEs that may have gone."""
    walked = await _walk(storage, after, upto, selectors, Seq(after))
    seen: list[object] = [
        [row for row in walked if row.seq > tombstone_floor or decode_change(row.text).op == "ADD"],
        await _walk(storage, after, upto, selectors, Seq(0)),
        await storage.summary("notes", selectors, Seq(upto)),
        [*(await storage.live_set("notes", Seq(upto), selectors)).ranges()],
    ]
    at = Seq(0)
    while rows := await storage.fetch("notes", [(Seq(at + 1), Seq(upto))], Seq(upto)):
        seen += rows
        at = rows[-1].seq
    return seen


def _shrink_limits(dice: random.Random, monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw how much each step and piece takes."""
    scan, size, piece = dice.choice([2, 20, 1000]), dice.choice([1, 500, 2**18]), dice.choice([8, 64, 8192])
    for module in (sqlite_reader, sqlite_selected, memory_log):
        monkeypatch.setattr(module, "SCAN_SEQS_MAX", scan)
    for module in (sqlite_reader, sqlite_selected, sqlite_find, memory_log):
        monkeypatch.setattr(module, "BATCH_BYTES_TARGET", size)
    monkeypatch.setattr(sqlite_gone, "GONE_SEQS", piece)
    monkeypatch.setattr(sqlite_gone, "_PIECE_BYTES", piece // 8)
    drawn: list[tuple[Any, str, list[float]]] = [
        (sqlite_selected, "_LOOKED_MAX", [1, 10, 5000]),
        (sqlite_selected, "_UNORDERED_MAX", [0, 10, 50_000]),
        (sqlite_selected, "_DENSE", [0, 0.1, 1.5]),
        (sqlite_selected, "_SEQS_AT_ONCE", [1, 500]),
        (sqlite_compaction, "_DELETES_AT_ONCE", [1, 3, 500]),
        (sqlite_compaction, "_SWEEP_MAX", [1, 5, 1_000_000]),
        (sqlite_compaction, "_ROWS_MIN", [1, 16]),
        (sqlite_compaction, "_REGION_SEQS", [1, 8, 4096]),
        (sqlite_index, "_BUILD_ROWS", [1, 3, 200]),
        (sqlite_index, "_BUILD_TERMS", [1, 1000]),
        (sqlite_space, "_ROWS_MIN", [1, 16]),
        (sqlite_reader, "_ROWS_AT_ONCE", [1, 64]),
    ]
    for module, name, values in drawn:
        monkeypatch.setattr(module, name, dice.choice(values))


@pytest.mark.parametrize("seed", range(6))
async def test_no_trouble_makes_a_file_differ_from_a_log_that_had_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    twins = Twins(seed, tmp_path)
    _shrink_limits(random.Random(-1 - seed), monkeypatch)
    await twins.begin()
    try:
        for _ in range(80):
            await twins.step()
            check(twins.file, twins.path)
        await twins.look()
    finally:
        await twins.file.close()
    assert twins.troubles["before_commit"]
    assert twins.troubles["after_commit"]
    assert check(twins.file, twins.path) == check(twins.memory, twins.path) == 1
