"""Records over HTTP: one by its key, all of them in pages, or all of them as a stream."""

import secrets
from hashlib import blake2b
from urllib.parse import quote

from starlette.responses import Response

from syncline_protocol.cursor import Cursor
from syncline_protocol.transaction import Op, Transaction, make_op
from syncline_server.access.authority import Action
from syncline_server.storage.base import Record
from syncline_server.wanted import shows_record

from .bodies import RecordBody, WroteRecord, record_text
from .call import Call, json_response
from .operation import JSON, Answer, Header, Operation, Parameter, RequestBody
from .positions import position_of
from .problem import Refusal
from .writes import WRITE_REFUSALS, commit

__all__ = ["RECORDS"]


# --- one record ---


async def _put(call: Call) -> Response:
    store, key = call.store, call.key
    return _added(await _commit_one(call, store, _sound(make_op(key, await call.json_body(), call.api.limits))))


async def _post(call: Call) -> Response:
    store = call.store
    given = call.header("Idempotency-Key")
    key = _new_key(call.hub.now_ms()) if given is None else call.checked_key(_unquoted(given))
    wrote = await _commit_one(call, store, _sound(make_op(key, await call.json_body(), call.api.limits)))
    response = _added(wrote)
    root = quote(call.request.scope.get("root_path", ""))
    response.headers["Location"] = f"{root}/v1/stores/{store}/records/{quote(wrote.key, safe='')}"
    return response


async def _get(call: Call) -> Response:
    store, key = call.store, call.key
    view = call.view(store)
    record = await _record(call, store, key)
    if record is None or not await shows_record(call.hub.storage, store, view, record.text):
        raise _unknown()
    (text,) = view.texts([record.text])
    # The text has key, seq, time and value, so its hash names this very record in every history.
    etag = f'"{blake2b(text, digest_size=12).hexdigest()}"'
    if call.has_etag(etag):
        return Response(status_code=304, headers={"ETag": etag, "Cache-Control": "no-cache"})
    return json_response(record_text(text), headers={"ETag": etag})


async def _record(call: Call, store: str, key: str) -> Record | None:
    """Return the record that lives now, or lived at the position that is asked for."""
    storage, text = call.hub.storage, call.text("at")
    if text is None:
        return await storage.get(store, key)
    at = await position_of(storage, await storage.info(store), text)
    # The floor is compared in the read itself, so no pin is needed.
    return await storage.get(store, key, at)


async def _delete(call: Call) -> Response:
    store, key = call.store, call.key
    return json_response(await _commit_one(call, store, Op(key)))


def _added(wrote: WroteRecord) -> Response:
    return json_response(wrote, 201 if wrote.status == "ok" else 200)


def _sound(op: Op) -> Op:
    if op.fault is not None:
        assert op.fault.code is not None
        assert op.fault.message is not None
        raise Refusal(op.fault.code, op.fault.message)
    return op


async def _commit_one(call: Call, store: str, op: Op) -> WroteRecord:
    outcome = await commit(call, Transaction(store, (op,), atomic=False, single=True))
    result = outcome.ops[0]
    match result.status:
        case "ok" | "dup" as status:
            assert result.seq is not None
            assert outcome.at is not None
            return WroteRecord(op.key, status, result.seq, outcome.at, result.deleted)
        case "absent":
            raise _unknown(outcome.head)
        case "conflict":
            raise Refusal("write_refused", "the key holds another value", outcome="conflict", head=outcome.head)
        case "gone":
            detail = "the key held another value and was deleted"
            raise Refusal("write_refused", detail, outcome="gone", head=outcome.head)
        case "denied":
            raise Refusal(result.code or "forbidden", result.message or "no grant allows this change")
        case "too_large":
            raise Refusal("too_large", result.message or "the record does not fit into one frame")
        case other:
            raise Refusal("write_refused", result.message or f"the change is {other}", outcome=other)


def _unknown(head: Cursor | None = None) -> Refusal:
    return Refusal("record_unknown", "the store holds no live record of this key", head=head)


def _unquoted(text: bytes) -> bytes:
    """Take the quotes off that make a header's value a string (RFC 9651)."""
    if len(text) >= 2 and text.startswith(b'"') and text.endswith(b'"'):
        return text[1:-1]
    return text


def _new_key(now_ms: int) -> str:
    """Make a key: a UUID of version 7 (RFC 9562), so that keys sort by the time they were made."""
    bits = (now_ms & (1 << 48) - 1) << 80 | 0x7 << 76 | secrets.randbits(12) << 64 | 0b10 << 62 | secrets.randbits(62)
    digits = f"{bits:032x}"
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


_WROTE = {JSON: (WroteRecord,)}
_ONE = "/v1/stores/{store}/records/{key}"
_ALL = "/v1/stores/{store}/records"
_VALUE = RequestBody("the value: any JSON text; it is kept as it came")
_ADDED = (
    Answer(201, "the record was added", _WROTE),
    Answer(200, "this very record was added before", _WROTE),
)
_POSTED = tuple(
    Answer(answer.status, answer.description, answer.content, {"Location": "where the record is"}) for answer in _ADDED
)

RECORDS: tuple[Operation, ...] = (
    Operation(
        name="addRecord",
        method="POST",
        path=_ALL,
        handler=_post,
        summary="Add a record under a new key",
        action=Action.WRITE,
        headers=(Header("Idempotency-Key", "the key; a request that is repeated with it has one effect"),),
        body=_VALUE,
        answers=_POSTED,
        refusals=(*WRITE_REFUSALS, "key_invalid", "value_invalid"),
    ),
    Operation(
        name="putRecord",
        method="PUT",
        path=_ONE,
        handler=_put,
        summary="Add a record",
        action=Action.WRITE,
        body=_VALUE,
        answers=_ADDED,
        refusals=(*WRITE_REFUSALS, "key_invalid", "value_invalid"),
    ),
    Operation(
        name="getRecord",
        method="GET",
        path=_ONE,
        handler=_get,
        summary="Get a live record, or one that lived at a position of the past",
        action=Action.READ,
        parameters=(Parameter("at", "a position: a cursor, a seq, or a time of RFC 3339; by default now"),),
        headers=(Header("If-None-Match", "ETag of the record that the client has"),),
        answers=(
            Answer(200, "the record", {JSON: (RecordBody,)}, {"ETag": "names this record"}),
            Answer(304, "the client has it", headers={"ETag": "names this record"}),
        ),
        refusals=(
            "store_name_invalid",
            "store_unknown",
            "key_invalid",
            "too_large",
            "record_unknown",
            "unknown_parameter",
            "cursor_invalid",
            "cursor_lost",
            "history_gone",
            "storage_unavailable",
        ),
    ),
    Operation(
        name="deleteRecord",
        method="DELETE",
        path=_ONE,
        handler=_delete,
        summary="Delete a record",
        action=Action.WRITE,
        answers=(Answer(200, "the record was deleted now, or before (`dup`)", _WROTE),),
        refusals=(*WRITE_REFUSALS, "key_invalid", "record_unknown"),
    ),
)
