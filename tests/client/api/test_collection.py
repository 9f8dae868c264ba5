"""Collections and documents of either API, with and without a type."""

from dataclasses import dataclass
from typing import Any

import msgspec
import pytest

import syncline
from syncline import Client, Collection, Document, Ref, Replica, Report, SyncState
from syncline.testing import Server
from tests.client.api.adapter import Api
from tests.client.api.waiting import until


@dataclass
class Room:
    title: str
    size: int = 1
    owner: Ref | None = None


class Message(msgspec.Struct):
    text: str


@pytest.fixture
async def replica(client: Client, store: str) -> Replica:
    opened = await client.replica(store)
    await opened.wait_caught_up()
    return opened


@pytest.fixture
async def rooms(replica: Replica) -> Collection[Any]:
    return replica.collection("rooms")


@pytest.fixture
async def theirs(other: Client, store: str) -> Replica:
    """The replica of somebody else, with the async API."""
    opened = await other.replica(store)
    await opened.wait_caught_up()
    return opened


async def test_a_document_is_made_and_found(rooms: Collection[Any]) -> None:
    room = await rooms.create(title="Lobby", tags=["a"])
    assert room.attributes == {"title": "Lobby", "tags": ["a"]}
    assert (room["title"], room.get("title"), room.get("size", 7)) == ("Lobby", "Lobby", 7)
    assert ("title" in room, "size" in room) == (True, False)
    found = rooms.get(room.id)
    assert found is not None
    assert found.attributes == rooms[room.id].attributes == room.attributes
    assert (room.id in rooms, "never" in rooms, len(rooms)) == (True, False, 1)
    assert [each.id for each in rooms] == [room.id]
    assert (rooms.path, room.path, room.exists) == ("rooms", f"rooms:{room.id}", True)
    assert room.require_existing() == room
    assert repr(room) == f"Document({room.path!r}, {room.attributes!r})"
    with pytest.raises(KeyError):
        room["size"]
    with pytest.raises(syncline.DocumentGone):
        rooms["never"]


async def test_attributes_are_set_and_unset(rooms: Collection[Any]) -> None:
    room = await rooms.create(id="lobby", title="Lobby")
    await room.set({"size": 2}, title="Hall")
    assert room.attributes == {"title": "Hall", "size": 2}
    old = rooms["lobby"]
    await (await room.unset("size")).synced()
    assert room.attributes == {"title": "Hall"}
    assert old.attributes == {"title": "Hall", "size": 2}
    assert old != room
    assert old.refresh() == room.refresh()
    assert len({old, room}) == 1


async def test_a_document_says_when_the_server_has_it(rooms: Collection[Any]) -> None:
    room = await rooms.create(title="Lobby")
    write = await room.set(title="Hall")
    await room.stored(20)
    await write.synced(20)
    assert room.refresh().state is SyncState.SYNCED


async def test_an_id_is_used_once(rooms: Collection[Any]) -> None:
    await rooms.create(id="lobby")
    with pytest.raises(syncline.DocumentError):
        await rooms.create(id="lobby")


async def test_documents_have_the_type_of_their_collection(replica: Replica) -> None:
    rooms = replica.collection("rooms", type=Room)
    room = await rooms.create(Room("Lobby", 3))
    assert room.value == Room("Lobby", 3)
    await room.set(size=4)
    assert rooms[room.id].value.size == 4
    with pytest.raises(syncline.DocumentMismatch):
        await room.set(size="large")
    with pytest.raises(syncline.DocumentMismatch):
        await rooms.create(size=1)
    with pytest.raises(syncline.Misuse):
        await rooms.create(Room("Lobby"), title="Hall")
    with pytest.raises(syncline.Misuse):
        replica.collection("rooms")[room.id].value  # noqa: B018


async def test_documents_are_found_by_what_they_are(replica: Replica) -> None:
    rooms = replica.collection("rooms", type=Room)
    for title, size in (("b", 1), ("a", 2), ("c", 3)):
        await rooms.create(title=title, size=size)
    assert [room["title"] for room in rooms] == ["b", "a", "c"]
    assert [room["title"] for room in rooms.find(order_by="title")] == ["a", "b", "c"]
    assert [room["title"] for room in rooms.find(order_by=lambda room: -room.value.size)] == ["c", "a", "b"]
    assert [room["size"] for room in rooms.find(lambda room: room.value.size > 1, reverse=True)] == [3, 2]


async def test_a_watch_shows_documents_as_they_change(api: Api, rooms: Collection[Any]) -> None:
    hall = await rooms.create(id="hall", title="Hall")
    await rooms.create(id="cellar", title="")
    watch = rooms.watch(lambda room: bool(room["title"]), order_by="title")
    first = await anext(watch)
    assert [room.id for room in first] == ["hall"]
    await rooms.create(id="attic", title="Attic")
    second = await anext(watch)
    while len(second) < 2:
        second = await anext(watch)
    assert [room.id for room in second.documents] == ["attic", "hall"]
    await hall.delete()
    third = await anext(watch)
    while len(third) > 1:
        third = await anext(watch)
    assert [room.id for room in third.removed] == ["hall"]
    assert third[0].id == "attic"


async def test_a_document_that_did_not_change_stays_the_same_object(rooms: Collection[Any]) -> None:
    await (await (await rooms.create(id="a", n=1)).set(n=2)).synced()
    watch = rooms.watch()
    before = await anext(watch)
    await rooms.create(id="b")
    after = await anext(watch)
    assert _same(after[0], before[0])
    assert after[1].id == "b"


def _same(one: Any, another: Any) -> bool:
    return getattr(one, "inner", one) is getattr(another, "inner", another)


async def test_what_is_set_through_a_document_of_a_view_is_news_to_the_watch(api: Api, server: Server) -> None:
    async with api.connect(server.url) as client:
        rooms = (await client.replica("app")).collection("rooms")
        room = await rooms.create(id="a", title="Lobby")
        await (await room.set(title="Hall")).synced()
        watch = rooms.watch()
        view = await anext(watch)
        # Without a server there is no other news of it.
        server.kill()
        await view[0].set(title="Cellar")
        changed = await api.next_within(watch, 10)
        assert [room["title"] for room in changed.changed] == ["Cellar"]


async def test_documents_below_a_document_go_with_it(replica: Replica, rooms: Collection[Any]) -> None:
    room = await rooms.create()
    messages = room.collection("messages", type=Message)
    message = await messages.create(text="hi")
    assert message.value == Message("hi")
    assert messages.path == f"rooms/{room.id}/messages"
    await room.delete()
    assert (room.exists, room.id in rooms, list(messages)) == (False, False, [])
    for gone in (room.set(title="x"), room.delete(), messages.create(text="x")):
        with pytest.raises(syncline.DocumentGone):
            await gone
    with pytest.raises(syncline.DocumentGone):
        room.require_existing()
    await replica.flush()
    assert len(replica) == 0


async def test_references_lead_to_documents(replica: Replica, rooms: Collection[Any]) -> None:
    user = await replica.collection("users").create(name="Ada")
    room = await rooms.create(owner=user.ref, guests=[user.ref])
    assert rooms[room.id]["owner"] == user.ref == Ref(user.path)
    resolved = replica.resolve(room["owner"])
    assert resolved is not None
    assert resolved.path == user.path
    assert replica.collection("rooms", type=Room).get(room.id) is not None
    await user.delete()
    assert replica.resolve(room["owner"]) is None


async def test_the_last_one_to_set_an_attribute_counts(replica: Replica, theirs: Replica) -> None:
    ours, reports = await _rivals(replica, theirs, None)
    await until(lambda: ours.refresh()["n"] in (2, 3) and ours.state is SyncState.SYNCED)
    await until(lambda: theirs.collection("rooms")["r"]["n"] == ours.refresh()["n"])
    assert all(isinstance(report, syncline.EditOverwrote) for report in reports)


async def test_a_function_makes_one_value_of_two(replica: Replica, theirs: Replica) -> None:
    def merge(former: Any, mine: Any, their: Any) -> Any:
        return mine + their - (former or 0)

    theirs.collection("rooms", on_conflict={"n": merge})
    ours, _ = await _rivals(replica, theirs, {"n": merge})
    await until(lambda: ours.refresh()["n"] == 4)
    await until(lambda: theirs.collection("rooms")["r"]["n"] == 4)


async def _rivals(replica: Replica, theirs: Replica, on_conflict: Any) -> tuple[Document[Any], list[Report]]:
    """Set an attribute from 1 to 2 and to 3 on two replicas that do not know of each other's change."""
    ours = await replica.collection("rooms", on_conflict=on_conflict).create(id="r", n=1)
    await ours.stored()
    await until(lambda: "r" in theirs.collection("rooms") and "n" in theirs.collection("rooms")["r"])
    reports: list[Report] = []
    replica.on_report(lambda report: reports.append(report))
    await theirs.collection("rooms")["r"].set(n=2)
    await ours.set(n=3)
    await replica.flush()
    await theirs.flush()
    return ours, reports


async def test_an_application_may_decide_itself(api: Api, server: Server) -> None:
    async with api.connect(server.url) as client, syncline.connect(server.url) as other:
        replica, theirs = await client.replica("app"), await other.replica("app")
        ours = await replica.collection("rooms", on_conflict="report").create(id="r", n=1)
        await ours.stored()
        await until(lambda: "r" in theirs.collection("rooms") and "n" in theirs.collection("rooms")["r"])
        server.kill()
        write = await ours.set(n=3)
        await theirs.collection("rooms")["r"].set(n=2)
        # Whichever comes first stands. If it is the other one, ours is refused.
        server.start()
        await theirs.flush()
        await replica.flush()
        if write.state is SyncState.REJECTED:
            with pytest.raises(syncline.WriteRejected) as rejected:
                await write.stored()
            await api.write_of(rejected.value).retry()
        await write.synced()
        await until(lambda: theirs.collection("rooms")["r"]["n"] == ours.refresh()["n"])
