"""Walks over records or differences, as blocking iterators."""

from typing import TypeVar

from syncline import past, record
from syncline.past import Difference
from syncline.record import Record
from syncline_protocol.cursor import Cursor

from .loop_thread import LoopThread
from .pages import Pages

__all__ = ["Diff", "Records"]

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
