"""New credentials for a connection that is up, so that it need not be made again when the old ones end.

Owns which token the server knows, and asks the client's `Credentials` for the next one when the server says that this
one expires. There is one AUTH under way at a time, since its refusal has no id. What goes wrong here ends nothing: the
connection goes on with what it has, and when the server closes it, the next one is made with new credentials.
"""

import asyncio
from collections.abc import Callable

from syncline_protocol import messages

from .clock import Clock
from .credentials import Credentials
from .errors import ConnectionFailed

__all__ = ["Renewal"]

#: An application that hands out the old token until shortly before its end is asked again at half of the time that is
#: left, and so on; later than this it makes no difference.
_LEFT_S_MIN = 1.0


class Renewal:
    """The credentials of one connection.

    Args:
        shown: the token that it was made with.
        show: sends an AUTH.
        leave: ends the connection, so that the next one is made with the credentials that there are then.
    """

    def __init__(
        self,
        shown: str | None,
        credentials: Credentials,
        clock: Clock,
        show: Callable[[messages.Auth], None],
        leave: Callable[[], None],
    ) -> None:
        self._shown = shown
        self._credentials = credentials
        self._clock = clock
        self._show = show
        self._leave = leave
        self._showing = asyncio.Lock()
        self._answer: asyncio.Future[bool] | None = None
        self._rounds = 0

    async def before(self, expires_ms: int) -> None:
        """Show the server another token before this moment, in ms since 1970."""
        self._rounds += 1
        this_round = self._rounds
        while this_round == self._rounds and not await self.now():
            left_s = expires_ms / 1000 - self._clock.time()
            if left_s < _LEFT_S_MIN:
                return
            await self._clock.sleep(left_s / 2)

    async def now(self) -> bool:
        """Show the server another token, if there is one. Returns whether it took it."""
        async with self._showing:
            try:
                token = await self._credentials.renew(self._shown)
            except ConnectionFailed:
                return False
            if token is None:
                return False
            self._shown = token
            self._answer = asyncio.get_running_loop().create_future()
            self._show(messages.Auth(token))
            try:
                return await self._answer
            finally:
                self._answer = None

    def taken(self) -> None:
        """Take AUTHENTICATED."""
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(True)

    def refused(self, error: messages.Error) -> None:
        """Take an ERROR without an id; it is of no concern here if no AUTH is under way.

        Credentials of another user are refused in place (PROTOCOL 2.4.4); they are for another connection.
        """
        if self._answer is None or self._answer.done():
            return
        self._answer.set_result(False)
        if error.code == "forbidden":
            self._leave()
