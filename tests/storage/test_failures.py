"""A commit that fails, on every backend that declares it can: unknown outcomes, and what opening again brings back."""

import asyncio
import sqlite3

import pytest

from syncline_protocol import Seq
from syncline_server.storage.base import StorageUnavailable

from .conftest import Bench, add, single, write


async def test_an_error_after_the_commit_leaves_the_write_in_the_log_and_its_retry_is_dup(failing: Bench) -> None:
    await failing.result(add("k0"))
    failing.fault.at("after_commit")
    with pytest.raises(StorageUnavailable, match="disk I/O error"):
        await failing.answer(write(add("k1"), add("k2")))
    assert failing.fault.has_fired
    await failing.storage.open()
    again = await failing.answer(write(add("k1"), add("k2")))
    assert (again.status, [op.seq for op in again.ops]) == ("dup", [2, 3])


async def test_an_error_before_the_commit_leaves_nothing_and_the_retry_is_ok(failing: Bench) -> None:
    await failing.result(add("k0"))
    failing.fault.at("before_commit")
    with pytest.raises(StorageUnavailable):
        await failing.result(add("k1"))
    await failing.storage.open()
    assert (await failing.head()).seq == 1
    again = await failing.answer(single(add("k1")))
    assert (again.status, again.last_seq) == ("ok", 2)


async def test_after_an_error_nothing_works_until_the_storage_is_opened_again(failing: Bench) -> None:
    await failing.result(add("k0"))
    failing.fault.at("after_commit")
    with pytest.raises(StorageUnavailable):
        await failing.result(add("k1"))
    storage = failing.storage
    for call in (
        lambda: storage.append([], 1),
        lambda: storage.create("more", 1),
        lambda: storage.drop("notes"),
        lambda: storage.stores(),
        lambda: storage.info("notes"),
        lambda: storage.read("notes", Seq(0), Seq(1)),
        lambda: storage.get("notes", "k0"),
        lambda: storage.distrust("notes"),
    ):
        with pytest.raises(StorageUnavailable, match="disk I/O error"):
            await call()
    await storage.open()
    assert await failing.walk() == ["+k0", "+k1"]


async def test_appends_that_waited_behind_a_failed_one_are_not_carried_out(failing: Bench) -> None:
    failing.fault.at("after_commit")
    waiting = [failing.storage.append([single(add(f"k{n}"))], 1) for n in range(5)]
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(result) for result in results] == [StorageUnavailable] * 5
    await failing.storage.open()
    assert await failing.walk() == ["+k0"]


async def test_the_first_commit_after_an_error_starts_an_incarnation(failing: Bench) -> None:
    await failing.result(add("k0"))
    failing.fault.at("after_commit")
    with pytest.raises(StorageUnavailable):
        await failing.result(add("k1"))
    await failing.storage.open()
    await failing.result(add("k2"))
    assert [entry.first_seq for entry in (await failing.head()).lineage.entries] == [0, 3]


@pytest.mark.parametrize("point", ["before_commit", "after_commit"])
async def test_a_create_and_a_drop_that_fail_are_decided_by_what_is_found_again(failing: Bench, point: str) -> None:
    happened = point == "after_commit"
    failing.fault.at(point)
    with pytest.raises(StorageUnavailable):
        await failing.storage.create("more", 1)
    await failing.storage.open()
    _, was_created = await failing.storage.create("more", 2)
    assert was_created == (not happened)
    failing.fault.at(point)
    with pytest.raises(StorageUnavailable):
        await failing.storage.drop("more")
    await failing.storage.open()
    assert [info.name for info in await failing.storage.stores()] == (["notes"] if happened else ["more", "notes"])


async def test_a_mistake_of_ours_stops_the_writer_too(failing: Bench) -> None:
    failing.fault.at("after_commit", ZeroDivisionError("a bug"))
    with pytest.raises(ZeroDivisionError):
        await failing.result(add("k1"))
    with pytest.raises(StorageUnavailable, match="a bug"):
        await failing.result(add("k2"))
    await failing.storage.open()
    assert await failing.walk() == ["+k1"]


async def test_an_error_that_says_full_after_a_commit_is_not_believed(failing: Bench) -> None:
    error = sqlite3.OperationalError("database or disk is full")
    error.sqlite_errorcode = sqlite3.SQLITE_FULL
    failing.fault.at("after_commit", error)
    with pytest.raises(StorageUnavailable) as caught:
        await failing.result(add("k1"))
    assert type(caught.value) is StorageUnavailable
    await failing.storage.open()
    assert await failing.walk() == ["+k1"]
