"""Keeps a connection up: connects, says HELLO, runs the link, waits, connects again.

Owns the status, and what has to outlive one connection: the queue of writes and the followers of stores. It
gives up only when it is closed, or when the server says that this client may not come back; then everybody who waits
gets the error. When credentials are refused it makes no attempts until `authenticate`. If no token function could
bring others, all but replicas, which wait, get `AuthRequired`. `open` starts the one task of it, `close` ends it.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from importlib.metadata import version

from syncline_protocol import CLOSE_CODES, DEFAULT_LIMITS, ClientSession, Limits, may_reconnect, messages

from .address import Address
from .backoff import Backoff
from .clock import Clock
from .credentials import CREDENTIAL_CLOSE_CODES, Credentials, TokenSource
from .errors import AuthRequired, ClientClosed, ConnectionFailed, ConnectionForbidden, Misuse, SynclineError
from .follower import Follower, Phase
from .link import Ending, Link, LinkObserver
from .status import TRANSITIONS, ConnectionState, Status
from .wire import open_wire
from .write import PendingWrite, WriteQueue

__all__ = ["Connection"]

#: What this client can take besides what every client can (PROTOCOL 13.3).
_FEATURES = ("bitmaps",)

#: One attempt to connect may take this long, WELCOME and the question for a token not counted.
_ATTEMPT_TIMEOUT_S = 10.0

#: A connection that lasted so long is progress, even if nothing was asked of it. It is the longest wait of the backoff.
_LASTED_S = 30.0


class Connection:
    """The connection of a client to its server, over all reconnects.

    Attributes:
        status: where it stands now.
        welcome: what the server said last, or None.
        user: who the server took us for last; None for nobody.
        writes: the writes that were not answered.
    """

    def __init__(self, address: Address, *, client_name: str, credentials: Credentials, clock: Clock) -> None:
        self.status = Status(ConnectionState.CONNECTING)
        self.welcome: messages.Welcome | None = None
        self.user: str | None = None
        self.writes = WriteQueue()
        self._address = address
        self._client = messages.ClientInfo(clock.random_bytes(8).hex(), client_name, version("syncline"))
        self._credentials = credentials
        self._clock = clock
        self._backoff = Backoff(clock.random)
        self._refusals = Backoff(clock.random)
        self._authenticated = asyncio.Event()
        # Another token was given since that of the connection, or of the attempt, was asked for.
        self._is_superseded = False
        self._followers: list[Follower] = []
        self._link: Link | None = None
        self._running: asyncio.Task[None] | None = None
        self._first_welcome: asyncio.Future[None] | None = None
        self._gives_up_early = False
        self._welcomed_at: float | None = None
        self._ended_by: SynclineError | None = None
        self._status_changed = asyncio.Event()
        self._status_listeners: dict[object, Callable[[Status], None]] = {}
        self._observer = LinkObserver(
            self._welcomed, self._renewed, self._backoff.progressed, self._backoff.asked_to_wait
        )

    # --- for the client ---

    @property
    def limits(self) -> Limits:
        """The bounds that the server announced, or those of this version of the protocol."""
        return self.welcome.limits if self.welcome is not None else DEFAULT_LIMITS

    async def open(self, timeout_s: float | None) -> None:
        """Start; with a timeout, wait for the first WELCOME.

        Raises:
            ConnectionFailed: the first attempt failed, or took too long. Nothing is left running.
        """
        if self._running is not None or self._ended_by is not None:
            raise Misuse("a client is opened once", hint="make another one with connect()")
        self._gives_up_early = timeout_s is not None
        self._first_welcome = asyncio.get_running_loop().create_future()
        self._running = asyncio.create_task(self._run(), name="syncline-client")
        if timeout_s is None:
            return
        try:
            async with asyncio.timeout(timeout_s):
                await asyncio.wait([self._first_welcome, self._running], return_when=asyncio.FIRST_COMPLETED)
        except TimeoutError:
            what, hint = "no WELCOME", "check host, port and firewall"
            if self._credentials.is_asking:
                what, hint = "no answer of the token function", "is what it asks for a token reachable?"
            self._finish(ConnectionFailed(self._address.url, f"{what} within {timeout_s:g} s", hint=hint))
        finally:
            if not self._first_welcome.done():
                await self.close()
        if self._ended_by is not None:
            raise self._ended_by

    async def close(self) -> None:
        """End the connection; whoever still waits gets `ClientClosed`."""
        self._finish(ClientClosed())
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait([self._running])

    def require_open(self) -> None:
        """Raise what ended the connection, if it has ended."""
        self.require_not_closed()
        if self._ended_by is not None:
            raise self._ended_by

    @property
    def is_closed(self) -> bool:
        """Whether the client was closed."""
        return isinstance(self._ended_by, ClientClosed)

    def require_not_closed(self) -> None:
        """Raise if the client is not open, or was closed; that the server forbids to come back is no reason."""
        if isinstance(self._ended_by, ClientClosed):
            raise self._ended_by
        if self._running is None:
            raise Misuse("the client is not open", hint="use it with `async with`")

    @property
    def stalled_by(self) -> AuthRequired | None:
        """What to say to those who would wait until somebody has logged in, if nothing else can bring another token."""
        if self.status.state is not ConnectionState.NEEDS_AUTH or self._authenticated.is_set():
            return None
        return None if self._credentials.can_renew_itself else self._login_needed("")

    def authenticate(self, token: TokenSource | None) -> None:
        """Take another token, or none, and leave NEEDS_AUTH. A server that knows us already is shown the new one."""
        self.require_open()
        if token is not None:
            self._credentials.replace(token)
            self._is_superseded = True
        self._authenticated.set()
        for follower in self._followers:
            follower.stall(None)
        if token is not None and self._link is not None:
            self._link.renew()

    def take_token(self, token: str | None) -> None:
        """Show this token from now on, or none, whether the connection is open or not."""
        self._credentials.replace(token)
        if token is not None and self._running is not None and self._ended_by is None:
            self.authenticate(token)

    def put(self, write: PendingWrite) -> None:
        """Take a write, to be sent when that is possible."""
        self.writes.put(write)
        self.wake()

    def follows(self, store: str) -> bool:
        """Whether there is a subscription to this store that was not closed."""
        return any(i.store == store and i.phase is not Phase.OVER and not i.is_closing for i in self._followers)

    def follow(self, follower: Follower) -> None:
        """Take a subscription, to be opened when that is possible; it fails if the connection has ended for good."""
        if self._ended_by is not None:
            follower.fail(self._ended_by)
        self._followers[:] = [each for each in self._followers if each.phase is not Phase.OVER]
        self._followers.append(follower)
        follower.stall(self.stalled_by)
        self.wake()

    def wake(self) -> None:
        """Something may be due to be sent."""
        if self._link is not None:
            self._link.wake()

    async def statuses(self) -> AsyncIterator[Status]:
        """Yield the status now and each time that it changes, up to CLOSED."""
        while True:
            status, changed = self.status, self._status_changed
            yield status
            if status.state is ConnectionState.CLOSED:
                return
            await changed.wait()

    def on_status(self, listener: Callable[[Status], None]) -> Callable[[], None]:
        """Call `listener` with each status from now on. Returns what ends that.

        What it raises is handed to the exception handler of the event loop.
        """
        ticket = object()
        self._status_listeners[ticket] = listener

        def stop() -> None:
            self._status_listeners.pop(ticket, None)

        return stop

    # --- the loop ---

    async def _run(self) -> None:
        try:
            while True:
                error = await self._attempt()
                if self._ended_by is not None:
                    # It was closed; a task group that ends by an error takes in a cancellation that comes meanwhile.
                    return
                if self._is_final(error):
                    self._finish(error)
                    return
                if isinstance(error, AuthRequired):
                    await self._wait_for_credentials(error)
                else:
                    await self._rest(error)
        except Exception as error:
            # A mistake of this package. Those who wait have to learn of it, or they would wait for ever.
            failure = ClientClosed(f"the client failed: {error!r}", hint="please report this with its traceback")
            failure.__cause__ = error
            self._finish(failure)

    async def _attempt(self) -> ConnectionFailed:
        """Connect and use the connection for as long as it lasts; return what ended it.

        A token that is refused may have been a good one before the machine slept, or the application hands it out for
        too long: if there is another one, that is tried at once. So it is when the server ends a connection because its
        token has expired; but with a server that does that at once each time, once only.
        """
        self._welcomed_at = None
        self._authenticated.clear()
        self._is_superseded = False
        try:
            token = await self._credentials.ask()
            error = await self._connect(token)
            has_renewed = False
            while isinstance(error, AuthRequired) and (self._has_lasted or not has_renewed):
                other = await self._credentials.renew(token)
                if other is None:
                    break
                if self.status.state is ConnectionState.LIVE:
                    self._set(Status(ConnectionState.CONNECTING, error.reason, last_error=error))
                token, has_renewed = other, True
                error = await self._connect(token)
        except ConnectionFailed as failure:
            return failure
        return error

    @property
    def _has_lasted(self) -> bool:
        """Whether the connection was up for long enough to count as progress, even if nothing was asked of it."""
        return self._welcomed_at is not None and self._clock.now() - self._welcomed_at >= _LASTED_S

    async def _connect(self, token: str | None) -> ConnectionFailed:
        self._welcomed_at = None
        try:
            wire = await open_wire(
                self._address,
                token=token,
                user_agent=f"{self._client.name}/{self._client.version}",
                timeout_s=_ATTEMPT_TIMEOUT_S,
            )
        except ConnectionFailed as error:
            return error
        hello = messages.Hello(self._client, token, _FEATURES)
        session = ClientSession(hello, now=self._clock.now())
        self._link = Link(
            wire, session, self._clock, self.writes, self._followers, self._observer, token, self._credentials
        )
        try:
            return self._explain(await self._link.run())
        finally:
            self._link = None

    def _welcomed(self, welcome: messages.Welcome) -> None:
        self.welcome = welcome
        self._welcomed_at = self._clock.now()
        self._refusals.progressed()
        self._set_live(welcome.user, welcome.expires_ms)
        if self._is_superseded and self._link is not None:
            self._link.renew()
        if self._first_welcome is not None and not self._first_welcome.done():
            self._first_welcome.set_result(None)

    def _renewed(self, message: messages.Authenticated) -> None:
        self._set_live(message.user, message.expires_ms)

    def _set_live(self, user: str | None, expires_ms: int | None) -> None:
        assert self.welcome is not None
        self.user = user
        self._set(
            Status(
                ConnectionState.LIVE,
                f"connected to {self.welcome.server}" + (f" as {user}" if user is not None else ""),
                last_error=self.status.last_error,
                user=user,
                expires_at=None if expires_ms is None else expires_ms / 1000,
            )
        )

    def _explain(self, ending: Ending) -> ConnectionFailed:
        """Turn a close code into the error that says it."""
        rule = CLOSE_CODES.get(ending.close_code)
        name, meaning = (rule.name, rule.meaning) if rule else ("unknown", "the connection was closed")
        reason = f"{ending.reason or meaning} ({name}, {ending.close_code})"
        if ending.close_code in CREDENTIAL_CLOSE_CODES:
            return AuthRequired(reason, url=self._address.url, close_code=ending.close_code)
        if may_reconnect(ending.close_code):
            return ConnectionFailed(self._address.url, reason, close_code=ending.close_code)
        return ConnectionForbidden(self._address.url, reason, close_code=ending.close_code)

    def _is_final(self, error: ConnectionFailed) -> bool:
        """Whether the client gives up.

        Close codes decide by their range. An HTTP status does so only for a client that was never welcomed: later it
        is more likely a proxy in the middle of a change than a wrong URL. Credentials can be given later, unless
        somebody waits for the first connection.
        """
        if isinstance(error, AuthRequired):
            return self._gives_up_early and self.welcome is None
        if isinstance(error, ConnectionForbidden):
            return error.close_code is not None or self.welcome is None
        return self._gives_up_early and self.welcome is None

    async def _wait_for_credentials(self, error: AuthRequired) -> None:
        """Make no attempt before `authenticate` was called.

        A program that calls it at each refusal must not hammer the server. So only the first refusal after a WELCOME
        is followed at once; the next ones are spread as attempts are that fail. A person who types is slower.
        """
        is_first = self._refusals.attempts == 0
        wait_s = self._refusals.next_wait_s()
        due_at = self._clock.now() + (0.0 if is_first else wait_s)
        if not self._authenticated.is_set():
            self._set(
                Status(
                    ConnectionState.NEEDS_AUTH,
                    f"{error.reason}; call authenticate() when there is a valid token",
                    attempt=self._attempts,
                    close_code=error.close_code,
                    last_error=error,
                )
            )
            self._stall()
            await self._authenticated.wait()
            self._set(
                Status(
                    ConnectionState.CONNECTING, "authenticate() was called", attempt=self._attempts, last_error=error
                )
            )
        if due_at > self._clock.now():
            await self._clock.sleep(due_at - self._clock.now())

    def _stall(self) -> None:
        """Fail those who wait, unless somebody has logged in meanwhile or a function may know another token."""
        if (error := self.stalled_by) is None:
            return
        again = "; it is not known whether this write was stored: send it again then, with the same key and value"
        self.writes.fail_awaited(error, self._login_needed(again))
        for follower in self._followers:
            follower.stall(error)

    def _login_needed(self, more: str) -> AuthRequired:
        error = self.status.last_error
        assert isinstance(error, AuthRequired)
        hint = f"log in, and call authenticate() with the new token, or give a token function{more}"
        return AuthRequired(error.reason, url=error.url, close_code=error.close_code, hint=hint)

    async def _rest(self, error: ConnectionFailed) -> None:
        """Wait before the next attempt."""
        if self._has_lasted:
            self._backoff.progressed()
        wait_s = self._backoff.next_wait_s()
        self._set(
            Status(
                ConnectionState.OFFLINE,
                error.reason,
                attempt=self._attempts,
                retry_at=self._clock.time() + wait_s,
                close_code=error.close_code,
                last_error=error,
            )
        )
        await self._clock.sleep(wait_s)
        self._set(Status(ConnectionState.CONNECTING, error.reason, attempt=self._attempts, last_error=error))

    @property
    def _attempts(self) -> int:
        """How many attempts followed each other without progress."""
        return self._backoff.attempts + self._refusals.attempts

    def _finish(self, error: SynclineError) -> None:
        """End everything that waits. The first reason stays."""
        if self._ended_by is not None:
            return
        self._ended_by = error
        self.writes.fail_all(error)
        for follower in self._followers:
            if isinstance(error, ClientClosed):
                follower.drop(error)
            else:
                follower.fail(error)
        close_code = error.close_code if isinstance(error, ConnectionFailed) else None
        self._set(Status(ConnectionState.CLOSED, error.message, close_code=close_code, last_error=error))

    def _set(self, status: Status) -> None:
        if self.status.state is ConnectionState.CLOSED:
            return
        assert status.state in TRANSITIONS[self.status.state], (self.status.state, status.state)
        self.status = status
        self._status_changed.set()
        self._status_changed = asyncio.Event()
        for listener in list(self._status_listeners.values()):
            _call(listener, status)


def _call(listener: Callable[[Status], None], status: Status) -> None:
    """Call the application's function; what it raises is the application's, and must not end the connection."""
    try:
        listener(status)
    except Exception as error:
        asyncio.get_running_loop().call_exception_handler(
            {"message": "a status callback of a Syncline client failed", "exception": error}
        )
