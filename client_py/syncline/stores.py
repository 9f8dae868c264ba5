"""The stores of a server: `client.stores`."""

import asyncio
from collections.abc import Callable

import msgspec

from syncline_protocol.index import IndexKind

from .find import Index
from .http import HttpApi, StoreInfo
from .upkeep import CleanUp, Estimate, StoreSettings, StoreStats, Upkeep

__all__ = ["Stores"]


#: While clean-up goes on it is asked so often how far it is.
_LOOK_S = 0.2


class _Compacted(msgspec.Struct):
    """The answer to a wish for clean-up."""

    upkeep: Upkeep | None = None
    estimate: Estimate | None = None


class _Indexes(msgspec.Struct):
    indexes: tuple[Index, ...]


class Stores:
    """Create, drop and list stores, say how they are kept and what is indexed, and clean them up."""

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

    async def settings(self, name: str) -> StoreSettings:
        """Return what the owner of a store says of it. Raises as `drop`."""
        return await self._http.request("GET", "stores", name, "settings", kind=StoreSettings)

    async def configure(self, name: str, settings: StoreSettings) -> StoreSettings:
        """Say how a store is kept; this takes the place of all that was said before. Returns what holds now.

        To change one setting: `configure(name, msgspec.structs.replace(await settings(name), retention_s=86400))`.

        Raises:
            RequestRefused: a setting makes no sense, there is no such store, or it is not ours to say.
        """
        return await self._http.request("PUT", "stores", name, "settings", kind=StoreSettings, body=settings)

    async def stats(self, name: str) -> StoreStats:
        """Return the statistics of a store. Raises as `drop`, also if we see a part of it only."""
        return await self._http.request("GET", "stores", name, "stats", kind=StoreStats)

    async def estimate(self, name: str) -> Estimate:
        """Return what `compact` would drop. Raises as `drop`."""
        query = {"dry_run": "1"}
        answer = await self._http.request("POST", "stores", name, "compact", kind=_Compacted, query=query)
        assert answer.estimate is not None, "a dry run is answered with an estimate"
        return answer.estimate

    async def compact(self, name: str, progress: Callable[[CleanUp], None] | None = None) -> CleanUp:
        """Clean a store up now, and return what came of it; its `error` says if it failed. Raises as `drop`.

        Args:
            progress: is told, some times a second, how far it is.
        """
        upkeep = (await self._http.request("POST", "stores", name, "compact", kind=_Compacted)).upkeep
        while upkeep is not None and upkeep.run is not None:
            if progress is not None:
                progress(upkeep.run)
            await asyncio.sleep(_LOOK_S)
            upkeep = (await self.stats(name)).upkeep
        return CleanUp() if upkeep is None or upkeep.last is None else upkeep.last

    async def indexes(self, name: str) -> "list[Index]":
        """Return the indexes of a store, in the order of their names. Raises as `drop`."""
        return list((await self._http.request("GET", "stores", name, "indexes", kind=_Indexes)).indexes)

    async def declare_index(
        self,
        name: str,
        index: str,
        path: str,
        kind: IndexKind = "equality",
        progress: Callable[[Index], None] | None = None,
    ) -> Index:
        """Declare an index, unless it is there, and wait until it can be asked. Returns it.

        Args:
            name: the name of the store.
            index: the name of the index.
            path: what is indexed: a JSON Pointer into the value, as "/author/name"; empty for the value itself.
            kind: `equality`; `range`, which is also asked for ranges, prefixes and order; or `multi`, in which each
                element of an array is found.
            progress: is told, some times a second, how far it is.

        Raises:
            RequestRefused: there is another index of this name, the path makes no sense, or the store is not ours to
                say so.
        """
        body = {"path": path, "kind": kind}
        found = await self._http.request("PUT", "stores", name, "indexes", index, kind=Index, body=body)
        while found.state != "ready":
            if progress is not None:
                progress(found)
            await asyncio.sleep(_LOOK_S)
            found = await self._http.request("GET", "stores", name, "indexes", index, kind=Index)
        return found

    async def drop_index(self, name: str, index: str) -> Index:
        """Drop an index; the records stay. Returns what it was.

        Raises:
            RequestRefused: there is no such store or index, or the store is not ours to say so.
        """
        return await self._http.request("DELETE", "stores", name, "indexes", index, kind=Index)

    async def list(self) -> list[StoreInfo]:
        """Return every store."""
        return await self._http.list_stores()
