"""What is found is what the asker sees: for a part by keys, for a part by an index, and while his rights change."""

from collections.abc import AsyncIterator

import pytest

from syncline_protocol.cursor import Seq
from syncline_protocol.index import IndexSpec, TermRange
from syncline_protocol.messages import Error, Find, Found
from syncline_server.storage.base import Found as FoundPiece
from syncline_server.storage.base import Place
from tests.support.engine import settle
from tests.support.http import Answered

from .guarded import HeldStorage, guarded
from .people import Town, town

_RECORDS = "/v1/stores/notes/records"


@pytest.fixture
async def world() -> AsyncIterator[Town]:
    """A town in whose `notes` records of two parts refer to each other."""
    async with town() as made:
        await made.hub.builder.declare("notes", IndexSpec("to", "/to", "multi"))
        await made.hub.builder.declare("notes", IndexSpec("n", "/n", "range"))
        await made.add("v/10", b'{"to":["v/1","a/1","none"],"n":1}', by="owner")
        await made.add("a/10", b'{"to":["v/1","a/1"],"n":2}', by="owner")
        await made.add("v/11", b'{"to":"a/1","n":3}', by="owner")
        await made.grant("keyed", "reader", authors=False)
        yield made


def keys_of(answer: Answered) -> list[str]:
    assert answer.status == 200, answer.content
    return [record["key"] for record in answer.json["records"]]


async def test_a_part_is_all_that_is_found_and_counted(world: Town) -> None:
    answer = await world.get("viewed", f"{_RECORDS}?index=n&count=1")
    assert (keys_of(answer), answer.json["count"], answer.json["next"]) == (["v/10", "v/11"], 2, None)
    answer = await world.get("viewed", f"{_RECORDS}?order=desc&count=1")
    assert (keys_of(answer), answer.json["count"]) == (["v/2", "v/11", "v/10", "v/1"], 4)
    assert keys_of(await world.get("reader", f"{_RECORDS}?index=n")) == ["v/10", "a/10", "v/11"]


async def test_references_lead_to_what_is_seen_only(world: Town) -> None:
    assert keys_of(await world.get("owner", f"{_RECORDS}/v%2F10/references/to")) == ["v/1", "a/1"]
    assert keys_of(await world.get("viewed", f"{_RECORDS}/v%2F10/references/to")) == ["v/1"]
    assert keys_of(await world.get("viewed", f"{_RECORDS}/v%2F1/referrers/to")) == ["v/10"]
    assert keys_of(await world.get("viewed", f"{_RECORDS}/a%2F1/referrers/to")) == ["v/10", "v/11"]


async def test_a_reference_to_what_is_hidden_is_answered_as_one_to_nothing(world: Town) -> None:
    hidden = await world.get("viewed", f"{_RECORDS}/v%2F11/references/to")
    await world.add("v/12", b'{"to":"none","n":3}', by="owner")
    nothing = await world.get("viewed", f"{_RECORDS}/v%2F12/references/to")
    assert hidden.json["records"] == nothing.json["records"] == []
    absent = await world.get("viewed", f"{_RECORDS}/none/references/to")
    kept_back = await world.get("viewed", f"{_RECORDS}/a%2F10/references/to")
    assert absent.content == kept_back.content


async def test_who_may_not_know_authors_finds_records_without_them(world: Town) -> None:
    assert "by" not in (await world.get("keyed", f"{_RECORDS}?index=n")).json["records"][0]
    assert "by" not in (await world.get("keyed", f"{_RECORDS}/v%2F10/references/to")).json["records"][0]
    assert (await world.get("reader", f"{_RECORDS}?index=n")).json["records"][0]["by"] == "owner"


async def test_the_head_of_a_part_is_where_its_reader_goes_on(world: Town) -> None:
    at = (await world.get("viewed", f"{_RECORDS}?order=asc")).json["at"]
    await world.add("a/99", by="owner")
    await world.add("v/99", by="owner")
    changes = await world.get("viewed", f"/v1/stores/notes/changes?after={at}")
    assert [change["key"] for change in changes.json["changes"]] == ["v/99"]


async def test_who_declares_and_drops_an_index_is_written_down(world: Town) -> None:
    await world.ask("owner", "PUT", "/v1/stores/notes/indexes/room", {"path": "/room"})
    await world.ask("writer", "DELETE", "/v1/stores/notes/indexes/room")
    await world.ask("owner", "DELETE", "/v1/stores/notes/indexes/room")
    await world.ask("owner", "DELETE", "/v1/stores/notes/indexes/room")
    entries = (await world.get("admin", "/v1/audit")).json["entries"]
    noted = [(it["action"], it["actor"], it["subject"]) for it in entries if it["action"].startswith("index.")]
    assert sorted(noted) == [("index.create", "owner", "notes/room"), ("index.drop", "owner", "notes/room")]


class HeldFinds(HeldStorage):
    """Storage whose finds can be held back."""

    async def find(
        self,
        store: str,
        index: str | None,
        terms: TermRange,
        *,
        after: Place | None = None,
        descending: bool = False,
        limit: int = 100,
    ) -> FoundPiece:
        piece = await super().find(store, index, terms, after=after, descending=descending, limit=limit)
        return await self._passed("find", store, piece)


async def test_what_was_found_is_not_told_once_the_right_to_it_is_gone() -> None:
    storage = HeldFinds()
    async with guarded(storage) as world:
        token = await world.user("ann")
        grant = await world.grant("user:ann", role="reader")
        peer = world.peer(token)
        await settle()
        peer.take()
        gate = storage.hold("find")
        peer.send(Find(1, "notes"))
        asked = world.ask("GET", f"{_RECORDS}?order=asc", token)
        await _until_waiting(storage, 2)
        await world.directory.remove_grant(grant)
        gate.set()
        await settle()
        (refusal,) = [it for it in peer.take() if isinstance(it, (Error, Found))]
        assert isinstance(refusal, Error)
        assert refusal.code == "store_unknown"
        await asked.task
        assert asked.status == 404


async def test_what_was_found_is_looked_for_again_once_another_part_is_seen() -> None:
    storage = HeldFinds()
    async with guarded(storage) as world:
        token = await world.user("ann")
        await world.grant("user:ann", role="writer")
        peer = world.peer(token)
        await settle()
        for number, key in enumerate(("a/1", "v/1")):
            peer.add(number, key)
        await settle()
        peer.take()
        gate = storage.hold("find")
        peer.send(Find(9, "notes"))
        await _until_waiting(storage, 1)
        await world.grant("user:ann", role="reader", read_prefix="v/")
        gate.set()
        await settle()
        (answer,) = [it for it in peer.take() if isinstance(it, Found)]
        assert [change.key for change in answer.records] == ["v/1"]
        assert Seq(2) == answer.records[0].seq


async def _until_waiting(storage: HeldFinds, count: int) -> None:
    while storage.waiting < count:
        await settle()
