"""JWTs of an issuer that the operator trusts: signature, issuer, audience and times, by joserfc.

What is accepted comes from the configuration and never from the token: its algorithm must be one of those that were
configured, and its key one of the issuer's that is made for that algorithm (`jwks`). Key material in the token (`jwk`,
`jku`, `x5u`, `x5c`) is not looked at. `iss`, `aud` and `exp` are required. Texts of refusals are for the log: they
never contain anything of the token, because whoever sends it chooses what stands in it.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec
from joserfc.errors import ExpiredTokenError, JoseError
from joserfc.jws import CompactSignature, JWSRegistry, extract_compact, validate_compact
from joserfc.jwt import JWTClaimsRegistry
from joserfc.registry import Header

from .jwks import ALGORITHMS, KeyRing, KeyUnknown
from .web import Fetch, FetchFailed, fetch

if TYPE_CHECKING:
    from joserfc._rfc7515.model import JWSAlgModel

__all__ = [
    "TOKEN_BYTES_MAX",
    "JwtIdentity",
    "JwtSettings",
    "JwtVerifier",
    "KeysUnavailable",
    "SignedClaims",
    "TokenExpired",
    "TokenRefused",
    "groups_of",
]

#: Web servers refuse headers beyond this, so no issuer makes longer ones.
TOKEN_BYTES_MAX = 8 * 1024

_HEADER_BYTES_MAX = 4 * 1024
_KID_CHARACTERS_MAX = 256

#: As OpenID Connect has it for `sub`.
_NAME_CHARACTERS_MAX = 255
_GROUPS_MAX = 500

#: The end of the year 9999. A later one is a mistake in the unit, and would not fit everywhere.
_TIME_MAX_S = 253_402_300_799


class TokenRefused(Exception):
    """A token proves nothing; the text says why, for the log."""


class TokenExpired(TokenRefused):
    """A token was good, and its time is over."""


class KeysUnavailable(TokenRefused):
    """Nothing is known of the token, because the keys of its issuer cannot be had; it may be shown again later."""


@dataclass(frozen=True, slots=True)
class JwtSettings:
    """Whose tokens are accepted.

    Args:
        issuer: what `iss` must be, exactly.
        audience: what `aud` must be or contain.
        algorithms: what tokens may be signed with.
        jwks: the URL of the issuer's key set, or the path of a file with it.
        user_claim: the claim that names the user.
        groups_claim: the claim with the user's groups, a list or one text.
        leeway_s: how far the clocks may differ.

    Raises:
        ValueError: a value cannot be used.
    """

    issuer: str
    audience: str
    algorithms: tuple[str, ...]
    jwks: str
    user_claim: str = "sub"
    groups_claim: str = "groups"
    leeway_s: int = 30

    def __post_init__(self) -> None:
        if not (self.issuer and self.audience and self.jwks and self.user_claim):
            raise ValueError("issuer, audience, jwks and user_claim must be given")
        unusable = set(self.algorithms) - ALGORITHMS
        if unusable or not self.algorithms:
            listed = ", ".join(sorted(unusable)) or "none"
            raise ValueError(f"algorithms: {listed}; they may be: {', '.join(sorted(ALGORITHMS))}")
        if not 0 <= self.leeway_s <= 300:
            raise ValueError("leeway_s must be from 0 to 300")


@dataclass(frozen=True, slots=True)
class JwtIdentity:
    """Who a token speaks for. `expires_ms` is when it stops to be accepted: its `exp` and the leeway."""

    subject: str
    groups: frozenset[str]
    expires_ms: int


@dataclass(frozen=True, slots=True)
class SignedClaims:
    """What the issuer has signed, checked: the header and the claims of a token."""

    header: Header
    claims: dict[str, object]


class _Registry(JWSRegistry):
    """Algorithms are those that were configured, also if joserfc calls a name outdated, as it does with `EdDSA`."""

    max_header_length = _HEADER_BYTES_MAX
    max_payload_length = TOKEN_BYTES_MAX

    def get_alg(self, name: str) -> "JWSAlgModel":
        """Return an algorithm, if it is allowed."""
        if name not in (self.allowed or ()):
            raise TokenRefused("its algorithm is not among those that are configured")
        return self.algorithms[name]


class JwtVerifier:
    """Args:
    now: seconds since 1970.
    fetch: gets what is at a URL.

    Raises:
        ValueError: the URL of the key set may not be asked.
    """

    def __init__(self, settings: JwtSettings, *, now: Callable[[], float] = time.time, fetch: Fetch = fetch) -> None:
        self.settings = settings
        self._now = now
        self._ring = KeyRing(settings.jwks, now, fetch)
        # A header may have fields that we do not know, as long as it does not call them critical.
        self._registry = _Registry(algorithms=settings.algorithms, strict_check_header=False)

    async def verify(self, token: str) -> JwtIdentity:
        """Return who a token speaks for.

        Raises:
            TokenExpired: its time is over.
            KeysUnavailable: the issuer's keys cannot be had now.
            TokenRefused: it proves nothing.
        """
        claims = (await self.read(token)).claims
        subject = claims.get(self.settings.user_claim)
        if not _is_name(subject):
            raise TokenRefused(f"claim `{self.settings.user_claim}` does not name a user")
        if self.settings.user_claim == "email" and claims.get("email_verified") in (False, "false"):
            raise TokenRefused("the issuer has not verified the email address")
        expires = claims["exp"]
        assert isinstance(expires, (int, float))
        return JwtIdentity(
            subject=str(subject),
            groups=groups_of(claims, self.settings.groups_claim),
            expires_ms=int((expires + self.settings.leeway_s) * 1000),
        )

    async def read(self, token: str) -> SignedClaims:
        """Return what is signed in a token, after everything but the user has been checked. Raises as `verify`."""
        try:
            signed = self._parse(token)
            await self._check_signature(signed)
            claims = _read_claims(signed.payload)
            self._check_claims(claims)
        except ExpiredTokenError as error:
            raise TokenExpired("its time is over") from error
        except JoseError as error:
            # The descriptions of joserfc may repeat what stands in the token; its error codes do not.
            claim = getattr(error, "claim", None)
            reason = f"{error.error} ({claim})" if claim in ("iss", "aud", "exp", "nbf", "iat", "sub") else error.error
            raise TokenRefused(reason) from error
        return SignedClaims(signed.headers(), claims)

    async def close(self) -> None:
        """Break off what is under way."""
        await self._ring.close()

    def _parse(self, token: str) -> CompactSignature:
        if len(token) > TOKEN_BYTES_MAX or not token.isascii():
            raise TokenRefused(f"it is longer than {TOKEN_BYTES_MAX} bytes, or not ASCII")
        try:
            signed = extract_compact(token.encode(), registry=self._registry)
            self._registry.check_header(signed.headers())
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            # joserfc takes for granted that the header is an object, and not too deep.
            raise TokenRefused("it is not a JWT") from error
        return signed

    async def _check_signature(self, signed: CompactSignature) -> None:
        header = signed.headers()
        algorithm = self._registry.get_alg(header["alg"]).name
        kid = header.get("kid")
        if kid is not None and len(kid) > _KID_CHARACTERS_MAX:
            raise TokenRefused("its key id is too long")
        try:
            keys = await self._ring.find(kid, algorithm)
        except KeyUnknown as error:
            raise TokenRefused("no key of the issuer has its id and fits its algorithm") from error
        except FetchFailed as error:
            raise KeysUnavailable(f"the keys of {self.settings.issuer} cannot be had: {error}") from error
        if not any(validate_compact(signed, key, registry=self._registry) for key in keys):
            raise TokenRefused("its signature is wrong")

    def _check_claims(self, claims: dict[str, object]) -> None:
        JWTClaimsRegistry(
            now=int(self._now()),
            leeway=self.settings.leeway_s,
            iss={"essential": True, "value": self.settings.issuer},
            aud={"essential": True, "value": self.settings.audience},
            exp={"essential": True},
        ).validate(claims)
        expires = claims["exp"]
        if not isinstance(expires, (int, float)) or expires > _TIME_MAX_S:
            raise TokenRefused("claim `exp` is not a time in seconds")


def _read_claims(payload: bytes) -> dict[str, object]:
    try:
        return msgspec.json.decode(payload, type=dict[str, object])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise TokenRefused("its claims are not a JSON object") from error


def groups_of(claims: dict[str, object], claim: str) -> frozenset[str]:
    """Return the groups that a claim names; none if it is not there.

    Raises:
        TokenRefused: it is not a list of names.
    """
    value = claims.get(claim)
    listed = [] if value is None else value if isinstance(value, list) else [value]
    if len(listed) > _GROUPS_MAX or not all(_is_name(group) for group in listed):
        raise TokenRefused(f"claim `{claim}` is not a list of at most {_GROUPS_MAX} names of groups")
    return frozenset(listed)


def _is_name(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= _NAME_CHARACTERS_MAX and value.isprintable()
