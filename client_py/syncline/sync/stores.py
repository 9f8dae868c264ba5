"""The stores of a server: `client.stores`."""

from collections.abc import Callable

from syncline import stores
from syncline.find import Index
from syncline.http import StoreInfo
from syncline.upkeep import CleanUp, Estimate, StoreSettings, StoreStats
from syncline_protocol.index import IndexKind

from .loop_thread import LoopThread

__all__ = ["Stores"]


class Stores:
    """Create, drop and list stores, and say how they are kept.

    Like all requests over HTTP they raise `ConnectionFailed` without a server.
    """

    def __init__(self, thread: LoopThread, inner: stores.Stores) -> None:
        self._thread = thread
        self._inner = inner

    def create(self, name: str) -> StoreInfo:
        """Create a store, unless it is there already. Returns it."""
        return self._thread.run(self._inner.create(name))

    def drop(self, name: str) -> StoreInfo:
        """Drop a store with everything in it. Returns what it was.

        Raises:
            RequestRefused: there is no such store, or it may not be dropped.
        """
        return self._thread.run(self._inner.drop(name))

    def info(self, name: str) -> StoreInfo:
        """Return a store. Raises as `drop`."""
        return self._thread.run(self._inner.info(name))

    def settings(self, name: str) -> StoreSettings:
        """Return what the owner of a store says of it. Raises as `drop`."""
        return self._thread.run(self._inner.settings(name))

    def configure(self, name: str, settings: StoreSettings) -> StoreSettings:
        """Say how a store is kept; this takes the place of all that was said before. Returns what holds now.

        Raises:
            RequestRefused: a setting makes no sense, there is no such store, or it is not ours to say.
        """
        return self._thread.run(self._inner.configure(name, settings))

    def stats(self, name: str) -> StoreStats:
        """Return the statistics of a store. Raises as `drop`, also if we see a part of it only."""
        return self._thread.run(self._inner.stats(name))

    def estimate(self, name: str) -> Estimate:
        """Return what `compact` would drop. Raises as `drop`."""
        return self._thread.run(self._inner.estimate(name))

    def compact(self, name: str, progress: Callable[[CleanUp], None] | None = None) -> CleanUp:
        """Clean a store up now, and return what came of it; its `error` says if it failed. Raises as `drop`.

        Args:
            progress: is told, some times a second, how far it is; in the client's thread.
        """
        return self._thread.run(self._inner.compact(name, progress))

    def indexes(self, name: str) -> "list[Index]":
        """Return the indexes of a store, in the order of their names. Raises as `drop`."""
        return self._thread.run(self._inner.indexes(name))

    def declare_index(
        self,
        name: str,
        index: str,
        path: str,
        kind: IndexKind = "equality",
        progress: Callable[[Index], None] | None = None,
    ) -> Index:
        """Declare an index, unless it is there, and wait until it can be asked. Returns it.

        Arguments and errors are those of `syncline.Stores.declare_index`; `progress` is called in the client's thread.
        """
        return self._thread.run(self._inner.declare_index(name, index, path, kind, progress))

    def drop_index(self, name: str, index: str) -> Index:
        """Drop an index; the records stay. Returns what it was.

        Raises:
            RequestRefused: there is no such store or index, or the store is not ours to say so.
        """
        return self._thread.run(self._inner.drop_index(name, index))

    def list(self) -> list[StoreInfo]:
        """Return every store."""
        return self._thread.run(self._inner.list())
