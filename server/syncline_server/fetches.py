"""The FETCHes of one connection, answered one after the other.

FILLs do not say which FETCH they answer, only their order does. How a FILL is made is the affair of `feeds`.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Protocol

from syncline_protocol.errors import RemoteProtocolError
from syncline_protocol.messages import Fetch

from .answers import error_code_of
from .feed import Feed, Subscription
from .storage.base import StorageError
from .transport import Transport

__all__ = ["Fetches"]

#: FETCHes that wait for their turn; each is one line of text.
_WAITING_MAX = 16


class Connection(Protocol):
    """What fetches need of the connection that they belong to."""

    transport: Transport

    def subscription(self, request_id: int) -> Subscription | None:
        """Return the subscription that was opened with this id, while it is open."""

    def refuse(self, request_id: int, code: str, message: str) -> None:
        """Answer with an ERROR."""

    def advance(self) -> None:
        """Let the subscriptions write what they have."""

    def fetched(self) -> None:
        """One is done; more may be taken."""


class Fetches:
    """Args:
    fill: yields the frames for the seqs of a FETCH.
    """

    __slots__ = ("_connection", "_fill", "_has_room", "_is_over", "_waiting")

    def __init__(self, connection: Connection, fill: Callable[[Feed, str], AsyncIterator[bytes]]) -> None:
        self._connection = connection
        self._fill = fill
        self._waiting: deque[Fetch] = deque()
        self._has_room: asyncio.Future[None] | None = None
        self._is_over = False

    @property
    def are_few(self) -> bool:
        """Whether there is room for another."""
        return len(self._waiting) < _WAITING_MAX

    def add(self, request: Fetch) -> bool:
        """Take one. Returns whether `run` has to be started."""
        self._waiting.append(request)
        return len(self._waiting) == 1

    def drained(self) -> bool:
        """The transport takes more. Returns whether a FETCH waited for it and goes on.

        It goes before the subscriptions, which would fill the transport again before its turn.
        """
        waited = self._has_room is not None
        self._note_room()
        return waited

    def end(self) -> None:
        """The connection is over."""
        self._is_over = True
        self._note_room()

    def _note_room(self) -> None:
        if self._has_room is not None and not self._has_room.done():
            self._has_room.set_result(None)

    async def run(self) -> None:
        """Answer everything that waits."""
        while self._waiting:
            await self._answer(self._waiting[0])
            self._waiting.popleft()
            self._connection.advance()
            self._connection.fetched()

    async def _answer(self, request: Fetch) -> None:
        connection = self._connection
        subscription = connection.subscription(request.id)
        if subscription is None:
            return
        try:
            async for payload in self._fill(subscription.feed, request.seqs):
                await self._wait_for_room()
                if connection.subscription(request.id) is not subscription:
                    return
                connection.transport.write(payload)
                connection.advance()
        except StorageError as error:
            connection.refuse(request.id, error_code_of(error), str(error))
        except RemoteProtocolError as error:
            connection.refuse(request.id, error.code, error.message)

    async def _wait_for_room(self) -> None:
        while self._connection.transport.full and not self._is_over:
            self._has_room = asyncio.get_running_loop().create_future()
            await self._has_room
            self._has_room = None
