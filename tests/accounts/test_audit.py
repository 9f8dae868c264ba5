"""The audit log of servers: whole after failures, restarts and rivals; and nothing is done that it could not record."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from syncline_protocol.audit import NO_HEAD, AuditHead, Verified, decode_entry, entry_hash, verify
from syncline_protocol.cursor import Seq
from syncline_protocol.limits import DEFAULT_LIMITS
from syncline_protocol.transaction import Transaction, make_op
from syncline_server.accounts.audit import AUDIT_STORE, ENTRIES_MAX, AuditLog
from syncline_server.storage.base import (
    Outcome,
    Record,
    Storage,
    StorageError,
    StorageFull,
    StorageUnavailable,
    StoreMismatch,
    StoreUnknown,
)
from syncline_server.storage.memory import MemoryStorage
from syncline_server.storage.sqlite import SqliteStorage
from tests.support.faulty_storage import FaultyStorage

Write = Callable[[Transaction], Awaitable[Outcome | StorageError]]


def writer_of(storage: Storage) -> Write:
    """Return what commits to a storage directly."""

    async def write(transaction: Transaction) -> Outcome | StorageError:
        appended = await storage.append([transaction], 1_000)
        return appended.outcomes[0]

    return write


async def opened(storage: Storage, write: Write | None = None) -> AuditLog:
    """Return the log of a server that just started."""
    log = AuditLog(storage, write or writer_of(storage), lambda: 1_000)
    await log.open()
    return log


async def texts_in(log: AuditLog) -> list[bytes]:
    """Return the exact texts of all entries."""
    return [text async for text in log.walk()]


async def subjects(log: AuditLog) -> list[str | None]:
    """Verify the log, with the head that the process knows, and return the subjects of its entries."""
    texts = await texts_in(log)
    verify(texts, log.head)
    return [decode_entry(text).subject for text in texts]


@pytest.fixture(params=["memory", "sqlite"])
async def storage(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Storage]:
    """An open storage."""
    storage: Storage = MemoryStorage() if request.param == "memory" else SqliteStorage(tmp_path / "test.db")
    await storage.open()
    yield storage
    await storage.close()


@pytest.fixture
async def faulty() -> FaultyStorage:
    """A storage that fails where a test says so."""
    storage = FaultyStorage()
    await storage.open()
    return storage


# --- one process ---


async def test_a_new_log_is_empty(storage: Storage) -> None:
    log = await opened(storage)
    assert log.head == await log.read_head() == NO_HEAD
    assert await log.entries() == ()
    assert await texts_in(log) == []


async def test_what_was_recorded_is_in_the_log_with_all_that_was_said(storage: Storage) -> None:
    log = await opened(storage)
    entry = await log.record(
        "grant.add", actor="alice", subject="g_1", outcome="begun", address="192.0.2.1", to="user:bob", store="notes"
    )
    (text,) = await texts_in(log)
    assert decode_entry(text) == entry
    assert (entry.n, entry.time, entry.detail) == (0, 1_000, {"to": "user:bob", "store": "notes"})
    assert log.head == AuditHead(0, entry_hash(text))


async def test_entries_follow_each_other_in_a_chain_that_verifies(storage: Storage) -> None:
    log = await opened(storage)
    for n in range(5):
        await log.record("login.ok", actor="alice", subject=str(n))
    assert verify(await texts_in(log)) == Verified(5, log.head, 1_000, 1_000)


async def test_calls_that_wait_together_go_out_as_one_transaction_in_the_order_of_the_calls() -> None:
    storage = FaultyStorage()
    await storage.open()
    log = await opened(storage)
    gate = storage.hold("before_append")
    calls = [asyncio.create_task(log.record("logout", actor="alice", subject=str(n))) for n in range(10)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    later = [asyncio.create_task(log.record("logout", actor="alice", subject=str(n))) for n in range(10, 13)]
    gate.set()
    entries = await asyncio.gather(*calls, *later)
    assert [entry.n for entry in entries] == list(range(13))
    assert await subjects(log) == [str(n) for n in range(13)]
    seqs = [row.last_seq for row in await storage.fetch(AUDIT_STORE, [(Seq(1), Seq(13))], Seq(13))]
    assert seqs == [10] * 10 + [13] * 3


async def test_more_than_fits_into_a_transaction_goes_out_as_several(storage: Storage) -> None:
    log = await opened(storage)
    long = "\u0001" * 1000
    calls = [log.record("logout", actor=long, subject=str(n), a=long, b=long, c=long, d=long) for n in range(100)]
    await asyncio.gather(*calls)
    await asyncio.gather(*(log.record("logout", actor=None, subject=str(n)) for n in range(100, 800)))
    assert await subjects(log) == [str(n) for n in range(800)]


async def test_pages_and_walks_begin_behind_any_entry(storage: Storage) -> None:
    log = await opened(storage)
    await asyncio.gather(*(log.record("logout", actor=None, subject=str(n)) for n in range(ENTRIES_MAX + 5)))
    texts = await texts_in(log)
    assert len(texts) == ENTRIES_MAX + 5
    assert await log.entries(limit=10_000) == tuple(texts[:ENTRIES_MAX])
    assert await log.entries(after=2, limit=3) == tuple(texts[3:6])
    assert await log.entries(after=ENTRIES_MAX + 2) == tuple(texts[-2:])
    assert await log.entries(after=ENTRIES_MAX + 4) == await log.entries(after=10**9) == ()
    assert [text async for text in log.walk(after=1)] == texts[2:]


async def test_an_entry_that_must_not_be_written_fails_its_caller_and_nobody_else(storage: Storage) -> None:
    log = await opened(storage)
    good, bad = await asyncio.gather(
        log.record("logout", actor="alice"), log.record("nonsense", actor="bob"), return_exceptions=True
    )
    assert isinstance(bad, ValueError)
    assert not isinstance(good, BaseException)
    assert verify(await texts_in(log)).count == 1


async def test_who_no_longer_waits_leaves_the_others_alone(faulty: FaultyStorage) -> None:
    log = await opened(faulty)
    gate = faulty.hold("before_append")
    calls = [asyncio.create_task(log.record("logout", actor=None, subject=str(n))) for n in range(2)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    calls += [asyncio.create_task(log.record("logout", actor=None, subject=str(n))) for n in range(2, 4)]
    await asyncio.sleep(0)
    calls[0].cancel()
    calls[2].cancel()
    await asyncio.sleep(0)
    gate.set()
    assert [(await calls[n]).subject for n in (1, 3)] == ["1", "3"]
    assert await subjects(log) == ["0", "1", "3"]


async def test_closing_waits_for_what_is_being_written(faulty: FaultyStorage) -> None:
    log = await opened(faulty)
    gate = faulty.hold("before_append")
    call = asyncio.create_task(log.record("logout", actor=None))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    call.cancel()
    closing = asyncio.create_task(log.close())
    await asyncio.sleep(0)
    assert not closing.done()
    gate.set()
    await closing
    await log.close()


# --- restarts and rivals ---


async def test_a_restart_goes_on_behind_the_last_entry(storage: Storage) -> None:
    for start in range(3):
        log = await opened(storage)
        await asyncio.gather(*(log.record("login.ok", actor="alice", subject=f"{start}.{n}") for n in range(2)))
    again = await opened(storage)
    assert again.head == log.head
    assert await subjects(again) == ["0.0", "0.1", "1.0", "1.1", "2.0", "2.1"]


async def test_only_the_end_is_read_at_a_start() -> None:
    class Counting(MemoryStorage):
        fetched = got = 0

        async def get(self, store: str, key: str, at: Seq | None = None) -> Record | None:
            self.got += 1
            return await super().get(store, key, at)

        async def fetch(self, *arguments, **options):  # type: ignore[no-untyped-def]
            self.fetched += 1
            return await super().fetch(*arguments, **options)

    storage = Counting()
    await storage.open()
    log = await opened(storage)
    await asyncio.gather(*(log.record("logout", actor=None) for _ in range(50)))
    storage.got = 0
    await opened(storage)
    assert (storage.got, storage.fetched) == (1, 0)


async def test_of_two_processes_that_take_turns_each_appends_behind_the_other(storage: Storage) -> None:
    one, other = await opened(storage), await opened(storage)
    for n in range(4):
        await (one, other)[n % 2].record("login.ok", actor="alice", subject=str(n))
    assert await subjects(other) == ["0", "1", "2", "3"]
    assert one.head.n == 2
    assert await one.read_head() == one.head == other.head


async def test_processes_that_write_at_the_same_time_lose_nothing_and_keep_their_own_order(storage: Storage) -> None:
    logs = [await opened(storage) for _ in range(3)]
    calls = [
        log.record("login.ok", actor="alice", subject=f"{who}.{n}") for n in range(20) for who, log in enumerate(logs)
    ]
    await asyncio.gather(*calls)
    await asyncio.gather(*(log.record("login.ok", actor="alice", subject=f"{who}.20") for who, log in enumerate(logs)))
    for log in logs:
        await log.read_head()
    seen = await subjects(logs[0])
    for who in range(3):
        assert [each for each in seen if (each or "").startswith(f"{who}.")] == [f"{who}.{n}" for n in range(21)]
    assert len(seen) == 63


async def test_the_same_event_in_two_processes_in_the_same_millisecond_is_two_entries(storage: Storage) -> None:
    one, other = await opened(storage), await opened(storage)
    first = await one.record("login.failed", actor=None, subject="alice")
    second = await other.record("login.failed", actor=None, subject="alice")
    assert (first.n, second.n) == (0, 1)
    await asyncio.gather(*(log.record("logout", actor="alice") for log in (one, other) for _ in range(2)))
    await other.read_head()
    assert len(await subjects(other)) == 6


async def test_who_is_always_slower_than_the_others_gives_up_with_an_error() -> None:
    storage = MemoryStorage()
    await storage.open()
    rival = await opened(storage)
    direct = writer_of(storage)

    async def too_late(transaction: Transaction) -> Outcome | StorageError:
        await rival.record("login.ok", actor="rival")
        return await direct(transaction)

    log = await opened(storage, too_late)
    with pytest.raises(StorageUnavailable, match="faster 100 times"):
        await log.record("logout", actor="alice")
    assert verify(await texts_in(log)).count == 100


# --- failures ---


@pytest.mark.parametrize("point", ["before_append", "after_append"])
async def test_after_a_failure_that_may_or_may_not_have_written_the_chain_goes_on_whole(
    faulty: FaultyStorage, point: str
) -> None:
    log = await opened(faulty)
    await log.record("login.ok", actor="alice", subject="a")
    faulty.fail(point)
    results = await asyncio.gather(
        *(log.record("store.drop", actor="alice", subject=f"b{n}") for n in range(2)), return_exceptions=True
    )
    assert [type(result) for result in results] == [StorageUnavailable] * 2
    with pytest.raises(StorageUnavailable):
        await log.record("logout", actor="alice", subject="while it is away")
    assert faulty.all_faults_fired
    await faulty.open()
    await log.record("login.ok", actor="alice", subject="c")
    assert await subjects(log) == (["a", "c"] if point == "before_append" else ["a", "b0", "b1", "c"])


async def test_a_failure_to_read_the_end_is_a_failure_to_record_and_passes(faulty: FaultyStorage) -> None:
    log = await opened(faulty)
    faulty.fail("before_append")
    with pytest.raises(StorageUnavailable):
        await log.record("logout", actor="alice")
    await faulty.open()
    faulty.fail("after_info")
    with pytest.raises(StorageUnavailable):
        await log.record("logout", actor="alice")
    await log.record("logout", actor="alice", subject="c")
    assert await subjects(log) == ["c"]
    assert faulty.all_faults_fired


async def test_a_full_disk_records_nothing_until_there_is_room(faulty: FaultyStorage) -> None:
    log = await opened(faulty)
    faulty.fail("before_append", StorageFull("no space"))
    with pytest.raises(StorageFull):
        await log.record("logout", actor="alice", subject="a")
    await log.record("logout", actor="alice", subject="b")
    assert await subjects(log) == ["b"]


async def test_a_log_that_cannot_be_opened_says_so(faulty: FaultyStorage) -> None:
    faulty.fail("before_create")
    with pytest.raises(StorageUnavailable):
        await opened(faulty)


async def test_an_error_that_is_returned_instead_of_raised_is_the_callers_error_too(faulty: FaultyStorage) -> None:
    answers: list[Outcome | StorageError] = [StorageUnavailable("away"), Outcome("denied", ())]

    async def write(transaction: Transaction) -> Outcome | StorageError:
        return answers.pop(0) if answers else await writer_of(faulty)(transaction)

    log = await opened(faulty, write)
    with pytest.raises(StorageUnavailable, match="away"):
        await log.record("logout", actor="alice")
    with pytest.raises(StorageUnavailable, match="refused: denied"):
        await log.record("logout", actor="alice")
    assert (await log.record("logout", actor="alice")).n == 0


async def test_a_mistake_of_the_writer_fails_the_callers_with_a_storage_error(faulty: FaultyStorage) -> None:
    async def write(transaction: Transaction) -> Outcome | StorageError:
        raise ZeroDivisionError

    log = await opened(faulty, write)
    with pytest.raises(StorageUnavailable, match="ZeroDivisionError"):
        await log.record("logout", actor="alice")


@pytest.mark.parametrize("point", ["before_append", "after_append"])
async def test_a_server_that_died_while_it_wrote_is_followed_by_one_whose_chain_is_whole(
    faulty: FaultyStorage, point: str
) -> None:
    log = await opened(faulty)
    await log.record("login.ok", actor="alice", subject="a")
    faulty.hold(point)
    dying = asyncio.create_task(log.record("store.drop", actor="alice", subject="b"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    faulty._gates.clear()
    next_one = await opened(faulty)
    await next_one.record("login.ok", actor="alice", subject="c")
    assert await subjects(next_one) == (["a", "c"] if point == "before_append" else ["a", "b", "c"])
    dying.cancel()
    assert log._writing is not None
    log._writing.cancel()
    await asyncio.gather(dying, log._writing, return_exceptions=True)


@pytest.mark.parametrize("point", ["before append", "in the commit", "after the commit"])
async def test_a_sqlite_commit_that_fails_at_any_point_leaves_the_chain_whole(tmp_path: Path, point: str) -> None:
    fails: list[str] = []

    async def write(transaction: Transaction) -> Outcome | StorageError:
        if point in fails and point == "before append":
            raise StorageUnavailable("disk I/O error")
        appended = await disk.append([transaction], 1_000)
        if point in fails and point == "after the commit":
            raise StorageUnavailable("disk I/O error")
        return appended.outcomes[0]

    def fault(at: str) -> None:
        if point in fails and point == "in the commit":
            fails.clear()
            raise StorageUnavailable(f"disk I/O error at {at}")

    disk = SqliteStorage(tmp_path / "test.db", fault=fault)
    await disk.open()
    log = await opened(disk, write)
    await log.record("login.ok", actor="alice", subject="a")
    fails.append(point)
    with pytest.raises(StorageError):
        await log.record("login.ok", actor="alice", subject="b")
    fails.clear()
    await disk.close()
    await disk.open()
    await log.record("login.ok", actor="alice", subject="c")
    assert await subjects(log) == (["a", "b", "c"] if point == "after the commit" else ["a", "c"])
    await disk.close()


# --- a log that somebody laid hands on ---


async def test_a_log_that_was_dropped_and_made_anew_is_not_written_to(storage: Storage) -> None:
    log = await opened(storage)
    await log.record("login.ok", actor="alice")
    await storage.drop(AUDIT_STORE)
    with pytest.raises(StoreUnknown):
        await log.record("logout", actor="alice")
    await storage.create(AUDIT_STORE, 1_000)
    for _ in range(2):
        with pytest.raises(StoreMismatch):
            await log.record("logout", actor="alice")
    assert (await storage.info(AUDIT_STORE)).head.seq == 0


async def put(storage: Storage, key: str, text: bytes | None) -> None:
    """Write to the log behind the server's back."""
    appended = await storage.append([Transaction(AUDIT_STORE, (make_op(key, text, DEFAULT_LIMITS),))], 1_000)
    assert isinstance(appended.outcomes[0], Outcome)
    assert appended.outcomes[0].status == "ok"


@pytest.mark.parametrize(
    ("key", "text", "reason"),
    [
        (f"{1:016}", b'{"n":1}', "not an entry"),
        ("nonsense", b"1", "entry 1 is not there"),
        (f"{0:016}", None, "entry 1 is not there"),
    ],
)
async def test_an_end_that_is_no_entry_is_found_at_the_start_and_can_still_be_read(
    storage: Storage, key: str, text: bytes | None, reason: str
) -> None:
    log = await opened(storage)
    await log.record("login.ok", actor="alice")
    await put(storage, key, text)
    with pytest.raises(StorageError, match=reason) as raised:
        await opened(storage)
    assert "syncline audit verify" in str(raised.value)
    assert len(await texts_in(log)) == (0 if text is None else 2)


async def test_a_number_in_the_wrong_place_is_found(storage: Storage) -> None:
    log = await opened(storage)
    await log.record("login.ok", actor="alice")
    (text,) = await texts_in(log)
    await put(storage, f"{1:016}", text)
    with pytest.raises(StorageError, match="entry 0 is in the place of entry 1"):
        await log.read_head()


async def test_a_log_that_lost_entries_under_a_running_server_is_found() -> None:
    storage, older = MemoryStorage(mint=lambda: "m"), MemoryStorage(mint=lambda: "m")
    for each in (storage, older):
        await each.open()
        await (await opened(each)).record("login.ok", actor="alice", subject="a")
    log = await opened(storage)
    await log.record("login.ok", actor="alice", subject="b")
    storage._logs = older._logs
    with pytest.raises(StorageError, match="it ends at entry 0, but there was an entry 1"):
        await log.read_head()
    with pytest.raises(StorageError, match="entry 2 became change 2: entries before it are missing"):
        await log.record("login.ok", actor="alice", subject="c")


async def test_a_newest_entry_that_was_altered_under_a_running_server_is_found() -> None:
    storage, altered = MemoryStorage(mint=lambda: "m"), MemoryStorage(mint=lambda: "m")
    for each, actor in ((storage, "alice"), (altered, "bob")):
        await each.open()
        log = await opened(each)
        await log.record("login.ok", actor=actor)
    log = await opened(storage)
    storage._logs = altered._logs
    with pytest.raises(StorageError, match="entry 0 was altered"):
        await log.read_head()
