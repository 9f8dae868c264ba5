"""One storage, a clock that tests move, and any number of processes that have a directory on it.

A `Process` writes through the storage as a server does: its own commits are handed to its directory before the answer
is; those of others it finds when it looks. `before_write` lets a test slip a rival in between decision and write.
"""

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from syncline_protocol.transaction import Transaction
from syncline_server.access.principal import Principal
from syncline_server.accounts.directory import Directory
from syncline_server.accounts.entry import ACCOUNTS
from syncline_server.accounts.error import AccountError
from syncline_server.accounts.identity import TokenFault
from syncline_server.committer import Answer
from syncline_server.storage.base import Commit, Storage
from syncline_server.storage.memory import MemoryStorage
from syncline_server.storage.sqlite import SqliteStorage

__all__ = ["DAY_MS", "BACKENDS", "Office", "Process", "refusal"]

DAY_MS = 24 * 3600 * 1000

BACKENDS: dict[str, Callable[[Path], Storage]] = {
    "memory": lambda path: MemoryStorage(),
    "sqlite": lambda path: SqliteStorage(path),
}


class Process:
    """A process that serves the storage. `publishes` says whether it hands commits on before it answers."""

    def __init__(self, office: "Office") -> None:
        self.office = office
        self.before_write: Callable[[], Awaitable[object]] | None = None
        self.publishes = True
        self.writes = 0
        self.commits: list[Commit] = []
        self.told = 0
        self.directory = Directory(office.storage, self.write, now_ms=lambda: office.now_ms, mint=office.mint)
        self.directory.listeners.append(self._hear)

    def _hear(self) -> None:
        self.told += 1

    async def write(self, transaction: Transaction) -> Answer:
        """Commit one transaction."""
        self.writes += 1
        hook, self.before_write = self.before_write, None
        if hook is not None:
            await hook()
        appended = await self.office.storage.append([transaction], self.office.now_ms)
        self.commits += appended.commits
        for commit in appended.commits if self.publishes else ():
            self.directory.extend(commit)
        return appended.outcomes[0]

    async def login(self, name: str, **fields: int) -> str:
        """Begin a session; return its text."""
        return (await self.directory.add_token(name, "", kind="session", **fields))[1]  # type: ignore[arg-type]

    def who(self, secret: str) -> str | None:
        """Return the name of who comes with this token, or what is wrong with it in capitals."""
        found = self.directory.principal_of(secret)
        return found.name

    def principal(self, secret: str) -> Principal:
        """Return who comes with this token."""
        found = self.directory.principal_of(secret)
        assert not isinstance(found, TokenFault)
        return found


class Office:
    """The storage and the time."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self.now_ms = 1_795_400_000_000
        self._minted = 0

    def mint(self, count: int) -> bytes:
        """Return bytes that never were."""
        self._minted += 1
        return self._minted.to_bytes(count, "big")

    async def process(self) -> Process:
        """Start a process."""
        process = Process(self)
        await process.directory.open()
        return process

    async def head(self) -> int:
        """Return how long the log is."""
        return (await self.storage.info(ACCOUNTS)).head.seq


async def refusal(change: Awaitable[object]) -> str:
    """Return the code with which a change is refused."""
    with pytest.raises(AccountError) as caught:
        await change
    assert caught.value.code in str(caught.value)
    return caught.value.code
