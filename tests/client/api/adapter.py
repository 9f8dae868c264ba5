"""Two APIs that look alike to a test: the async one as it is, and `syncline.sync` driven through threads.

A test is written once, with the words of the async API. With `Threads` every object of `syncline.sync` is worn by a
`Threaded`: what the async class says with `await` is a call in another thread, all else is a call right here. Values
go through as they are. So a name, an argument or a result that one API has and the other lacks fails the test.
"""

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Protocol, TypeVar

import syncline
import syncline.sync

__all__ = ["Api", "Async", "Threads"]

T = TypeVar("T")

#: The async class that each class of `syncline.sync` stands for.
TWINS: dict[type[Any], type[Any]] = {
    syncline.sync.Accounts: syncline.Accounts,
    syncline.sync.Client: syncline.Client,
    syncline.sync.Collection: syncline.Collection,
    syncline.sync.Document: syncline.Document,
    syncline.sync.Found: syncline.Found,
    syncline.sync.Grants: syncline.Grants,
    syncline.sync.Groups: syncline.Groups,
    syncline.sync.Invitations: syncline.Invitations,
    syncline.sync.Records: syncline.Records,
    syncline.sync.Replica: syncline.Replica,
    syncline.sync.Statuses: AsyncIterator,
    syncline.sync.Stores: syncline.Stores,
    syncline.sync.Subscription: syncline.Subscription,
    syncline.sync.SubscriptionEvents: syncline.SubscriptionEvents,
    syncline.sync.Tokens: syncline.Tokens,
    syncline.sync.Users: syncline.Users,
    syncline.sync.Watch: syncline.Watch,
    syncline.sync.Write: syncline.Write,
}


class Api(Protocol):
    """One of the two."""

    def connect(self, url: str, **options: Any) -> AbstractAsyncContextManager[syncline.Client]:
        """Return a client, to be opened with `async with`."""

    async def next_within(self, iterator: AsyncIterator[T], seconds: float) -> T:
        """Return the next one. Raises `TimeoutError` if it does not come in time."""

    def write_of(self, error: syncline.WriteRejected) -> syncline.Write:
        """Return the write that an error carries."""


class Async:
    """The async API."""

    def connect(self, url: str, **options: Any) -> AbstractAsyncContextManager[syncline.Client]:
        return syncline.connect(url, **options)

    async def next_within(self, iterator: AsyncIterator[T], seconds: float) -> T:
        async with asyncio.timeout(seconds):
            return await anext(iterator)

    def write_of(self, error: syncline.WriteRejected) -> syncline.Write:
        return error.write


class Threads:
    """The plain API."""

    @asynccontextmanager
    async def connect(self, url: str, **options: Any) -> AsyncIterator[syncline.Client]:
        options = {name: _in_a_loop_of_its_own(option) for name, option in options.items()}
        client = await asyncio.to_thread(syncline.sync.connect, url, **options)
        try:
            yield _worn(client)
        finally:
            await asyncio.to_thread(client.close)

    async def next_within(self, iterator: Any, seconds: float) -> Any:
        return _worn(await asyncio.to_thread(iterator.inner.next, seconds))

    def write_of(self, error: syncline.WriteRejected) -> Any:
        return _worn(error.write)


class Threaded:
    """An object of `syncline.sync` that is used as the async one of the same name."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.twin = TWINS[type(inner)]

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.inner, {"aclose": "close"}.get(name, name))
        if not callable(found):
            return _worn(found)
        if inspect.iscoroutinefunction(getattr(self.twin, name)):
            return _awaited(found)
        return _called(found)

    # --- iterating ---

    def __aiter__(self) -> "Threaded":
        return self

    async def __anext__(self) -> Any:
        nothing = object()
        found = await asyncio.to_thread(next, self.inner, nothing)
        if found is nothing:
            raise StopAsyncIteration
        return _worn(found)

    def __iter__(self) -> Any:
        return map(_worn, iter(self.inner))

    async def __aenter__(self) -> "Threaded":
        await asyncio.to_thread(self.inner.__enter__)
        return self

    async def __aexit__(self, *error: Any) -> None:
        await asyncio.to_thread(self.inner.__exit__, *error)

    # --- other operators ---

    def __len__(self) -> int:
        return len(self.inner)

    def __contains__(self, item: object) -> bool:
        return item in self.inner

    def __getitem__(self, index: Any) -> Any:
        return _worn(self.inner[index])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Threaded) and bool(self.inner == other.inner)

    def __hash__(self) -> int:
        return hash(self.inner)

    def __repr__(self) -> str:
        return repr(self.inner)


def _awaited(function: Callable[..., Any]) -> Callable[..., Awaitable[Any]]:
    async def call(*arguments: Any, **options: Any) -> Any:
        options = {name: _bare(option) for name, option in options.items()}
        return _worn(await asyncio.to_thread(function, *map(_bare, arguments), **options))

    return call


def _called(function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*arguments: Any, **options: Any) -> Any:
        options = {name: _bare(option) for name, option in options.items()}
        found = _worn(function(*map(_bare, arguments), **options))
        return _called(found) if inspect.isfunction(found) else found

    return call


def _worn(value: Any) -> Any:
    """Put on what a test gets."""
    if type(value) in TWINS:
        return Threaded(value)
    if isinstance(value, list | tuple) and not hasattr(value, "_fields"):
        return type(value)(_worn(item) for item in value)
    if isinstance(value, syncline.sync.DocumentsView):
        return syncline.DocumentsView(*[_worn(part) for part in _parts(value)])
    return value


def _parts(view: syncline.sync.DocumentsView[Any]) -> tuple[Any, ...]:
    return view.documents, view.added, view.removed, view.changed


def _bare(value: Any) -> Any:
    """Take off what a test gives."""
    if isinstance(value, Threaded):
        return value.inner
    if inspect.isfunction(value):
        return lambda *arguments: value(*map(_worn, arguments))
    return value


def _in_a_loop_of_its_own(option: Any) -> Any:
    """Make a plain function of an async one, as a token function is."""
    return (lambda: asyncio.run(option())) if inspect.iscoroutinefunction(option) else option
