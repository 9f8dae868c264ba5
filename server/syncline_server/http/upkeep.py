"""What is said of a store and done for it, over HTTP: settings, statistics, clean-up that somebody asks for.

Who sees a part of a store only gets no figures of the whole. Settings are replaced as a whole, so whoever changes one
sends back what he has read, with that one changed.
"""

from collections.abc import Sequence

import msgspec
from starlette.responses import Response

from syncline_protocol.codec import decode_change
from syncline_protocol.cursor import Seq
from syncline_server.access.authority import Action
from syncline_server.maintenance import policy_of
from syncline_server.storage.base import Row, StoreInfo

from .bodies import floors_of, sizes_of
from .call import Call, json_response
from .operation import JSON, Answer, Operation, Parameter, RequestBody
from .problem import Refusal
from .upkeep_bodies import (
    CompactBody,
    IndexState,
    SettingsBody,
    StatsBody,
    UpkeepBody,
    estimate_body,
    policy_body,
    settings_body,
    settings_of,
    upkeep_body,
)

__all__ = ["UPKEEP"]


async def _settings(call: Call) -> Response:
    return json_response(settings_body((await call.hub.storage.info(call.store)).settings))


async def _configure(call: Call) -> Response:
    store = call.store
    settings = settings_of(await call.json_struct(SettingsBody))
    if call.principal.kind != "open":
        await call.accounts.note("store.configure", call.principal, store, call.visitor.address)
        # His grants may have been taken back while it was written down.
        call.authorize(Action.CONFIGURE, store)
    info = await call.hub.configure(store, settings)
    return json_response(settings_body(info.settings))


async def _stats(call: Call) -> Response:
    hub, info = call.hub, await _whole(call)
    return json_response(
        StatsBody(
            info.name,
            info.created_ms,
            info.head.seq,
            info.head.count,
            sizes_of(info),
            floors_of(info),
            policy_body(policy_of(info, hub.maintenance.defaults)),
            _upkeep(call, info),
            tuple(
                [
                    IndexState(index.spec.name, index.spec.path, index.spec.kind, index.state, index.done)
                    for index in info.indexes
                ]
            ),
            *await _ages(call, info),
        )
    )


async def _whole(call: Call) -> StoreInfo:
    """Return the store. Raises Refusal to who sees a part of it."""
    if not call.view(call.store).is_whole:
        raise Refusal("forbidden", "the grant shows a part of this store, and these figures are of the whole")
    return await call.hub.storage.info(call.store)


async def _ages(call: Call, info: StoreInfo) -> tuple[int | msgspec.UnsetType, int | msgspec.UnsetType]:
    """Return the times of the first and the last live record, if there are some."""
    storage, head = call.hub.storage, info.head.seq
    if not info.head.count:
        return msgspec.UNSET, msgspec.UNSET
    ends = _ends((await storage.live_set(info.name, head)).bits)
    first, last = [await storage.fetch(info.name, [(seq, seq)], head) for seq in ends]
    return _time_of(first), _time_of(last)


def _time_of(rows: Sequence[Row]) -> int | msgspec.UnsetType:
    # One that has died since is not there any more.
    return decode_change(rows[0].text).time if rows else msgspec.UNSET


def _ends(bits: bytes) -> tuple[Seq, Seq]:
    """Return the first and the last seq of a set that has some."""
    number = int.from_bytes(bits, "little")
    return Seq((number & -number).bit_length()), Seq(number.bit_length())


def _upkeep(call: Call, info: StoreInfo) -> UpkeepBody:
    maintenance = call.hub.maintenance
    state = maintenance.state(info)
    return upkeep_body(state, maintenance.next_ms(state), call.hub.pins.count(info.name))


async def _compact(call: Call) -> Response:
    store, maintenance = call.store, call.hub.maintenance
    if call.number("dry_run"):
        estimate = await maintenance.estimate(store)
        # His grants may have been taken back while it was worked out.
        call.authorize(Action.CONFIGURE, store)
        return json_response(CompactBody(estimate=estimate_body(estimate)))
    if call.principal.kind != "open":
        await call.accounts.note("store.compact", call.principal, store, call.visitor.address)
        call.authorize(Action.CONFIGURE, store)
    await maintenance.compact(store)
    return json_response(CompactBody(_upkeep(call, await call.hub.storage.info(store))), 202)


_REFUSALS = ("store_name_invalid", "store_unknown", "storage_unavailable")
_SETTINGS = {JSON: (SettingsBody,)}

UPKEEP: tuple[Operation, ...] = (
    Operation(
        name="getStoreSettings",
        method="GET",
        path="/v1/stores/{store}/settings",
        handler=_settings,
        summary="Get what the owner of a store says of it: description, bounds, ages",
        action=Action.READ,
        answers=(Answer(200, "the settings; what is not there is as the server's settings say", _SETTINGS),),
        refusals=_REFUSALS,
    ),
    Operation(
        name="putStoreSettings",
        method="PUT",
        path="/v1/stores/{store}/settings",
        handler=_configure,
        summary="Say how a store is to be kept",
        action=Action.CONFIGURE,
        description=(
            "The settings take the place of all that were there. Bounds hold from the next write on; a store that is "
            "above one already keeps what it has. What is too old is deleted within a minute."
        ),
        body=RequestBody("the settings", SettingsBody),
        answers=(Answer(200, "the settings as they are now", _SETTINGS),),
        refusals=(*_REFUSALS, "bad_json", "bad_message", "unknown_parameter", "storage_full"),
    ),
    Operation(
        name="getStoreStats",
        method="GET",
        path="/v1/stores/{store}/stats",
        handler=_stats,
        summary="Statistics of a store: records, bytes, what is dead, floors, clean-up",
        action=Action.READ,
        answers=(Answer(200, "the statistics", {JSON: (StatsBody,)}),),
        refusals=(*_REFUSALS, "forbidden"),
    ),
    Operation(
        name="compactStore",
        method="POST",
        path="/v1/stores/{store}/compact",
        handler=_compact,
        summary="Clean a store up now",
        action=Action.CONFIGURE,
        description=(
            "Drops the values of records that were deleted longer ago than the store keeps its history, and DELETEs "
            "that are older than it keeps tombstones, whether there are many of them or not. The run goes on behind "
            "the answer; `upkeep` of the statistics tells how far it is, and its `last` run what came of it."
        ),
        parameters=(Parameter("dry_run", "1: only say what would be dropped", "integer", 0, 0, 1),),
        answers=(
            Answer(202, "the run has begun, or was under way", {JSON: (CompactBody,)}),
            Answer(200, "what would be dropped", {JSON: (CompactBody,)}),
        ),
        refusals=(*_REFUSALS, "unknown_parameter", "bad_message", "storage_full"),
    ),
)
