"""Stores over HTTP: list, create, look at, drop."""

from starlette.responses import Response

from .bodies import StoreBody, StoresBody, store_body
from .call import Call, json_response
from .operation import JSON, Answer, Operation

__all__ = ["STORES"]


async def _list(call: Call) -> Response:
    return json_response(StoresBody(tuple(store_body(info) for info in await call.hub.storage.stores())))


async def _create(call: Call) -> Response:
    info, created = await call.hub.create(call.store)
    return json_response(store_body(info), 201 if created else 200)


async def _info(call: Call) -> Response:
    return json_response(store_body(await call.hub.storage.info(call.store)))


async def _drop(call: Call) -> Response:
    return json_response(store_body(await call.hub.drop(call.store)))


_STORE = {JSON: (StoreBody,)}

STORES: tuple[Operation, ...] = (
    Operation(
        name="listStores",
        method="GET",
        path="/v1/stores",
        handler=_list,
        summary="List the stores",
        answers=(Answer(200, "all stores, in the order of their names", {JSON: (StoresBody,)}),),
        refusals=("storage_unavailable",),
    ),
    Operation(
        name="createStore",
        method="PUT",
        path="/v1/stores/{store}",
        handler=_create,
        summary="Create a store, unless it is there",
        answers=(Answer(201, "the store was created", _STORE), Answer(200, "the store was there", _STORE)),
        refusals=("store_name_invalid", "storage_unavailable", "storage_full"),
    ),
    Operation(
        name="getStore",
        method="GET",
        path="/v1/stores/{store}",
        handler=_info,
        summary="Look at a store: head, lineage, count, digest",
        answers=(Answer(200, "the store", _STORE),),
        refusals=("store_name_invalid", "store_unknown", "storage_unavailable"),
    ),
    Operation(
        name="dropStore",
        method="DELETE",
        path="/v1/stores/{store}",
        handler=_drop,
        summary="Drop a store with everything in it",
        answers=(Answer(200, "what the store was", _STORE),),
        refusals=("store_name_invalid", "store_unknown", "storage_unavailable", "storage_full"),
    ),
)
