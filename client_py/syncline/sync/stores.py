"""The stores of a server: `client.stores`."""

from syncline import stores
from syncline.http import StoreInfo

from .loop_thread import LoopThread

__all__ = ["Stores"]


class Stores:
    """Create, drop and list stores. Like all requests over HTTP they raise `ConnectionFailed` without a server."""

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

    def list(self) -> list[StoreInfo]:
        """Return every store."""
        return self._thread.run(self._inner.list())
