"""Filters and the tombstone floor over HTTP: pages, server-sent events and NDJSON show what a subscription would."""

from collections.abc import AsyncIterator

import pytest

from syncline_protocol.cursor import Seq
from syncline_protocol.index import IndexSpec
from syncline_server.storage.base import Horizon
from tests.support.http import HttpApp, http_app

CHANGES = "/v1/stores/notes/changes"


@pytest.fixture
async def rooms() -> AsyncIterator[HttpApp]:
    """A store with an index on rooms, and records in two of them."""
    async with http_app() as app:
        await app.hub.storage.create_index("notes", IndexSpec("room", "/room"), 1)
        for number in range(1, 5):
            await app.write({"op": "ADD", "key": f"k{number}", "value": {"room": f"r{number % 2}"}})
        yield app


async def test_a_page_has_what_the_filter_shows_and_its_cursor_goes_on_with_it(rooms: HttpApp) -> None:
    page = (await rooms.get(f"{CHANGES}?index=room&eq=r1")).json
    assert [change["key"] for change in page["changes"]] == ["k1", "k3"]
    await rooms.write({"op": "ADD", "key": "k5", "value": {"room": "r1"}}, {"op": "ADD", "key": "k6", "value": 1})
    page = (await rooms.get(f"{CHANGES}?index=room&eq=r1&after={page['to']}")).json
    assert [change["key"] for change in page["changes"]] == ["k5"]
    assert page["caught_up"] is True


async def test_the_beginning_of_the_key_is_a_filter_too(rooms: HttpApp) -> None:
    page = (await rooms.get(f"{CHANGES}?key_prefix=k4")).json
    assert [change["key"] for change in page["changes"]] == ["k4"]


async def test_a_cursor_of_another_filter_is_lost(rooms: HttpApp) -> None:
    page = (await rooms.get(f"{CHANGES}?index=room&eq=r1")).json
    refused = await rooms.get(f"{CHANGES}?index=room&eq=r0&after={page['to']}")
    assert (refused.status, refused.json["code"], refused.json["how"]) == (410, "cursor_lost", "reconcile")


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ("index=nowhere&eq=1", 404, "index_unknown"),
        ("eq=1", 400, "filter_invalid"),
        ("index=room&ge=1", 400, "filter_invalid"),
    ],
)
async def test_a_filter_that_cannot_be_used_is_refused(rooms: HttpApp, query: str, status: int, code: str) -> None:
    refused = await rooms.get(f"{CHANGES}?{query}")
    assert (refused.status, refused.json["code"]) == (status, code)


async def test_a_cursor_below_the_floor_is_lost_and_says_where_to_go_on(rooms: HttpApp) -> None:
    page = (await rooms.get(f"{CHANGES}?limit=1")).json
    await rooms.write({"op": "DELETE", "key": "k1"})
    await rooms.write({"op": "ADD", "key": "k9", "value": 1})
    await rooms.hub.storage.compact("notes", Horizon(Seq(5), Seq(5)), 1.0)
    rooms.hub.feeds.all()[0].tail.note_floor(Seq(5))
    refused = await rooms.get(f"{CHANGES}?after={page['to']}")
    assert (refused.status, refused.json["how"]) == (410, "reconcile")
    assert refused.json["at"].endswith(":5")
    again = (await rooms.get(f"{CHANGES}?after={refused.json['at']}")).json
    assert [change["key"] for change in again["changes"]] == ["k9"]
