"""The small server behind a door, as behind a proxy that looks at tokens before it lets anybody in."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from syncline_protocol import SUBPROTOCOL
from tests.client.fake_server import FakeServer

__all__ = ["GuardedServer", "Login", "guarded"]


class GuardedServer(FakeServer):
    """Answers 401 to whoever shows no valid token, at the socket and over HTTP; over HTTP it has no stores to list.

    Attributes:
        valid: the tokens that are let in; with None in it, nobody needs one.
        shown: the token of every request, in order.
        shown_over_http: those that were not for the socket.
    """

    def __init__(self, *valid: str | None) -> None:
        super().__init__()
        self.valid: set[str | None] = set(valid)
        self.shown: list[str | None] = []
        self.shown_over_http: list[str | None] = []

    async def start(self) -> None:
        self._server = await serve(
            self._serve,
            "127.0.0.1",
            self._port,
            subprotocols=[Subprotocol(SUBPROTOCOL)],
            process_request=self._look,
            compression=None,
            ping_interval=None,
            close_timeout=1,
        )
        self._port = next(iter(self._server.sockets)).getsockname()[1]

    def _look(self, connection: ServerConnection, request: Request) -> Response | None:
        header = request.headers.get("Authorization")
        token = None if header is None else header.removeprefix("Bearer ")
        is_plain = not request.path.endswith("/ws")
        self.shown.append(token)
        if is_plain:
            self.shown_over_http.append(token)
        if None not in self.valid and token not in self.valid:
            return connection.respond(401, "who are you?")
        return connection.respond(200, '{"stores":[]}') if is_plain else None


class Login:
    """A token function that says what the test wants, and counts."""

    def __init__(self, *answers: str | BaseException | None) -> None:
        self._answers: Iterator[str | BaseException | None] = iter(answers)
        self._last: str | BaseException | None = None
        self.asked = 0

    async def __call__(self) -> str | None:
        """Give the next answer; the last one again when there is none."""
        self.asked += 1
        self._last = next(self._answers, self._last)
        await asyncio.sleep(0)
        if isinstance(self._last, BaseException):
            raise self._last
        return self._last


@pytest.fixture
async def guarded() -> AsyncIterator[GuardedServer]:
    """A server that lets in who shows the token `good`."""
    server = GuardedServer("good")
    await server.start()
    yield server
    await server.stop()
