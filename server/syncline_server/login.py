"""HELLO and AUTH of one connection: from credentials to a principal, and to the end of both.

Owns who the client is and what he may do (`Standing`), and the way there (`Login`). An ordinary token is known at once;
what takes longer leaves the connection unanswered meanwhile, and the session's deadline for HELLO goes on counting.
"""

from collections.abc import Callable, Coroutine
from enum import Enum
from typing import TYPE_CHECKING

from syncline_protocol.errors import CloseCode, RemoteProtocolError
from syncline_protocol.server import ServerSession

from .access.authority import Action, Authority
from .access.gate import Visitor
from .access.principal import ANONYMOUS, Principal
from .access.rights import Rights
from .access.view import View
from .limits.admission import Seat

if TYPE_CHECKING:
    from .hub import Hub

__all__ = ["Credentials", "Login", "Standing"]

#: Stores whose rights one connection remembers; it may name as many as it likes.
_RIGHTS_MAX = 1000

#: Credentials that end are announced so long before, in ms; short-lived ones when a fifth of their time is left.
_EXPIRING_MS_MAX = 60_000


class Credentials(Enum):
    """How the credentials of a connection stand."""

    GOOD = "good"
    EXPIRING = "expiring"
    OVER = "over"


class Standing:
    """Who a client is, and what he may do."""

    __slots__ = ("_announce_at_ms", "_authority", "_rights", "principal")

    def __init__(self, authority: Authority) -> None:
        self.principal: Principal = ANONYMOUS
        self._authority = authority
        self._rights: dict[str, Rights] = {}
        self._announce_at_ms: int | None = None

    def become(self, principal: Principal, now_ms: int) -> None:
        """Be somebody from now on."""
        self.principal = principal
        self._rights.clear()
        self._announce_at_ms = None
        if principal.expires_ms is not None:
            left_ms = principal.expires_ms - now_ms
            self._announce_at_ms = principal.expires_ms - min(_EXPIRING_MS_MAX, left_ms // 5)

    def rights(self, store: str) -> Rights:
        """Return what the client may do in a store now."""
        rights = self._rights.get(store)
        if rights is None or rights.is_stale:
            if len(self._rights) >= _RIGHTS_MAX:
                self._rights.clear()
            rights = self._rights[store] = self._authority.rights(self.principal, store)
        return rights

    def view(self, store: str) -> View:
        """Return what the client sees of a store. Raises RemoteProtocolError or StorageError if that is nothing."""
        self._authority.authorize(self.principal, Action.READ, store)
        view = self.rights(store).view
        assert view is not None
        return view

    def seen(self) -> dict[str, View]:
        """Return what he saw of each store that he has named: some of it may still be on its way to him."""
        return {store: rights.view for store, rights in self._rights.items() if rights.view is not None}

    def has_lost(self, seen: dict[str, View]) -> bool:
        """Return whether he sees another part of one of these stores now."""
        return any(self.rights(store).view != view for store, view in seen.items())

    def credentials(self, now_ms: int) -> Credentials:
        """Return how the credentials stand; that they are expiring is said once."""
        expires_ms = self.principal.expires_ms
        if expires_ms is not None and now_ms >= expires_ms:
            return Credentials.OVER
        if self._announce_at_ms is not None and now_ms >= self._announce_at_ms:
            self._announce_at_ms = None
            return Credentials.EXPIRING
        return Credentials.GOOD


class Login:
    """Args:
    session: what is answered through; the caller flushes it when `done` is called.
    done: called after each step, with whether the client is somebody else or has other rights than before.
    later: carries out what has to wait.
    """

    __slots__ = ("_done", "_hub", "_is_busy", "_later", "_seat", "_session", "_standing", "_visitor")

    def __init__(
        self,
        session: ServerSession,
        hub: "Hub",
        standing: Standing,
        visitor: Visitor,
        seat: Seat | None,
        *,
        done: Callable[[bool], None],
        later: Callable[[Coroutine[object, object, None]], None],
    ) -> None:
        self._session = session
        self._hub = hub
        self._standing = standing
        self._visitor = visitor
        self._seat = seat
        self._is_busy = False
        self._done = done
        self._later = later

    def greet(self, token: str | None) -> None:
        """Answer HELLO: with what it brought, or else with what the upgrade did."""
        token = token if token is not None else self._visitor.token
        try:
            principal = self._hub.gate.admit(token, self._visitor)
        except RemoteProtocolError as error:
            self._refuse_hello(error)
            return
        if principal is not None:
            self._welcome(principal)
        else:
            assert token is not None
            self._later(self._greet_later(token))

    async def _greet_later(self, token: str) -> None:
        try:
            principal = await self._hub.gate.prove(token, self._visitor)
        except RemoteProtocolError as error:
            self._refuse_hello(error)
            return
        if self._session.close_code is None:
            self._welcome(principal)

    def _welcome(self, principal: Principal) -> None:
        refusal = None if self._seat is None else self._seat.settle(principal.name)
        if refusal is not None:
            self._hub.counts.refused[refusal.which] += 1
            self._session.close(CloseCode.OVERLOADED, str(refusal))
        else:
            self._standing.become(principal, self._hub.now_ms())
            self._session.welcome(principal.name, principal.expires_ms)
        self._done(False)

    def _refuse_hello(self, error: RemoteProtocolError) -> None:
        if self._session.close_code is None:
            self._hub.counts.errors_sent[error.code] += 1
            self._session.refuse_hello(error)
            self._done(False)

    def authenticate(self, token: str) -> None:
        """Answer AUTH. To look at credentials may cost a lot, so a client has one attempt under way at a time."""
        if self._is_busy:
            self._refuse_auth(RemoteProtocolError("rate_limited", "the AUTH before is not answered yet"))
        else:
            self._is_busy = True
            self._later(self._authenticate(token))

    async def _authenticate(self, token: str) -> None:
        gate, standing = self._hub.gate, self._standing
        try:
            principal = gate.admit(token, self._visitor) or await gate.prove(token, self._visitor)
            if principal.name != standing.principal.name:
                raise RemoteProtocolError("forbidden", "these are the credentials of another user", hint="connect anew")
        except RemoteProtocolError as error:
            self._refuse_auth(error)
            return
        finally:
            self._is_busy = False
        if self._session.close_code is None:
            standing.become(principal, self._hub.now_ms())
            self._session.authenticated(principal.name, principal.expires_ms)
            self._done(True)

    def _refuse_auth(self, error: RemoteProtocolError) -> None:
        if self._session.close_code is None:
            self._hub.counts.errors_sent[error.code] += 1
            self._session.refuse_auth(error)
            self._done(False)
