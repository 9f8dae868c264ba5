"""All records of a store over HTTP, in pages and as a stream."""

import pytest

from syncline_server.storage import open_storage
from syncline_server.storage.base import Chunk, StorageUnavailable
from tests.support.http import HttpApp, http_app, record_path


async def _fill(app: HttpApp, count: int) -> None:
    await app.write(*[{"op": "ADD", "key": f"k{number}", "value": number} for number in range(1, count + 1)])


async def test_a_page_has_the_live_records_in_order(app: HttpApp) -> None:
    await _fill(app, 5)
    await app.ask("DELETE", record_path("notes", "k2"))
    page = (await app.get("/v1/stores/notes/records")).json
    assert [record["key"] for record in page["records"]] == ["k1", "k3", "k4", "k5"]
    assert page["next"] is None
    assert page["at"] == (await app.get("/v1/stores/notes")).json["head"]


async def test_an_empty_store_has_an_empty_page(app: HttpApp) -> None:
    page = (await app.get("/v1/stores/notes/records")).json
    assert page == {"records": [], "at": (await app.get("/v1/stores/notes")).json["head"], "next": None}
    stream = await app.get("/v1/stores/notes/records", Accept="application/x-ndjson")
    assert (stream.content, stream.headers["Syncline-Cursor"]) == (b"", page["at"])


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 100])
async def test_all_pages_of_a_walk_are_of_one_position(app: HttpApp, limit: int) -> None:
    await _fill(app, 7)
    page = (await app.get(f"/v1/stores/notes/records?limit={limit}")).json
    # What is written after the walk began is not in it; what is deleted since may or may not be.
    await app.put("later")
    keys, positions = [record["key"] for record in page["records"]], {page["at"]}
    while page["next"] is not None:
        assert len(page["records"]) == limit
        page = (await app.get(f"/v1/stores/notes/records?limit={limit}&page={page['next']}")).json
        keys += [record["key"] for record in page["records"]]
        positions.add(page["at"])
    assert keys == [f"k{number}" for number in range(1, 8)]
    assert len(positions) == 1


async def test_a_stream_has_all_records_and_the_cursor_to_go_on_from(app: HttpApp) -> None:
    await _fill(app, 300)
    await app.ask("DELETE", record_path("notes", "k7"))
    stream = await app.get("/v1/stores/notes/records", Accept="application/x-ndjson")
    assert stream.headers["content-type"] == "application/x-ndjson"
    lines = stream.lines
    assert [line["seq"] for line in lines] == [seq for seq in range(1, 301) if seq != 7]
    assert lines[0].keys() == {"key", "value", "seq", "time"}
    await app.put("later")
    following = (await app.get(f"/v1/stores/notes/changes?after={stream.headers['Syncline-Cursor']}")).json
    assert [change["key"] for change in following["changes"]] == ["later"]


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ("limit=0", 400, "bad_message"),
        ("limit=10001", 400, "bad_message"),
        ("limit=x", 400, "bad_message"),
        ("limit=1.5", 400, "bad_message"),
        ("limit=1&limit=2", 400, "bad_message"),
        ("limit=" + "9" * 5000, 400, "bad_message"),
        ("limt=1", 400, "unknown_parameter"),
        ("page=x", 400, "cursor_invalid"),
        ("page=1-x", 400, "cursor_invalid"),
        ("page=-1-a:1", 400, "cursor_invalid"),
        ("page=1-aaaa:1", 410, "cursor_lost"),
    ],
)
async def test_a_wrong_parameter_is_refused_by_name(app: HttpApp, query: str, status: int, code: str) -> None:
    problem = (await app.get(f"/v1/stores/notes/records?{query}")).refused(status, code)
    if code == "unknown_parameter":
        assert "'limt'" in problem["detail"]


async def test_a_page_of_another_store_is_refused(app: HttpApp) -> None:
    await _fill(app, 3)
    token = (await app.get("/v1/stores/notes/records?limit=1")).json["next"]
    await app.ask("PUT", "/v1/stores/other")
    for key in ("a", "b", "c"):
        await app.put(key, store="other")
    assert (await app.get(f"/v1/stores/other/records?page={token}")).refused(410, "cursor_lost")["how"] == "snapshot"


async def test_a_stream_has_no_pages(app: HttpApp) -> None:
    answer = await app.get("/v1/stores/notes/records?limit=5", Accept="application/x-ndjson")
    answer.refused(400, "bad_message")


async def test_a_stream_that_breaks_cannot_be_taken_for_a_whole_one() -> None:
    storage = open_storage("memory:")
    read, reads = storage.read, 0

    async def read_once(*arguments: object, **options: object) -> Chunk:
        nonlocal reads
        reads += 1
        if reads > 1:
            raise StorageUnavailable("the disk is gone")
        chunk: Chunk = await read(*arguments, **options)  # type: ignore[arg-type]
        return chunk

    async with http_app(storage=storage) as app:
        value = "x" * 400_000
        for key in ("a", "b", "c"):
            await app.put(key, f'"{value}"')
        storage.read = read_once  # type: ignore[method-assign]
        async with app.stream("/v1/stores/notes/records", Accept="application/x-ndjson") as stream:
            text = await stream.rest()
        assert stream.aborted
        assert not stream.ended
        assert text.count(b"\n") < 3


async def test_nothing_is_read_for_a_client_that_has_gone() -> None:
    async with http_app() as app:
        value = "x" * 400_000
        for key in ("a", "b", "c", "d", "e", "f"):
            await app.put(key, f'"{value}"')
        reads = app.hub.storage.read
        count = 0

        async def counted(*arguments: object, **options: object) -> Chunk:
            nonlocal count
            count += 1
            return await reads(*arguments, **options)  # type: ignore[arg-type]

        app.hub.storage.read = counted  # type: ignore[method-assign]
        async with app.stream("/v1/stores/notes/records", full=True, Accept="application/x-ndjson") as stream:
            await stream.until(b"\n")
        assert not app.hub.waiting
        assert 1 <= count < 4
