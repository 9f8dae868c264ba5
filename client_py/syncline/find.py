"""Finding records on the server: by an index or by their keys, and along references from record to record.

    await client.stores.declare_index("books", "year", "/year", "range")
    async for record in client.find("books", "year", ge=1950, lt=1960):
        print(record.key, record.value)

What is found comes in pages, which are asked for as the iteration comes to them; each is of the moment it is asked for.
"""

from collections import deque
from typing import Literal, TypedDict

import msgspec

from syncline_protocol.cursor import Cursor
from syncline_protocol.errors import RemoteProtocolError
from syncline_protocol.filter import Filter, check_filter
from syncline_protocol.filter_text import texts_of
from syncline_protocol.index import IndexKind, Scalar

from .errors import Misuse
from .http import HttpApi
from .record import Record

__all__ = ["Conditions", "Found", "Index", "Order", "Query", "count", "find", "follow", "referrers"]

Order = Literal["asc", "desc"]

#: Records of one page; the server also ends it at about a megabyte.
_PAGE_RECORDS = 500


class Conditions(TypedDict, total=False):
    """What a record has to have.

    In the index: `eq`, this very scalar (None is null); or `ge`, `gt`, `le`, `lt`, bounds; or `prefix`, what the string
    begins with. `key_prefix`: what its key begins with.
    """

    eq: Scalar
    ge: Scalar
    gt: Scalar
    le: Scalar
    lt: Scalar
    prefix: str
    key_prefix: str


class Index(msgspec.Struct, frozen=True):
    """An index of a store: what it is on, and how far it is.

    Attributes:
        name: its name.
        path: a JSON Pointer into the value.
        kind: `equality`, `range` or `multi`.
        state: `building`, or `ready` to be asked.
        done: up to which seq it has what is in the log ...
        total: ... of this one.
        created: when it was declared, in ms since 1970.
    """

    name: str
    path: str
    kind: IndexKind
    state: Literal["building", "ready"]
    done: int
    total: int
    created: int


class _Page(msgspec.Struct):
    records: list[Record]
    at: Cursor
    next: str | None = None
    count: int | None = None


class Query(msgspec.Struct, frozen=True):
    """Where is asked, and for what."""

    path: tuple[str, ...]
    texts: dict[str, str]


def find(store: str, index: str | None, order: Order, conditions: Conditions) -> Query:
    """Return the question for what `Client.find` finds. Raises Misuse: it makes no sense."""
    wanted = Filter(index, **conditions)
    try:
        # Without any condition all records are meant, which is no filter.
        texts = {} if wanted == Filter() else texts_of(check_filter(wanted))
    except RemoteProtocolError as error:
        raise Misuse(error.message, hint=error.hint) from error
    return Query(("stores", store, "records"), {**texts, "order": order})


def referrers(store: str, key: str, index: str, order: Order) -> Query:
    """Return the question for the records that refer to one."""
    return Query(("stores", store, "records", key, "referrers", index), {"order": order})


async def count(http: HttpApi, query: Query) -> int:
    """Return how many records a question finds."""
    page = await http.request("GET", *query.path, kind=_Page, query={**query.texts, "count": "1", "limit": "1"})
    assert page.count is not None, "it was asked for"
    return page.count


async def follow(http: HttpApi, store: str, key: str, index: str) -> list[Record]:
    """Return the records that one refers to."""
    page = await http.request("GET", "stores", store, "records", key, "references", index, kind=_Page)
    return page.records


class Found:
    """Records in the order of an index, or of their keys; made by `Client.find` and `Client.referrers`.

    Use it with `async for`. Nothing is held open, so it may be left at any time.
    """

    def __init__(self, http: HttpApi, query: Query) -> None:
        self._http = http
        self._query = query
        self._waiting: deque[Record] = deque()
        self._next: str | None = None
        self._at: Cursor | None = None

    async def cursor(self) -> Cursor:
        """Return the position of the first page: a subscription with the same filter goes on from there."""
        if self._at is None:
            await self._read()
        assert self._at is not None, "a page has a position"
        return self._at

    async def page(self) -> list[Record]:
        """Return what comes next, as many records as the server sends at once; none at the end."""
        while not self._waiting and (self._at is None or self._next is not None):
            await self._read()
        records = list(self._waiting)
        self._waiting.clear()
        return records

    async def _read(self) -> None:
        query = {**self._query.texts, "limit": str(_PAGE_RECORDS), "page": self._next}
        page = await self._http.request("GET", *self._query.path, kind=_Page, query=query)
        self._at = self._at or page.at
        self._next = page.next
        self._waiting.extend(page.records)

    def __aiter__(self) -> "Found":
        return self

    async def __anext__(self) -> Record:
        if not self._waiting:
            self._waiting.extend(await self.page())
        if not self._waiting:
            raise StopAsyncIteration
        return self._waiting.popleft()
