"""Tokens from a plain function, which may block: it is asked in a thread of its own.

That thread is a daemon, unlike those that asyncio lends out: a function that hangs must not keep a program from ending.
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable

from syncline import credentials

__all__ = ["TokenSource", "async_source"]

#: A token, or a function that is asked for one before every attempt to connect and every request over HTTP.
TokenSource = str | Callable[[], str | None]


def async_source(source: TokenSource | None) -> credentials.TokenSource | None:
    """Return what the async client takes in its place."""
    if not callable(source):
        return source

    async def ask() -> str | None:
        return await _in_thread(source)

    return ask


async def _in_thread(function: Callable[[], str | None]) -> str | None:
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[str | None] = loop.create_future()

    def settle(token: str | None, error: BaseException | None) -> None:
        if answer.done():
            return
        if error is None:
            answer.set_result(token)
        else:
            answer.set_exception(error)

    def work() -> None:
        token, error = None, None
        try:
            token = function()
        except BaseException as raised:
            error = raised
        with contextlib.suppress(RuntimeError):
            # If the loop is closed nobody waits any more.
            loop.call_soon_threadsafe(settle, token, error)

    threading.Thread(target=work, name="syncline-token", daemon=True).start()
    return await answer
