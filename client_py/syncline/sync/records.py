"""Walks over records or differences, as blocking iterators."""

from typing import TypeVar

from syncline import find, past, record
from syncline.past import Difference
from syncline.record import Record
from syncline_protocol.cursor import Cursor

from .loop_thread import LoopThread
from .pages import Pages

__all__ = ["Diff", "Found", "Records"]

T = TypeVar("T", Record, Difference)

#: One page has so many records, or about so many bytes of values, at most.
_PAGE_RECORDS_MAX = 500
_PAGE_BYTES_MAX = 1024 * 1024


class _Walk(Pages[T]):
    """What both have in common."""

    def __init__(self, thread: LoopThread, inner: record.Walk[T]) -> None:
        super().__init__(thread, inner.aclose)
        self._inner: record.Walk[T] = inner

    def cursor(self) -> Cursor | None:
        """Return the position that it shows at its end: subscribe after it to go on from there."""
        return self._thread.run(self._inner.cursor())

    async def _fetch(self) -> list[T]:
        page: list[T] = []
        size = 0
        try:
            while len(page) < _PAGE_RECORDS_MAX and size < _PAGE_BYTES_MAX:
                page.append(await anext(self._inner))
                size += len(bytes(page[-1].raw))
        except StopAsyncIteration:
            pass
        except Exception:
            # What came before it is handed out first; the walk raises it again.
            if not page:
                raise
        return page


class Records(_Walk[Record]):
    """A walk over the live records of a store, in the order of their seqs; made by `Client.records`.

    It may be left early: it is closed when nobody holds it any more. An interrupt, or a timeout of `next`, breaks it
    off: begin another one then.
    """

    def __init__(self, thread: LoopThread, inner: record.Records) -> None:
        super().__init__(thread, inner)


class Diff(_Walk[Difference]):
    """What changed between two positions, in the order of the log; made by `Client.diff`. Otherwise as `Records`."""

    def __init__(self, thread: LoopThread, inner: past.Diff) -> None:
        super().__init__(thread, inner)


class Found(Pages[Record]):
    """Records in the order of an index, or of their keys; made by `Client.find` and `Client.referrers`.

    It holds nothing open, so it may be left at any time.
    """

    def __init__(self, thread: LoopThread, inner: find.Found) -> None:
        super().__init__(thread, None)
        self._inner = inner

    def cursor(self) -> Cursor:
        """Return the position of the first page: a subscription with the same filter goes on from there."""
        return self._thread.run(self._inner.cursor())

    def page(self) -> list[Record]:
        """Return what comes next, as many records as the server sends at once; none at the end."""
        return self._thread.run(self._turn_over())

    async def _turn_over(self) -> list[Record]:
        kept = list(self._page)
        self._page.clear()
        return kept or await self._inner.page()

    async def _fetch(self) -> list[Record]:
        return await self._inner.page()
