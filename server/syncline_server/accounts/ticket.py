"""Tickets: credentials for one use within 30 s, for browsers that cannot send a token when they open a socket.

They live in memory alone and are bound to who asked and to the Origin of the page. A ticket that comes a second time
was seen by somebody else, so that is told apart. A ticket carries the principal as he was: who redeems it asks the
directory what he is now.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from syncline_server.access.principal import Principal

from .error import AccountError
from .secret import Mint, hash_secret, new_secret

__all__ = ["TICKETS_MAX", "TICKETS_PER_USER_MAX", "TICKET_LIFE_MS", "TicketFault", "Tickets"]

#: A page opens its socket at once; the rest is for slow networks.
TICKET_LIFE_MS = 30_000

TICKETS_MAX = 10_000
TICKETS_PER_USER_MAX = 100


class TicketFault(Enum):
    """Why a ticket gives nobody. `UNKNOWN` is also one that ended long ago; `ORIGIN` one of another page."""

    UNKNOWN = "unknown"
    EXPIRED = "expired"
    REPLAYED = "replayed"
    ORIGIN = "origin"


@dataclass(slots=True)
class _Ticket:
    principal: Principal
    origin: str | None
    expires_ms: int
    is_used: bool = False


class Tickets:
    """Args:
    now_ms: the clock in ms since 1970.
    mint: makes random bytes.
    """

    def __init__(self, now_ms: Callable[[], int], mint: Mint) -> None:
        self._now_ms = now_ms
        self._mint = mint
        #: By hash, in the order of their ends, as all live equally long.
        self._tickets: dict[str, _Ticket] = {}
        self._of_user: Counter[tuple[str, str | None]] = Counter()

    def issue(self, principal: Principal, origin: str | None) -> tuple[str, int]:
        """Return a new ticket and its end. It never outlives the credentials that it was got with.

        Raises:
            AccountError: `rate_limited`, the user has too many; `overloaded`, all together have.
        """
        now_ms = self._now_ms()
        self._forget(now_ms)
        user = (principal.kind, principal.name)
        if self._of_user[user] >= TICKETS_PER_USER_MAX:
            raise AccountError(
                "rate_limited", f"more than {TICKETS_PER_USER_MAX} tickets in {TICKET_LIFE_MS // 1000} s"
            )
        if len(self._tickets) >= TICKETS_MAX:
            raise AccountError("overloaded", "there are too many tickets", hint="try again in a few seconds")
        expires_ms = now_ms + TICKET_LIFE_MS
        text = new_secret("ticket", self._mint)
        self._tickets[hash_secret(text)] = _Ticket(principal, origin, expires_ms)
        self._of_user[user] += 1
        return text, expires_ms if principal.expires_ms is None else min(expires_ms, principal.expires_ms)

    def redeem(self, text: str, origin: str | None) -> Principal | TicketFault:
        """Return whose ticket it is, once. Whoever comes with it from another page has used it up as well.

        Args:
            origin: of the page that comes with it; None for a program, and for what a page asks of its own server,
                which a browser does without saying so.
        """
        now_ms = self._now_ms()
        ticket = self._tickets.get(hash_secret(text))
        if ticket is None:
            return TicketFault.UNKNOWN
        if ticket.is_used:
            return TicketFault.REPLAYED
        ticket.is_used = True
        ends_ms = ticket.principal.expires_ms
        if ticket.expires_ms <= now_ms or (ends_ms is not None and ends_ms <= now_ms):
            return TicketFault.EXPIRED
        if origin is not None and ticket.origin != origin:
            return TicketFault.ORIGIN
        return ticket.principal

    def _forget(self, now_ms: int) -> None:
        """Let go of tickets that have ended; used ones are kept until then, so that a replay is known as one."""
        while self._tickets:
            key, ticket = next(iter(self._tickets.items()))
            # A clock that was set back must not keep tickets for ever.
            if now_ms < ticket.expires_ms <= now_ms + TICKET_LIFE_MS:
                return
            del self._tickets[key]
            user = (ticket.principal.kind, ticket.principal.name)
            self._of_user[user] -= 1
            if not self._of_user[user]:
                del self._of_user[user]
