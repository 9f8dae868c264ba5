"""All live records of a store at one position, over HTTP: in pages, or as one stream of NDJSON.

The walk is pinned to the head that it begins at, so the records are those of exactly this position, and a reader that
follows the store from there misses nothing.
"""

from collections.abc import AsyncGenerator

from starlette.responses import Response

from syncline_protocol.cursor import Lineage, Seq, parse_cursor
from syncline_protocol.errors import CursorInvalid
from syncline_server.access.authority import Action
from syncline_server.access.view import View, key_of
from syncline_server.feed import Feed
from syncline_server.hub import Hub
from syncline_server.storage.base import Row, StoreUnknown

from .bodies import RecordBody, RecordsPage, record_text
from .call import Call, json_response
from .operation import JSON, NDJSON, Answer, Operation, Parameter
from .problem import Refusal
from .stream import Stream, Wait

__all__ = ["WALK"]

#: A page is about at most so long, whatever `limit` says.
_PAGE_BYTES = 1024 * 1024


async def _records(call: Call) -> Response:
    view = call.view(call.store)
    feed = await call.hub.feeds.feed(call.store)
    if call.accepts(JSON, NDJSON) == JSON:
        return json_response(await _page(call, feed, view))
    if call.given("limit") or call.given("page"):
        raise Refusal("bad_message", "limit and page belong to pages, not to streams")
    head = feed.tail.head
    if call.principal.name is not None:
        # What anybody may read is nobody's secret; and whoever has no name could fill the log.
        await call.accounts.note("store.export", call.principal, feed.store, call.visitor.address)

    async def lines(wait: Wait) -> AsyncGenerator[bytes, None]:
        after = Seq(0)
        while after < head.seq:
            after, rows = await _read(call.hub, feed, after, head.seq)
            texts = view.texts([row.text for row in rows])
            if texts:
                yield b"".join([record_text(text) + b"\n" for text in texts])

    return Stream(call, lines, NDJSON, {"Syncline-Cursor": head.lineage.cursor(head.seq, view.token)}, view)


async def _read(hub: Hub, feed: Feed, after: Seq, upto: Seq) -> tuple[Seq, tuple[Row, ...]]:
    """Return the next piece of the walk. Raises StoreUnknown, also if the store was made anew meanwhile."""
    chunk = await hub.storage.read(feed.store, after, upto, records_only=True)
    if feed.ended:
        raise StoreUnknown(feed.store)
    return chunk.to, chunk.rows


# --- pages ---


async def _page(call: Call, feed: Feed, view: View) -> bytes:
    limit = int(call.number("limit"))
    lineage = feed.tail.head.lineage
    token = call.text("page")
    head = feed.tail.head.seq
    after, upto = (Seq(0), head) if token is None else _resumed(token, lineage, head, view)
    records: list[bytes] = []
    size = 0
    while after < upto and len(records) < limit and size < _PAGE_BYTES:
        after, rows = await _read(call.hub, feed, after, upto)
        seen = [row for row in rows if view.shows(key_of(row.text))] if not view.is_whole else rows
        if len(seen) > limit - len(records):
            seen = seen[: limit - len(records)]
            after = seen[-1].seq
        records += [record_text(text) for text in view.texts([row.text for row in seen])]
        size += sum([len(row.text) for row in seen])
    at = lineage.cursor(upto, view.token).encode()
    following = b'"%d-%b"' % (after, at) if after < upto else b"null"
    return b'{"records":[%b],"at":"%b","next":%b}' % (b",".join(records), at, following)


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
        summary="Get all live records, in the order of their seqs",
        action=Action.READ,
        description=(
            "JSON is a page; the page after it is asked for with `page`, and all of them are of the position `at`. "
            "`Accept: application/x-ndjson` asks for all records as one stream, a line each."
        ),
        parameters=(
            Parameter("limit", "how many records a page has at most", "integer", 1000, 1, 10_000),
            Parameter("page", "`next` of the page before"),
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
            "unknown_parameter",
            "bad_message",
            "overloaded",
            "storage_unavailable",
            "storage_full",
        ),
    ),
)
