"""Records as they are read over HTTP: one, or a walk over all that live.

A walk is one answer in NDJSON, read as it comes, so a store may be larger than memory.
"""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Generic, Self, TypeVar

import httpx2
import msgspec

from syncline_protocol.cursor import Cursor, Seq

from .errors import Misuse
from .lines import lines_of
from .value import JsonValue

__all__ = ["Record", "Records", "Walk"]

T = TypeVar("T")

_decode_value = msgspec.json.Decoder().decode


class Record(msgspec.Struct, frozen=True, omit_defaults=True):
    """A live record.

    `time` is when it was added, in ms since 1970, `raw` the value's JSON text in UTF-8, `by` who added it, if we may
    know.
    """

    key: str
    seq: Seq
    time: int
    raw: msgspec.Raw = msgspec.field(name="value")
    by: str | None = None

    @property
    def text(self) -> str:
        """The value as the JSON text that was sent."""
        return bytes(self.raw).decode()

    @property
    def value(self) -> JsonValue:
        """The value, decoded anew at each look."""
        decoded: JsonValue = _decode_value(self.raw)
        return decoded


class Walk(Generic[T]):
    """What is read line by line, of one position: records, or differences.

    Args:
        opening: is the answer; entered when it is first read from.
        kind: what a line is.
    """

    def __init__(self, opening: AbstractAsyncContextManager[httpx2.Response], kind: type[T]) -> None:
        self._opening = opening
        self._decoder = msgspec.json.Decoder(kind)
        self._lines: AsyncIterator[bytes] | None = None
        self._cursor: Cursor | None = None
        self._is_open = False
        self._is_over = False
        self._broken_off_by: BaseException | None = None

    async def cursor(self) -> Cursor | None:
        """Return the position that the walk shows: subscribe after it to go on from there."""
        await self._open()
        return self._cursor

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        if self._is_over:
            raise StopAsyncIteration
        lines = await self._open()
        try:
            return self._decoder.decode(await anext(lines))
        except StopAsyncIteration:
            await self.aclose()
            raise
        except BaseException as error:
            self._broken_off_by = error
            # The context knows how to say what went wrong with the connection.
            self._is_open = False
            await self._opening.__aexit__(type(error), error, error.__traceback__)
            raise

    async def aclose(self) -> None:
        """Stop the walk."""
        self._is_over = True
        if self._is_open:
            self._is_open = False
            await self._opening.__aexit__(None, None, None)

    async def __aenter__(self) -> Self:
        await self._open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _open(self) -> AsyncIterator[bytes]:
        if self._broken_off_by is not None:
            # To stop here would look as if these were all records.
            fault = f"the walk was broken off: {self._broken_off_by!r}"
            raise Misuse(fault, hint="begin another one") from self._broken_off_by
        if self._lines is None:
            try:
                response = await self._opening.__aenter__()
            except BaseException as error:
                self._broken_off_by = error
                raise
            self._is_open = True
            cursor = response.headers.get("Syncline-Cursor")
            self._cursor = None if cursor is None else Cursor(cursor)
            self._lines = lines_of(response)
        return self._lines


class Records(Walk[Record]):
    """A walk over the live records of a store, in the order of their seqs; made by `Client.records`.

    Use it with `async for`, inside of `async with` if the loop may be left early.
    """

    def __init__(self, opening: AbstractAsyncContextManager[httpx2.Response]) -> None:
        super().__init__(opening, Record)
