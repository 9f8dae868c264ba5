"""The public keys of an issuer: its JWKS, from a URL or a file, and which of the keys may verify which algorithm.

A key fits an algorithm only if its type and curve are those of the algorithm, so a public RSA key can never become the
secret of an HMAC. Symmetric and private keys, RSA keys below 2048 bits and whatever cannot be read are left out, as
RFC 7517 allows; a set in which nothing is left cannot be used. A key id is looked up in the set and nowhere else:
it is never a path, a URL or part of a query. There is one key ring for each issuer, so ids of two never meet.
"""

import asyncio
import base64
import binascii
from collections.abc import Callable
from pathlib import Path

import msgspec
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, JWKRegistry, Key, OKPKey, RSAKey

from .cached import Cached
from .web import ANSWER_BYTES_MAX, Fetch, FetchFailed, check_url, fetch

__all__ = ["ALGORITHMS", "KeyRing", "KeyUnknown", "check_key_file", "read_keys"]

_CURVES = {
    "ES256": {"P-256"},
    "ES384": {"P-384"},
    "ES512": {"P-521"},
    "Ed25519": {"Ed25519"},
    "Ed448": {"Ed448"},
    "EdDSA": {"Ed25519", "Ed448"},
}
_RSA = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})

#: What tokens may be signed with: never `none`, and never a secret that both sides know.
ALGORITHMS = _RSA | frozenset(_CURVES)

#: RFC 7518 asks for 2048 bits; above the other bound, a verification takes milliseconds.
_RSA_BITS_MIN = 2048
_RSA_BITS_MAX = 8192

_KEYS_MAX = 100


class KeyUnknown(Exception):
    """No key of the issuer has the id and fits the algorithm."""


class _Jwks(msgspec.Struct):
    keys: list[dict[str, object]]


class KeyRing:
    """Args:
    location: the URL of a JWKS, or the path of a file with one.
    now: the time in seconds.
    fetch: gets what is at a URL.

    Raises:
        ValueError: the URL may not be asked.
    """

    def __init__(self, location: str, now: Callable[[], float], fetch: Fetch = fetch) -> None:
        self._location = location
        self._fetch = fetch
        if "://" in location:
            check_url(location)
        self._keys = Cached(self._load, now)

    async def find(self, kid: str | None, algorithm: str) -> list[Key]:
        """Return the keys that may have signed a token: all with its key id, or the only one if it names none.

        Two keys may bear the same id, for example in the middle of a rotation; each has to be tried then.

        Raises:
            KeyUnknown: there is none.
            FetchFailed: the keys cannot be had.
        """
        found = _matching(await self._keys.get(), kid, algorithm)
        if not found:
            found = _matching(await self._keys.get(must_be_new=True), kid, algorithm)
        if not found:
            raise KeyUnknown
        return found

    async def close(self) -> None:
        """Break off a load that is under way."""
        await self._keys.close()

    async def _load(self) -> list[Key]:
        if "://" in self._location:
            body = await self._fetch(self._location)
        else:
            body = await asyncio.to_thread(_read_file, self._location)
        try:
            return read_keys(body)
        except ValueError as error:
            raise FetchFailed(f"{self._location} is not a JWKS that can be used: {error}") from error


def check_key_file(location: str) -> None:
    """Check that keys can be had, if they are in a file; those of a URL may be there later.

    Raises:
        ValueError: the file cannot be read, or is not a JWKS that can be used.
    """
    if "://" in location:
        return
    try:
        read_keys(_read_file(location))
    except FetchFailed as error:
        raise ValueError(f"cannot read the key set: {error}") from error
    except ValueError as error:
        raise ValueError(f"{location} is not a JWKS that can be used: {error}") from error


def read_keys(body: bytes) -> list[Key]:
    """Return the keys of a JWKS that can verify a signature.

    Raises:
        ValueError: it is not a JWKS, or none of its keys can be used.
    """
    try:
        entries = msgspec.json.decode(body, type=_Jwks).keys
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(str(error)) from error
    if len(entries) > _KEYS_MAX:
        raise ValueError(f"it has more than {_KEYS_MAX} keys")
    keys = [key for key in map(_read_key, entries) if key is not None]
    if not keys:
        raise ValueError("it has no public key for signatures")
    return keys


def _read_key(entry: dict[str, object]) -> Key | None:
    if entry.get("kty") == "oct" or "d" in entry or entry.get("use", "sig") != "sig":
        return None
    try:
        if entry.get("kty") == "RSA" and not _RSA_BITS_MIN <= _bits_of(entry["n"]) <= _RSA_BITS_MAX:
            return None
        return JWKRegistry.import_key(entry)  # type: ignore[arg-type]
    except (JoseError, ValueError, TypeError, KeyError):
        return None


def _bits_of(number: object) -> int:
    if not isinstance(number, str):
        raise TypeError
    try:
        return int.from_bytes(base64.urlsafe_b64decode(number + "==")).bit_length()
    except binascii.Error as error:
        raise ValueError from error


def _matching(keys: list[Key], kid: str | None, algorithm: str) -> list[Key]:
    fitting = [key for key in keys if _fits(key, algorithm)]
    if kid is None:
        return fitting if len(fitting) == 1 else []
    return [key for key in fitting if key.kid == kid]


def _fits(key: Key, algorithm: str) -> bool:
    if key.alg not in (None, algorithm) or "verify" not in (key.get("key_ops") or ["verify"]):
        return False
    if algorithm in _RSA:
        return isinstance(key, RSAKey)
    wanted = ECKey if algorithm.startswith("ES") else OKPKey
    return isinstance(key, wanted) and key.curve_name in _CURVES[algorithm]


def _read_file(path: str) -> bytes:
    try:
        with Path(path).open("rb") as file:
            body = file.read(ANSWER_BYTES_MAX + 1)
    except OSError as error:
        raise FetchFailed(str(error)) from error
    if len(body) > ANSWER_BYTES_MAX:
        raise FetchFailed(f"{path} has more than {ANSWER_BYTES_MAX} bytes")
    return body
