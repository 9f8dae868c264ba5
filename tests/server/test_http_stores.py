"""Stores over HTTP."""

from collections.abc import AsyncIterator

import pytest

from tests.support.http import HttpApp, http_app


@pytest.fixture
async def app() -> AsyncIterator[HttpApp]:
    async with http_app(stores=()) as app:
        yield app


async def test_a_store_is_created_once_and_then_found(app: HttpApp) -> None:
    created = await app.ask("PUT", "/v1/stores/notes")
    assert created.status == 201
    again = await app.ask("PUT", "/v1/stores/notes")
    assert again.status == 200
    assert again.json == created.json
    assert (await app.get("/v1/stores/notes")).json == created.json


async def test_a_store_shows_its_head_count_and_digest(app: HttpApp) -> None:
    empty = (await app.ask("PUT", "/v1/stores/notes")).json
    assert (empty["seq"], empty["count"], empty["digest"]) == (0, 0, "00000000")
    await app.put("k1")
    store = (await app.get("/v1/stores/notes")).json
    assert (store["seq"], store["count"]) == (1, 1)
    assert store["head"].endswith(":1")
    assert store["digest"] != "00000000"
    assert store["store_id"] == empty["store_id"]


async def test_stores_are_listed_by_name(app: HttpApp) -> None:
    assert (await app.get("/v1/stores")).json == {"stores": []}
    for name in ("b", "a", "c"):
        await app.ask("PUT", f"/v1/stores/{name}")
    assert [store["name"] for store in (await app.get("/v1/stores")).json["stores"]] == ["a", "b", "c"]


async def test_a_dropped_store_is_gone_and_its_name_makes_another(app: HttpApp) -> None:
    first = (await app.ask("PUT", "/v1/stores/notes")).json
    await app.put("k1")
    dropped = await app.ask("DELETE", "/v1/stores/notes")
    assert dropped.status == 200
    assert dropped.json["store_id"] == first["store_id"]
    assert dropped.json["count"] == 1
    (await app.get("/v1/stores/notes")).refused(404, "store_unknown")
    (await app.ask("DELETE", "/v1/stores/notes")).refused(404, "store_unknown")
    second = (await app.ask("PUT", "/v1/stores/notes")).json
    assert second["store_id"] != first["store_id"]
    assert second["seq"] == 0


@pytest.mark.parametrize("name", ["%20", "-a", ".a", "a%2Fb", "a" * 65, "%C3%A4", "a%00", "%FF", "a%0A"])
async def test_a_name_outside_the_rules_is_refused(app: HttpApp, name: str) -> None:
    for method in ("PUT", "GET", "DELETE"):
        (await app.ask(method, f"/v1/stores/{name}")).refused(400, "store_name_invalid")


async def test_every_route_of_a_store_that_is_not_there_says_so(app: HttpApp) -> None:
    for method, path, body in (
        ("GET", "", None),
        ("DELETE", "", None),
        ("GET", "/records", None),
        ("POST", "/records", b"1"),
        ("PUT", "/records/k", b"1"),
        ("GET", "/records/k", None),
        ("DELETE", "/records/k", None),
        ("POST", "/writes", b'{"ops":[{"op":"ADD","key":"k","value":1}]}'),
        ("GET", "/changes", None),
    ):
        (await app.ask(method, f"/v1/stores/nowhere{path}", body)).refused(404, "store_unknown")
