"""The client: what an application holds in its hands.

    async with syncline.connect() as client:
        await client.add("notes", {"text": "hi"})
        async for change in client.subscribe("notes"):
            print(change.key, change.value)

A facade: `connection` keeps the socket up, `write` has the queue of writes, `intake` and `subscription` what is read,
`http` the requests that need no socket. When the client is closed no task of it is left, and whoever waits for it
gets an error.
"""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable, Iterable
from functools import partial
from types import TracebackType
from typing import Unpack
from weakref import WeakSet

from syncline_protocol import START, Limits, messages
from syncline_protocol.filter import Filter, check_filter
from syncline_protocol.values import check_store_name

from .accounts import Accepted, Accounts, Grant, GrantLimits, NewInvitation, ReadWhere, Role
from .accounts.expiry import Expiry
from .address import DEFAULT_URL, URL_VARIABLE, parse_address
from .clock import Clock
from .connection import Connection
from .credentials import Credentials, TokenSource
from .errors import Misuse, SynclineError
from .find import Conditions, Found, Order, count, find, follow, referrers
from .http import HttpApi
from .intake import Intake
from .key import KeyMaker
from .past import Diff, Position
from .record import Record, Records
from .replica.replica import Replica, Restores, open_replica
from .status import ConnectionState, Status
from .stores import Stores
from .subscription import Subscription
from .write import Add, AwaitedWrite, Delete, Written, check_write

__all__ = ["Client", "connect"]

#: What one subscription buffers while the application does not read. It holds some of the largest batches.
BUFFER_BYTES_MAX = 8 * 1024 * 1024

#: The outbox is held in memory too. This is room for a million small records, or weeks of a person's work.
OUTBOX_BYTES_MAX = 256 * 1024 * 1024


def connect(
    url: str | None = None,
    *,
    client_name: str = "syncline-py",
    token: TokenSource | None = None,
    timeout: float = 10.0,
    wait: bool = True,
    clock: Clock | None = None,
) -> "Client":
    """Return a client, to be opened with `async with`.

    Args:
        url: where the server is, with http, https, ws or wss, and the prefix below which it is mounted, if it is. By
            default the environment variable SYNCLINE_URL, else http://127.0.0.1:7171.
        client_name: what the server's logs and console call this client.
        token: what the server, or a proxy before it, knows the user by. A function is asked for one before every
            attempt and every request over HTTP, and once more if what it gave is refused. It raises `AuthRequired` if
            somebody has to log in first; anything else that it raises is followed by another attempt.
        timeout: how long to wait for the first connection, in seconds.
        wait: open only once the server has answered, and raise `ConnectionFailed` if the first attempt fails. Without
            it the client opens at once, and connects when it can.
        clock: time and chance; for tests.

    After the first connection, or at once without `wait`, the client connects again for ever, with growing waits.
    """
    return Client(
        url or os.environ.get(URL_VARIABLE) or DEFAULT_URL,
        client_name=client_name,
        token=token,
        timeout=timeout,
        wait=wait,
        clock=clock or Clock(),
    )


class Client:
    """A connection to a server; made by `connect`.

    Attributes:
        stores: create, drop and list stores.
        accounts: log in, and say who may do what.
        url: where the server is.
    """

    def __init__(
        self, url: str, *, client_name: str, token: TokenSource | None, timeout: float, wait: bool, clock: Clock
    ) -> None:
        address = parse_address(url)
        self.url = address.url
        self._timeout_s = timeout
        self._waits = wait
        self._clock = clock
        self._new_key = KeyMaker(clock)
        # One that was closed goes by itself; the others are held by the connection that they follow.
        self._replicas: WeakSet[Replica] = WeakSet()
        self._opening: set[str] = set()
        credentials = Credentials(address.url, token)
        self._connection = Connection(address, client_name=client_name, credentials=credentials, clock=clock)
        self._http = HttpApi(address, credentials=credentials, user_agent=client_name)
        self.stores = Stores(self._http)
        self.accounts = Accounts(self._http, clock, self._connection.take_token)

    # --- opening and closing ---

    async def __aenter__(self) -> "Client":
        await self._connection.open(self._timeout_s if self._waits else None)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the replicas and the connection, and end everything that waits for them with `ClientClosed`."""
        for replica in list(self._replicas):
            await replica.aclose()
        await self._connection.close()
        await self._http.aclose()

    # --- writing ---

    async def add(self, store: str, value: object, key: str | None = None, *, store_id: str | None = None) -> Written:
        """Add a record and wait until the server has stored it.

        Many may be under way at once; those that are asked for together travel together. While the server cannot be
        reached they wait. A write that was sent and not answered is sent again, unchanged, and has one effect.

        Args:
            store: the name of the store.
            value: any JSON-able object, or `Json` for exact text.
            key: by default one that sorts by time; it is in the result.
            store_id: refuse if the store of this name is another one.

        Raises:
            WriteRefused: the key was used for another value, the value breaks a rule, or the like.
            AuthRequired: somebody has to log in first, and no token function can bring another token. The text says so
                if it is not known whether it was stored.
            ClientClosed: the client was closed first; it is not known whether it was stored.
        """
        return await self._write(store, [Add(self._new_key() if key is None else key, value)], None, store_id)

    async def delete(self, store: str, key: str, *, store_id: str | None = None) -> Written:
        """Delete a record. One that is deleted already is `dup`. Otherwise as `add`."""
        return await self._write(store, [Delete(key)], None, store_id)

    async def write(
        self, store: str, ops: Iterable[Add | Delete], *, atomic: bool = True, store_id: str | None = None
    ) -> Written:
        """Make several changes to one store, all or none. Otherwise as `add`.

        Args:
            atomic: with False each op is decided alone; the result may be `partial`, and its `ops` say of each what
                became of it.
        """
        return await self._write(store, list(ops), atomic, store_id)

    async def _write(self, store: str, ops: list[Add | Delete], atomic: bool | None, store_id: str | None) -> Written:
        self._connection.require_open()
        message, size = check_write(store, ops, self.limits, atomic=atomic, store_id=store_id)
        if (error := self._connection.stalled_by) is not None:
            raise error
        write = AwaitedWrite(message, size, asyncio.get_running_loop().create_future())
        self._connection.put(write)
        return await write.settled

    # --- reading ---

    def subscribe(
        self, store: str, after: str = START, *, known: str | None = None, buffer_bytes_max: int = BUFFER_BYTES_MAX
    ) -> Subscription:
        """Follow the changes of a store.

        Args:
            store: the name of the store.
            after: `start`, `now`, or the `cursor` of a change or of an earlier subscription.
            known: the `lineage` that was saved with the cursor.
            buffer_bytes_max: how much is kept while the application does not read.
        """
        self._connection.require_open()
        if store in self._opening or self._connection.follows(store):
            raise Misuse(
                f"this client is subscribed to {store!r} already", hint="read from that, or open another client"
            )
        intake = Intake(store, after, known, buffer_bytes_max, self._connection.wake)
        self._connection.follow(intake)
        return Subscription(intake, after)

    async def replica(
        self,
        store: str,
        path: str | os.PathLike[str] | None = None,
        *,
        prefix: str = "",
        filter: Filter | None = None,
        create: bool = True,
        outbox_bytes_max: int = OUTBOX_BYTES_MAX,
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
        self._connection.require_not_closed()
        check_store_name(store)
        if store in self._opening or self._connection.follows(store):
            raise Misuse(f"this client follows {store!r} already", hint="use that, or open another client")
        self._opening.add(store)
        try:
            replica = await open_replica(
                self._connection,
                self._clock,
                store,
                None if path is None else os.fspath(path),
                prefix=prefix,
                filter=None if filter is None else check_filter(filter),
                outbox_bytes_max=outbox_bytes_max,
                create=partial(self._create_later, store) if create else None,
                restores=restores,
            )
        finally:
            self._opening.discard(store)
        self._replicas.add(replica)
        if self._connection.is_closed:
            await replica.aclose()
            self._connection.require_not_closed()
        return replica

    def _create_later(self, store: str) -> "asyncio.Task[object]":
        return asyncio.get_running_loop().create_task(self._try_to_create(store), name="syncline-client")

    async def _try_to_create(self, store: str) -> None:
        # If it does not work the subscription is refused again, and says so; then it is tried again.
        with contextlib.suppress(SynclineError):
            await self._http.create_store(store)

    async def get(self, store: str, key: str, *, at: Position | None = None) -> Record | None:
        """Return a live record, or None.

        Args:
            at: a position of the past, at which it has to have lived: a cursor, a seq, or a moment with a time zone.

        Raises:
            RequestRefused: there is no such store, or the past is not kept that long (`history_gone`).
        """
        return await self._http.get(store, key, at)

    def records(self, store: str, *, at: Position | None = None) -> Records:
        """Walk over the live records of a store, in the order of their seqs, as they were at one position.

        Args:
            at: which position, as in `get`; by default that of now.
        """
        return self._http.records(store, at)

    def diff(self, store: str, since: Position, to: Position | None = None) -> Diff:
        """Walk over what changed in a store between two positions, as in `get`; by default up to now.

        Records that were added and live at the later one come as ADDs, those that lived at the earlier one and were
        deleted as DELETEs; what came and went in between does not come.
        """
        return self._http.diff(store, since, to)

    def find(
        self, store: str, index: str | None = None, *, order: Order = "asc", **conditions: Unpack[Conditions]
    ) -> Found:
        """Find live records by an index: `client.find("books", "year", ge=1950, lt=1960)`.

        Args:
            store: the name of the store.
            index: the name of an index; records come in the order of what it has of them. Without one they come in the
                order of their keys.
            order: `asc` or `desc`.
            conditions: `eq`, or `ge`, `gt`, `le`, `lt`, or `prefix`: what they have in the index; `key_prefix`: what
                their keys begin with. Without any all of the index come.

        Raises:
            Misuse: these conditions make no sense together.
            RequestRefused: when it is iterated: there is no such store or index, or the index is not complete yet
                (`index_building`).
        """
        return Found(self._http, find(store, index, order, conditions))

    async def count(self, store: str, index: str | None = None, **conditions: Unpack[Conditions]) -> int:
        """Return how many records `find` would find, each counted once. Arguments and errors are those of `find`."""
        return await count(self._http, find(store, index, "asc", conditions))

    async def follow(self, store: str, key: str, index: str) -> list[Record]:
        """Return the records that one refers to: their keys stand in its value where the index looks.

        What is not there is left out.

        Raises:
            RequestRefused: there is no such store, index or record.
        """
        return await follow(self._http, store, key, index)

    def referrers(self, store: str, key: str, index: str, *, order: Order = "asc") -> Found:
        """Find the records that refer to one: its key stands in their values where the index looks.

        Errors are those of `find`.
        """
        return Found(self._http, referrers(store, key, index, order))

    # --- sharing ---

    async def share(
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
        """Let somebody use a store. What was granted to him for it before is replaced.

        Args:
            store: a name, or the beginning of names with `*` at its end.
            to: the name of a user, or `user:NAME`, `group:NAME` or `everyone`.
            role: `reader`, `writer` or `owner`.
            key_prefix: he may write keys that begin so only.
            read_prefix: he sees records whose keys begin so only.
            read_where: he sees records that an index finds so only, as `ReadWhere("room", "r1")`; for readers only.
            add_only: he may delete nothing.
            own_only: he may delete what he added himself only.
            records_max: how many live records may be his.
            bytes_max: how many bytes these may have.
            writes_per_s: how many writes he may make in a second.
            authors: whether he sees who made a change.
            expires: when it ends: a `datetime` with a time zone, or a `timedelta` from now on.

        Raises:
            Forbidden: the store is not ours to share.
        """
        bounds = (records_max, bytes_max, writes_per_s)
        limits = GrantLimits(key_prefix, read_prefix, add_only, own_only, *bounds, read_where)
        return await self.accounts.grants.add(to, store, role, limits=limits, authors=authors, expires=expires)

    async def unshare(self, store: str, to: str) -> list[Grant]:
        """Take back what was granted to somebody for a store. Returns what that was: nothing, or one grant."""
        found = await self.accounts.grants.list(store, to=to)
        return [await self.accounts.grants.remove(grant.id) for grant in found if grant.store == store]

    async def shared(self, store: str) -> list[Grant]:
        """Return who may use a store, and how."""
        return await self.accounts.grants.list(store)

    async def invite(
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
        """Make an invitation to a store: whoever opens its `link`, or accepts its `code`, gets what `share` would give.

        Args:
            uses_max: how many may accept it. The others are those of `share`.

        Raises:
            Forbidden: the store is not ours to share.
        """
        bounds = (records_max, bytes_max, writes_per_s)
        limits = GrantLimits(key_prefix, read_prefix, add_only, own_only, *bounds, read_where)
        return await self.accounts.invitations.create(
            store, role, limits=limits, authors=authors, expires=expires, uses_max=uses_max
        )

    async def accept(self, code: str) -> Accepted:
        """Accept an invitation as who we are; `accounts.invitations.accept` can make an account with it."""
        return await self.accounts.invitations.accept(code)

    # --- what the connection does ---

    @property
    def status(self) -> Status:
        """The connection at this moment."""
        return self._connection.status

    @property
    def state(self) -> ConnectionState:
        """Where the connection stands."""
        return self._connection.status.state

    def statuses(self) -> AsyncIterator[Status]:
        """Iterate over the status: what it is now, and each time that it changes, up to CLOSED.

        Short-lived ones may be left out.
        """
        return self._connection.statuses()

    def on_status(self, callback: Callable[[Status], None]) -> Callable[[], None]:
        """Call `callback` with the status at once, and each time that it changes. Returns what ends that.

        It runs in the event loop and misses none. What it raises later goes to the loop's exception handler.
        """
        callback(self.status)
        return self._connection.on_status(callback)

    def authenticate(self, token: TokenSource | None = None) -> None:
        """Try again in NEEDS_AUTH, after somebody has logged in. Replicas and subscriptions go on where they were.

        Args:
            token: another token, or another function that gives one. By default the one there is.

        In LIVE another token is shown to the server at once; if it is of another user, the client connects again. In
        other states it is for the next attempt to connect. It is for the next request over HTTP in any.
        """
        self._connection.authenticate(token)

    @property
    def user(self) -> str | None:
        """Who the server took us for last; None for nobody."""
        return self._connection.user

    @property
    def welcome(self) -> messages.Welcome | None:
        """What the server said of itself when it was reached last."""
        return self._connection.welcome

    @property
    def limits(self) -> Limits:
        """The bounds that the server announced, or those of this version of the protocol."""
        return self._connection.limits

    @property
    def unanswered_writes(self) -> int:
        """How many writes the server has not answered yet."""
        return self._connection.writes.unanswered
