"""Login by OpenID Connect: authorization code with PKCE, `state` and `nonce`, and an ID token that is verified.

`begin` makes the URL to which the browser goes, and a value that it has to keep as a cookie (HttpOnly, Secure,
SameSite=Lax, since it comes back by a link from the provider). `finish` takes what came back with that cookie. Who
ends a login must be who began it (`oidc_pending`), the code only serves this server (PKCE), and the ID token must be
for this login (`nonce`), this client (`aud`, `azp`) and this access token (`at_hash`); its signature is checked as
that of any JWT is (`jwt`). One process serves both steps, because what has begun is kept in its memory.
"""

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import httpx2
from authlib.oidc.core import CodeIDToken
from joserfc.errors import JoseError

from .jwks import ALGORITHMS
from .jwt import JwtSettings, JwtVerifier, KeysUnavailable, SignedClaims, TokenRefused, groups_of
from .oidc_pending import LoginUnknown, PendingLogin, PendingLogins, check_next_path
from .oidc_provider import CodeRefused, Provider, TokenAnswer
from .web import BoundedTransport, FetchFailed, check_url

__all__ = [
    "LoginNotBegun",
    "OidcIdentity",
    "OidcLogin",
    "OidcRefused",
    "OidcRequest",
    "OidcSettings",
    "ProviderUnavailable",
]

_CODE_CHARACTERS_MAX = 4096
_TEXT_CHARACTERS_MAX = 255
_ERROR_CHARACTERS_MAX = 64


class OidcRefused(Exception):
    """A login cannot begin or has failed; the text says why, for the log."""


class LoginNotBegun(OidcRefused):
    """Nobody has begun the login that is to be ended, or not in this browser. Anybody can say so without any work."""


class ProviderUnavailable(OidcRefused):
    """The provider cannot be asked, or answers nonsense; the login may be tried again later."""


@dataclass(frozen=True, slots=True)
class OidcSettings:
    """At which provider users log in.

    Args:
        issuer: its URL, exactly as its discovery document and its tokens have it.
        client_id: what this server is called there.
        client_secret: None for a public client; PKCE protects both kinds.
        scopes: what is asked for; `openid` must be one of them.
        groups_claim: the claim with the user's groups.
        algorithms: what ID tokens may be signed with.

    Raises:
        ValueError: a value cannot be used.
    """

    issuer: str
    client_id: str
    client_secret: str | None = field(default=None, repr=False)
    scopes: tuple[str, ...] = ("openid", "profile", "email")
    groups_claim: str = "groups"
    algorithms: tuple[str, ...] = tuple(sorted(ALGORITHMS))

    def __post_init__(self) -> None:
        check_url(self.issuer)
        if "openid" not in self.scopes:
            raise ValueError("scopes must have `openid`")
        if self.client_secret == "":
            raise ValueError("client_secret must not be empty; a public client has none")
        self.for_tokens(self.issuer)

    def for_tokens(self, jwks: str) -> JwtSettings:
        """Return what ID tokens are checked against."""
        return JwtSettings(self.issuer, self.client_id, self.algorithms, jwks, groups_claim=self.groups_claim)


@dataclass(frozen=True, slots=True)
class OidcRequest:
    """A login that has begun. The browser goes to `url` and keeps `browser_binding` in a cookie."""

    url: str
    state: str
    browser_binding: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class OidcIdentity:
    """Who has logged in.

    `issuer` and `subject` together are the user's identity; the other fields are for show and may change. `email` is
    there only if the provider says that it has verified it, since otherwise anybody could claim any address.
    """

    issuer: str
    subject: str
    name: str | None
    username: str | None
    email: str | None
    groups: frozenset[str]
    next_path: str


class OidcLogin:
    """Args:
    now: seconds since 1970.
    transport: what carries the requests, for tests.
    mint: makes a secret of 43 characters.
    """

    def __init__(
        self,
        settings: OidcSettings,
        *,
        now: Callable[[], float] = time.time,
        transport: httpx2.AsyncBaseTransport | None = None,
        mint: Callable[[], str] = lambda: secrets.token_urlsafe(32),
    ) -> None:
        self.settings = settings
        self._now = now
        self._mint = mint
        self._pending = PendingLogins(now)
        self._provider = Provider(
            settings.issuer,
            settings.client_id,
            settings.client_secret,
            now=now,
            transport=BoundedTransport(transport),
        )
        self._verifier: JwtVerifier | None = None

    async def begin(self, redirect_uri: str, next_path: str = "/") -> OidcRequest:
        """Begin a login.

        Args:
            redirect_uri: where the provider sends the browser back to; it must be registered there.
            next_path: the path on this server to go to in the end.

        Raises:
            ProviderUnavailable: the provider cannot be asked.
            OidcRefused: the path leads away from this server.
        """
        try:
            check_next_path(next_path)
        except ValueError as error:
            raise OidcRefused(str(error)) from error
        state, binding = self._mint(), self._mint()
        login = PendingLogin(redirect_uri, next_path, self._mint(), self._mint(), binding, self._now())
        try:
            url = await self._provider.login_url(state, login, self.settings.scopes)
        except FetchFailed as error:
            raise ProviderUnavailable(str(error)) from error
        self._pending.add(state, login)
        return OidcRequest(url, state, binding)

    async def finish(self, state: str, code: str, browser_binding: str, error: str | None = None) -> OidcIdentity:
        """End a login, which can be done once.

        Args:
            state, code: what the provider sent the browser back with.
            browser_binding: what the browser had kept.
            error: what the provider sent instead of a code, if it has refused the login.

        Raises:
            ProviderUnavailable: the provider cannot be asked.
            LoginNotBegun: it is not a login that began here in this browser.
            OidcRefused: the provider's answer is not for it.
        """
        try:
            login = self._pending.take(state, browser_binding)
            if error is not None:
                raise OidcRefused(f"the provider refused the login: {_shown(error)}")
            if not 0 < len(code) <= _CODE_CHARACTERS_MAX:
                raise OidcRefused("there is no code")
            answer = await self._provider.redeem(code, login)
            claims = await self._check(answer, login)
            return self._identity(await self._complete(claims, answer), login)
        except LoginUnknown as error:
            raise LoginNotBegun(str(error)) from error
        except CodeRefused as error:
            raise OidcRefused(str(error)) from error
        except (FetchFailed, KeysUnavailable) as error:
            raise ProviderUnavailable(str(error)) from error
        except TokenRefused as error:
            raise OidcRefused(f"ID token: {error}") from error

    async def close(self) -> None:
        """Break off what is under way."""
        await self._provider.close()
        if self._verifier is not None:
            await self._verifier.close()

    async def _check(self, answer: TokenAnswer, login: PendingLogin) -> dict[str, object]:
        signed = await (await self._current_verifier()).read(answer.id_token)
        self._check_login(signed, answer, login)
        return signed.claims

    def _check_login(self, signed: SignedClaims, answer: TokenAnswer, login: PendingLogin) -> None:
        wanted = {"nonce": login.nonce, "client_id": self.settings.client_id, "access_token": answer.access_token}
        # Authlib knows the hash that belongs to this algorithm by its older name only.
        header = signed.header | ({"alg": "EdDSA"} if signed.header["alg"] == "Ed25519" else {})
        leeway_s = self.settings.for_tokens(self.settings.issuer).leeway_s
        try:
            CodeIDToken(signed.claims, header, params=wanted).validate(now=int(self._now()), leeway=leeway_s)
        except JoseError as error:
            raise TokenRefused(f"{error.error} ({getattr(error, 'claim', '')})") from error
        except (TypeError, ValueError) as error:
            raise TokenRefused("a claim is of the wrong type") from error

    async def _current_verifier(self) -> JwtVerifier:
        jwks = (await self._provider.discovery()).jwks_uri
        if self._verifier is None or self._verifier.settings.jwks != jwks:
            settings = self.settings.for_tokens(jwks)
            self._verifier = JwtVerifier(settings, now=self._now, fetch=self._provider.fetch)
        return self._verifier

    async def _complete(self, claims: dict[str, object], answer: TokenAnswer) -> dict[str, object]:
        """Add what the provider keeps out of ID tokens and tells at its userinfo endpoint."""
        wanted = ("name", "email", self.settings.groups_claim)
        if answer.access_token is None or all(name in claims for name in wanted):
            return claims
        told = await self._provider.userinfo(answer.access_token)
        if told and told.get("sub") != claims["sub"]:
            raise OidcRefused("the userinfo is of another user")
        return told | claims

    def _identity(self, claims: dict[str, object], login: PendingLogin) -> OidcIdentity:
        subject = _text_of(claims, "sub")
        if subject is None:
            raise OidcRefused("claim `sub` does not name a user")
        username = _text_of(claims, "preferred_username")
        return OidcIdentity(
            issuer=self.settings.issuer,
            subject=subject,
            name=_text_of(claims, "name") or username,
            username=username,
            # Some providers send the text.
            email=_text_of(claims, "email") if claims.get("email_verified") in (True, "true") else None,
            groups=groups_of(claims, self.settings.groups_claim),
            next_path=login.next_path,
        )


def _shown(text: str) -> str:
    """Return what came from outside as it can stand in a log."""
    return "".join(c for c in text[:_ERROR_CHARACTERS_MAX] if c.isprintable())


def _text_of(claims: dict[str, object], claim: str) -> str | None:
    value = claims.get(claim)
    is_text = isinstance(value, str) and 0 < len(value) <= _TEXT_CHARACTERS_MAX and value.isprintable()
    return str(value) if is_text else None
