"""Single records over HTTP: statuses, keys, values, retries."""

import re

import pytest

from syncline_protocol.limits import DEFAULT_LIMITS
from tests.support.http import HttpApp, record_path


async def test_a_record_is_added_once_and_a_retry_gets_the_same_answer(app: HttpApp) -> None:
    added = await app.put("k1", '{"x": 1}')
    assert added.status == 201
    assert added.json["status"] == "ok"
    again = await app.put("k1", '{"x": 1}')
    assert again.status == 200
    assert again.json == {**added.json, "status": "dup"}


async def test_another_value_under_a_key_is_a_conflict(app: HttpApp) -> None:
    await app.put("k1", "1")
    assert (await app.put("k1", "2")).refused(409, "write_refused")["outcome"] == "conflict"
    # The key is bound to the text, not to what a parser makes of it.
    assert (await app.put("k1", "1.0")).refused(409, "write_refused")["outcome"] == "conflict"


async def test_a_key_is_never_used_again(app: HttpApp) -> None:
    added = (await app.put("k1", "1")).json
    deleted = await app.ask("DELETE", record_path("notes", "k1"))
    assert (deleted.status, deleted.json["status"], deleted.json["seq"]) == (200, "ok", 2)
    assert (await app.put("k1", "2")).refused(409, "write_refused")["outcome"] == "gone"
    late = await app.put("k1", "1")
    assert late.status == 200
    assert late.json == {**added, "status": "dup", "deleted": 2}


async def test_a_refusal_tells_the_head_at_which_it_was_decided(app: HttpApp) -> None:
    added = (await app.put("k1", "1")).json
    assert (await app.put("k1", "2")).refused(409, "write_refused")["head"] == added["at"]
    assert (await app.ask("DELETE", record_path("notes", "k2"))).refused(404, "record_unknown")["head"] == added["at"]
    deleted = (await app.ask("DELETE", record_path("notes", "k1"))).json
    assert (await app.put("k1", "2")).refused(409, "write_refused")["head"] == deleted["at"]
    assert "head" not in added | deleted
    # Nothing was decided here: who reads gets no head.
    assert "head" not in (await app.get(record_path("notes", "k1"))).refused(404, "record_unknown")


async def test_a_repeated_delete_gets_the_first_answer(app: HttpApp) -> None:
    await app.put("k1")
    first = await app.ask("DELETE", record_path("notes", "k1"))
    second = await app.ask("DELETE", record_path("notes", "k1"))
    assert second.status == 200
    assert second.json == {**first.json, "status": "dup"}


async def test_what_is_not_there_is_not_found(app: HttpApp) -> None:
    (await app.get(record_path("notes", "k1"))).refused(404, "record_unknown")
    (await app.ask("DELETE", record_path("notes", "k1"))).refused(404, "record_unknown")
    await app.put("k1")
    await app.ask("DELETE", record_path("notes", "k1"))
    (await app.get(record_path("notes", "k1"))).refused(404, "record_unknown")


# --- values ---


@pytest.mark.parametrize(
    "text",
    [
        b"9007199254740993",
        b'{"big":123456789012345678901234567890,"small":1e-400,"exact":0.1000}',
        b'{"b":1,"a":{"c":[1, 2,3 ]}}',
        '"ключ 🙂 \\u0041 </script>"'.encode(),
        b"null",
        b"false",
        b'""',
        b"[]",
    ],
)
async def test_a_value_is_kept_as_its_text_came(app: HttpApp, text: bytes) -> None:
    assert (await app.put("k1", text)).status == 201
    record = await app.get(record_path("notes", "k1"))
    assert b'"value":' + text + b',"seq":1' in record.content
    assert b'"value":' + text + b',"seq":1' in (await app.get("/v1/stores/notes/records")).content
    assert (
        b'"value":' + text + b',"seq":1'
        in (await app.get("/v1/stores/notes/records", Accept="application/x-ndjson")).content
    )
    assert b'"value":' + text in (await app.get("/v1/stores/notes/changes")).content


async def test_blanks_around_a_value_and_its_line_breaks_do_not_count(app: HttpApp) -> None:
    assert (await app.put("k1", b' \n{"x":\r\n1}\n')).status == 201
    assert (await app.put("k1", b'{"x":  1}')).status == 200


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"{'x':1}",
        b"NaN",
        b"-Infinity",
        b"1e400",
        b"[1,]",
        b'{"a":1,"a":2}',
        b'{"a":{"b":1,"\\u0062":2}}',
        b'"\xff"',
        b'"\xed\xa0\x80"',
        b'"\\ud800"',
        b"01",
        b"1 2",
        b"\xef\xbb\xbf1",
        b"[" * 65 + b"]" * 65,
        b"[" * 200_000 + b"]" * 200_000,
        b"1" * 400,
    ],
)
async def test_a_text_that_parsers_read_differently_is_refused(app: HttpApp, text: bytes) -> None:
    (await app.put("k1", text)).refused(400, "value_invalid")
    (await app.get(record_path("notes", "k1"))).refused(404, "record_unknown")


async def test_nesting_of_a_million_is_too_large_and_harms_nobody(app: HttpApp) -> None:
    (await app.put("k1", b"[" * 10**6)).refused(413, "too_large")
    (await app.put("k1", b"[" * 10**6 + b"]" * 10**6)).refused(413, "too_large")
    assert (await app.put("k1", b"1")).status == 201


async def test_a_value_over_the_limit_is_refused_and_one_at_it_is_not(app: HttpApp) -> None:
    largest = b'"' + b"x" * (DEFAULT_LIMITS.value_bytes_max - 2) + b'"'
    assert (await app.put("k1", largest)).status == 201
    (await app.put("k2", largest[:-1] + b'x"')).refused(413, "too_large")


# --- keys ---


@pytest.mark.parametrize(
    "key", ["a/b", "a%2Fb", "?x=1", "a#b", "...", "a b", "ключ", "🙂", "k" * 512, '"', "a;b", "a+b"]
)
async def test_any_printable_key_makes_the_way_through_a_path(app: HttpApp, key: str) -> None:
    assert (await app.put(key, "1")).json["key"] == key
    assert (await app.get(record_path("notes", key))).json["key"] == key
    assert (await app.ask("DELETE", record_path("notes", key))).json["key"] == key


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("", 400, "key_invalid"),
        ("%00", 400, "key_invalid"),
        ("a%0Ab", 400, "key_invalid"),
        ("%E2%80%A8", 400, "key_invalid"),
        ("%FF", 400, "key_invalid"),
        ("%ED%A0%80", 400, "key_invalid"),
        ("k" * 513, 413, "too_large"),
        ("%C3%A4" * 257, 413, "too_large"),
    ],
)
async def test_a_key_outside_the_rules_is_refused(app: HttpApp, path: str, status: int, code: str) -> None:
    for method, body in (("PUT", b"1"), ("GET", None), ("DELETE", None)):
        (await app.ask(method, f"/v1/stores/notes/records/{path}", body)).refused(status, code)


async def test_a_slash_in_a_path_ends_the_key(app: HttpApp) -> None:
    (await app.get("/v1/stores/notes/records/a/b")).refused(404, "not_found")


# --- bodies ---


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "application/json; charset=latin-1"},
        {"Content-Encoding": "gzip"},
    ],
)
async def test_a_body_that_is_no_json_in_utf8_is_refused(app: HttpApp, headers: dict[str, str]) -> None:
    (await app.ask("PUT", record_path("notes", "k1"), b"1", headers)).refused(415, "media_type_unsupported")


async def test_a_body_of_json_may_say_so(app: HttpApp) -> None:
    for key, media_type in (("a", "application/json"), ("b", "Application/JSON; charset=UTF-8")):
        added = await app.ask("PUT", record_path("notes", key), b"1", {"Content-Type": media_type})
        assert added.status == 201


# --- keys made by the server ---


async def test_a_post_makes_keys_that_sort_by_their_time(app: HttpApp) -> None:
    posted = [await app.ask("POST", "/v1/stores/notes/records", b"1") for _ in range(3)]
    keys = [answer.json["key"] for answer in posted]
    assert len(set(keys)) == 3
    assert all(re.fullmatch("[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", key) for key in keys)
    assert [key[:8] for key in keys] == sorted(key[:8] for key in keys)
    for answer in posted:
        assert answer.status == 201
        assert (await app.get(answer.headers["Location"])).json["key"] == answer.json["key"]


async def test_a_post_that_is_repeated_after_a_lost_answer_has_one_effect(app: HttpApp) -> None:
    key = {"Idempotency-Key": "order/17"}
    first = await app.ask("POST", "/v1/stores/notes/records", b'{"x":1}', key)
    assert (first.status, first.json["key"]) == (201, "order/17")
    again = await app.ask("POST", "/v1/stores/notes/records", b'{"x":1}', key)
    assert again.status == 200
    assert again.json == {**first.json, "status": "dup"}
    assert again.headers["Location"] == first.headers["Location"]
    assert (await app.get("/v1/stores/notes")).json["count"] == 1
    await app.ask("DELETE", record_path("notes", "order/17"))
    late = await app.ask("POST", "/v1/stores/notes/records", b'{"x":1}', key)
    assert late.json == {**first.json, "status": "dup", "deleted": 2}


async def test_an_idempotency_key_with_another_value_is_a_conflict(app: HttpApp) -> None:
    key = {"Idempotency-Key": '"order-17"'}
    assert (await app.ask("POST", "/v1/stores/notes/records", b"1", key)).json["key"] == "order-17"
    (await app.ask("POST", "/v1/stores/notes/records", b"2", key)).refused(409, "write_refused")


@pytest.mark.parametrize("key", ["", '""', "k" * 513])
async def test_an_idempotency_key_keeps_the_rules_for_keys(app: HttpApp, key: str) -> None:
    answer = await app.ask("POST", "/v1/stores/notes/records", b"1", {"Idempotency-Key": key})
    assert answer.json["code"] in ("key_invalid", "too_large")


# --- caches ---


async def test_a_client_that_has_a_record_is_not_sent_it_again(app: HttpApp) -> None:
    await app.put("k1")
    etag = (await app.get(record_path("notes", "k1"))).headers["ETag"]
    for known in (etag, f'"other", {etag}', f"W/{etag}", "*"):
        answer = await app.get(record_path("notes", "k1"), If_None_Match=known)
        assert (answer.status, answer.content, answer.headers["ETag"]) == (304, b"", etag)
    assert (await app.get(record_path("notes", "k1"), If_None_Match='"other"')).status == 200


async def test_the_same_record_of_a_store_made_anew_has_another_etag(app: HttpApp) -> None:
    await app.put("k1", "1")
    etag = (await app.get(record_path("notes", "k1"))).headers["ETag"]
    await app.ask("DELETE", "/v1/stores/notes")
    await app.ask("PUT", "/v1/stores/notes")
    await app.put("k1", "2")
    assert (await app.get(record_path("notes", "k1"), If_None_Match=etag)).status == 200


async def test_head_says_what_get_would(app: HttpApp) -> None:
    await app.put("k1")
    got = await app.get(record_path("notes", "k1"))
    head = await app.ask("HEAD", record_path("notes", "k1"))
    assert (head.status, head.headers["ETag"]) == (200, got.headers["ETag"])
