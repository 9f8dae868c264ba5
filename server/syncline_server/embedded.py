"""A server inside another program, for its tests: one log and one port over any number of runs.

`syncline.testing` finds it by the entry point group `syncline.testing`. Owns what a restart must not lose: the stores,
in memory or in a SQLite file, and the port, which is held while nobody listens, so that no other program gets it and
no client that looks for the server connects to itself. One run of the application is `server_thread`'s.
"""

import asyncio
import copy
import os
import socket
import sqlite3
import tempfile
import weakref
from contextlib import closing
from pathlib import Path
from typing import Any, Protocol, cast
from urllib.parse import quote

from starlette.applications import Starlette

from syncline_protocol.errors import RemoteProtocolError

from .access.principal import SCOPES
from .accounts.directory import Directory
from .accounts.plans.users import UserChange
from .app import create_app, office_of
from .direct import DirectWebSocket, HeadDeadline
from .log import get_guest_log
from .serve import listen
from .server_thread import ServerThread
from .settings import Settings
from .storage.base import Storage
from .storage.file_lock import FileLock
from .storage.memory import MemoryStorage
from .storage.sqlite import SqliteStorage

__all__ = ["EmbeddedServer"]

_HOST = "127.0.0.1"

#: A client in the thread that waits for the end cannot answer a close frame before it is over.
_CLOSE_TIMEOUT_S = 0.1


class EmbeddedServer:
    """Args:
    path: a SQLite file; without one the stores are in memory, and last as long as this object.
    accounts: whether everybody has to log in.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None, *, accounts: bool = False) -> None:
        self.is_refusing = False
        self._settings = Settings(store="memory:", auth="accounts" if accounts else "none")
        self._log: _Log = _MemoryLog() if path is None else _FileLog(path)
        self._run: ServerThread | None = None
        self._app: Starlette | None = None
        held = _hold_port()
        self.port: int = held.getsockname()[1]
        weakref.finalize(self, held.close)

    @property
    def is_running(self) -> bool:
        """Whether it takes requests."""
        return self._run is not None

    def start(self) -> None:
        """Begin a run. Raises StorageError if the file cannot be opened."""
        assert self._run is None
        app = create_app(self._settings, storage=self._log.storage(), log=get_guest_log())
        run = ServerThread(app, listen(_HOST, self.port), http=self._greet, ws=_Socket)
        run.start()
        self._run = run
        self._app = app

    def stop(self) -> None:
        """End the run in order."""
        run, self._run = self._running(), None
        run.stop()

    def kill(self) -> None:
        """End the run without a word to anybody."""
        run, self._run = self._running(), None
        run.kill()

    def cut(self) -> None:
        """Break every open connection."""
        self._running().cut()

    def create(self, store: str) -> None:
        """Create a store, unless it is there. Raises RemoteProtocolError if none can have this name."""
        run = self._running()
        run.run(run.hub.create(store))

    def token(self, user: str, *, is_admin: bool) -> str:
        """Return the text of a token of a user, who is made if he is not there yet.

        Raises:
            RemoteProtocolError: nobody can be called so, or has to log in here.
        """
        office = None if self._app is None else office_of(self._app)
        if office is None:
            raise RemoteProtocolError("not_found", "nobody has to log in here", hint="make the server with accounts")
        directory = office.accounts.directory
        return self._running().run(_token(directory, user, is_admin=is_admin))

    def backup(self) -> object:
        """Return a copy of the log as it is now, for `restore`."""
        # Nothing else runs in the event loop meanwhile, so the copy in memory is of one moment; SQLite sees to its own.
        return self._log.copy() if self._run is None else self._run.call(self._log.copy)

    def restore(self, copied: object) -> None:
        """Put a copy in the place of the log. Raises TypeError if it is one of the other kind of storage."""
        assert self._run is None
        self._log.put_back(copied)

    def _running(self) -> ServerThread:
        assert self._run is not None
        return self._run

    def _greet(self, **parts: Any) -> asyncio.Protocol:
        """Make the protocol of a connection that has just been accepted."""
        return _Refusal() if self.is_refusing else HeadDeadline(**parts)


async def _token(directory: Directory, user: str, *, is_admin: bool) -> str:
    known = directory.registry.users.get(user)
    if known is None:
        await directory.add_user(user, is_admin=is_admin)
    elif known.is_admin != is_admin:
        await directory.change_user(user, UserChange(is_admin=is_admin))
    _, text = await directory.add_token(user, "a test", kind="personal", scopes=SCOPES)
    return text


def _hold_port() -> socket.socket:
    """Take a free port without listening there. Who sets SO_REUSEADDR, as `listen` does, may listen on it."""
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.bind((_HOST, 0))
    return held


class _Socket(DirectWebSocket):
    close_timeout_s = _CLOSE_TIMEOUT_S


class _Refusal(asyncio.Protocol):
    """Hangs up as soon as somebody has come."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast(asyncio.WriteTransport, transport).abort()


# --- logs that outlive a run ---


class _Log(Protocol):
    def storage(self) -> Storage:
        """Return the storage for one run."""

    def copy(self) -> object:
        """Return the log as it is at this moment."""

    def put_back(self, copied: object) -> None:
        """Let the next run have a log as it was."""


class _MemoryLog:
    def __init__(self) -> None:
        self._storage = MemoryStorage()

    def storage(self) -> Storage:
        return self._storage

    def copy(self) -> object:
        return copy.deepcopy(self._storage)

    def put_back(self, copied: object) -> None:
        if not isinstance(copied, MemoryStorage):
            raise TypeError("this is not the copy of a log in memory")
        # A copy may be put back again.
        self._storage = copy.deepcopy(copied)


class _FileLog:
    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(os.path.realpath(path))

    def storage(self) -> Storage:
        return SqliteStorage(self._path)

    def copy(self) -> object:
        if not self._path.exists():
            return b""
        with tempfile.TemporaryDirectory() as folder:
            copied = Path(folder, "copy.db")
            # As an operator would, in a connection that cannot write: the server's is the only one that may.
            with closing(sqlite3.connect(f"file:{quote(str(self._path))}?mode=ro", uri=True)) as connection:
                connection.execute("VACUUM INTO ?", (str(copied),))
            return copied.read_bytes()

    def put_back(self, copied: object) -> None:
        if not isinstance(copied, bytes):
            raise TypeError("this is not the copy of a file")
        lock = FileLock(str(self._path))
        try:
            for ending in ("-wal", "-shm"):
                self._path.with_name(self._path.name + ending).unlink(missing_ok=True)
            self._path.write_bytes(copied)
        finally:
            lock.release()
