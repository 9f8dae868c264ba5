"""What is after a cursor, over HTTP: a page with long poll, server-sent events, NDJSON.

All three are readers of the same feed as the subscriptions of the WebSocket and share its frames; `follow` is what the
two streams have in common. The rules of PROTOCOL 7 hold: pieces tile the log, are cut between transactions only, and
what a catch-up brings is consistent at its end, which is told with count and digest.
"""

import random
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from enum import Enum
from functools import partial

import msgspec
from starlette.responses import Response

from syncline_protocol.cursor import START, Cursor, Seq
from syncline_protocol.errors import CursorInvalid
from syncline_protocol.filter_text import FILTER_TEXTS, filter_of
from syncline_protocol.limits import HEARTBEAT_S
from syncline_protocol.messages import Change, ResumeHow
from syncline_server.access.authority import Action
from syncline_server.feed import Feed
from syncline_server.feeds import Opening
from syncline_server.frame import Frame
from syncline_server.hub import Hub
from syncline_server.storage.base import Head, StorageError, StoreUnknown

from .bodies import Batch, Bookmark, CaughtUpEvent, ChangesPage, EndedEvent, digest_of
from .call import Call, json_response
from .operation import JSON, NDJSON, SSE, Answer, Header, Operation, Parameter
from .problem import Refusal
from .stream import Stream, Wait, waiting

__all__ = ["CHANGES"]

#: A page is about at most so long, whatever `limit` says.
_PAGE_BYTES = 1024 * 1024

#: An `EventSource` comes back after a random time between these, so that a restart does not bring all at once.
_RETRY_MS = (1000, 5000)


async def _changes(call: Call) -> Response:
    granted = call.view(call.store)
    wanted = filter_of({name: call.text(name) for name in FILTER_TEXTS})
    feed = await call.hub.feeds.feed_for(call.store, granted, wanted)
    media_type = call.accepts(JSON, SSE, NDJSON)
    if media_type == JSON and not call.number("wait"):
        return json_response(await _page(call, feed, Wait()))
    if media_type == JSON:
        async with waiting(call, granted) as wait:
            return json_response(await _page(call, feed, wait))
    if call.given("limit") or call.given("wait"):
        raise Refusal("bad_message", "limit and wait belong to pages, not to streams")
    opening = await _open(call, feed, _after_of(call, media_type))
    source = _events if media_type == SSE else _lines
    headers: dict[str, str] = {"Syncline-Cursor": _cursor(opening)}
    return Stream(call, lambda wait: source(call, opening, wait), media_type, headers, granted)


def _after_of(call: Call, media_type: str) -> str:
    seen = call.header("Last-Event-ID") if media_type == SSE else None
    if seen is None:
        return call.text("after") or ""
    try:
        return seen.decode("ascii")
    except UnicodeDecodeError as error:
        raise CursorInvalid("Last-Event-ID is not a cursor") from error


async def _open(call: Call, feed: Feed, after: str) -> Opening:
    """Decide where to begin. Raises Refusal if the history that the cursor names is not there."""
    await feed.settled()
    opening = await call.hub.feeds.resume(feed, after, call.text("known"), lists=False)
    if opening.how == "resume":
        return opening
    raise _lost(feed, opening.how, opening.at, opening.keep_to)


def _lost(feed: Feed, how: ResumeHow, at: Seq, keep_to: Seq | None = None) -> Refusal:
    return Refusal(
        "cursor_lost",
        "the cursor names history that this store does not have"
        if how != "reconcile"
        else "what was deleted since the cursor cannot be told any more, or the cursor is of another view",
        hint="drop what is above keep_to, read the records anew and go on after their Syncline-Cursor"
        if how == "rewind"
        else "read the records anew, drop what is not among them, and go on after their Syncline-Cursor",
        how=how,
        keep_to=keep_to,
        at=feed.cursor(at),
        lineage=feed.published.lineage.to_text(),
    )


def _cursor(opening: Opening) -> Cursor:
    return opening.feed.cursor(opening.at)


# --- pages ---


async def _page(call: Call, feed: Feed, wait: Wait) -> bytes:
    opening = await _open(call, feed, _after_of(call, JSON))
    after = opening.at
    if after == feed.published.seq:
        await wait.until(partial(feed.wait_above, after), call.number("wait"))
    if feed.ended:
        raise _ended(feed)
    to, texts = await _read(call.hub, opening, int(call.number("limit")))
    call.hub.counts.changes_delivered += len(texts)
    head, name = feed.published, feed.cursor
    return b'{"from":"%b","to":"%b","head":"%b","changes":[%b],"caught_up":%b}' % (
        name(after).encode(),
        name(to).encode(),
        name(head.seq).encode(),
        b",".join(texts),
        b"true" if to == head.seq else b"false",
    )


async def _read(hub: Hub, opening: Opening, limit: int) -> tuple[Seq, list[bytes]]:
    """Return about `limit` changes, and the end of a transaction that they reach.

    Raises Refusal: clean-up has overtaken the cursor while the page was made.
    """
    feed, to, since = opening.feed, opening.at, opening.since
    texts, size = list[bytes](), 0
    while to < feed.published.seq and len(texts) < limit and size < _PAGE_BYTES:
        frame = await feed.frame_after(to)
        if not frame.suits(since) and to > opening.at:
            break
        if not frame.suits(since):
            raise _lost(feed, "reconcile", max(to, frame.floor))
        if len(frame.texts) > limit:
            if not texts:
                return await _cut(hub, frame, feed, limit)
            break
        texts.extend(frame.texts)
        size += sum(map(len, frame.texts))
        to, since = frame.to, min(since, frame.upto)
    return to, texts


async def _cut(hub: Hub, frame: Frame, feed: Feed, limit: int) -> tuple[Seq, list[bytes]]:
    """Read the interval of a frame anew, and take whole transactions until there are `limit` changes."""
    view = feed.view
    chunk = await hub.storage.read(feed.store, frame.after, frame.to, selectors=view.selectors)
    if frame.after != 0 and chunk.floor > frame.after:
        raise _lost(feed, "reconcile", chunk.floor)
    texts: list[bytes] = []
    end = chunk.after
    for row in chunk.rows:
        if len(texts) >= limit and row.last_seq != end:
            return end, texts
        texts += view.texts([row.text])
        end = row.last_seq
    return chunk.to, texts


def _ended(feed: Feed) -> Exception:
    if feed.end_reason == "store_dropped":
        return StoreUnknown(feed.store)
    return Refusal("storage_unavailable", "what is followed was opened anew; ask again with the same cursor")


# --- streams ---


class _Sign(Enum):
    """What a reader is told besides frames and heads."""

    BEHIND = "behind"
    IDLE = "idle"


@dataclass(frozen=True, slots=True)
class _Ended:
    """Nothing follows."""

    event: EndedEvent


async def follow(opening: Opening, wait: Wait) -> AsyncGenerator[Frame | Head | _Sign | _Ended, None]:
    """Yield everything that a reader is told: frames, the head whenever it has caught up with it, and signs.

    Ends when the feed does, which it tells, or the wait is stopped, which it does not.
    """
    feed, position, since, caught_up = opening.feed, opening.at, opening.since, False
    while not wait.stopped and not feed.ended:
        if position == feed.published.seq:
            if not caught_up:
                caught_up = True
                yield feed.published
            elif not await wait.until(partial(feed.wait_above, position), HEARTBEAT_S) and not wait.stopped:
                yield _Sign.IDLE
            continue
        if caught_up and position < feed.base:
            # What the storage gives may leave out pairs, so it is only consistent again at the next head.
            caught_up = False
            yield _Sign.BEHIND
        try:
            frame = await feed.frame_after(position)
        except StorageError:
            yield _Ended(EndedEvent("resubscribe"))
            return
        if not frame.suits(since):
            # A DELETE of something that he holds may be gone: his cursor will be answered with what to do.
            yield _Ended(EndedEvent("resubscribe"))
            return
        position, since = frame.to, min(since, frame.upto)
        yield frame
    if feed.ended:
        yield _Ended(EndedEvent("store_dropped" if feed.end_reason == "store_dropped" else "resubscribe"))


async def _events(call: Call, opening: Opening, wait: Wait) -> AsyncGenerator[bytes, None]:
    """Server-sent events; the id of an event is the whole cursor."""
    feed = opening.feed
    yield b"retry: %d\n\n" % random.randint(*_RETRY_MS)
    async for told in follow(opening, wait):
        match told:
            case Frame(after=after, to=to, texts=texts):
                call.hub.counts.changes_delivered += len(texts)
                start, end = feed.cursor(after).encode(), feed.cursor(to).encode()
                data = b'{"from":"%b","to":"%b","changes":[%b]}' % (start, end, b",".join(texts))
                yield b"id: %b\nevent: batch\ndata: %b\n\n" % (end, data)
            case Head() as head:
                at = feed.cursor(head.seq)
                yield b"id: %b\n" % at.encode() + _event("caught_up", CaughtUpEvent(at, head.count, digest_of(head)))
            case _Sign.BEHIND:
                yield b"event: behind\ndata: {}\n\n"
            case _Sign.IDLE:
                yield b":\n\n"
            case _Ended(event):
                yield _event("ended", event)
    if call.hub.draining:
        settings = call.api.settings
        yield b"retry: %d\n\n" % (settings.drain_after_ms + random.randint(0, settings.drain_jitter_ms))


def _event(name: str, data: msgspec.Struct) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name.encode(), msgspec.json.encode(data))


async def _lines(call: Call, opening: Opening, wait: Wait) -> AsyncGenerator[bytes, None]:
    """A line for each change, and a bookmark after each transaction or more; a bookmark also shows that we are here."""
    feed = opening.feed
    at = Bookmark(_cursor(opening))
    yield _line(at)
    async for told in follow(opening, wait):
        match told:
            case Frame(to=to, texts=texts):
                call.hub.counts.changes_delivered += len(texts)
                at = Bookmark(feed.cursor(to))
                yield b"".join([text + b"\n" for text in texts]) + _line(at)
            case Head() as head:
                yield _line(Bookmark(feed.cursor(head.seq), True, head.count, digest_of(head)))
            case _Sign():
                yield _line(at)
            case _Ended(event):
                yield _line(event)


def _line(body: msgspec.Struct) -> bytes:
    return msgspec.json.encode(body) + b"\n"


CHANGES: tuple[Operation, ...] = (
    Operation(
        name="getChanges",
        method="GET",
        path="/v1/stores/{store}/changes",
        handler=_changes,
        summary="Follow a store: what is after a cursor",
        action=Action.READ,
        description=(
            "JSON is a page; with `wait` it is a long poll. `Accept: text/event-stream` asks for server-sent events: "
            "`batch` with `from`, `to` and `changes`, `caught_up` whenever everything was sent, `behind` when a "
            "catch-up begins anew, `ended` before the stream ends for good; the id of an event is the cursor. "
            '`Accept: application/x-ndjson` asks for a line per change, with a bookmark line `{"to": cursor}` after '
            "one transaction or more; a reader keeps the cursor of the last bookmark."
        ),
        parameters=(
            Parameter("after", "cursor, `start` or `now`: what comes after it is sent", default=START),
            Parameter("known", "the lineage that came with an earlier refusal or with the store"),
            Parameter("limit", "a page ends with the transaction that reaches so many", "integer", 1000, 1, 10_000),
            *[Parameter(name, meaning) for name, meaning in FILTER_TEXTS.items()],
            Parameter("wait", "a page waits so many seconds for the first change", "number", 0, 0, 60),
        ),
        headers=(Header("Last-Event-ID", "the cursor of the last event, in the place of `after`"),),
        answers=(
            Answer(
                200,
                "the changes",
                {JSON: (ChangesPage,), SSE: (Batch, CaughtUpEvent, EndedEvent), NDJSON: (Change, Bookmark, EndedEvent)},
            ),
        ),
        refusals=(
            "store_name_invalid",
            "store_unknown",
            "cursor_invalid",
            "cursor_lost",
            "filter_invalid",
            "index_unknown",
            "index_building",
            "unknown_parameter",
            "bad_message",
            "overloaded",
            "storage_unavailable",
        ),
    ),
)
