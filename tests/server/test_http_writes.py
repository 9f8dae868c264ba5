"""Several ops at once over HTTP."""

import msgspec
import pytest

from syncline_protocol.limits import DEFAULT_LIMITS
from tests.support.http import HttpApp, record_path

ADD_K1 = {"op": "ADD", "key": "k1", "value": 1}
ADD_K2 = {"op": "ADD", "key": "k2", "value": 2}
DELETE_K1 = {"op": "DELETE", "key": "k1"}


async def test_all_ops_of_a_write_are_committed_together(app: HttpApp) -> None:
    wrote = await app.write(ADD_K1, ADD_K2)
    assert wrote.status == 200
    assert wrote.json["status"] == "ok"
    assert wrote.json["ops"] == [{"status": "ok", "seq": 1}, {"status": "ok", "seq": 2}]
    assert wrote.json["at"] == (await app.get("/v1/stores/notes")).json["head"]


async def test_a_repeated_write_gets_the_first_answer(app: HttpApp) -> None:
    await app.write(ADD_K1)
    first = (await app.write(DELETE_K1, ADD_K2)).json
    again = await app.write(DELETE_K1, ADD_K2)
    assert again.status == 200
    assert again.json["status"] == "dup"
    assert again.json["at"] == first["at"]
    assert [op["seq"] for op in again.json["ops"]] == [op["seq"] for op in first["ops"]]


async def test_of_two_rivals_one_is_refused_as_a_whole(app: HttpApp) -> None:
    await app.write(ADD_K1)
    await app.write(DELETE_K1, {"op": "ADD", "key": "a", "value": 1})
    problem = (await app.write(DELETE_K1, {"op": "ADD", "key": "b", "value": 1})).refused(409, "write_refused")
    assert problem["outcome"] == "refused"
    assert problem["ops"] == [{"status": "gone"}, {"status": "skipped"}]
    (await app.get(record_path("notes", "b"))).refused(404, "record_unknown")


async def test_each_op_alone_can_fail_alone(app: HttpApp) -> None:
    wrote = await app.write(ADD_K1, {"op": "DELETE", "key": "none"}, ADD_K2, atomic=False)
    assert wrote.status == 200
    assert wrote.json["status"] == "partial"
    assert [op["status"] for op in wrote.json["ops"]] == ["ok", "absent", "ok"]


async def test_a_refusal_tells_the_head_at_which_it_was_decided(app: HttpApp) -> None:
    at = (await app.write(ADD_K1)).json["at"]
    assert (await app.write(ADD_K1, ADD_K2)).refused(409, "write_refused")["head"] == at
    wrote = (await app.write({"op": "DELETE", "key": "none"}, ADD_K2, atomic=False)).json
    assert wrote["head"] == wrote["at"] == (await app.get("/v1/stores/notes")).json["head"]
    assert "head" not in (await app.write(ADD_K1, ADD_K2, atomic=False)).json


async def test_an_unsound_op_says_what_is_wrong_with_it(app: HttpApp) -> None:
    body = b'{"ops":[{"op":"ADD","key":"k1","value":1},{"op":"ADD","key":"k2","value":{"a":1,"a":2}}]}'
    problem = (await app.ask("POST", "/v1/stores/notes/writes", body)).refused(409, "write_refused")
    assert [op["status"] for op in problem["ops"]] == ["skipped", "invalid"]
    assert problem["ops"][1]["code"] == "value_invalid"


async def test_a_write_for_a_store_that_was_made_anew_is_refused(app: HttpApp) -> None:
    store_id = (await app.get("/v1/stores/notes")).json["store_id"]
    assert (await app.write(ADD_K1, store_id=store_id)).status == 200
    (await app.write(ADD_K2, store_id="0000000000000000")).refused(409, "store_mismatch")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "bad_json"),
        (b"{", "bad_json"),
        (b'{"ops":[{"op":"ADD","key":"\xff","value":1}]}', "bad_json"),
        (b'{"ops":[{"op":"ADD","key":"\\ud800","value":1}]}', "bad_json"),
        (b'{"ops":' + b"[" * 500_000 + b"]" * 500_000 + b"}", "bad_message"),
        (b'{"ops":[{"op":"ADD","key":"k","value":' + b"[" * 400_000 + b"]" * 400_000 + b"}]}", "bad_json"),
        (b"[]", "bad_message"),
        (b"{}", "bad_message"),
        (b'{"ops":[]}', "bad_message"),
        (b'{"ops":[{"op":"PUT","key":"k","value":1}]}', "bad_message"),
        (b'{"ops":[{"op":"ADD","key":"k"}]}', "bad_message"),
        (b'{"ops":[{"op":"DELETE","key":"k","value":1}]}', "bad_message"),
        (b'{"ops":[{"op":"ADD","key":1,"value":1}]}', "bad_message"),
        (b'{"ops":[],"atomic":"no"}', "bad_message"),
        (b'{"ops":[],"atomc":true}', "unknown_parameter"),
        (b'{"ops":[{"op":"ADD","key":"k","value":1,"ttl":5}]}', "unknown_parameter"),
    ],
)
async def test_a_body_that_is_no_write_is_refused(app: HttpApp, body: bytes, code: str) -> None:
    answer = await app.ask("POST", "/v1/stores/notes/writes", body)
    answer.refused(400, code)
    assert (await app.get("/v1/stores/notes")).json["seq"] == 0


async def test_a_write_of_too_many_ops_is_too_large(app: HttpApp) -> None:
    ops = [{"op": "ADD", "key": f"k{number}", "value": 1} for number in range(DEFAULT_LIMITS.ops_max + 1)]
    (await app.write(*ops)).refused(413, "too_large")
    assert (await app.write(*ops[:-1])).status == 200


async def test_a_body_over_the_limit_is_refused_with_and_without_a_length(app: HttpApp) -> None:
    body = msgspec.json.encode({"ops": [{"op": "ADD", "key": "k", "value": "x" * DEFAULT_LIMITS.frame_bytes_max}]})
    (await app.ask("POST", "/v1/stores/notes/writes", body)).refused(413, "too_large")
    (await app.ask("POST", "/v1/stores/notes/writes", body, {"Content-Length": "7"})).refused(413, "too_large")
