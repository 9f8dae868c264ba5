"""The upkeep of stores: what is due when, what is deleted by age, what holds it back, and what becomes of failures."""

import asyncio

import pytest

from syncline_protocol.cursor import Seq
from syncline_protocol.messages import Batch
from syncline_protocol.transaction import Op, Transaction, hash_value
from syncline_server.hub import Hub
from syncline_server.maintenance import Maintenance, Phase, Policy, policy_of
from syncline_server.maintenance.policy import is_due
from syncline_server.storage.base import Compacted, Horizon, StorageFull, StoreInfo, StoreSettings
from syncline_server.storage.memory import MemoryStorage
from tests.support.engine import Peer, TestClock, engine, seqs_of, settle

#: Nothing of the past is kept.
AT_ONCE = Policy(history_s=0, tombstones_s=0)


async def add(hub: Hub, *keys: str, store: str = "notes") -> None:
    """Add records, each in a transaction of its own."""
    for key in keys:
        await hub.write(Transaction(store, (Op(key, b"1", hash_value(b"1")),)))


async def delete(hub: Hub, *keys: str) -> None:
    """Delete records."""
    for key in keys:
        await hub.write(Transaction("notes", (Op(key),)))


async def info_of(hub: Hub) -> StoreInfo:
    return await hub.storage.info("notes")


async def compacted(hub: Hub) -> StoreInfo:
    """Clean up because somebody asks, and return the store after it."""
    await hub.maintenance.compact("notes")
    await hub.maintenance.settled("notes")
    return await info_of(hub)


# --- policies ---


async def test_what_the_owner_says_goes_before_what_the_server_says() -> None:
    async with engine() as hub:
        defaults = Policy(history_s=5, compact_bytes=7)
        await hub.configure("notes", StoreSettings(history_s=0, retention_s=60))
        policy = policy_of(await info_of(hub), defaults)
        assert (policy.history_s, policy.compact_bytes, policy.retention_s) == (0, 7, 60)


async def test_the_rules_of_users_never_reach_the_servers_own_stores() -> None:
    storage = MemoryStorage()
    async with engine(storage) as hub:
        await storage.create("_audit", 0)
        await storage.configure("_audit", StoreSettings(retention_s=1, history_s=0))
        assert policy_of(await storage.info("_audit"), hub.maintenance.defaults) == hub.maintenance.defaults


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (Policy(compact_ratio=0.5, compact_bytes=10_000), True),
        (Policy(compact_ratio=0.6, compact_bytes=10_000), False),
        (Policy(compact_ratio=1, compact_bytes=10), True),
    ],
)
async def test_clean_up_is_due_by_the_part_or_the_bytes_that_are_dead(policy: Policy, expected: bool) -> None:
    async with engine() as hub:
        await add(hub, "a", "b")
        await delete(hub, "a")
        assert is_due(await info_of(hub), policy) is expected


# --- by the clock ---


async def test_a_store_is_cleaned_up_once_it_is_time_and_enough_is_dead() -> None:
    clock = TestClock()
    async with engine(clock=clock, policy=AT_ONCE, compact_every_s=3600) as hub:
        await hub.maintenance.look()
        await add(hub, "a", "b")
        await delete(hub, "a")
        await hub.maintenance.look()
        assert (await info_of(hub)).sizes.dead_values == 1, "it is not time"
        clock.seconds += 3600
        await hub.maintenance.look()
        assert (await info_of(hub)).sizes.dead_values == 0
        last = hub.maintenance.state(await info_of(hub)).last
        assert last is not None
        assert (last.values, last.error) == (1, "")
        assert hub.counts.cleaned_up["values"] == 1


async def test_history_is_kept_for_as_long_as_was_said() -> None:
    clock = TestClock()
    async with engine(clock=clock, policy=Policy(history_s=100, tombstones_s=1000)) as hub:
        await add(hub, "a", "b", "c")
        await delete(hub, "a")
        clock.seconds += 60
        await delete(hub, "b")
        assert (await compacted(hub)).sizes.dead_values == 2
        clock.seconds += 60
        assert (await compacted(hub)).sizes.dead_values == 1
        clock.seconds += 60
        info = await compacted(hub)
        assert (info.sizes.dead_values, info.sizes.tombstones, info.floors.tombstones) == (0, 2, 0)
        clock.seconds += 1000
        assert (await compacted(hub)).floors.tombstones == 4, "the newest row stays"


async def test_with_clean_up_switched_off_nothing_happens_by_the_clock() -> None:
    clock = TestClock()
    async with engine(clock=clock, policy=AT_ONCE) as hub:
        await add(hub, "a")
        await delete(hub, "a")
        clock.seconds += 1_000_000
        await hub.maintenance.look()
        assert (await info_of(hub)).sizes.dead_values == 1
        assert hub.maintenance.next_ms(hub.maintenance.state(await info_of(hub))) is None


async def test_the_task_rests_between_its_looks_and_ends_with_the_server() -> None:
    rests: list[float] = []

    async def sleep(seconds: float) -> None:
        rests.append(seconds)
        await asyncio.Event().wait()

    async with engine() as hub:
        maintenance = Maintenance(hub, AT_ONCE, every_s=10, sleep=sleep)
        hub.spawn(maintenance.run())
        await settle()
        assert rests == [10]


# --- by age ---


async def test_what_is_too_old_is_deleted_and_subscribers_see_it() -> None:
    clock = TestClock()
    async with engine(clock=clock) as hub:
        await hub.configure("notes", StoreSettings(retention_s=60))
        peer = Peer(hub)
        await peer.subscribe()
        await add(hub, "a", "b")
        clock.seconds += 40
        await add(hub, "c")
        clock.seconds += 40
        await hub.maintenance.look()
        await settle()
        changes = [change for message in peer.take() if isinstance(message, Batch) for change in message.changes]
        assert [(change.op, change.key) for change in changes[3:]] == [("DELETE", "a"), ("DELETE", "b")]
        assert (await info_of(hub)).head.count == 1
        await hub.maintenance.look()
        assert (await info_of(hub)).head.seq == 5, "what is done is not done again"
        clock.seconds += 40
        await hub.maintenance.look()
        assert (await info_of(hub)).head.count == 0


async def test_many_old_records_go_in_transactions_of_a_bounded_size() -> None:
    clock = TestClock()
    async with engine(clock=clock) as hub:
        await hub.configure("notes", StoreSettings(retention_s=60))
        for start in range(0, 1500, 100):
            ops = tuple(Op(f"k{number}", b"1", hash_value(b"1")) for number in range(start, start + 100))
            await hub.write(Transaction("notes", ops))
        clock.seconds += 100
        commits: list[int] = []
        hub.on_commit.append(lambda commit: commits.append(len(commit.rows)))
        await hub.maintenance.look()
        assert sum(commits) == 1500
        assert max(commits) <= 500


async def test_a_store_without_an_age_keeps_everything() -> None:
    clock = TestClock()
    async with engine(clock=clock, compact_every_s=1) as hub:
        await add(hub, "a")
        clock.seconds += 10**9
        await hub.maintenance.look()
        assert (await info_of(hub)).head.count == 1


# --- pins ---


async def test_nothing_goes_that_a_pin_holds_and_it_goes_when_the_pin_does() -> None:
    async with engine(policy=AT_ONCE) as hub:
        await add(hub, "a", "b")
        await delete(hub, "a", "b")
        async with hub.pins.hold("notes", Seq(3)):
            assert (await hub.maintenance.estimate("notes")).values == 1
            assert (await compacted(hub)).floors.history == 3
            assert await hub.storage.get("notes", "b", Seq(3)) is not None
        assert (await compacted(hub)).floors.history == 4
        assert hub.pins.lowest("notes") is None


async def test_a_pin_that_comes_during_a_step_waits_for_its_end() -> None:
    async with engine() as hub:
        order: list[str] = []

        async def hold() -> None:
            async with hub.pins.hold("notes", Seq(2)):
                order.append("held")

        async with hub.pins.step("notes", Seq(5)) as allowed:
            assert allowed == 5
            holding = asyncio.create_task(hold())
            await settle()
            order.append("step over")
        await holding
        assert order == ["step over", "held"]


async def test_a_pin_above_a_step_waits_for_nothing_and_the_lowest_of_several_counts() -> None:
    async with engine() as hub, hub.pins.step("notes", Seq(5)), hub.pins.hold("notes", Seq(7)):
        async with hub.pins.hold("notes", Seq(6)), hub.pins.hold("notes", Seq(6)):
            assert (hub.pins.lowest("notes"), hub.pins.count("notes")) == (6, 3)
        assert (hub.pins.lowest("notes"), hub.pins.count("notes")) == (7, 1)


# --- failures and ends ---


class Failing(MemoryStorage):
    """A storage whose clean-up fails as often as a test says, and waits if it says so."""

    def __init__(self) -> None:
        super().__init__()
        self.failures = 0
        self.hold: asyncio.Event | None = None

    async def compact(self, store: str, horizon: Horizon, budget_s: float) -> Compacted:
        if self.hold is not None:
            await self.hold.wait()
        if self.failures:
            self.failures -= 1
            raise StorageFull("the disk is full")
        return await super().compact(store, horizon, budget_s)


async def test_a_failure_is_told_tried_again_later_and_in_nobodys_way() -> None:
    storage, clock = Failing(), TestClock()
    async with engine(storage, clock=clock, policy=AT_ONCE, compact_every_s=100) as hub:
        await add(hub, "a")
        await delete(hub, "a")
        storage.failures = 1
        info = await compacted(hub)
        state = hub.maintenance.state(info)
        assert state.phase is Phase.FAILED
        assert state.last is not None
        assert "disk is full" in state.last.error
        assert hub.gauges().upkeep["failed"] == 1
        assert hub.counts.upkeep_failures == 1
        await add(hub, "b")
        await hub.maintenance.look()
        assert hub.gauges().upkeep["failed"] == 1, "it waits before it tries again"
        clock.seconds += 31
        await hub.maintenance.look()
        assert hub.gauges().upkeep["idle"] == 1
        assert (await info_of(hub)).sizes.dead_values == 0


async def test_two_who_ask_at_once_get_one_run() -> None:
    storage = Failing()
    async with engine(storage, policy=AT_ONCE) as hub:
        await add(hub, "a")
        await delete(hub, "a")
        storage.hold = asyncio.Event()
        first = await hub.maintenance.compact("notes")
        await settle()
        progress = first.progress
        assert first.phase is Phase.COMPACTING
        assert progress is not None
        assert progress.values_total == 1
        assert (await hub.maintenance.compact("notes")).progress is progress
        storage.hold.set()
        await hub.maintenance.settled("notes")
        assert hub.counts.cleaned_up["values"] == 1


async def test_a_store_that_is_dropped_during_its_clean_up_ends_it_without_a_failure() -> None:
    storage = Failing()
    async with engine(storage, policy=AT_ONCE) as hub:
        await add(hub, "a")
        await delete(hub, "a")
        storage.hold = asyncio.Event()
        state = await hub.maintenance.compact("notes")
        await settle()
        await hub.drop("notes")
        storage.hold.set()
        await hub.maintenance.settled("notes")
        assert (state.phase, state.failures) == (Phase.IDLE, 0)
        await hub.maintenance.look()
        assert hub.gauges().upkeep["idle"] == 0


async def test_the_stop_of_the_server_waits_for_the_step_under_way_only() -> None:
    storage = Failing()
    async with engine(storage, policy=AT_ONCE) as hub:
        await add(hub, "a", "b")
        await delete(hub, "a")
        storage.hold = asyncio.Event()
        state = await hub.maintenance.compact("notes")
        await settle()
        stopping = asyncio.create_task(hub.maintenance.stop())
        await settle()
        assert not stopping.done()
        storage.hold.set()
        await stopping
        assert state.progress is None
        assert (await info_of(hub)).sizes.dead_values == 0, "the step was carried out"


async def test_what_a_subscriber_holds_does_not_change_with_clean_up() -> None:
    async with engine(policy=AT_ONCE) as hub:
        await add(hub, "a", "b", "c")
        await delete(hub, "b")
        await compacted(hub)
        assert seqs_of(await Peer(hub).subscribe()) == [1, 3]
