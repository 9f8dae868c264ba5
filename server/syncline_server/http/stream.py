"""Answers that take as long as they take: what a stream or a long poll waits for, and how it comes to its end.

A wait ends early when the client has gone or the server drains; then a stream ends where its text is whole. A
client that reads nothing is dropped after the stall timeout, as on the WebSocket. Flow control is that of ASGI's
`send`: a stream asks for its next piece when the last one is on its way.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager, nullcontext
from functools import partial
from typing import cast

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from syncline_server.access.concern import EVERYTHING, Concern
from syncline_server.access.view import View
from syncline_server.direct import ABORT_EXTENSION
from syncline_server.limits.admission import Seat
from syncline_server.storage.base import StorageError

from .call import Call
from .problem import Refusal

__all__ = ["Stream", "Wait", "waiting"]

#: A stream that drains gives its client so long to take the piece under way.
_LAST_PIECE_S = 1.0


class Wait:
    """The waiting of one request, which can be cut short for good: `stopped`, and `gone` if nothing may be sent.

    Args:
        allowed: whether whoever waits may still see what he waits for.
        expires_ms: the end of his credentials, in ms since 1970, if they have one.
        concerned: whether a change of rights is about him and what he waits for.
    """

    def __init__(
        self,
        allowed: Callable[[], bool] = lambda: True,
        expires_ms: int | None = None,
        concerned: Callable[[Concern], bool] = lambda concern: True,
    ) -> None:
        self.stopped = False
        self.gone = False
        self._allowed = allowed
        self._expires_ms = expires_ms
        self._concerned = concerned
        self._deadline: asyncio.Timeout | None = None
        self._sending = False

    def stop(self) -> None:
        """End: nothing is waited for any more."""
        self.stopped = True
        self._end_within(_LAST_PIECE_S if self._sending else 0.0)

    def recheck(self, concern: Concern = EVERYTHING) -> None:
        """Rights have changed: end at once, without another piece, if this is not allowed any more."""
        if not self.gone and self._concerned(concern) and not self._allowed():
            self.gone = self.stopped = True
            self._end_within(0.0)

    def tick(self, now_ms: int) -> None:
        """Let time pass: credentials that come to their end end the wait, also those of which no account knows."""
        if self._expires_ms is not None and now_ms >= self._expires_ms:
            self.recheck()

    def _end_within(self, seconds: float) -> None:
        deadline = self._deadline
        # One that has struck cannot be moved any more; whoever waits for it only has to have his turn.
        if deadline is not None and not deadline.expired():
            soon, when = asyncio.get_running_loop().time() + seconds, deadline.when()
            deadline.reschedule(soon if when is None else min(soon, when))

    async def until(self, awaited: Callable[[], Awaitable[None]], timeout_s: float) -> bool:
        """Wait for something. Returns False if it did not happen in time, or the wait was stopped."""
        if self.stopped:
            return False
        return await self._within(awaited, timeout_s)

    async def send(self, piece: Callable[[], Awaitable[None]], timeout_s: float) -> bool:
        """Send something. Returns False if it was not taken in time."""
        self._sending = True
        try:
            return await self._within(piece, _LAST_PIECE_S if self.stopped else timeout_s)
        finally:
            self._sending = False

    async def _within(self, awaited: Callable[[], Awaitable[None]], timeout_s: float) -> bool:
        try:
            async with asyncio.timeout(timeout_s) as self._deadline:
                await awaited()
        except TimeoutError:
            return False
        finally:
            self._deadline = None
        return True


@asynccontextmanager
async def waiting(call: Call, view: View | None, receive: Receive | None = None) -> AsyncIterator[Wait]:
    """Keep a wait for a request: it stops when the client goes, the server drains, or `view` may not be shown any more.

    Raises:
        Refusal: `overloaded`, if there is no room for another.
    """
    hub = call.hub
    wait = Wait(call.still_allowed(view), call.principal.expires_ms, call.concerned())
    seat = _seat(call)
    hub.waiting.add(wait)
    # Grants may have changed since the request was let in.
    wait.recheck()
    watcher = asyncio.get_running_loop().create_task(_watch(receive or call.request.receive, wait))
    try:
        yield wait
    finally:
        hub.waiting.discard(wait)
        watcher.cancel()
        seat.leave()


def _seat(call: Call) -> Seat:
    seat = call.hub.admission.enter_as(call.visitor.address, call.principal.name)
    if isinstance(seat, Seat):
        return seat
    call.hub.counts.refused[seat.which] += 1
    raise Refusal("overloaded", str(seat))


async def _watch(receive: Receive, wait: Wait) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    wait.gone = True
    wait.stop()


class Stream(Response):
    """An answer of many pieces.

    Args:
        source: yields the pieces; it waits only by the `Wait` that it is given. If the storage fails in it, the
            answer is broken off, so that it cannot be taken for a whole one.
        view: what it shows of the store of the path; once that may not be shown any more it is broken off too.
        within: what is entered before the answer begins, and left when it is over; what it raises is the answer.

    Raises:
        Refusal: `overloaded`, if there is no room for another.
    """

    def __init__(
        self,
        call: Call,
        source: Callable[[Wait], AsyncGenerator[bytes, None]],
        media_type: str,
        headers: dict[str, str],
        view: View | None = None,
        within: Callable[[], AbstractAsyncContextManager[object]] = nullcontext,
    ) -> None:
        # Once the answer has begun it cannot be refused any more.
        _seat(call).leave()
        self._call = call
        self._view = view
        self._source = source
        self._within = within
        self.status_code = 200
        self.media_type = media_type
        self.background = None
        self.init_headers({"Cache-Control": "no-store", "X-Accel-Buffering": "no", **headers})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._within(), waiting(self._call, self._view, receive) as wait:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            whole = scope["method"] == "HEAD" or await self._send_all(wait, send)
        if whole:
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        else:
            _abort(scope)

    async def _send_all(self, wait: Wait, send: Send) -> bool:
        stall_timeout_s = self._call.hub.stall_timeout_s
        try:
            async with aclosing(self._source(wait)) as source:
                async for piece in source:
                    if wait.gone:
                        return False
                    message = {"type": "http.response.body", "body": piece, "more_body": True}
                    if not await wait.send(partial(send, message), stall_timeout_s) or wait.gone:
                        return False
        except StorageError:
            return False
        return not wait.gone


def _abort(scope: Scope) -> None:
    """Drop the socket. A server that has no way to do so ends an answer that was not completed in its own way."""
    abort = cast(Callable[[], None] | None, scope.get("extensions", {}).get(ABORT_EXTENSION))
    if abort is not None:
        abort()
