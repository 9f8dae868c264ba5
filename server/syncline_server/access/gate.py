"""Who may come in, and who he is: the contract between connections and requests on one side and accounts on the other.

A gate knows credentials; what somebody may do is the `Authority`'s. What can be told from memory is told at once
(`admit`), so that a connection with an ordinary token waits for nothing; whatever needs an issuer's keys or the
operator's own function takes the way of `prove`. `OPEN_GATE` is the gate of a server on which nobody has to log in.
"""

from dataclasses import dataclass, field
from typing import Protocol

from syncline_protocol.errors import CloseCode, RemoteProtocolError

from .principal import OPEN, Principal

__all__ = ["OPEN_GATE", "Gate", "Visitor", "expired", "unauthenticated"]


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who knocks: what came with the request besides a HELLO.

    `token` is from an `Authorization` header or the console's cookie, `origin` the page that asks, if one does;
    `address` is where he comes from, as far as trusted proxies tell.
    """

    token: str | None = field(default=None, repr=False)
    origin: str | None = None
    address: str = ""


class Gate(Protocol):
    """Says who somebody is."""

    def admit(self, token: str | None, visitor: Visitor) -> Principal | None:
        """Return who comes with this token, or without one; None if only `prove` can tell.

        Raises:
            RemoteProtocolError: `unauthenticated` or `token_expired`, with the close code that a connection ends with.
        """

    async def prove(self, token: str, visitor: Visitor) -> Principal:
        """Do what `admit` could not. Raises as `admit`."""

    def current(self, principal: Principal) -> Principal | None:
        """Return what somebody who was let in is now; None if his credentials do not hold any more."""


class _OpenGate:
    def admit(self, token: str | None, visitor: Visitor) -> Principal | None:
        return OPEN

    async def prove(self, token: str, visitor: Visitor) -> Principal:
        return OPEN

    def current(self, principal: Principal) -> Principal | None:
        return principal


OPEN_GATE: Gate = _OpenGate()


def unauthenticated(message: str = "the credentials do not hold", *, hint: str = "log in again") -> RemoteProtocolError:
    """Return the refusal of credentials that are unknown, revoked or wrong; it says no more than that."""
    return RemoteProtocolError("unauthenticated", message, hint=hint, close=CloseCode.UNAUTHENTICATED)


def expired() -> RemoteProtocolError:
    """Return the refusal of credentials that were good and have come to their end."""
    return RemoteProtocolError(
        "token_expired", "the token has expired", hint="bring a new one", close=CloseCode.TOKEN_EXPIRED
    )
