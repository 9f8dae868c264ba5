"""All live records of a store at one position, over HTTP: in pages, or as one stream of NDJSON.

The walk is pinned to the head that it begins at, or to the position of the past that `at` names, so the records are
those of exactly this position, and a reader that follows the store from there misses nothing. While a stream goes on
nothing is cleaned up that it has yet to show; pages are asked for one by one, so one of them may come too late.
"""

from collections.abc import AsyncGenerator

from starlette.responses import Response

from syncline_protocol.cursor import Lineage, Seq, parse_cursor
from syncline_protocol.errors import CursorInvalid
from syncline_server.access.authority import Action
from syncline_server.access.view import View
from syncline_server.feed import Feed
from syncline_server.hub import Hub
from syncline_server.storage.base import Row, StoreUnknown
from syncline_server.wanted import view_of

from .bodies import RecordBody, RecordsPage, record_text
from .call import Call, json_response
from .find import FIND_PARAMETERS, FIND_REFUSALS, asks_to_find, find_page
from .operation import JSON, NDJSON, Answer, Operation, Parameter
from .positions import past, position_of
from .problem import Refusal
from .stream import Stream, Wait

__all__ = ["WALK"]

#: A page is about at most so long, whatever `limit` says.
_PAGE_BYTES = 1024 * 1024


async def _records(call: Call) -> Response:
    if asks_to_find(call):
        if call.accepts(JSON, NDJSON) != JSON or call.given("at"):
            raise Refusal("bad_message", "what is found comes in pages of JSON, and of the present only")
        return await find_page(call)
    granted = call.view(call.store)
    view = await view_of(call.hub.storage, call.store, granted, None)
    feed = await call.hub.feeds.feed(call.store)
    if call.accepts(JSON, NDJSON) == JSON:
        return json_response(await _page(call, feed, view))
    if call.given("limit") or call.given("page"):
        raise Refusal("bad_message", "limit and page belong to pages, not to streams")
    # Where it begins is asked for before it is written down: a position that is not there is no export.
    at = await _begin(call, feed)
    if call.principal.name is not None:
        # What anybody may read is nobody's secret; and whoever has no name could fill the log.
        await call.accounts.note("store.export", call.principal, feed.store, call.visitor.address)

    async def lines(wait: Wait) -> AsyncGenerator[bytes, None]:
        after = Seq(0)
        while after < at:
            after, rows = await _read(call.hub, feed, after, at, view)
            texts = view.texts([row.text for row in rows])
            if texts:
                yield b"".join([record_text(text) + b"\n" for text in texts])

    headers: dict[str, str] = {"Syncline-Cursor": feed.tail.head.lineage.cursor(at, view.token)}
    return Stream(call, lines, NDJSON, headers, granted, lambda: past(call.hub, feed.store, held=at, whole=at))


async def _begin(call: Call, feed: Feed) -> Seq:
    """Return the position that is asked for. Raises Refusal or HistoryGone if it is not there."""
    text = call.text("at")
    if text is None:
        return feed.tail.head.seq
    at = await position_of(call.hub.storage, await call.hub.storage.info(feed.store), text)
    async with past(call.hub, feed.store, held=at, whole=at):
        return at


async def _read(hub: Hub, feed: Feed, after: Seq, upto: Seq, view: View) -> tuple[Seq, tuple[Row, ...]]:
    """Return the next piece of the walk. Raises StoreUnknown, also if the store was made anew meanwhile."""
    chunk = await hub.storage.read(feed.store, after, upto, deletes_to=Seq(0), selectors=view.selectors)
    if feed.ended:
        raise StoreUnknown(feed.store)
    return chunk.to, chunk.rows


# --- pages ---


async def _page(call: Call, feed: Feed, view: View) -> bytes:
    head = feed.tail.head
    token = call.text("page")
    after, upto = (Seq(0), await _begin(call, feed)) if token is None else _resumed(token, head.lineage, head.seq, view)
    async with past(call.hub, feed.store, held=upto, whole=upto):
        after, records = await _page_of(call, feed, view, after, upto)
    at = feed.tail.head.lineage.cursor(upto, view.token).encode()
    following = b'"%d-%b"' % (after, at) if after < upto else b"null"
    return b'{"records":[%b],"at":"%b","next":%b}' % (b",".join(records), at, following)


async def _page_of(call: Call, feed: Feed, view: View, after: Seq, upto: Seq) -> tuple[Seq, list[bytes]]:
    """Return the records of a page, and how far it comes."""
    limit = int(call.number("limit"))
    records: list[bytes] = []
    size = 0
    while after < upto and len(records) < limit and size < _PAGE_BYTES:
        after, rows = await _read(call.hub, feed, after, upto, view)
        if len(rows) > limit - len(records):
            rows = rows[: limit - len(records)]
            after = rows[-1].seq
        records += [record_text(text) for text in view.texts([row.text for row in rows])]
        size += sum([len(row.text) for row in rows])
    return after, records


def _resumed(token: str, lineage: Lineage, head: Seq, view: View) -> tuple[Seq, Seq]:
    """Read what `next` of the page before said: how far it came, and the position that the walk is pinned to."""
    after, dash, cursor = token.partition("-")
    if not dash or not after.isascii() or not after.isdigit() or len(after) > 16:
        raise CursorInvalid("`page` is not what a page gave as its `next`")
    at = parse_cursor(cursor)
    if at.seq > head or lineage.cursor(at.seq, view.token) != cursor:
        raise Refusal(
            "cursor_lost",
            "the page belongs to history that this store does not have, or to another view of it",
            hint="begin again without `page`",
            how="snapshot",
            at=lineage.cursor(Seq(0), view.token),
            lineage=lineage.to_text(),
        )
    return Seq(min(int(after), at.seq)), at.seq


WALK: tuple[Operation, ...] = (
    Operation(
        name="listRecords",
        method="GET",
        path="/v1/stores/{store}/records",
        handler=_records,
        summary="Get all live records, in the order of their seqs, or find some",
        action=Action.READ,
        description=(
            "JSON is a page; the page after it is asked for with `page`, and all of them are of the position `at`. "
            "`Accept: application/x-ndjson` asks for all records as one stream, a line each. With `at` they are those "
            "that lived at a position of the past, as far back as the store keeps its history. With a condition, "
            "`order` or `count` they are found: by what an index has of them, or with no index by their keys, in this "
            "order; a page may be short or empty and still have a `next`."
        ),
        parameters=(
            Parameter("at", "a position of the past: a cursor, a seq, or a time of RFC 3339; by default now"),
            Parameter("limit", "how many records a page has at most", "integer", 1000, 1, 10_000),
            Parameter("page", "`next` of the page before"),
            *FIND_PARAMETERS,
        ),
        answers=(
            Answer(
                200,
                "the records",
                {JSON: (RecordsPage,), NDJSON: (RecordBody,)},
                {"Syncline-Cursor": "the position of all records of a stream; follow the store after it"},
            ),
        ),
        refusals=(
            "store_name_invalid",
            "store_unknown",
            "cursor_invalid",
            "cursor_lost",
            "history_gone",
            *FIND_REFUSALS,
            "unknown_parameter",
            "bad_message",
            "overloaded",
            "storage_unavailable",
            "storage_full",
        ),
    ),
)
