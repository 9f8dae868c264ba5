"""Where the oracle's server keeps its log, and how a process dies there, for every backend."""

import copy
import itertools
import shutil
from pathlib import Path
from typing import Protocol

from syncline_server.storage.base import Storage
from syncline_server.storage.memory import MemoryStorage
from syncline_server.storage.sqlite import SqliteStorage

__all__ = ["PLACES", "MemoryPlace", "Place", "SqlitePlace"]


class Place(Protocol):
    """A place for one log. `storage` is what serves it now."""

    storage: Storage

    async def crash(self) -> None:
        """Let the process die without a word, and make the storage of the next one; it is not open yet."""

    async def backup(self) -> object:
        """Copy everything, as it is now."""

    async def restore(self, copied: object) -> None:
        """Stop, put a copy in place, and make the storage of the next process; it is not open yet."""


class MemoryPlace:
    """A log in memory; of a crash it only knows that nobody said goodbye."""

    def __init__(self, folder: Path) -> None:
        self.storage: Storage = MemoryStorage()

    async def crash(self) -> None:
        await self.storage.close()

    async def backup(self) -> object:
        return copy.deepcopy(self.storage)

    async def restore(self, copied: object) -> None:
        await self.storage.close()
        assert isinstance(copied, MemoryStorage)
        self.storage = copy.deepcopy(copied)
        await self.storage.close()


class SqlitePlace:
    """A file; each process of the oracle has one of its own, with what the one before left on the disk."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._numbers = itertools.count()
        self._path = self._next_path()
        self.storage: Storage = SqliteStorage(self._path)

    def _next_path(self) -> Path:
        return self._folder / f"{next(self._numbers)}.db"

    async def crash(self) -> None:
        # What a process that is killed leaves is what is in its files at this moment, the log of SQLite among them.
        before, self._path = self._path, self._next_path()
        for ending in ("", "-wal"):
            source = before.with_name(before.name + ending)
            if source.exists():
                shutil.copyfile(source, self._path.with_name(self._path.name + ending))
        await self.storage.close()
        self.storage = SqliteStorage(self._path)

    async def backup(self) -> object:
        target = self._next_path()
        await self.storage.backup(str(target))
        return target

    async def restore(self, copied: object) -> None:
        assert isinstance(copied, Path)
        await self.storage.close()
        self._path = self._next_path()
        shutil.copyfile(copied, self._path)
        self.storage = SqliteStorage(self._path)


PLACES: dict[str, type[MemoryPlace] | type[SqlitePlace]] = {"memory": MemoryPlace, "sqlite": SqlitePlace}
