"""What is set through a document that does not show the latest value: nothing of it that nobody saw is overwritten.

The other one came before the write was made, so no server refuses it: the client alone can tell.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from syncline import Document, EditMerged, Rejected, Replica, SyncState
from syncline.replica.entry import Refusal
from tests.client.documents.network import Network, Station, until


@dataclass
class Pair:
    """Two programs that have a document in common, and what the first one reports of it."""

    ours: Station
    theirs: Station

    def document(self, station: Station) -> Document[Any]:
        return station.replica.collection("rooms")["r"]

    async def they_set(self, **attributes: Any) -> None:
        """Let the other one set something, which the first one gets."""
        await (await self.document(self.theirs).set(attributes)).synced()
        await until(lambda: self.shows(**attributes))

    def shows(self, **attributes: Any) -> bool:
        """Whether both show these."""
        shown = [self.document(each).attributes for each in (self.ours, self.theirs)]
        return all(each.get(name) == value for each in shown for name, value in attributes.items())

    async def come_to(self, **attributes: Any) -> None:
        await until(lambda: self.shows(**attributes), lambda: [self.document(s) for s in (self.ours, self.theirs)])


def _prepare(replica: Replica) -> None:
    replica.collection("rooms", on_conflict={"tags": _both, "n": _sum, "text": "report", "broken": _broken})


def _both(before: Any, ours: Any, theirs: Any) -> list[str]:
    return sorted({*(ours or []), *(theirs or [])})


def _sum(before: int | None, ours: int, theirs: int) -> int:
    return ours + theirs - (before or 0)


def _broken(before: Any, ours: Any, theirs: Any) -> Any:
    raise ZeroDivisionError


@pytest.fixture(params=["memory", "file"])
async def pair(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Pair]:
    network = Network()
    await network.start()
    path = tmp_path / "ours.db" if request.param == "file" else None
    pair = Pair(Station(network, "ours", path=path, seed=1), Station(network, "theirs", seed=2))
    for station in (pair.ours, pair.theirs):
        station.prepare = _prepare
        await station.open()
        await station.connect()
    await pair.ours.replica.collection("rooms").create(id="r", title="Lobby")
    await until(lambda: "r" in pair.theirs.replica.collection("rooms") and pair.shows(title="Lobby"))
    yield pair
    await pair.ours.burn()
    await pair.theirs.burn()
    await network.stop()


async def test_what_came_since_the_document_was_read_is_merged(pair: Pair) -> None:
    await pair.they_set(tags=["a"])
    old = pair.document(pair.ours)
    await pair.they_set(tags=["a", "b"])
    await old.set(tags=[*old["tags"], "c"])
    assert old["tags"] == ["a", "b", "c"]
    await pair.come_to(tags=["a", "b", "c"])
    assert pair.ours.reports == [EditMerged("rooms:r", "tags", ["a", "b", "c"])]


async def test_a_first_value_that_came_since_is_merged_too(pair: Pair) -> None:
    old = pair.document(pair.ours)
    await pair.they_set(tags=["b"])
    await old.set(tags=["c"], title="Hall")
    await pair.come_to(tags=["b", "c"], title="Hall")


async def test_what_comes_while_the_write_waits_for_its_turn_is_merged(pair: Pair) -> None:
    await pair.they_set(n=1)
    document = pair.document(pair.ours)
    keeper = pair.ours.replica._keeper
    took = keeper._take

    async def take_and_let_the_program_go_on(item: Any) -> None:
        # The program decides when the batch is taken and not shown yet.
        await took(item)
        if not writing:
            writing.append(asyncio.create_task(document.set(n=document["n"] + 1)))
            await asyncio.sleep(0)

    writing: list[asyncio.Task[Any]] = []
    keeper._take = take_and_let_the_program_go_on  # type: ignore[method-assign]
    await pair.document(pair.theirs).set(n=11)
    await until(lambda: writing)
    await writing[0]
    await pair.come_to(n=12)


async def test_a_document_that_is_kept_adds_to_what_its_own_writes_became(pair: Pair) -> None:
    await pair.they_set(n=1)
    ours, theirs = pair.document(pair.ours), pair.document(pair.theirs)
    await pair.theirs.cut()
    await theirs.set(n=11)
    await (await ours.set(n=2)).synced()
    await pair.theirs.connect()
    await pair.come_to(n=12)
    assert (ours["n"], theirs["n"]) == (2, 11)
    await ours.set(n=ours["n"] + 100)
    await theirs.set(n=theirs["n"] + 1000)
    await pair.come_to(n=1112)


async def test_the_program_decides_about_what_came_since(pair: Pair) -> None:
    await pair.they_set(text="a", title="Lobby")
    old = pair.document(pair.ours)
    await pair.they_set(text="b")
    write = await old.set(text="c", title="Hall")
    assert write.state is SyncState.REJECTED
    assert write.refusal == Refusal("conflict", message="'text' of rooms:r was set to \"b\" by somebody else")
    assert pair.ours.replica.rejections == [write]
    assert pair.ours.reports == [Rejected(write.id)]
    assert pair.shows(text="b", title="Lobby")
    await write.retry()
    await pair.come_to(text="c", title="Hall")


async def test_the_program_decides_if_its_function_failed(pair: Pair) -> None:
    old = pair.document(pair.ours)
    await pair.they_set(broken=1)
    write = await old.set(broken=2)
    assert write.state is SyncState.REJECTED
    await write.discard()
    assert pair.shows(broken=1)


async def test_an_attribute_that_the_program_does_not_change_is_left_to_others(pair: Pair) -> None:
    await pair.they_set(text="a", tags=["a"])
    old = pair.document(pair.ours)
    await pair.they_set(text="b", tags=[])
    write = await old.set(text="a", tags=["a"], title="Hall")
    await write.synced()
    await pair.come_to(text="b", tags=[], title="Hall")


async def test_what_is_set_twice_through_one_document_at_once_is_no_conflict(pair: Pair) -> None:
    document = pair.document(pair.ours)
    writes = await asyncio.gather(document.set(text="a", tags=["a"]), document.set(text="ab", tags=["b"]))
    assert [each.state for each in writes] == [SyncState.PENDING] * 2
    await pair.come_to(text="ab", tags=["b"])
    assert pair.ours.replica.rejections == []


async def test_two_parts_of_a_program_merge_what_they_set_through_documents_of_their_own(pair: Pair) -> None:
    await pair.they_set(tags=["a"])
    one, another = pair.document(pair.ours), pair.document(pair.ours)
    await asyncio.gather(one.set(tags=["a", "b"]), another.set(tags=["a", "c"]))
    await pair.come_to(tags=["a", "b", "c"])


async def test_without_a_wish_the_last_one_stands(pair: Pair) -> None:
    old = pair.document(pair.ours)
    await pair.they_set(title="Hall")
    await old.set(title="Attic")
    await pair.come_to(title="Attic")
    assert pair.ours.reports == []
