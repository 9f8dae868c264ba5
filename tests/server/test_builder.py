"""New indexes are completed behind everything else: step by step, in turns, after failures and restarts."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from syncline_protocol.errors import RemoteProtocolError
from syncline_protocol.filter import Filter
from syncline_protocol.index import INDEXES_MAX, IndexSpec
from syncline_protocol.limits import DEFAULT_LIMITS
from syncline_protocol.transaction import Transaction, make_op
from syncline_server.access.view import FULL
from syncline_server.builder import IndexBuilder
from syncline_server.find import Query, find
from syncline_server.hub import Hub
from syncline_server.storage import open_storage
from syncline_server.storage.base import IndexInfo, IndexTaken, StorageUnavailable, StoreUnknown
from syncline_server.storage.memory import MemoryStorage
from tests.support.engine import engine, settle


class SlowStorage(MemoryStorage):
    """Builds an index in three steps, and fails when it is told to.

    `steps` are those that were carried out, `faults` what the next ones raise.
    """

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[tuple[str, str]] = []
        self.faults: list[Exception] = []
        self.is_held = False
        self._built: dict[tuple[str, str], int] = {}

    async def create_index(self, store: str, spec: IndexSpec, now_ms: int) -> tuple[IndexInfo, bool]:
        info, created = await super().create_index(store, spec, now_ms)
        return self._as_built(store, info), created

    async def build_index(self, store: str, name: str, budget_s: float) -> IndexInfo:
        await asyncio.sleep(0)
        while self.is_held:
            await asyncio.sleep(0)
        if self.faults:
            raise self.faults.pop(0)
        info = await super().build_index(store, name, budget_s)
        self.steps.append((store, name))
        self._built[store, info.uid] = self._built.get((store, info.uid), 0) + 1
        return self._as_built(store, info)

    def _as_built(self, store: str, info: IndexInfo) -> IndexInfo:
        state = "ready" if self._built.get((store, info.uid), 0) >= 3 else "building"
        return IndexInfo(info.uid, info.spec, state, info.done, info.created_ms)  # type: ignore[arg-type]


@pytest.fixture
def storage() -> SlowStorage:
    return SlowStorage()


@pytest.fixture
async def hub(storage: SlowStorage) -> AsyncIterator[Hub]:
    async with engine(storage, stores=("notes", "other")) as made:
        yield made


async def test_indexes_are_built_in_turns(hub: Hub, storage: SlowStorage) -> None:
    storage.is_held = True
    await hub.builder.declare("notes", IndexSpec("a", "/a"))
    await hub.builder.declare("other", IndexSpec("b", "/b"))
    storage.is_held = False
    await hub.builder.settled()
    assert storage.steps == [("notes", "a"), ("other", "b")] * 3


async def test_a_step_that_failed_is_tried_again(storage: SlowStorage) -> None:
    rested: list[float] = []

    async def rest(seconds: float) -> None:
        rested.append(seconds)

    async with engine(storage) as hub:
        builder = IndexBuilder(hub, sleep=rest)
        storage.faults = [OSError("disk"), ValueError("mistake")]
        await builder.declare("notes", IndexSpec("a", "/a"))
        await builder.settled()
        assert storage.steps == [("notes", "a")] * 3
        assert [seconds for seconds in rested if seconds] == [1.0, 1.0]


async def test_a_builder_that_cannot_read_the_list_of_stores_tries_again(storage: SlowStorage) -> None:
    async with engine(storage) as hub:
        await hub.builder.declare("notes", IndexSpec("a", "/a"))
        await hub.builder.settled()
        failures = [StorageUnavailable("away")]
        read = storage.stores

        async def stores() -> list[object]:
            if failures:
                raise failures.pop()
            return await read()  # type: ignore[return-value]

        storage.stores = stores  # type: ignore[assignment,method-assign]

        async def rest(seconds: float) -> None:
            assert seconds == 1.0

        builder = IndexBuilder(hub, sleep=rest)
        await builder.resume()
        await builder.settled()
        assert not failures


async def test_a_build_ends_with_its_store(hub: Hub, storage: SlowStorage) -> None:
    storage.is_held = True
    await hub.builder.declare("notes", IndexSpec("a", "/a"))
    await settle()
    await hub.drop("notes")
    storage.is_held = False
    await hub.builder.settled()
    assert storage.steps == []


async def test_a_build_ends_with_its_index_and_begins_anew_with_the_next_of_its_name(
    hub: Hub, storage: SlowStorage
) -> None:
    storage.is_held = True
    await hub.builder.declare("notes", IndexSpec("a", "/a"))
    await settle()
    await hub.drop_index("notes", "a")
    await hub.builder.declare("notes", IndexSpec("a", "/other"))
    storage.is_held = False
    await hub.builder.settled()
    assert storage.steps == [("notes", "a")] * 3


async def test_the_same_index_is_declared_once(hub: Hub) -> None:
    first, created = await hub.builder.declare("notes", IndexSpec("a", "/a"))
    again, created_again = await hub.builder.declare("notes", IndexSpec("a", "/a"))
    assert (created, created_again, first.uid) == (True, False, again.uid)
    with pytest.raises(IndexTaken):
        await hub.builder.declare("notes", IndexSpec("a", "/b"))


async def test_a_store_has_a_bounded_number_of_indexes(hub: Hub) -> None:
    declared = [hub.builder.declare("notes", IndexSpec(f"i{number}", "/a")) for number in range(INDEXES_MAX + 4)]
    results = await asyncio.gather(*declared, return_exceptions=True)
    refused = [it for it in results if isinstance(it, RemoteProtocolError)]
    assert [error.code for error in refused] == ["index_invalid"] * 4
    assert len((await hub.storage.info("notes")).indexes) == INDEXES_MAX
    _, created = await hub.builder.declare("notes", IndexSpec("i0", "/a"))
    assert not created


async def test_what_cannot_be_declared_is_refused(hub: Hub) -> None:
    with pytest.raises(RemoteProtocolError):
        await hub.builder.declare("notes", IndexSpec("a b", "/a"))
    with pytest.raises(StoreUnknown):
        await hub.builder.declare("none", IndexSpec("a", "/a"))


async def test_a_build_goes_on_after_a_restart(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/store.db"
    async with engine(open_storage(url)) as hub:
        for first in range(0, 20_000, 1000):
            ops = tuple([make_op(f"k{n}", b'{"n":%d}' % (n % 10), DEFAULT_LIMITS) for n in range(first, first + 1000)])
            await hub.write(Transaction("notes", ops))
        info, _ = await hub.builder.declare("notes", IndexSpec("n", "/n"))
        assert info.state == "building"
    async with engine(open_storage(url), stores=()) as hub:
        (index,) = (await hub.storage.info("notes")).indexes
        assert index.state == "building", "the server stopped before it was done"
        await hub.builder.settled()
        (index,) = (await hub.storage.info("notes")).indexes
        assert index.state == "ready"
        page = await find(hub.storage, "notes", FULL, Query(Filter("n", eq=3), limit=1, counts=True))
        assert page.count == 2000
