"""What changed between two positions of a store, over HTTP: in pages, or as one stream of NDJSON.

Records that were added and still lived at the later position come as their ADDs, those that lived at the earlier one
and were deleted as their DELETEs, with what they held where that is still there. What came and went between the two
is not told. Order is that of the log. A stream is pinned to the earlier position, so clean-up takes nothing from it.
"""

from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import partial

from starlette.responses import Response

from syncline_protocol.codec import decode_change
from syncline_protocol.cursor import Cursor, Lineage, Seq
from syncline_protocol.errors import CursorInvalid
from syncline_server.access.authority import Action
from syncline_server.access.view import View
from syncline_server.hub import Hub
from syncline_server.storage.base import HistoryGone, Row, StoreInfo, StoreUnknown
from syncline_server.wanted import view_of

from .bodies import DiffChange, DiffPage, record_text
from .call import Call, json_response
from .operation import JSON, NDJSON, Answer, Operation, Parameter
from .positions import past, position_of
from .problem import Refusal
from .stream import Stream, Wait

__all__ = ["DIFF"]

#: A page is about at most so long, whatever `limit` says.
_PAGE_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class _Diff:
    """What is asked for: two positions of a store in a view, and the store as it was when they were found."""

    hub: Hub
    info: StoreInfo
    view: View
    start: Seq
    end: Seq

    def cursor(self, at: Seq) -> Cursor:
        """Return the name of a position in the view."""
        return self._lineage.cursor(at, self.view.token)

    @property
    def _lineage(self) -> Lineage:
        return self.info.head.lineage

    async def read(self, after: Seq) -> tuple[Seq, tuple[Row, ...]]:
        """Return the next piece. Raises StoreUnknown, also if the store was made anew meanwhile."""
        storage, store = self.hub.storage, self.info.name
        chunk = await storage.read(store, after, self.end, deletes_to=self.start, selectors=self.view.selectors)
        if (await storage.info(store)).store_id != self.info.store_id:
            raise StoreUnknown(store)
        return chunk.to, chunk.rows

    async def text(self, row: Row) -> bytes:
        """Return a change as it is told: a DELETE with the record that it deleted, if that is still there."""
        (text,) = self.view.texts([row.text])
        change = decode_change(text)
        if change.op == "ADD":
            return text
        try:
            old = await self.hub.storage.get(self.info.name, change.key, self.start)
        except HistoryGone:
            old = None
        if old is None:
            return text
        (added,) = self.view.texts([old.text])
        return b'%b,"old":%b}' % (text[:-1], record_text(added))


async def _diff(call: Call) -> Response:
    granted = call.view(call.store)
    view = await view_of(call.hub.storage, call.store, granted, None)
    media_type = call.accepts(JSON, NDJSON)
    if media_type == JSON and call.given("page"):
        return json_response(await _page(call, *await _resumed(call, view)))
    asked = await _asked(call, view)
    if media_type == JSON:
        return json_response(await _page(call, asked, asked.start))
    if call.given("limit") or call.given("page"):
        raise Refusal("bad_message", "limit and page belong to pages, not to streams")
    # Whether it is all there is found out first: what is not is no export.
    async with _past(asked):
        pass
    if call.principal.name is not None:
        await call.accounts.note("store.export", call.principal, asked.info.name, call.visitor.address)

    async def lines(wait: Wait) -> AsyncGenerator[bytes, None]:
        after = asked.start
        while after < asked.end:
            after, rows = await asked.read(after)
            if rows:
                yield b"".join([await asked.text(row) + b"\n" for row in rows])

    headers: dict[str, str] = {"Syncline-Cursor": asked.cursor(asked.end)}
    return Stream(call, lines, NDJSON, headers, granted, partial(_past, asked))


def _past(asked: _Diff) -> AbstractAsyncContextManager[StoreInfo]:
    return past(asked.hub, asked.info.name, held=asked.start, whole=asked.end, known=asked.start)


async def _asked(call: Call, view: View) -> _Diff:
    storage = call.hub.storage
    info = await storage.info(call.store)
    since = call.text("from")
    if since is None:
        raise Refusal("bad_message", "`from` is missing", hint="name a position: a cursor, a seq or a time")
    start = await position_of(storage, info, since, "from")
    end = await position_of(storage, info, call.text("to") or "now", "to")
    if start > end:
        raise Refusal("bad_message", f"`from` is at seq {start} and `to` at {end}", hint="turn them round")
    return _Diff(call.hub, info, view, start, end)


# --- pages ---


async def _page(call: Call, asked: _Diff, after: Seq) -> bytes:
    limit = int(call.number("limit"))
    changes: list[bytes] = []
    size = 0
    async with _past(asked):
        while after < asked.end and len(changes) < limit and size < _PAGE_BYTES:
            after, rows = await asked.read(after)
            if len(rows) > limit - len(changes):
                rows = rows[: limit - len(changes)]
                after = rows[-1].seq
            changes += [await asked.text(row) for row in rows]
            size += sum([len(row.text) for row in rows])
    start, end = asked.cursor(asked.start).encode(), asked.cursor(asked.end).encode()
    following = b'"%d-%d-%b"' % (after, asked.start, end) if after < asked.end else b"null"
    return b'{"from":"%b","to":"%b","changes":[%b],"next":%b}' % (start, end, b",".join(changes), following)


async def _resumed(call: Call, view: View) -> tuple[_Diff, Seq]:
    """Read what `next` of the page before said: how far it came, and between which positions."""
    if call.given("from") or call.given("to"):
        raise Refusal("bad_message", "`page` has its positions with it", hint="leave `from` and `to` out")
    after, _, rest = (call.text("page") or "").partition("-")
    start, _, cursor = rest.partition("-")
    if not all(text.isascii() and text.isdigit() and len(text) <= 16 for text in (after, start)):
        raise CursorInvalid("`page` is not what a page gave as its `next`")
    info = await call.hub.storage.info(call.store)
    end = await position_of(call.hub.storage, info, cursor, "page")
    asked = _Diff(call.hub, info, view, Seq(min(int(start), end)), end)
    if asked.cursor(end) != cursor:
        raise CursorInvalid("`page` belongs to another view of the store; begin again without it")
    return asked, Seq(min(max(int(after), asked.start), end))


DIFF: tuple[Operation, ...] = (
    Operation(
        name="getDiff",
        method="GET",
        path="/v1/stores/{store}/diff",
        handler=_diff,
        summary="Get what changed between two positions of a store",
        action=Action.READ,
        description=(
            "Records that were added since come as ADDs, those that were deleted as DELETEs, with the record as `old` "
            "where its value is still there; what came and went in between is left out. Positions are cursors, seqs or "
            "times of RFC 3339. `Accept: application/x-ndjson` asks for all changes as one stream, a line each."
        ),
        parameters=(
            Parameter("from", "the earlier position"),
            Parameter("to", "the later position; by default now"),
            Parameter("limit", "how many changes a page has at most", "integer", 1000, 1, 10_000),
            Parameter("page", "`next` of the page before, in the place of the positions"),
        ),
        answers=(
            Answer(
                200,
                "the changes",
                {JSON: (DiffPage,), NDJSON: (DiffChange,)},
                {"Syncline-Cursor": "the later position; follow the store after it"},
            ),
        ),
        refusals=(
            "store_name_invalid",
            "store_unknown",
            "cursor_invalid",
            "cursor_lost",
            "history_gone",
            "unknown_parameter",
            "bad_message",
            "overloaded",
            "storage_unavailable",
            "storage_full",
        ),
    ),
)
