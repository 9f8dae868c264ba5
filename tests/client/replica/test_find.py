"""Local indexes: what is held here is found by its values, offline and with what was written a moment ago."""

import pytest

import syncline
from syncline import Misuse
from syncline.replica.record import LocalRecord
from syncline_protocol.errors import RemoteProtocolError
from syncline_protocol.filter import Filter
from tests.client.fake_clock import FakeClock
from tests.client.fake_server import FakeServer
from tests.client.replica.holding import caught_up, held
from tests.client.waiting import soon


def keys_of(records: list[LocalRecord]) -> list[str]:
    """Return the keys of records, in their order."""
    return [record.key for record in records]


async def fill(server: FakeServer) -> None:
    server.notes.commit("ann", b'{"name":"Ann"}')
    server.notes.commit("b1", b'{"price":5,"by":"ann","tags":["x","y"]}')
    server.notes.commit("b2", b'{"price":1.5,"by":"bob","tags":["y"]}')
    server.notes.commit("b3", b'{"price":12,"by":"ann"}')


async def test_records_are_found_by_equality_range_and_prefix(server: FakeServer) -> None:
    await fill(server)
    async with held(server, None) as replica:
        await caught_up(replica)
        replica.index("price", "/price", "range")
        replica.index("by", "/by")
        replica.index("tags", "/tags", "multi")
        replica.index("name", "/name", "range")
        assert keys_of(replica.find(filter=Filter(index="by", eq="ann"))) == ["b1", "b3"]
        assert keys_of(replica.find(filter=Filter(index="price", ge=1.5, lt=12))) == ["b1", "b2"]
        assert keys_of(replica.find(filter=Filter(index="tags", eq="y"))) == ["b1", "b2"]
        assert keys_of(replica.find(filter=Filter(index="name", prefix="A"))) == ["ann"]
        assert keys_of(replica.find(filter=Filter(index="by", key_prefix="b"))) == ["b1", "b2", "b3"]
        assert keys_of(replica.find(filter=Filter(key_prefix="a"), prefix="b")) == []
        assert keys_of(replica.find(order_by="price")) == ["b2", "b1", "b3"]
        assert keys_of(replica.find(order_by="price", descending=True, limit=1, offset=1)) == ["b1"]
        assert replica.count(Filter(index="by", eq="ann")) == 2
        assert replica.count() == 4


async def test_what_was_written_offline_is_found_and_what_was_deleted_is_not(clock: FakeClock) -> None:
    async with syncline.connect("http://127.0.0.1:9", wait=False, clock=clock) as client:
        replica = await client.replica("notes", create=False)
        replica.index("by", "/by")
        assert replica.count(Filter(index="by", eq="me")) == 0
        await replica.add({"by": "me"}, "k1")
        await replica.add({"by": "me"}, "k2")
        await replica.delete("k1")
        await replica.replace("k2", {"by": "you"}, "k3")
        assert keys_of(replica.find(filter=Filter(index="by", eq="me"))) == []
        assert keys_of(replica.find(filter=Filter(index="by", eq="you"))) == ["k3"]


async def test_references_are_followed_and_found_backwards(server: FakeServer) -> None:
    await fill(server)
    async with held(server, None) as replica:
        await caught_up(replica)
        replica.index("by", "/by")
        assert keys_of(replica.follow("b1", "by")) == ["ann"]
        assert keys_of(replica.follow("b2", "by")) == keys_of(replica.follow("nobody", "by")) == []
        assert keys_of(replica.referrers("ann", "by")) == ["b1", "b3"]


async def test_a_watch_of_a_filter_sees_what_comes_to_fit(server: FakeServer) -> None:
    await fill(server)
    async with held(server, None) as replica:
        await caught_up(replica)
        replica.index("by", "/by")
        watch = replica.watch(filter=Filter(index="by", eq="ann"))
        assert keys_of(list(await soon(anext(watch)))) == ["b1", "b3"]
        await replica.add({"by": "bob"}, "b4")
        await replica.add({"by": "ann"}, "b5")
        assert keys_of(list(await soon(anext(watch)))) == ["b1", "b3", "b5"]


async def test_an_index_that_was_not_declared_and_bounds_of_an_equality_are_refused(server: FakeServer) -> None:
    async with held(server, None) as replica:
        with pytest.raises(Misuse, match="no index 'by'"):
            replica.find(filter=Filter(index="by", eq=1))
        replica.index("by", "/by")
        with pytest.raises(RemoteProtocolError, match="eq only"):
            replica.find(filter=Filter(index="by", gt=1))


async def test_documents_that_refer_to_another_one_are_found(clock: FakeClock) -> None:
    async with syncline.connect("http://127.0.0.1:9", wait=False, clock=clock) as client:
        replica = await client.replica("notes", create=False)
        authors, books = replica.collection("authors"), replica.collection("books")
        ann, bob = await authors.create(name="Ann"), await authors.create(name="Bob")
        first = await books.create(by=[ann.ref])
        second = await books.create(by=ann.ref)
        await books.create(by="ann")
        assert {document.id for document in replica.referring(ann.ref)} == {first.id, second.id}
        await second.set(by=bob.ref)
        assert [document.id for document in replica.referring(ann.ref)] == [first.id]
        assert [document.id for document in replica.referring(bob.ref)] == [second.id]
