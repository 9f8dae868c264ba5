"""The past over HTTP: records as they were at a position, and what changed between two of them."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import msgspec
import pytest

from syncline_protocol.cursor import Seq
from syncline_server.settings import Settings
from syncline_server.storage.base import Horizon
from tests.support.http import HttpApp, http_app


@pytest.fixture
async def app() -> AsyncIterator[HttpApp]:
    """An application whose store has a history: a, b; then a replaced by c; then b deleted, d added."""
    async with http_app(settings=Settings(auth="none", store="memory:", history_s=0, tombstones_s=0)) as app:
        await app.put("a", b'"A"')
        await app.put("b", b'"B"')
        await app.write({"op": "DELETE", "key": "a"}, {"op": "ADD", "key": "c", "value": "C"})
        await app.ask("DELETE", "/v1/stores/notes/records/b")
        await app.put("d", b'"D"')
        yield app


async def _compact(app: HttpApp, values: int, tombstones: int = 0) -> None:
    await app.hub.storage.compact("notes", Horizon(Seq(values), Seq(tombstones)), 1.0)


async def _keys(app: HttpApp, at: object) -> list[str]:
    page = (await app.get(f"/v1/stores/notes/records?at={at}")).json
    lines = (await app.get(f"/v1/stores/notes/records?at={at}", accept="application/x-ndjson")).lines
    keys = [record["key"] for record in page["records"]]
    assert [record["key"] for record in lines] == keys
    return keys


async def test_records_are_those_of_the_position_that_is_asked_for(app: HttpApp) -> None:
    assert await _keys(app, 0) == []
    assert await _keys(app, 1) == ["a"]
    assert await _keys(app, 2) == ["a", "b"]
    assert await _keys(app, 4) == ["b", "c"]
    assert await _keys(app, 5) == ["c"]
    assert await _keys(app, "now") == await _keys(app, 6) == ["c", "d"]


async def test_a_seq_inside_of_a_transaction_means_its_end(app: HttpApp) -> None:
    assert await _keys(app, 3) == ["b", "c"]
    assert (await app.get("/v1/stores/notes/records?at=3")).json["at"].endswith(":4")


async def test_a_cursor_and_a_time_name_positions_too(app: HttpApp) -> None:
    at = (await app.get("/v1/stores/notes/records?at=2")).json["at"]
    assert await _keys(app, at) == ["a", "b"]
    assert await _keys(app, "1999-12-31T23:59:59Z") == []
    assert await _keys(app, "2999-12-31T23:59:59%2B02:00") == ["c", "d"]
    created = (await app.get("/v1/stores/notes")).json["created"]
    before = datetime.fromtimestamp(created / 1000 - 1, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    assert await _keys(app, f"{before}Z") == []


@pytest.mark.parametrize(
    ("at", "status", "code"),
    [
        ("soon", 400, "cursor_invalid"),
        ("2026-01-01T00:00:00", 400, "cursor_invalid"),
        ("2026-99-01T00:00:00Z", 400, "cursor_invalid"),
        ("7", 410, "cursor_lost"),
        ("99999999999999999999", 410, "cursor_lost"),
        ("0123456789abcdef:2", 410, "cursor_lost"),
    ],
)
async def test_a_position_that_is_none_is_refused(app: HttpApp, at: str, status: int, code: str) -> None:
    for path in (f"records?at={at}", f"records/a?at={at}", f"diff?from={at}", f"diff?from=0&to={at}"):
        (await app.get(f"/v1/stores/notes/{path}")).refused(status, code)


async def test_one_record_is_shown_as_it_lived(app: HttpApp) -> None:
    assert (await app.get("/v1/stores/notes/records/a?at=2")).json["value"] == "A"
    (await app.get("/v1/stores/notes/records/a?at=4")).refused(404, "record_unknown")
    (await app.get("/v1/stores/notes/records/c?at=2")).refused(404, "record_unknown")


async def test_pages_of_the_past_stay_at_their_position(app: HttpApp) -> None:
    first = (await app.get("/v1/stores/notes/records?at=2&limit=1")).json
    second = (await app.get(f"/v1/stores/notes/records?limit=1&page={first['next']}")).json
    assert [page["records"][0]["key"] for page in (first, second)] == ["a", "b"]
    assert first["at"] == second["at"]


async def test_below_the_history_floor_the_past_is_gone(app: HttpApp) -> None:
    page = (await app.get("/v1/stores/notes/records?at=2&limit=1")).json["next"]
    await _compact(app, 4)
    for path in ("records?at=3", "records/b?at=4"):
        assert (await app.get(f"/v1/stores/notes/{path}")).status == 200
    for path in ("records?at=2", "records/b?at=2", f"records?page={page}"):
        (await app.get(f"/v1/stores/notes/{path}")).refused(410, "history_gone")
    lines = await app.get("/v1/stores/notes/records?at=2", accept="application/x-ndjson")
    lines.refused(410, "history_gone")


# --- differences ---


async def _diff(app: HttpApp, query: str) -> list[tuple[str, str, object]]:
    """Return op, key and old value of each change, the same from pages of any size and from a stream."""
    path = f"/v1/stores/notes/diff?{query}"
    changes = (await app.get(path, accept="application/x-ndjson")).lines
    page = (await app.get(f"{path}&limit=1")).json
    paged = page["changes"]
    while page["next"] is not None:
        page = (await app.get(f"/v1/stores/notes/diff?limit=1&page={page['next']}")).json
        paged += page["changes"]
    assert paged == changes
    return [(change["op"], change["key"], change.get("old", {}).get("value")) for change in changes]


async def test_a_diff_has_what_came_and_what_went(app: HttpApp) -> None:
    assert await _diff(app, "from=2&to=4") == [("DELETE", "a", "A"), ("ADD", "c", None)]
    assert await _diff(app, "from=2") == [
        ("DELETE", "a", "A"),
        ("ADD", "c", None),
        ("DELETE", "b", "B"),
        ("ADD", "d", None),
    ]
    assert await _diff(app, "from=start") == [("ADD", "c", None), ("ADD", "d", None)]
    assert await _diff(app, "from=4&to=4") == []


async def test_a_diff_has_no_old_values_where_they_are_gone(app: HttpApp) -> None:
    await _compact(app, 4)
    assert await _diff(app, "from=2") == [
        ("DELETE", "a", None),
        ("ADD", "c", None),
        ("DELETE", "b", None),
        ("ADD", "d", None),
    ]
    (await app.get("/v1/stores/notes/diff?from=1&to=2")).refused(410, "history_gone")


async def test_a_diff_from_below_the_tombstones_is_gone(app: HttpApp) -> None:
    await _compact(app, 4, 4)
    (await app.get("/v1/stores/notes/diff?from=2")).refused(410, "history_gone")
    assert await _diff(app, "from=4") == [("DELETE", "b", "B"), ("ADD", "d", None)]


async def test_a_diff_that_makes_no_sense_is_refused(app: HttpApp) -> None:
    for query in ("", "?from=4&to=2", "?page=1-1-x&from=1"):
        (await app.get(f"/v1/stores/notes/diff{query}")).refused(400, "bad_message")
    for page in ("x", "1", "1-1-", "1-1-x"):
        (await app.get(f"/v1/stores/notes/diff?page={page}")).refused(400, "cursor_invalid")


# --- what is pinned ---


async def test_clean_up_takes_nothing_from_a_stream_that_goes_on(app: HttpApp) -> None:
    async with app.stream("/v1/stores/notes/records?at=2", full=True, accept="application/x-ndjson") as reader:
        await app.ask("POST", "/v1/stores/notes/compact")
        await app.hub.maintenance.settled("notes")
        assert (await app.get("/v1/stores/notes/stats")).json["upkeep"]["pinned"] == 1
        assert (await app.hub.storage.info("notes")).floors.history <= 2
        reader.set_full(False)
        keys = [msgspec.json.decode(line)["key"] for line in (await reader.rest()).splitlines()]
        assert keys == ["a", "b"]
    await app.ask("POST", "/v1/stores/notes/compact")
    await app.hub.maintenance.settled("notes")
    assert (await app.hub.storage.info("notes")).floors.history == 5
    assert app.hub.pins.count("notes") == 0
