"""Stores over HTTP: list, create, look at, drop."""

from contextlib import suppress
from dataclasses import replace
from functools import partial

import msgspec
from starlette.responses import Response

from syncline_server.access.authority import Action
from syncline_server.access.rights import Rights
from syncline_server.access.view import View
from syncline_server.accounts.stores import create_owned, drop_owned
from syncline_server.storage.base import StoreInfo, StoreUnknown

from .bodies import StoreBody, StoresBody, store_body
from .call import Call, json_response
from .operation import JSON, Answer, Operation

__all__ = ["STORES"]


async def _list(call: Call) -> Response:
    infos = [info for info in await call.hub.storage.stores() if not info.is_system]
    seen = [(view, info) for info in infos if (view := call.rights(info.name).view) is not None]
    told = [(view, info, await _body(call, info, view)) for view, info in seen]
    # Grants may have been taken back while the later ones were looked at.
    return json_response(StoresBody(tuple([body for view, info, body in told if call.rights(info.name).view == view])))


async def _body(call: Call, info: StoreInfo, view: View) -> StoreBody:
    """Return what is told of a store: its count and digest are of what is seen of it."""
    role, owners = call.rights(info.name).role, _owners(call, info.name)
    if view.is_whole:
        return store_body(info, None, role, owners)
    head, view = info.head, view.resolved(info.indexes)
    summary = await call.hub.storage.summary(info.name, view.selectors, head.seq)
    info = replace(info, head=replace(head, count=summary.count, digest=summary.digest))
    return store_body(info, view.token, role, owners)


def _owners(call: Call, store: str) -> tuple[str, ...] | msgspec.UnsetType:
    """Return who owns a store, as grants name them, to those who say who may use it."""
    if call.principal.kind == "open" or not call.rights(store).is_owner:
        return msgspec.UNSET
    now_ms = call.hub.now_ms()
    owners = [
        grant.to
        for grant in call.accounts.directory.registry.grants_covering(store)
        if grant.role == "owner" and (grant.expires_ms is None or grant.expires_ms > now_ms)
    ]
    return tuple(sorted(set(owners)))


async def _create(call: Call) -> Response:
    store, principal = call.store, call.principal
    if principal.kind == "open":
        info, created = await call.hub.create(store)
        return json_response(store_body(info), 201 if created else 200)
    view = call.rights(store).view
    if view is not None:
        with suppress(StoreUnknown):
            body = await _body(call, await call.hub.storage.info(store), view)
            # His grants may have been taken back while it was looked at.
            if call.rights(store).view == view:
                return json_response(body)

    def allowed() -> Rights:
        call.authorize(Action.CREATE, store)
        return call.rights(store)

    info = await create_owned(call.hub, call.accounts, store, principal, call.visitor.address, allowed)
    return json_response(store_body(info, None, "owner", _owners(call, store)), 201)


async def _info(call: Call) -> Response:
    return json_response(await _body(call, await call.hub.storage.info(call.store), call.view(call.store)))


async def _drop(call: Call) -> Response:
    store = call.store
    if call.principal.kind == "open":
        return json_response(store_body(await call.hub.drop(store)))
    allowed = partial(call.authorize, Action.DROP, store)
    info = await drop_owned(call.hub, call.accounts, store, call.principal, call.visitor.address, allowed)
    return json_response(store_body(info))


_STORE = {JSON: (StoreBody,)}

STORES: tuple[Operation, ...] = (
    Operation(
        name="listStores",
        method="GET",
        path="/v1/stores",
        handler=_list,
        summary="List the stores",
        action=Action.LIST,
        answers=(Answer(200, "all stores, in the order of their names", {JSON: (StoresBody,)}),),
        refusals=("storage_unavailable",),
    ),
    Operation(
        name="createStore",
        method="PUT",
        path="/v1/stores/{store}",
        handler=_create,
        summary="Create a store, unless it is there",
        action=Action.LOG_IN,
        answers=(Answer(201, "the store was created", _STORE), Answer(200, "the store was there", _STORE)),
        refusals=("store_name_invalid", "name_taken", "quota_exceeded", "storage_unavailable", "storage_full"),
    ),
    Operation(
        name="getStore",
        method="GET",
        path="/v1/stores/{store}",
        handler=_info,
        summary="Look at a store: head, lineage, count, digest",
        action=Action.READ,
        answers=(Answer(200, "the store", _STORE),),
        refusals=("store_name_invalid", "store_unknown", "storage_unavailable"),
    ),
    Operation(
        name="dropStore",
        method="DELETE",
        path="/v1/stores/{store}",
        handler=_drop,
        summary="Drop a store with everything in it",
        action=Action.DROP,
        answers=(Answer(200, "what the store was", _STORE),),
        refusals=("store_name_invalid", "store_unknown", "storage_unavailable", "storage_full"),
    ),
)
