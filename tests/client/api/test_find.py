"""Indexes and finding, with either API, on a real server."""

import pytest

import syncline
from syncline import Client, Misuse, RequestRefused
from syncline.testing import Server


@pytest.fixture
async def books(client: Client, store: str) -> str:
    """A store with indexes and records that refer to each other."""
    await client.stores.declare_index(store, "year", "/year", "range")
    for key, value in (
        ("ann", {"name": "Ann", "wrote": ["b1", "b3", "gone"]}),
        ("b1", {"year": 1950, "by": "ann"}),
        ("b2", {"year": 1960, "by": None}),
        ("b3", {"year": 1970.0, "by": "ann"}),
    ):
        await client.add(store, value, key)
    await client.stores.declare_index(store, "by", "/by")
    await client.stores.declare_index(store, "wrote", "/wrote", "multi")
    return store


async def keys(found: syncline.Found) -> list[str]:
    return [record.key async for record in found]


async def test_records_are_found_by_an_index(client: Client, books: str) -> None:
    assert await keys(client.find(books, "year", ge=1960)) == ["b2", "b3"]
    assert await keys(client.find(books, "year", order="desc")) == ["b3", "b2", "b1"]
    assert await keys(client.find(books, "year", eq=1970)) == ["b3"]
    assert await keys(client.find(books, "by", eq=None)) == ["b2"]
    assert await keys(client.find(books, "by", eq="ann", key_prefix="b3")) == ["b3"]
    assert await keys(client.find(books, key_prefix="b")) == ["b1", "b2", "b3"]
    assert await keys(client.find(books)) == ["ann", "b1", "b2", "b3"]
    assert await keys(client.find(books, "year", lt=0)) == []


async def test_what_is_found_has_all_that_a_record_has(client: Client, books: str) -> None:
    (record,) = await client.find(books, "year", eq=1950).page()
    assert record == await client.get(books, "b1")


async def test_records_are_counted(client: Client, books: str) -> None:
    assert await client.count(books, "year", gt=1950) == 2
    assert await client.count(books) == 4
    assert await client.count(books, "wrote") == 1


async def test_references_are_followed_and_found_backwards(client: Client, books: str) -> None:
    assert [record.key for record in await client.follow(books, "ann", "wrote")] == ["b1", "b3"]
    assert [record.key for record in await client.follow(books, "b1", "by")] == ["ann"]
    assert await client.follow(books, "b2", "by") == []
    assert await keys(client.referrers(books, "ann", "by", order="desc")) == ["b3", "b1"]
    with pytest.raises(RequestRefused) as refused:
        await client.follow(books, "gone", "by")
    assert refused.value.code == "record_unknown"


async def test_many_records_come_page_by_page(client: Client, store: str) -> None:
    await client.write(store, [syncline.Add(f"k{number:04}", number) for number in range(1200)])
    found = client.find(store)
    pages = [len(await found.page()) for _ in range(4)]
    assert pages == [500, 500, 200, 0]
    assert await keys(client.find(store)) == [f"k{number:04}" for number in range(1200)]


async def test_a_page_after_some_records_has_the_rest_of_what_came_with_them(client: Client, books: str) -> None:
    found = client.find(books)
    assert (await anext(found)).key == "ann"
    assert [record.key for record in await found.page()] == ["b1", "b2", "b3"]
    assert await found.page() == []


async def test_the_position_of_what_was_found_is_that_of_the_first_page(client: Client, books: str) -> None:
    found = client.find(books)
    at = await found.cursor()
    assert at == (await client.stores.info(books)).head
    await client.add(books, 1, "later")
    assert await keys(found) == ["ann", "b1", "b2", "b3"]
    assert await found.cursor() == at


async def test_indexes_are_listed_and_dropped(client: Client, books: str) -> None:
    told = await client.stores.indexes(books)
    assert [(index.name, index.path, index.kind, index.state) for index in told] == [
        ("by", "/by", "equality", "ready"),
        ("wrote", "/wrote", "multi", "ready"),
        ("year", "/year", "range", "ready"),
    ]
    assert (await client.stores.drop_index(books, "by")).name == "by"
    with pytest.raises(RequestRefused) as refused:
        await client.find(books, "by", eq="ann").page()
    assert refused.value.code == "index_unknown"


async def test_an_index_is_declared_once(client: Client, books: str) -> None:
    first = await client.stores.declare_index(books, "by", "/by")
    assert first.state == "ready"
    with pytest.raises(RequestRefused) as refused:
        await client.stores.declare_index(books, "by", "/other")
    assert refused.value.code == "index_taken"


async def test_whoever_declares_an_index_is_told_how_far_it_is(client: Client, shared: Server, store: str) -> None:
    for first in range(0, 60_000, 5000):
        ops = [syncline.Add(f"k{number}", {"n": number % 7}) for number in range(first, first + 5000)]
        await client.write(store, ops)
    told: list[syncline.Index] = []
    index = await client.stores.declare_index(store, "n", "/n", "equality", told.append)
    assert (index.state, index.done, index.total) == ("ready", 60_000, 60_000)
    assert all(each.state == "building" and each.done <= each.total for each in told)
    assert [each.done for each in told] == sorted(each.done for each in told)
    assert await client.count(store, "n", eq=3) == 60_000 // 7


@pytest.mark.parametrize(
    "conditions", [{"eq": 1}, {"index": "year", "eq": 1, "ge": 0}, {"index": "year", "ge": "\ud800"}]
)
async def test_what_makes_no_sense_is_refused_at_once(
    client: Client, store: str, conditions: dict[str, object]
) -> None:
    with pytest.raises(Misuse):
        client.find(store, **conditions)  # type: ignore[arg-type]
