"""What is after a cursor, over HTTP: pages, long poll, server-sent events, NDJSON."""

import asyncio
from typing import Any

import pytest

from syncline_protocol.cursor import Seq
from syncline_protocol.digest import digest_term, digest_text
from syncline_server.http import changes as changes_module
from syncline_server.http import stream as stream_module
from syncline_server.settings import Settings
from tests.support.http import HttpApp, StreamReader, http_app, record_path, until

CHANGES = "/v1/stores/notes/changes"
SSE = "text/event-stream"
NDJSON = "application/x-ndjson"


async def _head(app: HttpApp) -> str:
    head: str = (await app.get("/v1/stores/notes")).json["head"]
    return head


async def _fill(app: HttpApp, *keys: str) -> None:
    await app.write(*[{"op": "ADD", "key": key, "value": 1} for key in keys])


# --- pages ---


async def test_a_page_begins_at_the_start_and_says_where_it_ends(app: HttpApp) -> None:
    await _fill(app, "a", "b")
    page = (await app.get(CHANGES)).json
    assert [(change["seq"], change["op"], change["key"]) for change in page["changes"]] == [
        (1, "ADD", "a"),
        (2, "ADD", "b"),
    ]
    assert page["from"].endswith(":0")
    assert page["to"] == page["head"] == await _head(app)
    assert page["caught_up"] is True


async def test_pages_tile_the_log_and_are_cut_between_transactions(app: HttpApp) -> None:
    await _fill(app, "a", "b", "c")
    await _fill(app, "d")
    await _fill(app, "e", "f")
    after, pages = "start", list[dict[str, Any]]()
    while not pages or not pages[-1]["caught_up"]:
        page = (await app.get(f"{CHANGES}?after={after}&limit=1")).json
        assert after in ("start", page["from"])
        after = page["to"]
        pages.append(page)
    assert ["".join(change["key"] for change in page["changes"]) for page in pages] == ["abc", "d", "ef"]
    assert [page["caught_up"] for page in pages] == [False, False, True]


async def test_a_page_ends_with_the_transaction_that_reaches_the_limit(app: HttpApp) -> None:
    for number in range(10):
        await _fill(app, f"a{number}", f"b{number}")
    page = (await app.get(f"{CHANGES}?limit=5")).json
    assert len(page["changes"]) == 6
    assert page["to"].endswith(":6")


async def test_a_dead_record_is_left_out_of_a_catch_up_and_its_end_is_told(app: HttpApp) -> None:
    await _fill(app, "a", "b")
    await app.ask("DELETE", record_path("notes", "a"))
    state: dict[str, Any] = {}
    after, caught_up = "start", False
    while not caught_up:
        page = (await app.get(f"{CHANGES}?after={after}&limit=1")).json
        for change in page["changes"]:
            if change["op"] == "ADD":
                state[change["key"]] = change["value"]
            else:
                state.pop(change["key"], None)
        after, caught_up = page["to"], page["caught_up"]
    assert state == {"b": 1}


async def test_after_now_there_is_nothing_but_the_cursor(app: HttpApp) -> None:
    await _fill(app, "a")
    page = (await app.get(f"{CHANGES}?after=now")).json
    assert page == {"from": page["head"], "to": page["head"], "head": page["head"], "changes": [], "caught_up": True}
    assert page["head"] == await _head(app)


async def test_a_reader_sees_what_it_has_written_before(app: HttpApp) -> None:
    for number in range(20):
        await app.put(f"k{number}")
        assert len((await app.get(CHANGES)).json["changes"]) == number + 1


# --- cursors ---


@pytest.mark.parametrize(
    "after", ["", "x", "x:", ":1", "a:-1", "a:1:2", "a:01", "a:99999999999999999999", "Start", "%00"]
)
async def test_a_text_that_is_no_cursor_is_refused(app: HttpApp, after: str) -> None:
    for accept in ("application/json", SSE, NDJSON):
        (await app.get(f"{CHANGES}?after={after}", Accept=accept)).refused(400, "cursor_invalid")


async def test_a_cursor_from_the_future_is_lost_and_told_what_to_keep(app: HttpApp) -> None:
    await _fill(app, "a", "b")
    head = await _head(app)
    future = head.replace(":2", ":7")
    for accept in ("application/json", SSE, NDJSON):
        problem = (await app.get(f"{CHANGES}?after={future}", Accept=accept)).refused(410, "cursor_lost")
        assert (problem["how"], problem["keep_to"], problem["at"]) == ("rewind", 2, head)
        assert problem["lineage"] == (await app.get("/v1/stores/notes")).json["lineage"]


async def test_a_cursor_of_another_store_is_lost(app: HttpApp) -> None:
    await app.ask("PUT", "/v1/stores/other")
    await app.put("a", store="other")
    other = (await app.get("/v1/stores/other")).json["head"]
    problem = (await app.get(f"{CHANGES}?after={other}")).refused(410, "cursor_lost")
    assert problem["how"] == "snapshot"
    assert (await app.get(f"{CHANGES}?after={problem['at']}")).status == 200


async def test_a_known_lineage_finds_the_fork(app: HttpApp) -> None:
    await _fill(app, "a", "b", "c")
    incarnation = (await _head(app)).partition(":")[0]
    query = f"after=ffff:5&known={incarnation}@0,ffff@3"
    problem = (await app.get(f"{CHANGES}?{query}")).refused(410, "cursor_lost")
    assert (problem["how"], problem["keep_to"], problem["at"]) == ("rewind", 2, f"{incarnation}:2")
    (await app.get(f"{CHANGES}?known=garbage&after={incarnation}:1")).refused(400, "cursor_invalid")


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("wait=61", "bad_message"),
        ("wait=-1", "bad_message"),
        ("wait=nan", "bad_message"),
        ("wait=inf", "bad_message"),
        ("limit=0", "bad_message"),
        ("since=5", "unknown_parameter"),
        ("after=start&after=now", "bad_message"),
    ],
)
async def test_a_wrong_parameter_is_refused(app: HttpApp, query: str, code: str) -> None:
    (await app.get(f"{CHANGES}?{query}")).refused(400, code)


async def test_a_stream_takes_no_parameters_of_pages(app: HttpApp) -> None:
    (await app.get(f"{CHANGES}?limit=5", Accept=SSE)).refused(400, "bad_message")
    (await app.get(f"{CHANGES}?wait=5", Accept=NDJSON)).refused(400, "bad_message")


# --- long poll ---


async def test_a_long_poll_answers_as_soon_as_something_is_there(app: HttpApp) -> None:
    head = await _head(app)
    polls = [asyncio.create_task(app.get(f"{CHANGES}?after={head}&wait=30")) for _ in range(5)]
    await until(lambda: len(app.hub.waiting) == 5)
    await _fill(app, "a", "b")
    for answer in await asyncio.wait_for(asyncio.gather(*polls), 5):
        assert [change["key"] for change in answer.json["changes"]] == ["a", "b"]
        assert answer.json["from"] == head
    assert not app.hub.waiting


async def test_a_long_poll_that_waits_in_vain_gets_an_empty_page(app: HttpApp) -> None:
    await _fill(app, "a")
    head = await _head(app)
    page = (await app.get(f"{CHANGES}?after={head}&wait=0.01")).json
    assert (page["from"], page["to"], page["changes"], page["caught_up"]) == (head, head, [], True)


async def test_a_long_poll_of_a_store_that_is_dropped_is_told(app: HttpApp) -> None:
    poll = asyncio.create_task(app.get(f"{CHANGES}?after=now&wait=30"))
    await until(lambda: len(app.hub.waiting) == 1)
    await app.ask("DELETE", "/v1/stores/notes")
    (await asyncio.wait_for(poll, 5)).refused(404, "store_unknown")


# --- server-sent events ---


async def test_events_carry_batches_and_say_when_everything_was_sent(app: HttpApp) -> None:
    await _fill(app, "a", "b")
    async with app.stream(CHANGES, Accept=SSE) as stream:
        assert stream.status == 200
        assert stream.headers["content-type"].startswith(SSE)
        assert stream.headers["cache-control"] == "no-store"
        assert (await stream.until(b"\n\n")).startswith(b"retry: ")
        batch = await stream.event()
        assert (batch["event"], batch["id"]) == ("batch", batch["data"]["to"])
        assert [change["key"] for change in batch["data"]["changes"]] == ["a", "b"]
        caught_up = await stream.event()
        assert (caught_up["event"], caught_up["id"]) == ("caught_up", await _head(app))
        digest = digest_text(digest_term(Seq(1), "a") + digest_term(Seq(2), "b"))
        assert caught_up["data"] == {"at": caught_up["id"], "count": 2, "digest": digest}
        await _fill(app, "c")
        live = await stream.event()
        assert live["data"]["from"] == caught_up["id"]
        assert [change["key"] for change in live["data"]["changes"]] == ["c"]
    assert not app.hub.waiting


async def test_an_event_source_resumes_with_its_last_event_id(app: HttpApp) -> None:
    await _fill(app, "a")
    async with app.stream(CHANGES, Accept=SSE) as stream:
        last = (await stream.event())["id"]
    await _fill(app, "b")
    # The header wins: a browser asks for the same address again.
    async with app.stream(f"{CHANGES}?after=start", Accept=SSE, Last_Event_ID=last) as stream:
        batch = await stream.event()
        assert batch["data"]["from"] == last
        assert [change["key"] for change in batch["data"]["changes"]] == ["b"]


async def test_a_last_event_id_of_lost_history_is_refused_before_the_stream(app: HttpApp) -> None:
    (await app.get(CHANGES, Accept=SSE, Last_Event_ID="ffff:3")).refused(410, "cursor_lost")
    (await app.get(CHANGES, Accept=SSE, Last_Event_ID="garbage")).refused(400, "cursor_invalid")


async def test_an_event_of_an_empty_store_has_a_position_already(app: HttpApp) -> None:
    async with app.stream(f"{CHANGES}?after=now", Accept=SSE) as stream:
        event = await stream.event()
        assert (event["event"], event["id"], event["data"]["count"]) == ("caught_up", await _head(app), 0)


async def test_an_idle_stream_shows_that_it_lives(app: HttpApp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes_module, "HEARTBEAT_S", 0.01)
    async with app.stream(CHANGES, Accept=SSE) as stream:
        await stream.event()
        assert await stream.until(b"\n\n") == b":\n\n"
        assert await stream.until(b"\n\n") == b":\n\n"


async def test_a_stream_of_a_store_that_is_dropped_ends(app: HttpApp) -> None:
    async with app.stream(CHANGES, Accept=SSE) as stream:
        await stream.event()
        await app.ask("DELETE", "/v1/stores/notes")
        ended = await stream.event()
        assert (ended["event"], ended["data"]) == ("ended", {"reason": "store_dropped"})
        await stream.rest()
        assert stream.ended


# --- NDJSON ---


async def test_lines_are_changes_with_bookmarks_between_transactions(app: HttpApp) -> None:
    await _fill(app, "a", "b")
    async with app.stream(CHANGES, Accept=NDJSON) as stream:
        start = await stream.line()
        assert start == {"to": (await app.get(CHANGES)).json["from"]}
        assert (await stream.line())["key"] == "a"
        assert (await stream.line())["key"] == "b"
        head = await _head(app)
        assert await stream.line() == {"to": head}
        caught_up = await stream.line()
        assert (caught_up["to"], caught_up["caught_up"], caught_up["count"]) == (head, True, 2)
        await app.ask("DELETE", record_path("notes", "a"))
        deleted = await stream.line()
        assert (deleted["op"], deleted["key"]) == ("DELETE", "a")
        assert await stream.line() == {"to": await _head(app)}


async def test_a_bookmark_repeats_while_nothing_happens(app: HttpApp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes_module, "HEARTBEAT_S", 0.01)
    async with app.stream(f"{CHANGES}?after=now", Accept=NDJSON) as stream:
        first = await stream.line()
        assert (await stream.line())["caught_up"]
        assert await stream.line() == first
        assert await stream.line() == first


# --- slow readers, the end ---


async def test_a_slow_reader_gets_everything_in_order(app: HttpApp) -> None:
    value = "x" * 50_000
    async with app.stream(CHANGES, Accept=NDJSON) as stream:
        for number in range(60):
            await app.put(f"k{number}", f'"{value}"')
        keys = [line["key"] for line in await _until_bookmark(stream, await _head(app)) if "key" in line]
        assert keys == [f"k{number}" for number in range(60)]


async def _until_bookmark(stream: StreamReader, cursor: str) -> list[dict[str, Any]]:
    lines = [await stream.line()]
    while lines[-1].get("to") != cursor:
        lines.append(await stream.line())
    return lines


async def test_a_reader_far_behind_is_told_when_it_is_consistent_again() -> None:
    far_behind = Settings(store="memory:", auth="none", tail_bytes=2000)
    async with http_app(settings=far_behind) as app, app.stream(CHANGES, Accept=SSE) as stream:
        assert (await stream.event())["event"] == "caught_up"
        stream.set_full(True)
        await _fill(app, "first")
        await stream.event()
        for number in range(100):
            await app.put(f"k{number}")
        await (await app.hub.feeds.feed("notes")).settled()
        stream.set_full(False)
        events = [await stream.event()]
        while events[-1]["event"] != "caught_up":
            events.append(await stream.event())
        assert events[0]["event"] == "behind"
        seqs = [change["seq"] for event in events if event["event"] == "batch" for change in event["data"]["changes"]]
        assert seqs == list(range(2, 102))
        assert events[-1]["data"]["count"] == 101


async def test_a_reader_that_reads_nothing_is_dropped() -> None:
    async with http_app(settings=Settings(store="memory:", auth="none", stall_timeout_s=0.05)) as app:
        async with app.stream(CHANGES, Accept=SSE) as stream:
            await stream.event()
            stream.set_full(True)
            await _fill(app, "a")
            await stream.rest()
            assert stream.aborted
        assert not app.hub.waiting


async def test_streams_and_polls_end_cleanly_when_the_server_drains(app: HttpApp) -> None:
    async with app.stream(CHANGES, Accept=SSE) as events, app.stream(CHANGES, Accept=NDJSON) as lines:
        await events.event()
        await lines.line()
        poll = asyncio.create_task(app.get(f"{CHANGES}?after=now&wait=30"))
        await until(lambda: len(app.hub.waiting) == 3)
        await app.hub.drain(after_ms=0, jitter_ms=0, patience_s=1)
        rest = await events.rest()
        assert events.ended
        assert rest.startswith(b"retry: ")
        assert (await lines.rest()).endswith(b"\n")
        assert lines.ended
        assert (await poll).json["changes"] == []


async def test_a_reader_that_is_stuck_does_not_hold_up_the_drain(app: HttpApp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_module, "_LAST_PIECE_S", 0.05)
    async with app.stream(CHANGES, Accept=SSE) as stream:
        await stream.event()
        stream.set_full(True)
        await _fill(app, "a")
        await stream.event()
        await app.hub.drain(after_ms=0, jitter_ms=0, patience_s=1)
        await stream.rest()
        assert stream.aborted


async def test_there_are_only_so_many_streams() -> None:
    async with http_app(settings=Settings(store="memory:", auth="none", connections_max=2)) as app:
        async with app.stream(CHANGES, Accept=SSE), app.stream(CHANGES, Accept=SSE):
            (await app.get(f"{CHANGES}?wait=1")).refused(503, "overloaded")
            (await app.get(CHANGES, Accept=SSE)).refused(503, "overloaded")
        assert (await app.get(CHANGES)).status == 200


async def test_head_of_a_stream_ends(app: HttpApp) -> None:
    head = await app.ask("HEAD", CHANGES, headers={"Accept": SSE})
    assert head.status == 200
    assert head.headers["content-type"].startswith(SSE)
