"""The stores of a server: `client.stores`."""

from .http import HttpApi, StoreInfo

__all__ = ["Stores"]


class Stores:
    """Create, drop and list stores."""

    def __init__(self, http: HttpApi) -> None:
        self._http = http

    async def create(self, name: str) -> StoreInfo:
        """Create a store, unless it is there already. Returns it."""
        info, _ = await self._http.create_store(name)
        return info

    async def drop(self, name: str) -> StoreInfo:
        """Drop a store with everything in it. Returns what it was.

        Raises:
            RequestRefused: there is no such store, or it may not be dropped.
        """
        return await self._http.drop_store(name)

    async def info(self, name: str) -> StoreInfo:
        """Return a store. Raises as `drop`."""
        return await self._http.store_info(name)

    async def list(self) -> list[StoreInfo]:
        """Return every store."""
        return await self._http.list_stores()
