"""SQLite against memory: the same random writes have the same answers, commits, heads and walks."""

import asyncio
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from syncline_protocol import Seq, Transaction
from syncline_protocol.transaction import Quota
from syncline_server.storage.base import Appended, Storage, StoreInfo
from syncline_server.storage.memory import MemoryStorage
from syncline_server.storage.selection import Selector
from syncline_server.storage.sqlite import SqliteStorage

from .backends import Mint, check
from .conftest import add, delete

STORES = ["notes", "other"]

AUTHORS = ["ada", 'b",ob']

_ops = st.builds(
    lambda key, value, only_by: delete(key, only_by) if value is None else add(key, value),
    st.sampled_from(["a", "b", "c", "d", "é", '"']),
    st.sampled_from([None, 1, "two"]),
    st.sampled_from([None, None, *AUTHORS]),
)
_quotas = st.builds(Quota, st.sampled_from([None, 0, 1, 2]), st.sampled_from([None, 2, 6]))
_transactions = st.builds(
    lambda store, ops, kind, by, quota: Transaction(store, tuple(ops[:1] if kind == "single" else ops),
                                                    kind == "atomic", None, kind == "single", by, quota),
    st.sampled_from([*STORES, "unknown"]),
    st.lists(_ops, min_size=1, max_size=4),
    st.sampled_from(["single", "atomic", "each"]),
    st.sampled_from([None, *AUTHORS]),
    st.none() | _quotas,
)  # fmt: skip
_steps = st.one_of(
    st.lists(_transactions, min_size=1, max_size=6),
    st.sampled_from(["open", "distrust", "remake"]),
)

#: What a storage showed at one step, in a form that compares.
_Seen = tuple[list[str], object, list[StoreInfo]]


async def _take(storage: Storage, step: list[Transaction] | str, now_ms: int) -> _Seen:
    appended = Appended((), ())
    if step == "open":
        await storage.close()
        await storage.open()
    elif step == "distrust":
        await storage.distrust("notes")
    elif step == "remake":
        await storage.drop("other")
        await storage.create("other", now_ms)
    elif not isinstance(step, str):
        appended = await storage.append(step, now_ms)
    return [repr(outcome) for outcome in appended.outcomes], appended.commits, await storage.stores()


async def _walks(storage: Storage) -> list[object]:
    """Everything that can be read of `notes`, from every position to every later end of a transaction."""
    head = (await storage.info("notes")).head.seq
    ends = {row.last_seq for row in (await storage.read("notes", Seq(0), head)).rows}
    seen: list[object] = [await storage.get("notes", key) for key in "abcé"]
    seen += [await storage.usage(store, author) for store in STORES for author in [*AUTHORS, "nobody"]]
    for upto in sorted({*ends, head}):
        for prefixes in ("", "a", "bé", "z"):
            selectors = [Selector(prefix) for prefix in prefixes]
            seen.append([*(await storage.live_set("notes", upto, selectors)).ranges()])
            seen.append(await storage.summary("notes", selectors, upto))
        seen.append(await storage.fetch("notes", [(Seq(1), Seq(2)), (Seq(4), head)], upto))
        for records_only in (False, True):
            reads = [
                storage.read("notes", Seq(after), upto, deletes_to=Seq(0) if records_only else None)
                for after in range(upto)
            ]
            seen += await asyncio.gather(*reads)
    return seen


async def _compare(steps: list[list[Transaction] | str], path: Path) -> None:
    memory, sqlite = MemoryStorage(Mint()), SqliteStorage(path, mint=Mint())
    for storage in (memory, sqlite):
        await storage.open()
        for store in STORES:
            await storage.create(store, 1)
    try:
        for now_ms, step in enumerate(steps, 2):
            assert await _take(sqlite, step, now_ms) == await _take(memory, step, now_ms)
        assert await _walks(sqlite) == await _walks(memory)
    finally:
        await sqlite.close()
    assert check(memory, path) == check(sqlite, path) == 2


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(_steps, min_size=1, max_size=8))
def test_sqlite_and_memory_cannot_be_told_apart(steps: list[list[Transaction] | str]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(_compare(steps, Path(directory) / "test.db"))
