"""What a client shows to be let in: a token, or the application's function that gives one.

One `Credentials` per client, shared by its connection and its requests over HTTP. The function is asked before every
attempt and every request, and once more when the server refused what it gave. Only one question is under way at a
time: those who want a token meanwhile get the answer to that one, so a page full of requests that are all refused makes
one new token, not one each. A token never gets into a text of an error.
"""

import asyncio
from collections.abc import Awaitable, Callable

from syncline_protocol import CloseCode

from .errors import AuthRequired, ConnectionFailed, Misuse

__all__ = ["CREDENTIAL_CLOSE_CODES", "UNAUTHORIZED", "Credentials", "TokenSource"]

#: A token, or a function that is asked for one before every attempt to connect.
TokenSource = str | Callable[[], Awaitable[str | None]]

#: The HTTP status with which a server, or a proxy before it, refuses credentials. 403 is none: another token of the
#: same user would not help.
UNAUTHORIZED = 401

#: Close codes that say the same once the upgrade was accepted (PROTOCOL 2.4): the credentials do not hold, or no more.
CREDENTIAL_CLOSE_CODES: frozenset[int] = frozenset({CloseCode.UNAUTHENTICATED, CloseCode.TOKEN_EXPIRED})

#: The function has so long to answer. It is as long as the rest of an attempt may take.
_ANSWER_TIMEOUT_S = 10.0


class Credentials:
    """The token of a client.

    Args:
        url: where it is shown; for the texts of errors.
        source: a token, a function that gives one, or None.
    """

    def __init__(self, url: str, source: TokenSource | None) -> None:
        self._url = url
        self.replace(source)

    def replace(self, source: TokenSource | None) -> None:
        """Take another token or function, for whoever asks from now on.

        Raises:
            Misuse: the token cannot be sent.
        """
        if isinstance(source, str) and (fault := _fault_of(source)):
            raise Misuse(f"the token {fault}", hint="was a line feed read with it from a file?")
        self._source = _TokenFunction(self._url, source) if callable(source) else source

    @property
    def can_renew_itself(self) -> bool:
        """Whether there is a function, which may have another token when it is asked again."""
        return isinstance(self._source, _TokenFunction)

    @property
    def is_asking(self) -> bool:
        """Whether the function was asked and has not answered yet."""
        return isinstance(self._source, _TokenFunction) and self._source.is_asking

    async def ask(self) -> str | None:
        """Return the token to show now, or None to go without.

        Raises:
            AuthRequired: the function says that somebody has to log in.
            ConnectionFailed: it failed, gave no token, or did not answer in time.
        """
        while isinstance(source := self._source, _TokenFunction):
            try:
                token = await source.ask()
            except ConnectionFailed:
                if source is self._source:
                    raise
            else:
                if source is self._source:
                    return token
            # It was replaced meanwhile, so that what it said does not count.
        return source

    async def renew(self, refused: str | None) -> str | None:
        """Return another token than the one that was refused, or None if there is none. Raises as `ask`."""
        source = self._source
        token = source.last if isinstance(source, _TokenFunction) else source
        if isinstance(source, _TokenFunction) and (token is None or token == refused):
            token = await self.ask()
        return None if token == refused else token or None


class _TokenFunction:
    """The function of an application, asked by one at a time."""

    def __init__(self, url: str, function: Callable[[], Awaitable[str | None]]) -> None:
        #: The last token that it gave.
        self.last: str | None = None
        self._url = url
        self._function = function
        self._asking = asyncio.Lock()
        self._answers = 0
        self._failure: ConnectionFailed | None = None

    @property
    def is_asking(self) -> bool:
        return self._asking.locked()

    async def ask(self) -> str | None:
        before = self._answers
        async with self._asking:
            # An answer that came while this one waited is as new as the one that it would get.
            if self._answers == before:
                await self._question()
                self._answers += 1
            if self._failure is not None:
                raise self._failure
            return self.last

    async def _question(self) -> None:
        """Ask; what goes wrong is kept, as everybody who waits for the answer has to learn of it."""
        self.last, self._failure = None, None
        try:
            async with asyncio.timeout(_ANSWER_TIMEOUT_S) as bound:
                token = await self._function()
        except AuthRequired as error:
            self._failure = error
        except asyncio.CancelledError as error:
            # Either this task is to end, or something inside of the function was cancelled, which is a failure of it.
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            self._failure = self._no_token(error)
        except Exception as error:
            # Whatever the application's function raises, asking again later may help, as with any other failure.
            self._failure = self._too_late() if bound.expired() else self._no_token(error)
        else:
            if fault := "" if token is None else _fault_of(token):
                self._failure = ConnectionFailed(self._url, f"the token that the function gave {fault}")
            else:
                self.last = token

    def _no_token(self, error: BaseException) -> ConnectionFailed:
        failure = ConnectionFailed(self._url, f"there is no token: {error!r}")
        failure.__cause__ = error
        return failure

    def _too_late(self) -> ConnectionFailed:
        reason = f"the token function gave no answer within {_ANSWER_TIMEOUT_S:g} s"
        return ConnectionFailed(self._url, reason, hint="if a person has to do something, let it raise AuthRequired")


def _fault_of(token: object) -> str:
    """Return what keeps a token out of a header, or nothing."""
    if not isinstance(token, str):
        return f"is a {type(token).__name__}, no text"
    if token.isascii() and token.isprintable() and token == token.strip():
        return ""
    return "has characters that a header cannot carry"
