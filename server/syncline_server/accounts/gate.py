"""The gate of a server with accounts: every kind of credentials, each known by its form.

Tokens of ours are looked up in memory, tickets are used up, JWTs are proved with the issuer's keys; whatever else comes
is for the operator's own function, if there is one. Whoever comes without any is nobody, and is let in where something
is granted to everyone. What is refused is refused with one text for all reasons but the end of good credentials.
"""

import asyncio
import inspect
import traceback
from collections.abc import Awaitable, Callable
from typing import Protocol

from syncline_protocol.errors import CloseCode, RemoteProtocolError
from syncline_server.access.gate import Visitor, expired, unauthenticated
from syncline_server.access.principal import ANONYMOUS, Principal
from syncline_server.log import Log

from .account_name import is_external
from .directory import Directory
from .identity import TokenFault
from .jwt import JwtIdentity, KeysUnavailable, TokenExpired, TokenRefused
from .secret import kind_of_secret
from .ticket import TicketFault, Tickets

__all__ = ["AccountsGate", "Authenticate", "TokenVerifier"]

#: The operator's own function: who comes with this token, None if nobody does.
Authenticate = Callable[[str, Visitor], Principal | Awaitable[Principal | None] | None]

#: A token that is longer is none of anybody's.
_TOKEN_CHARS_MAX = 16 * 1024

#: The operator's function has so long; a HELLO is not waited for any longer either.
_AUTHENTICATE_TIMEOUT_S = 10.0

#: Names of those whom an issuer vouches for; no account here can have one that begins so.
_JWT_PREFIX = "jwt:"


class TokenVerifier(Protocol):
    """Proves JWTs; a `JwtVerifier` is one."""

    async def verify(self, token: str) -> JwtIdentity:
        """Return whose it is. Raises TokenRefused."""


class AccountsGate:
    """Args:
    jwt: proves tokens of an issuer, if one is trusted.
    authenticate: the operator's own function.
    """

    def __init__(
        self,
        directory: Directory,
        tickets: Tickets,
        log: Log,
        *,
        now_ms: Callable[[], int],
        jwt: TokenVerifier | None = None,
        authenticate: Authenticate | None = None,
    ) -> None:
        self._directory = directory
        self._tickets = tickets
        self._log = log
        self._now_ms = now_ms
        self._jwt = jwt
        self._authenticate = authenticate

    def admit(self, token: str | None, visitor: Visitor) -> Principal | None:
        if token is None:
            if not self._directory.registry.grants_everyone:
                raise unauthenticated("this needs a login", hint="log in, or send a token")
            return ANONYMOUS
        if len(token) > _TOKEN_CHARS_MAX:
            raise unauthenticated()
        match kind_of_secret(token):
            case "personal" | "session":
                return self._bearer(token, visitor)
            case "ticket":
                return self._ticket_holder(token, visitor)
            case None if self._jwt is not None or self._authenticate is not None:
                return None
            case _:
                raise self._refused("unknown", visitor)

    def _bearer(self, token: str, visitor: Visitor) -> Principal:
        found = self._directory.principal_of(token)
        if found is TokenFault.EXPIRED:
            raise expired()
        if isinstance(found, TokenFault):
            raise self._refused(found.value, visitor)
        if found.token is not None:
            self._directory.note_use(found.token)
        return found

    def _ticket_holder(self, token: str, visitor: Visitor) -> Principal:
        found = self._tickets.redeem(token, visitor.origin)
        if isinstance(found, TicketFault):
            raise self._refused(f"ticket {found.value}", visitor)
        current = self._directory.current(found)
        if current is None:
            raise unauthenticated()
        return current

    async def prove(self, token: str, visitor: Visitor) -> Principal:
        if self._jwt is not None and token.count(".") == 2:
            return await self._prove_jwt(self._jwt, token, visitor)
        if self._authenticate is None:
            raise self._refused("unknown", visitor)
        principal = await self._ask_operator(self._authenticate, token, visitor)
        if principal is None:
            raise self._refused("unknown", visitor)
        return self._sound(principal)

    async def _ask_operator(self, authenticate: Authenticate, token: str, visitor: Visitor) -> Principal | None:
        """Call the operator's function. If it fails, or takes too long, nobody comes in."""
        try:
            async with asyncio.timeout(_AUTHENTICATE_TIMEOUT_S):
                found = authenticate(token, visitor)
                principal = await found if inspect.isawaitable(found) else found
            if not isinstance(principal, Principal | None):
                raise TypeError(f"authenticate returned a {type(principal).__name__}")
        except Exception as error:
            # Its text is the operator's, and easily has the token in it.
            trace = "".join(traceback.format_exception(error)).replace(token or "[token]", "[token]")
            self._log.error("authenticate_failed", trace=trace)
            raise RemoteProtocolError(
                "internal", "it could not be found out who this is", hint="try again", close=CloseCode.FAILED
            ) from None
        return principal

    async def _prove_jwt(self, verifier: TokenVerifier, token: str, visitor: Visitor) -> Principal:
        try:
            identity = await verifier.verify(token)
        except TokenExpired as error:
            raise expired() from error
        except KeysUnavailable as error:
            self._log.error("issuer_keys_unavailable", reason=str(error))
            raise RemoteProtocolError(
                "overloaded",
                "the issuer's keys cannot be had",
                hint="try again in a moment",
                close=CloseCode.OVERLOADED,
            ) from error
        except TokenRefused as error:
            raise self._refused(str(error), visitor) from error
        # Groups of an issuer are its own words: here only names that say so can be granted anything.
        groups = frozenset(_JWT_PREFIX + group for group in identity.groups)
        return self._sound(
            Principal(_JWT_PREFIX + identity.subject, "external", groups, expires_ms=identity.expires_ms)
        )

    def _sound(self, principal: Principal) -> Principal:
        names = (principal.name or "", *principal.groups)
        if principal.kind != "external" or not all(map(is_external, names)):
            # A bare name could be that of an account here, with all that is granted to it.
            self._log.error("identity_unusable", kind=principal.kind, hint="names are like app:alice")
            raise unauthenticated()
        if principal.expires_ms is not None and principal.expires_ms <= self._now_ms():
            raise expired()
        return principal

    def current(self, principal: Principal) -> Principal | None:
        if principal.kind == "anonymous":
            return principal if self._directory.registry.grants_everyone else None
        return self._directory.current(principal)

    def _refused(self, reason: str, visitor: Visitor) -> RemoteProtocolError:
        self._log.info("token_refused", reason=reason, address=visitor.address)
        return unauthenticated()
