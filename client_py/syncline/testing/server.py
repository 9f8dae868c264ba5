"""A real server for tests, in a thread of this process: what `syncline serve` runs, on a free port of 127.0.0.1.

The server is another package, which this one must not import, and is found by the entry point group
`syncline.testing`. Here are the words that a test uses, and what of them makes no sense at the moment; threads,
sockets and files are the other package's.
"""

import asyncio
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from types import TracebackType
from typing import Protocol, Self, cast

from syncline.errors import Misuse
from syncline_protocol.errors import ProtocolError

__all__ = ["Backup", "Server"]

#: The entry point group in which the package of the server offers one that can be embedded, and its name there.
_ENTRY_POINTS = "syncline.testing"
_NAME = "server"


class _Embedded(Protocol):
    """What the package of the server offers."""

    is_refusing: bool

    @property
    def port(self) -> int: ...
    @property
    def is_running(self) -> bool: ...
    def start(self) -> None: ...
    def stop(self) -> None: ...
    def kill(self) -> None: ...
    def cut(self) -> None: ...
    def create(self, store: str) -> None: ...
    def token(self, user: str, *, is_admin: bool) -> str: ...
    def backup(self) -> object: ...
    def restore(self, copied: object) -> None: ...


@dataclass(frozen=True)
class Backup:
    """The log of a server as it was at one moment; from `Server.backup`."""

    content: object = field(repr=False)


class Server:
    """A server that a test starts, breaks and restarts; use it in `with` or `async with`.

    Args:
        path: a SQLite file, which is made unless it is there. Its directory has to be there. Without it the stores are
            in memory, and outlive a restart as long as this object is kept.
        stores: the names of stores to create at the first start. They are nobody's, for an administrator to share.
        accounts: everybody has to log in, by a token from `token`; otherwise nobody has to.

    All methods are plain ones and may be called from tests of either kind. They come back within some milliseconds,
    `stop` within a tenth of a second if there are clients in the event loop that it is called from.

    Raises:
        Misuse: the package of the server is not installed.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        stores: Iterable[str] = (),
        accounts: bool = False,
    ) -> None:
        if isinstance(stores, str):
            raise Misuse(f"stores is the text {stores!r}", hint=f"give the names in a list: [{stores!r}]")
        self._embedded = _load()(path, accounts=accounts)
        self._due = list(stores)

    # --- life ---

    @property
    def url(self) -> str:
        """Where it is, as for `syncline.connect` and SYNCLINE_URL. It stays the same, also while the server is down."""
        return f"http://127.0.0.1:{self._embedded.port}"

    @property
    def running(self) -> bool:
        """Whether it was started, and not stopped or killed since."""
        return self._embedded.is_running

    def start(self) -> None:
        """Start it, and return when it takes requests. Raises what the storage says if the file cannot be used."""
        if self.running:
            raise Misuse("the server runs already")
        self._embedded.start()
        due, self._due = self._due, []
        for store in due:
            self.create(store)

    def stop(self) -> None:
        """End it in order, as SIGTERM does: BYE, answers to the writes under way, close code 4000.

        Clients are told to come back at once. A server that is down stays down.
        """
        if self.running:
            self._embedded.stop()

    def kill(self) -> None:
        """End it without a word to anybody, as far as a client can tell like SIGKILL.

        What was acknowledged is kept. A write under way is either kept or not, and is not answered. A server that is
        down stays down.
        """
        if self.running:
            self._embedded.kill()

    def restart(self) -> None:
        """Stop and start it, at the same port with the same stores."""
        self.stop()
        self.start()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(self.start)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.stop)

    # --- what a test does to it ---

    def create(self, store: str) -> None:
        """Create a store, unless it is there."""
        self._require_running()
        try:
            self._embedded.create(store)
        except ProtocolError as error:
            raise Misuse(error.message, hint=error.hint) from error

    def token(self, user: str, *, admin: bool = False) -> str:
        """Return a new token of a user, for `syncline.connect`. He is made if he is not there yet.

        Args:
            admin: whether he is an administrator from now on.

        Raises:
            Misuse: nobody has to log in here, or nobody can be called so.
        """
        self._require_running()
        try:
            return self._embedded.token(user, is_admin=admin)
        except ProtocolError as error:
            raise Misuse(error.message, hint=error.hint) from error

    def cut(self) -> None:
        """Break every open connection without a word, as a failing network does. The server goes on."""
        self._require_running()
        self._embedded.cut()

    @contextmanager
    def refusing(self) -> Iterator[None]:
        """While this lasts, hang up on everybody who comes, at once. Connections that are open stay open."""
        self._embedded.is_refusing = True
        try:
            yield
        finally:
            self._embedded.is_refusing = False

    def backup(self) -> Backup:
        """Return the log as it is now, whether the server runs or not."""
        return Backup(self._embedded.backup())

    def restore(self, backup: Backup) -> None:
        """Put the log of a backup in the place of what is there, as an operator would restore an older file.

        A server that runs is stopped for it, and started again. A backup can be restored any number of times, also in
        another server of the same kind: in memory, or with a file.
        """
        was_running = self.running
        self.stop()
        try:
            self._embedded.restore(backup.content)
        except TypeError as error:
            raise Misuse(f"the backup does not fit: {error}", hint="make it from a server of the same kind") from error
        finally:
            if was_running:
                self.start()

    def _require_running(self) -> None:
        if not self.running:
            raise Misuse("the server does not run", hint="use it in `with`, or call start() first")


class _Offer(Protocol):
    def __call__(self, path: str | os.PathLike[str] | None, *, accounts: bool) -> _Embedded: ...


def _load() -> _Offer:
    """Import the package of the server."""
    for offer in entry_points(group=_ENTRY_POINTS, name=_NAME):
        try:
            return cast(_Offer, offer.load())
        except ModuleNotFoundError as error:
            # A missing module of the offering package itself is its bug, and needs its traceback.
            package = offer.module.partition(".")[0]
            if (error.name or "").partition(".")[0] == package != error.name:
                raise
            raise _not_installed(f"{error.name} is missing") from error
    raise _not_installed("no installed package offers one")


def _not_installed(reason: str) -> Misuse:
    return Misuse(
        f"the server, which the test needs, is not installed: {reason}",
        hint="install it: pip install 'syncline[server]'",
    )
