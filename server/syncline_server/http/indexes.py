"""Indexes of a store over HTTP: declare, look at, drop.

Who reads a store sees what its indexes are on, and how far a new one is. Declaring and dropping is for who says how the
store is kept, and is written down.
"""

from typing import Annotated, Literal
from urllib.parse import unquote_to_bytes

import msgspec
from starlette.responses import Response

from syncline_protocol.index import IndexKind, IndexSpec, check_index
from syncline_protocol.limits import SEQ_MAX
from syncline_protocol.messages import Milliseconds
from syncline_server.access.authority import Action
from syncline_server.storage.base import IndexInfo, StoreInfo

from .call import Call, json_response
from .operation import JSON, Answer, Operation, RequestBody

__all__ = ["INDEXES", "IndexBody", "IndexesBody", "index_of"]

_Count = Annotated[int, msgspec.Meta(ge=0, le=SEQ_MAX)]


class IndexBody(msgspec.Struct, frozen=True):
    """An index. `path` is a JSON Pointer into the value.

    While it is `building` it has what is in the log up to the seq `done`, of `total`; it answers once it is `ready`.
    """

    name: str
    path: str
    kind: IndexKind
    state: Literal["building", "ready"]
    done: _Count
    total: _Count
    created: Milliseconds


class IndexesBody(msgspec.Struct, frozen=True):
    """The indexes of a store, in the order of their names."""

    indexes: tuple[IndexBody, ...]


class IndexSpecBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an index is on: `path` is a JSON Pointer into the value, empty for the value itself."""

    path: str
    kind: IndexKind = "equality"


def index_of(call: Call) -> str:
    """Return the name of an index in the path, whether there can be one or not."""
    return unquote_to_bytes(call.request.path_params["index"]).decode(errors="replace")


async def _list(call: Call) -> Response:
    info = await call.hub.storage.info(call.store)
    told = sorted([_body(info, index) for index in info.indexes], key=lambda body: body.name)
    return json_response(IndexesBody(tuple(told)))


async def _get(call: Call) -> Response:
    info = await call.hub.storage.info(call.store)
    return json_response(_body(info, info.index(index_of(call))))


def _body(info: StoreInfo, index: IndexInfo) -> IndexBody:
    spec, total = index.spec, info.head.seq
    done = total if index.state == "ready" else min(index.done, total)
    return IndexBody(spec.name, spec.path, spec.kind, index.state, done, total, index.created_ms)


async def _declare(call: Call) -> Response:
    store = call.store
    body = await call.json_struct(IndexSpecBody)
    # What cannot be declared is not written down: its name may be any text.
    spec = check_index(IndexSpec(index_of(call), body.path, body.kind))
    await _note(call, "index.create", store)
    index, created = await call.hub.builder.declare(store, spec, lambda: call.authorize(Action.CONFIGURE, store))
    return json_response(_body(await call.hub.storage.info(store), index), 201 if created else 200)


async def _drop(call: Call) -> Response:
    store = call.store
    info = await call.hub.storage.info(store)
    # What is not there is told before anything is written down.
    info.index(index_of(call))
    await _note(call, "index.drop", store)
    return json_response(_body(info, await call.hub.drop_index(store, index_of(call))))


async def _note(call: Call, action: str, store: str) -> None:
    """Write down what is about to be done. Raises RemoteProtocolError: he may not do it any more."""
    if call.principal.kind != "open":
        await call.accounts.note(action, call.principal, f"{store}/{index_of(call)}", call.visitor.address)
        call.authorize(Action.CONFIGURE, store)


_ALL = "/v1/stores/{store}/indexes"
_ONE = "/v1/stores/{store}/indexes/{index}"
_INDEX = {JSON: (IndexBody,)}
_REFUSALS = ("store_name_invalid", "store_unknown", "storage_unavailable")

INDEXES: tuple[Operation, ...] = (
    Operation(
        name="listIndexes",
        method="GET",
        path=_ALL,
        handler=_list,
        summary="List the indexes of a store",
        action=Action.READ,
        answers=(Answer(200, "the indexes", {JSON: (IndexesBody,)}),),
        refusals=_REFUSALS,
    ),
    Operation(
        name="getIndex",
        method="GET",
        path=_ONE,
        handler=_get,
        summary="Look at an index: what it is on, and how far a new one is",
        action=Action.READ,
        answers=(Answer(200, "the index", _INDEX),),
        refusals=(*_REFUSALS, "index_unknown"),
    ),
    Operation(
        name="declareIndex",
        method="PUT",
        path=_ONE,
        handler=_declare,
        summary="Declare an index, unless it is there",
        action=Action.CONFIGURE,
        description=(
            "Records that are there are taken into it while everything goes on; until that is done whoever asks for "
            "the index is refused with `index_building`. Declaring the same one again changes nothing."
        ),
        body=RequestBody("what it is on", IndexSpecBody),
        answers=(Answer(201, "the index was declared", _INDEX), Answer(200, "the index was there", _INDEX)),
        refusals=(
            *_REFUSALS,
            "bad_json",
            "bad_message",
            "unknown_parameter",
            "index_invalid",
            "index_taken",
            "storage_full",
            "unsupported",
        ),
    ),
    Operation(
        name="dropIndex",
        method="DELETE",
        path=_ONE,
        handler=_drop,
        summary="Drop an index",
        action=Action.CONFIGURE,
        description="Subscriptions whose filter or grant needs it end. The records stay as they are.",
        answers=(Answer(200, "what the index was", _INDEX),),
        refusals=(*_REFUSALS, "index_unknown", "storage_full"),
    ),
)
