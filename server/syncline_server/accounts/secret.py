"""Credentials as text: random, with a prefix that says what they are, and kept only as a hash.

The hash is plain SHA-256: the text has 256 random bits, so there is nothing to guess that a slow hash would protect.
A prefix lets scanners of repositories and logs find what should not be there.
"""

import re
from base64 import urlsafe_b64encode
from collections.abc import Callable
from hashlib import sha256
from typing import Literal

__all__ = ["Mint", "SecretKind", "hash_secret", "kind_of_secret", "new_id", "new_secret"]

#: Makes so many random bytes; `secrets.token_bytes` is one.
Mint = Callable[[int], bytes]

SecretKind = Literal["personal", "session", "ticket", "invitation", "setup"]

_PREFIXES: dict[SecretKind, str] = {
    "personal": "syncline_p_",
    "session": "syncline_s_",
    "ticket": "syncline_t_",
    "invitation": "syncline_i_",
    "setup": "syncline_c_",
}
_KINDS = {prefix: kind for kind, prefix in _PREFIXES.items()}
_SECRET = re.compile(r"(syncline_[a-z]_)[A-Za-z0-9_-]{43}", re.ASCII)


def new_secret(kind: SecretKind, mint: Mint) -> str:
    """Return a new credential of this kind, with 256 random bits."""
    return _PREFIXES[kind] + urlsafe_b64encode(mint(32)).rstrip(b"=").decode()


def kind_of_secret(text: str) -> SecretKind | None:
    """Return what kind of credential a text has the form of, or None."""
    match = _SECRET.fullmatch(text)
    return None if match is None else _KINDS.get(match[1])


def hash_secret(text: str) -> str:
    """Return the form in which a credential is kept: SHA-256 of the whole text, in hexadecimal."""
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def new_id(prefix: Literal["t", "g", "i"], mint: Mint) -> str:
    """Return a new id of a token, grant or invitation: `t_`, `g_` or `i_` and 16 hexadecimal digits."""
    return f"{prefix}_{mint(8).hex()}"
