"""The application inside another one, under a prefix."""

import contextlib
from collections.abc import AsyncIterator

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from syncline_server.app import create_app, hub_of, lifespan_of
from syncline_server.settings import Settings

PREFIX = "/tools/sync line"


@pytest.fixture
async def client() -> AsyncIterator[httpx2.AsyncClient]:
    inner = create_app(Settings(store="memory:", auth="none"))

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with lifespan_of(inner):
            yield

    outer = Starlette(routes=[Mount(PREFIX, inner)], lifespan=lifespan)
    async with outer.router.lifespan_context(outer):
        transport = httpx2.ASGITransport(app=outer)
        base_url = "http://127.0.0.1/tools/sync%20line"
        async with httpx2.AsyncClient(transport=transport, base_url=base_url) as client:
            yield client
        assert hub_of(inner).ready


async def test_records_are_added_and_found_below_a_prefix(client: httpx2.AsyncClient) -> None:
    assert (await client.put("/v1/stores/notes")).status_code == 201
    assert (await client.put("/v1/stores/notes/records/a%2Fb", content=b"1")).status_code == 201
    assert (await client.get("/v1/stores/notes/records/a%2Fb")).json()["key"] == "a/b"


async def test_a_location_leads_back_to_the_record(client: httpx2.AsyncClient) -> None:
    await client.put("/v1/stores/notes")
    posted = await client.post("/v1/stores/notes/records", content=b"1", headers={"Idempotency-Key": "a/b"})
    assert posted.headers["Location"] == "/tools/sync%20line/v1/stores/notes/records/a%2Fb"
    url = f"http://127.0.0.1{posted.headers['Location']}"
    assert (await client.get(url)).json()["key"] == "a/b"


async def test_a_prefix_in_another_spelling_is_the_same(client: httpx2.AsyncClient) -> None:
    assert (await client.get("http://127.0.0.1/t%6Fols/sync%20line/v1/stores")).json() == {"stores": []}


async def test_page_health_and_refusals_work_below_a_prefix(client: httpx2.AsyncClient) -> None:
    page = await client.get("/")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert 'src="/' not in page.text
    assert (await client.get("/health/ready")).json()["ready"] is True
    missing = await client.get("/v1/nothing")
    assert (missing.status_code, missing.json()["code"]) == (404, "not_found")
    unknown = await client.get("/v1/stores/none")
    assert unknown.headers["content-type"] == "application/problem+json"
