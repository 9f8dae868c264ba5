"""Finding records over HTTP: by an index or their keys, and along references from record to record.

The same as FIND on the WebSocket (PROTOCOL 15.3), in the words of a URL. A reference is what an index finds where the
key of another record stands; followed or found backwards, it leads to records that the asker sees.
"""

from collections.abc import Mapping

import msgspec
from starlette.responses import Response

from syncline_protocol.codec import decode_change
from syncline_protocol.filter import Filter, check_filter
from syncline_protocol.filter_text import FILTER_TEXTS, filter_of
from syncline_protocol.index import references_of
from syncline_protocol.limits import FIND_LIMIT_MAX, FOUND_BYTES_TARGET
from syncline_server.access.authority import Action
from syncline_server.access.view import View
from syncline_server.find import FoundPage, Query, find
from syncline_server.storage.base import Record, StoreInfo

from .bodies import RecordsPage, record_text
from .call import Call, json_response
from .indexes import index_of
from .operation import JSON, Answer, Operation, Parameter
from .problem import Refusal

__all__ = ["FIND_PARAMETERS", "FIND_REFUSALS", "REFERENCES", "asks_to_find", "find_page"]

#: What says which records of a store are meant, and in which order.
_ORDER = (
    Parameter("order", "`asc` or `desc`: by what the index has of them, or by their keys; by default `asc`"),
    Parameter("count", "1: also say how many there are in all", "integer", 0, 0, 1),
)
FIND_PARAMETERS = (*[Parameter(name, text) for name, text in FILTER_TEXTS.items()], *_ORDER)
FIND_REFUSALS = ("filter_invalid", "index_unknown", "index_building")

_LIMIT = Parameter("limit", "how many records a page has at most", "integer", 1000, 1, FIND_LIMIT_MAX)
_PAGE = Parameter("page", "`next` of the page before")


def asks_to_find(call: Call) -> bool:
    """Return whether records are asked for by an index, or in the order of their keys, rather than of the log."""
    return any(call.given(parameter.name) for parameter in FIND_PARAMETERS)


async def find_page(call: Call) -> Response:
    """Answer with what the parameters ask for."""
    return await _answer(call, filter_of({name: call.text(name) for name in FILTER_TEXTS}))


async def _answer(call: Call, wanted: Filter | None) -> Response:
    order = call.text("order") or "asc"
    if order not in ("asc", "desc"):
        raise Refusal("bad_message", "order is asc or desc")
    query = Query(wanted, order == "desc", int(call.number("limit")), call.text("page"), bool(call.number("count")))
    return json_response(_page_text(await find(call.hub.storage, call.store, call.view(call.store), query)))


def _page_text(page: FoundPage) -> bytes:
    return b'{"records":[%b],"at":"%b","next":%b%b}' % (
        b",".join([record_text(text) for text in page.texts]),
        page.at.encode(),
        msgspec.json.encode(page.next),
        b"" if page.count is None else b',"count":%d' % page.count,
    )


# --- references ---


async def _follow(call: Call) -> Response:
    store, storage = call.store, call.hub.storage
    info = await storage.info(store)
    view = call.view(store).resolved(info.indexes)
    spec = info.index(index_of(call)).spec
    record = await storage.get(store, call.key)
    if not _is_seen(record, view, info):
        raise Refusal("record_unknown", "the store holds no live record of this key")
    assert record is not None
    value = decode_change(record.text).value
    assert isinstance(value, msgspec.Raw), "a live record has a value"
    texts: list[bytes] = []
    size = 0
    for key in references_of(spec, msgspec.json.decode(value)):
        found = await storage.get(store, key)
        if found is not None and _is_seen(found, view, info) and size < FOUND_BYTES_TARGET:
            texts.append(found.text)
            size += len(found.text)
    at = info.head.lineage.cursor(info.head.seq, view.token)
    return json_response(_page_text(FoundPage(view.texts(texts), at, None, None)))


def _is_seen(record: Record | None, view: View, info: StoreInfo) -> bool:
    return record is not None and view.shows_record(record.text, info.indexes)


async def _refer(call: Call) -> Response:
    return await _answer(call, check_filter(Filter(index_of(call), eq=call.key)))


_FOUND: Mapping[str, tuple[type[msgspec.Struct], ...]] = {JSON: (RecordsPage,)}
_REFUSALS = (
    "store_name_invalid",
    "store_unknown",
    "key_invalid",
    "too_large",
    "index_unknown",
    "storage_unavailable",
)

REFERENCES: tuple[Operation, ...] = (
    Operation(
        name="followReferences",
        method="GET",
        path="/v1/stores/{store}/records/{key}/references/{index}",
        handler=_follow,
        summary="Follow the references of a record",
        action=Action.READ,
        description=(
            "The index says where in the value keys of other records stand: one, or in an index of kind multi an array "
            "of them. Those that live come in the order in which the value names them; what is not there is left out."
        ),
        answers=(Answer(200, "the records that it refers to", _FOUND),),
        refusals=(*_REFUSALS, "record_unknown"),
    ),
    Operation(
        name="findReferrers",
        method="GET",
        path="/v1/stores/{store}/records/{key}/referrers/{index}",
        handler=_refer,
        summary="Find the records that refer to a record",
        action=Action.READ,
        description="Those in which the key stands where the index looks, whether a record of this key lives or not.",
        parameters=(*_ORDER, _LIMIT, _PAGE),
        answers=(Answer(200, "a page of the records", _FOUND),),
        refusals=(*_REFUSALS, "bad_message", "unknown_parameter", "cursor_invalid", "index_building"),
    ),
)
