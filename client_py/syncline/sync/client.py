"""The client with methods that block: what a script, a notebook or a thread holds in its hands.

    client = syncline.sync.connect()
    client.add("notes", {"text": "hi"})
    for change in client.subscribe("notes"):
        print(change.key, change.value)

A facade: the async client lives in a thread of its own (`loop_thread`), and every method carries one call over. It is
closed with `close` or `with`, or when nobody holds it and what it made any more, or when the interpreter ends.
"""

import os
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Unpack

from syncline import client
from syncline.accounts.expiry import Expiry
from syncline.accounts.values import Accepted, Grant, NewInvitation, ReadWhere, Role
from syncline.clock import Clock
from syncline.errors import ClientClosed
from syncline.find import Conditions, Order
from syncline.past import Position
from syncline.record import Record
from syncline.replica.replica import Restores
from syncline.status import ConnectionState, Status
from syncline.write import Add, Delete, Written
from syncline_protocol import START, Limits, messages
from syncline_protocol.filter import Filter

from .accounts import Accounts
from .loop_thread import LoopThread
from .records import Diff, Found, Records
from .replica import Replica
from .statuses import Statuses
from .stores import Stores
from .subscription import Subscription
from .token import TokenSource, async_source

__all__ = ["Client", "connect"]


def connect(
    url: str | None = None,
    *,
    client_name: str = "syncline-py",
    token: TokenSource | None = None,
    timeout: float = 10.0,
    wait: bool = True,
    clock: Clock | None = None,
) -> "Client":
    """Open a client, and return it. Use it with `with`, or close it with `close`.

    Args:
        url: where the server is, with http, https, ws or wss, and the prefix below which it is mounted, if it is. By
            default the environment variable SYNCLINE_URL, else http://127.0.0.1:7171.
        client_name: what the server's logs and console call this client.
        token: what the server, or a proxy before it, knows the user by. A function is asked for one before every
            attempt and every request over HTTP, and once more if what it gave is refused; it is called in a thread of
            its own and may block. It raises `AuthRequired` if somebody has to log in first; anything else that it
            raises is followed by another attempt.
        timeout: how long to wait for the first connection, in seconds.
        wait: return only once the server has answered, and raise `ConnectionFailed` if the first attempt fails. Without
            it the client is there at once, and connects when it can.
        clock: time and chance; for tests. It is used in the client's thread.

    Raises:
        ConnectionFailed: the server cannot be reached.
        AddressInvalid: the URL is not one of a server.

    After the first connection, or at once without `wait`, the client connects again for ever, with growing waits.
    """
    source = async_source(token)
    inner = client.connect(url, client_name=client_name, token=source, timeout=timeout, wait=wait, clock=clock)
    thread = LoopThread()
    try:
        thread.enter(inner)
    except BaseException:
        thread.end()
        raise
    return Client(thread, inner)


class Client:
    """A connection to a server; made by `connect`. All methods may be called from any thread.

    Attributes:
        stores: create, drop and list stores.
        accounts: log in, and say who may do what.
        url: where the server is.
    """

    def __init__(self, thread: LoopThread, inner: client.Client) -> None:
        self.url = inner.url
        self.stores = Stores(thread, inner.stores)
        self.accounts = Accounts(thread, inner.accounts)
        self._thread = thread
        self._inner = inner

    # --- closing ---

    def close(self) -> None:
        """Close the replicas and the connection, and end everything that waits for them with `ClientClosed`."""
        self._thread.end()

    def __enter__(self) -> "Client":
        if self.state is ConnectionState.CLOSED:
            raise ClientClosed(hint="make another one with connect()")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- writing ---

    def add(
        self,
        store: str,
        value: object,
        key: str | None = None,
        *,
        store_id: str | None = None,
        timeout: float | None = None,
    ) -> Written:
        """Add a record and wait until the server has stored it.

        While the server cannot be reached it waits. A write that was sent and not answered is sent again, unchanged,
        and has one effect. Several threads may write at once; what they write travels together.

        Args:
            store: the name of the store.
            value: any JSON-able object, or `Json` for exact text.
            key: by default one that sorts by time; it is in the result.
            store_id: refuse if the store of this name is another one.
            timeout: seconds to wait at most.

        Raises:
            WriteRefused: the key was used for another value, the value breaks a rule, or the like.
            TimeoutError: it took longer; it is not known whether it was stored. To make sure, add it again with the
                same key and value: that has one effect.
            AuthRequired: somebody has to log in first, and no token function can bring another token. The text says so
                if it is not known whether it was stored.
            ClientClosed: the client was closed first; it is not known whether it was stored.
        """
        return self._thread.run(self._inner.add(store, value, key, store_id=store_id), timeout)

    def delete(self, store: str, key: str, *, store_id: str | None = None, timeout: float | None = None) -> Written:
        """Delete a record. One that is deleted already is `dup`. Otherwise as `add`."""
        return self._thread.run(self._inner.delete(store, key, store_id=store_id), timeout)

    def write(
        self,
        store: str,
        ops: Iterable[Add | Delete],
        *,
        atomic: bool = True,
        store_id: str | None = None,
        timeout: float | None = None,
    ) -> Written:
        """Make several changes to one store, all or none. Otherwise as `add`.

        Args:
            atomic: with False each op is decided alone; the result may be `partial`, and its `ops` say of each what
                became of it.
        """
        return self._thread.run(self._inner.write(store, list(ops), atomic=atomic, store_id=store_id), timeout)

    # --- reading ---

    def subscribe(
        self,
        store: str,
        after: str = START,
        *,
        known: str | None = None,
        buffer_bytes_max: int = client.BUFFER_BYTES_MAX,
    ) -> Subscription:
        """Follow the changes of a store: `for change in client.subscribe("notes")`.

        Args:
            store: the name of the store.
            after: `start`, `now`, or the `cursor` of a change or of an earlier subscription.
            known: the `lineage` that was saved with the cursor.
            buffer_bytes_max: how much is kept while the application does not read.

        Raises:
            Misuse: this client is subscribed to the store already.
        """
        inner = self._inner.subscribe
        return self._thread.call(
            lambda: Subscription(self._thread, inner(store, after, known=known, buffer_bytes_max=buffer_bytes_max))
        )

    def replica(
        self,
        store: str,
        path: str | os.PathLike[str] | None = None,
        *,
        prefix: str = "",
        filter: Filter | None = None,
        create: bool = True,
        outbox_bytes_max: int = client.OUTBOX_BYTES_MAX,
        restores: Restores = "all",
    ) -> Replica:
        """Open a replica of a store: its records on this machine, and an outbox for what is written offline.

        Args:
            store: the name of the store.
            path: an SQLite file, made if it is not there; one file per replica. Without one it is in memory, and ends
                with the program.
            prefix: hold the records with these keys only. The server sends the others too, and they are left out here.
            filter: hold what this selects only; the server sends nothing else, and proves that it is all. The file
                remembers it. Opened with another one, what is missing is fetched and what does not fit is dropped.
            create: create the store if the server does not have it, and this replica has never met it.
            outbox_bytes_max: how much may wait to be sent; a write beyond that raises `OutboxFull`.
            restores: what is put back when the server was restored from an older state and has lost it: `all` records
                that are held here, whoever wrote them, or our `own` writes only.

        Raises:
            LocalFileError: the file cannot be used; which of them says why.
            Misuse: this client follows the store already.
        """
        opening = self._inner.replica(
            store,
            path,
            prefix=prefix,
            filter=filter,
            create=create,
            outbox_bytes_max=outbox_bytes_max,
            restores=restores,
        )
        return Replica(self._thread, self._thread.run(opening))

    def get(self, store: str, key: str, *, at: Position | None = None) -> Record | None:
        """Return a live record, or None.

        Args:
            at: a position of the past, at which it has to have lived: a cursor, a seq, or a moment with a time zone.

        Raises:
            RequestRefused: there is no such store, or the past is not kept that long (`history_gone`).
            ConnectionFailed: the server cannot be reached.
        """
        return self._thread.run(self._inner.get(store, key, at=at))

    def records(self, store: str, *, at: Position | None = None) -> Records:
        """Walk over the live records of a store, in the order of their seqs, as they were at one position.

        Args:
            at: which position, as in `get`; by default that of now.
        """
        return Records(self._thread, self._inner.records(store, at=at))

    def diff(self, store: str, since: Position, to: Position | None = None) -> Diff:
        """Walk over what changed in a store between two positions, as `syncline.Client.diff` does."""
        return Diff(self._thread, self._inner.diff(store, since, to))

    def find(
        self, store: str, index: str | None = None, *, order: Order = "asc", **conditions: Unpack[Conditions]
    ) -> Found:
        """Find live records by an index. Arguments and errors are those of `syncline.Client.find`."""
        return Found(self._thread, self._inner.find(store, index, order=order, **conditions))

    def count(self, store: str, index: str | None = None, **conditions: Unpack[Conditions]) -> int:
        """Return how many records `find` would find, each counted once. Arguments and errors are those of `find`."""
        return self._thread.run(self._inner.count(store, index, **conditions))

    def follow(self, store: str, key: str, index: str) -> list[Record]:
        """Return the records that one refers to, as `syncline.Client.follow` does."""
        return self._thread.run(self._inner.follow(store, key, index))

    def referrers(self, store: str, key: str, index: str, *, order: Order = "asc") -> Found:
        """Find the records that refer to one, as `syncline.Client.referrers` does."""
        return Found(self._thread, self._inner.referrers(store, key, index, order=order))

    # --- sharing ---

    def share(
        self,
        store: str,
        to: str,
        role: Role = "reader",
        *,
        key_prefix: str | None = None,
        read_prefix: str | None = None,
        read_where: ReadWhere | None = None,
        add_only: bool = False,
        own_only: bool = False,
        records_max: int | None = None,
        bytes_max: int | None = None,
        writes_per_s: float | None = None,
        authors: bool = True,
        expires: Expiry = None,
    ) -> Grant:
        """Let somebody use a store. Arguments and errors are those of `syncline.Client.share`."""
        sharing = self._inner.share(
            store,
            to,
            role,
            key_prefix=key_prefix,
            read_prefix=read_prefix,
            read_where=read_where,
            add_only=add_only,
            own_only=own_only,
            records_max=records_max,
            bytes_max=bytes_max,
            writes_per_s=writes_per_s,
            authors=authors,
            expires=expires,
        )
        return self._thread.run(sharing)

    def unshare(self, store: str, to: str) -> list[Grant]:
        """Take back what was granted to somebody for a store. Returns what that was: nothing, or one grant."""
        return self._thread.run(self._inner.unshare(store, to))

    def shared(self, store: str) -> list[Grant]:
        """Return who may use a store, and how."""
        return self._thread.run(self._inner.shared(store))

    def invite(
        self,
        store: str,
        role: Role = "reader",
        *,
        key_prefix: str | None = None,
        read_prefix: str | None = None,
        read_where: ReadWhere | None = None,
        add_only: bool = False,
        own_only: bool = False,
        records_max: int | None = None,
        bytes_max: int | None = None,
        writes_per_s: float | None = None,
        authors: bool = True,
        expires: Expiry = None,
        uses_max: int | None = None,
    ) -> NewInvitation:
        """Make an invitation to a store. Arguments and errors are those of `syncline.Client.invite`."""
        inviting = self._inner.invite(
            store,
            role,
            key_prefix=key_prefix,
            read_prefix=read_prefix,
            read_where=read_where,
            add_only=add_only,
            own_only=own_only,
            records_max=records_max,
            bytes_max=bytes_max,
            writes_per_s=writes_per_s,
            authors=authors,
            expires=expires,
            uses_max=uses_max,
        )
        return self._thread.run(inviting)

    def accept(self, code: str) -> Accepted:
        """Accept an invitation as who we are; `accounts.invitations.accept` can make an account with it."""
        return self._thread.run(self._inner.accept(code))

    # --- what the connection does ---

    @property
    def status(self) -> Status:
        """The connection at this moment."""
        return self._inner.status

    @property
    def state(self) -> ConnectionState:
        """Where the connection stands."""
        return self._inner.state

    def statuses(self) -> Statuses[Status]:
        """Iterate over the status: what it is now, and each time that it changes, up to CLOSED.

        Short-lived ones may be left out.
        """
        return Statuses(self._thread, self._inner.statuses, lambda: self._inner.status)

    def on_status(self, callback: Callable[[Status], None]) -> Callable[[], None]:
        """Call `callback` with the status at once, and each time that it changes. Returns what ends that.

        It is called in the client's thread, also the first time, and misses none. It must not wait, and holds up
        everything else; what it raises later goes to the log of asyncio.
        """
        stop = self._thread.call(lambda: self._inner.on_status(callback))
        return lambda: self._thread.call(stop)

    def authenticate(self, token: TokenSource | None = None) -> None:
        """Try again in NEEDS_AUTH, after somebody has logged in. Replicas and subscriptions go on where they were.

        Args:
            token: another token, or another function that gives one. By default the one there is.

        In LIVE another token is shown to the server at once; if it is of another user, the client connects again. In
        other states it is for the next attempt to connect. It is for the next request over HTTP in any.
        """
        source = async_source(token)
        self._thread.call(lambda: self._inner.authenticate(source))

    @property
    def user(self) -> str | None:
        """Who the server took us for last; None for nobody."""
        return self._inner.user

    @property
    def welcome(self) -> messages.Welcome | None:
        """What the server said of itself when it was reached last."""
        return self._inner.welcome

    @property
    def limits(self) -> Limits:
        """The bounds that the server announced, or those of this version of the protocol."""
        return self._inner.limits

    @property
    def unanswered_writes(self) -> int:
        """How many writes the server has not answered yet."""
        return self._inner.unanswered_writes
