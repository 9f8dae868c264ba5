"""Indexes, finding and references over HTTP."""

from urllib.parse import quote

import msgspec
import pytest

from tests.support.http import Answered, HttpApp, Json

_INDEXES = "/v1/stores/notes/indexes"
_RECORDS = "/v1/stores/notes/records"


async def declare(app: HttpApp, name: str, path: str, kind: str = "equality") -> Answered:
    body = msgspec.json.encode({"path": path, "kind": kind})
    return await app.ask("PUT", f"{_INDEXES}/{name}", body)


async def found(app: HttpApp, query: str) -> list[str]:
    """Return the keys that a query finds."""
    return keys_of(await app.get(f"{_RECORDS}?{query}"))


def keys_of(answer: Answered) -> list[str]:
    assert answer.status == 200, answer.content
    return [record["key"] for record in answer.json["records"]]


# --- indexes ---


async def test_an_index_is_declared_looked_at_and_dropped(app: HttpApp) -> None:
    declared = await declare(app, "room", "/room")
    assert declared.status == 201
    body: Json = declared.json
    assert (body["name"], body["path"], body["kind"], body["state"]) == ("room", "/room", "equality", "ready")
    assert (await declare(app, "room", "/room")).status == 200
    await declare(app, "by", "/by", "range")
    assert [index["name"] for index in (await app.get(_INDEXES)).json["indexes"]] == ["by", "room"]
    assert (await app.get(f"{_INDEXES}/room")).json == body
    dropped = await app.ask("DELETE", f"{_INDEXES}/room")
    assert (dropped.status, dropped.json["name"]) == (200, "room")
    (await app.get(f"{_INDEXES}/room")).refused(404, "index_unknown")
    (await app.ask("DELETE", f"{_INDEXES}/room")).refused(404, "index_unknown")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ('{"path":"room"}', 400, "index_invalid"),
        ('{"path":"/a~2"}', 400, "index_invalid"),
        ('{"path":"/a","kind":"full"}', 400, "bad_message"),
        ('{"path":"/a","sort":1}', 400, "unknown_parameter"),
        ('{"kind":"range"}', 400, "bad_message"),
        ('{"path"', 400, "bad_json"),
    ],
)
async def test_an_index_that_cannot_be_is_refused(app: HttpApp, body: str, status: int, code: str) -> None:
    (await app.ask("PUT", f"{_INDEXES}/room", body)).refused(status, code)


async def test_another_index_under_a_name_is_refused(app: HttpApp) -> None:
    await declare(app, "room", "/room")
    (await declare(app, "room", "/other")).refused(409, "index_taken")
    (await declare(app, "room", "/room", "range")).refused(409, "index_taken")


async def test_names_of_indexes_have_rules_and_nothing_gets_through_them(app: HttpApp) -> None:
    for name in ("a b", "_a", "a" * 65, "ä", "a/b", '"'):
        (await declare(app, quote(name, safe=""), "/a")).refused(400, "index_invalid")
        (await app.get(f"{_INDEXES}/{quote(name, safe='')}")).refused(404, "index_unknown")
    (await app.get(f"{_INDEXES}/%FF")).refused(404, "index_unknown")
    (await app.get("/v1/stores/none/indexes")).refused(404, "store_unknown")


# --- finding ---


@pytest.fixture
async def shelf(app: HttpApp) -> HttpApp:
    """A store of books, with indexes."""
    await declare(app, "year", "/year", "range")
    await declare(app, "author", "/author")
    await declare(app, "tags", "/tags", "multi")
    for key, text in (
        ("a", '{"year": 1950, "author": "p1", "tags": ["red", "5"]}'),
        ("b", '{"year": 1960, "author": "p2", "tags": ["red"]}'),
        ("c", '{"year": 1960.0, "author": "p1", "tags": [5, true, null]}'),
        ("d", '{"year": "1960", "author": null}'),
        ("p1", '{"name": "Ann", "wrote": ["c", "a", "x", "c"]}'),
        ("p2", '{"name": "Bob", "wrote": "b"}'),
    ):
        await app.put(key, text)
    return app


@pytest.mark.parametrize(
    ("query", "keys"),
    [
        ("index=year&eq=1960", ["b", "c"]),
        ("index=year&eq=%221960%22", ["d"]),
        ("index=year&ge=1950&lt=1960", ["a"]),
        ("index=year&gt=1950&le=1960", ["b", "c"]),
        ("index=year&prefix=19", ["d"]),
        ("index=author&eq=p1", ["a", "c"]),
        ("index=author&eq=null", ["d"]),
        ("index=tags&eq=red", ["a", "b"]),
        ("index=tags&eq=5", ["c"]),
        ('index=tags&eq="5"', ["a"]),
        ("index=tags&eq=true", ["c"]),
        ("index=tags&eq=True", []),
        ("index=author&eq=p1&key_prefix=c", ["c"]),
        ("key_prefix=p", ["p1", "p2"]),
        ("order=desc", ["p2", "p1", "d", "c", "b", "a"]),
        ("index=year&order=desc", ["d", "c", "b", "a"]),
    ],
)
async def test_records_are_found_by_what_stands_in_the_url(shelf: HttpApp, query: str, keys: list[str]) -> None:
    assert await found(shelf, query) == keys


async def test_without_a_condition_records_come_in_the_order_of_the_log(shelf: HttpApp) -> None:
    await shelf.put("0", "1")
    assert (await found(shelf, "limit=100"))[-1] == "0"
    assert (await found(shelf, "order=asc"))[0] == "0"


async def test_pages_follow_each_other(shelf: HttpApp) -> None:
    first = await shelf.get(f"{_RECORDS}?index=year&limit=3&count=1")
    assert (keys_of(first), first.json["count"]) == (["a", "b", "c"], 4)
    second = await shelf.get(f"{_RECORDS}?index=year&page={first.json['next']}")
    assert (keys_of(second), second.json["next"], "count" in second.json) == (["d"], None, False)
    (await shelf.get(f"{_RECORDS}?index=author&page={first.json['next']}")).refused(400, "cursor_invalid")
    (await shelf.get(f"{_RECORDS}?index=year&page=1-{first.json['at']}")).refused(400, "cursor_invalid")
    (await shelf.get(f"{_RECORDS}?page={first.json['next']}")).refused(400, "cursor_invalid")


async def test_whoever_follows_the_store_after_a_page_misses_nothing(shelf: HttpApp) -> None:
    at = (await shelf.get(f"{_RECORDS}?index=year&eq=1960")).json["at"]
    await shelf.put("e", '{"year": 1960}')
    await shelf.put("f", '{"year": 1961}')
    changes = await shelf.get(f"/v1/stores/notes/changes?index=year&eq=1960&after={at}")
    assert [change["key"] for change in changes.json["changes"]] == ["e"]


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ("eq=1", 400, "filter_invalid"),
        ("index=year&eq=1&ge=0", 400, "filter_invalid"),
        ("index=author&ge=1", 400, "filter_invalid"),
        ("index=none&eq=1", 404, "index_unknown"),
        ("index=year&eq=1&order=up", 400, "bad_message"),
        ("index=year&limit=0", 400, "bad_message"),
        ("index=year&count=yes", 400, "bad_message"),
        ("index=year&at=1", 400, "bad_message"),
        ("index=year&eq=1&eq=2", 400, "bad_message"),
        ("index=year&sort=1", 400, "unknown_parameter"),
    ],
)
async def test_what_cannot_be_asked_is_refused(shelf: HttpApp, query: str, status: int, code: str) -> None:
    (await shelf.get(f"{_RECORDS}?{query}")).refused(status, code)


async def test_what_is_found_is_no_stream(shelf: HttpApp) -> None:
    answer = await shelf.get(f"{_RECORDS}?index=year", Accept="application/x-ndjson")
    answer.refused(400, "bad_message")


# --- references ---


async def test_references_are_followed_in_the_order_in_which_they_are_named(shelf: HttpApp) -> None:
    await declare(shelf, "wrote", "/wrote", "multi")
    assert keys_of(await shelf.get(f"{_RECORDS}/a/references/author")) == ["p1"]
    assert keys_of(await shelf.get(f"{_RECORDS}/p1/references/wrote")) == ["c", "a"]
    assert keys_of(await shelf.get(f"{_RECORDS}/p2/references/wrote")) == ["b"]
    assert keys_of(await shelf.get(f"{_RECORDS}/d/references/author")) == []
    assert keys_of(await shelf.get(f"{_RECORDS}/p1/references/author")) == []


async def test_references_are_found_backwards(shelf: HttpApp) -> None:
    answer = await shelf.get(f"{_RECORDS}/p1/referrers/author?limit=1&count=1&order=desc")
    assert (keys_of(answer), answer.json["count"]) == (["c"], 2)
    more = await shelf.get(f"{_RECORDS}/p1/referrers/author?order=desc&page={answer.json['next']}")
    assert keys_of(more) == ["a"]
    assert keys_of(await shelf.get(f"{_RECORDS}/gone/referrers/author")) == []


async def test_a_reference_to_a_long_key_is_found_both_ways(shelf: HttpApp) -> None:
    key = "k/" + "ключ" * 60
    await shelf.put(key, "1")
    await shelf.put("e", msgspec.json.encode({"author": key}))
    assert keys_of(await shelf.get(f"{_RECORDS}/e/references/author")) == [key]
    assert keys_of(await shelf.get(f"{_RECORDS}/{quote(key, safe='')}/referrers/author")) == ["e"]


async def test_references_of_what_is_not_there_are_refused(shelf: HttpApp) -> None:
    (await shelf.get(f"{_RECORDS}/none/references/author")).refused(404, "record_unknown")
    (await shelf.get(f"{_RECORDS}/a/references/none")).refused(404, "index_unknown")
    (await shelf.get(f"{_RECORDS}/a/referrers/none")).refused(404, "index_unknown")
