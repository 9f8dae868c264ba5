"""An OpenID provider as it is asked: its discovery document, the URL of its login, and the exchange of a code.

The document must name the issuer that was configured, and every endpoint in it must be one that may be asked, or a
provider that was taken over could point elsewhere. Authlib builds the URL and the token request with PKCE and the
authentication of the client; `BoundedTransport` carries them.
"""

from collections.abc import Callable
from functools import partial

import httpx2
import msgspec
from authlib.integrations.base_client import OAuthError
from authlib.integrations.httpx_client import AsyncOAuth2Client

from .cached import Cached
from .oidc_pending import PendingLogin
from .web import BoundedTransport, FetchFailed, check_url, fetch

__all__ = ["CodeRefused", "Discovery", "Provider", "TokenAnswer"]

_DISCOVERY_PATH = "/.well-known/openid-configuration"
_BASIC, _POST, _NONE = "client_secret_basic", "client_secret_post", "none"


class CodeRefused(Exception):
    """The provider does not give tokens for a code; the text is for the log."""


class Discovery(msgspec.Struct, frozen=True):
    """What a provider says of itself; OpenID Connect Discovery, section 3."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    userinfo_endpoint: str | None = None
    token_endpoint_auth_methods_supported: tuple[str, ...] = (_BASIC,)


class TokenAnswer(msgspec.Struct, frozen=True):
    """The tokens for a code."""

    id_token: str
    access_token: str | None = None


class Provider:
    """Args:
    issuer: its URL.
    client_id: what we are called there.
    client_secret: None for a public client.
    now: the time in seconds.
    transport: what carries the requests.
    """

    def __init__(
        self,
        issuer: str,
        client_id: str,
        client_secret: str | None,
        *,
        now: Callable[[], float],
        transport: BoundedTransport,
    ) -> None:
        check_url(issuer)
        self._issuer = issuer
        self._client_id = client_id
        self._client_secret = client_secret
        self._transport = transport
        self._discovery = Cached(self._discover, now)
        self.fetch = partial(fetch, transport=transport)

    async def discovery(self) -> Discovery:
        """Return what it says of itself. Raises FetchFailed."""
        return await self._discovery.get()

    async def login_url(self, state: str, login: PendingLogin, scopes: tuple[str, ...]) -> str:
        """Return where the browser has to go. Raises FetchFailed."""
        found = await self.discovery()
        url, _ = self._client(found).create_authorization_url(
            found.authorization_endpoint,
            state=state,
            nonce=login.nonce,
            code_verifier=login.code_verifier,
            redirect_uri=login.redirect_uri,
            scope=" ".join(scopes),
        )
        return str(url)

    async def redeem(self, code: str, login: PendingLogin) -> TokenAnswer:
        """Return the tokens for a code.

        Raises:
            CodeRefused: it gives none.
            FetchFailed: it cannot be asked.
        """
        found = await self.discovery()
        try:
            answer = await self._client(found).fetch_token(
                found.token_endpoint,
                grant_type="authorization_code",
                code=code,
                code_verifier=login.code_verifier,
                redirect_uri=login.redirect_uri,
            )
            return msgspec.convert(dict(answer), TokenAnswer)
        except OAuthError as error:
            raise CodeRefused(f"the provider refused the code: {str(error.error)[:80]!r}") from error
        except httpx2.HTTPError as error:
            raise FetchFailed(f"{found.token_endpoint}: {error or type(error).__name__}") from error
        except (msgspec.ValidationError, ValueError) as error:
            raise CodeRefused("the provider's answer for the code has no ID token") from error

    async def userinfo(self, access_token: str) -> dict[str, object]:
        """Return the claims that it tells to who has an access token; none if it has no such endpoint.

        Raises:
            FetchFailed: it cannot be asked, or the answer is no JSON object.
        """
        url = (await self.discovery()).userinfo_endpoint
        if url is None:
            return {}
        body = await self.fetch(url, bearer=access_token)
        try:
            return msgspec.json.decode(body, type=dict[str, object])
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise FetchFailed(f"{url} did not answer with a JSON object") from error

    async def close(self) -> None:
        """Break off what is under way."""
        await self._discovery.close()

    def _client(self, found: Discovery) -> AsyncOAuth2Client:
        # One for each request, because it keeps cookies and the last token; the transport has nothing to close.
        return AsyncOAuth2Client(
            client_id=self._client_id,
            client_secret=self._client_secret,
            token_endpoint_auth_method=self._method(found),
            code_challenge_method="S256",
            transport=self._transport,
            trust_env=False,
        )

    def _method(self, found: Discovery) -> str:
        if self._client_secret is None:
            return _NONE
        supported = found.token_endpoint_auth_methods_supported
        return _POST if _POST in supported and _BASIC not in supported else _BASIC

    async def _discover(self) -> Discovery:
        url = self._issuer.rstrip("/") + _DISCOVERY_PATH
        body = await self.fetch(url)
        try:
            found = msgspec.json.decode(body, type=Discovery)
            endpoints = (found.authorization_endpoint, found.token_endpoint, found.jwks_uri, found.userinfo_endpoint)
            for endpoint in endpoints:
                if endpoint is not None:
                    check_url(endpoint)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError) as error:
            raise FetchFailed(f"{url} is not a discovery document: {error}") from error
        if found.issuer != self._issuer:
            raise FetchFailed(f"{url} is of the issuer {found.issuer[:200]!r}, not of {self._issuer!r}")
        return found
