"""An issuer of JWTs for tests: it has keys, signs claims, and answers for its key set, or is down."""

import base64
import json
from functools import cache

from joserfc import jwt
from joserfc.jwk import ECKey, Key, OKPKey, RSAKey

from syncline_server.accounts.web import FetchFailed

__all__ = [
    "AUDIENCE",
    "ISSUER",
    "JWKS_URL",
    "NOW_S",
    "Clock",
    "Issuer",
    "ec_key",
    "ed_key",
    "encoded",
    "rsa_key",
    "unsigned",
]

ISSUER = "https://issuer.example"
AUDIENCE = "syncline"
JWKS_URL = "https://issuer.example/jwks"
NOW_S = 1_800_000_000


class Clock:
    """A clock that stands until it is set."""

    def __init__(self) -> None:
        self.now_s = float(NOW_S)

    def __call__(self) -> float:
        return self.now_s


@cache
def rsa_key(kid: str = "rsa") -> RSAKey:
    """Return the RSA key of this id, the same in all tests because making one takes a while."""
    return RSAKey.generate_key(2048, {"kid": kid})


def ec_key(kid: str = "ec", curve: str = "P-256") -> ECKey:
    """Return a new key on a curve."""
    return ECKey.generate_key(curve, {"kid": kid})


def ed_key(kid: str = "ed") -> OKPKey:
    """Return a new Ed25519 key."""
    return OKPKey.generate_key("Ed25519", {"kid": kid})


class Issuer:
    """Args:
    keys: what it signs with and publishes.
    """

    def __init__(self, *keys: Key) -> None:
        self.keys = list(keys)
        self.is_down = False
        self.asked: list[str] = []

    async def fetch(self, url: str) -> bytes:
        """Answer for the key set."""
        self.asked.append(url)
        if self.is_down:
            raise FetchFailed("it is down")
        return self.jwks()

    def jwks(self) -> bytes:
        """Return the key set."""
        return json.dumps({"keys": [key.as_dict(private=False) for key in self.keys]}).encode()

    def sign(
        self,
        claims: dict[str, object] | None = None,
        *,
        key: Key | None = None,
        algorithm: str = "ES256",
        header: dict[str, object] | None = None,
        without: str = "",
    ) -> str:
        """Return a token of good claims, changed by `claims`, less one."""
        key = key or self.keys[0]
        good: dict[str, object] = {"iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "exp": NOW_S + 600, "iat": NOW_S}
        merged = {name: value for name, value in (good | (claims or {})).items() if name != without}
        fields = {"alg": algorithm, "kid": key.kid} | (header or {})
        return jwt.encode(
            {name: value for name, value in fields.items() if value is not None}, merged, key, [algorithm]
        )


def encoded(value: object) -> str:
    """Return JSON in base64url, or bytes in base64url."""
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unsigned(header: dict[str, object], claims: dict[str, object], signature: bytes = b"") -> str:
    """Return a token put together by hand."""
    return f"{encoded(header)}.{encoded(claims)}.{encoded(signature)}"
