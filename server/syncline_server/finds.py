"""The FINDs of one connection, answered one after the other.

So a connection has one page in memory at a time, and one that asks for much waits for itself alone. How a page is
found is the affair of `find`.
"""

import asyncio
from collections import deque
from typing import Protocol

from syncline_protocol.errors import RemoteProtocolError
from syncline_protocol.server import FindRequested, ServerSession

from .find import FoundPage, Query, find
from .login import Standing
from .storage.base import Storage, StorageError
from .transport import Transport

__all__ = ["Finds"]

#: FINDs that wait for their turn; each is one line of text.
_WAITING_MAX = 16


class _Connection(Protocol):
    """What finds need of the connection that they belong to."""

    session: ServerSession
    standing: Standing
    transport: Transport

    def flush(self) -> None:
        """Write what the session has to say."""

    def refuse_for(self, request_id: int, error: StorageError | RemoteProtocolError) -> None:
        """Answer with the ERROR that says what was raised."""

    def fetched(self) -> None:
        """One is done; more may be taken."""


class Finds:
    """Args:
    storage: what is looked through.
    """

    __slots__ = ("_connection", "_has_room", "_is_over", "_storage", "_waiting")

    def __init__(self, connection: _Connection, storage: Storage) -> None:
        self._connection = connection
        self._storage = storage
        self._waiting: deque[FindRequested] = deque()
        self._has_room: asyncio.Future[None] | None = None
        self._is_over = False

    @property
    def are_few(self) -> bool:
        """Whether there is room for another."""
        return len(self._waiting) < _WAITING_MAX

    def add(self, event: FindRequested) -> bool:
        """Take one. Returns whether `run` has to be started."""
        self._waiting.append(event)
        return len(self._waiting) == 1

    def drained(self) -> None:
        """The transport takes more."""
        if self._has_room is not None and not self._has_room.done():
            self._has_room.set_result(None)

    def end(self) -> None:
        """The connection is over."""
        self._is_over = True
        self.drained()

    async def run(self) -> None:
        """Answer everything that waits."""
        while self._waiting and not self._is_over:
            event = self._waiting[0]
            await self._wait_for_room()
            await self._answer(event)
            self._waiting.popleft()
            self._connection.fetched()

    async def _answer(self, event: FindRequested) -> None:
        connection, request = self._connection, event.request
        query = Query(event.filter, request.order == "desc", request.limit, request.page, request.count)
        try:
            page = await self._page(request.store, query)
        except (StorageError, RemoteProtocolError) as error:
            connection.refuse_for(request.id, error)
            return
        if connection.session.close_code is None:
            connection.session.found(request.id, page.at, page.texts, following=page.next, count=page.count)
            connection.flush()

    async def _page(self, store: str, query: Query) -> FoundPage:
        """Find a page; anew if what may be seen has changed while the storage was asked."""
        standing = self._connection.standing
        while True:
            view = standing.view(store)
            page = await find(self._storage, store, view, query)
            if standing.view(store) == view:
                return page

    async def _wait_for_room(self) -> None:
        while self._connection.transport.full and not self._is_over:
            self._has_room = asyncio.get_running_loop().create_future()
            await self._has_room
            self._has_room = None
