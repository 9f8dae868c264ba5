"""The rules for names and other short texts of accounts, checked once at the door.

Names are lower case, so that no two look alike in another case, and hold nothing that has a meaning in a key, a URL
or a log line. A name is never used again: what is written down of it stays true of one person.
"""

import re

import msgspec

from syncline_protocol.errors import RemoteProtocolError
from syncline_protocol.values import check_store_name
from syncline_server.access.grant import EVERYONE

from .error import AccountError

__all__ = [
    "TITLE_CHARS_MAX",
    "check_account_name",
    "check_grantee",
    "check_pattern",
    "check_title",
    "is_external",
]

#: Names of users and groups that others vouch for: who does, a colon, and what they say. No account has such a name.
_EXTERNAL = re.compile(r"[a-z][a-z0-9-]{0,15}:.+", re.ASCII | re.DOTALL)

#: A title is shown in one line of a list.
TITLE_CHARS_MAX = 128

#: The author of a change stands in its text, which has to fit into a frame beside the largest value.
_EXTERNAL_BYTES_MAX = 78

_NAME = re.compile(r"[a-z0-9][a-z0-9._@+-]{0,63}", re.ASCII)
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def check_account_name(name: str, what: str = "user") -> str:
    """Return `name` if a user or group may have it. Raises AccountError."""
    if not _NAME.fullmatch(name):
        raise AccountError(
            "account_invalid",
            f"{name[:80]!r} cannot name a {what}",
            hint="use 1 to 64 of a-z 0-9 . _ @ + - and begin with a letter or digit",
        )
    return name


def check_title(title: str) -> str:
    """Return `title` if it is one short line. Raises AccountError."""
    if len(title) > TITLE_CHARS_MAX or _CONTROL.search(title):
        raise AccountError("account_invalid", f"a title is one line of at most {TITLE_CHARS_MAX} characters")
    return title


def check_grantee(to: str) -> tuple[str, str]:
    """Return what a grantee is (`user`, `group`, `everyone`) and its name. Raises AccountError."""
    if to == EVERYONE:
        return EVERYONE, ""
    kind, _, name = to.partition(":")
    if kind not in ("user", "group"):
        raise AccountError(
            "account_invalid", f"{to[:80]!r} is no grantee", hint="use user:NAME, group:NAME or everyone"
        )
    if not is_external(name):
        return kind, check_account_name(name, kind)
    return kind, name


def is_external(name: str) -> bool:
    """Return whether somebody or a group that others vouch for may be called so: `jwt:SUBJECT`, `app:NAME`."""
    if not _EXTERNAL.fullmatch(name) or _CONTROL.search(name):
        return False
    return len(msgspec.json.encode(name)) - 2 <= _EXTERNAL_BYTES_MAX


def check_pattern(store: str) -> str:
    """Return `store` if it is the name of a store, or a prefix of names with `*` at its end. Raises AccountError."""
    try:
        if store != "*":
            check_store_name(store.removesuffix("*"))
    except RemoteProtocolError as error:
        raise AccountError(
            "account_invalid", f"{store[:80]!r} names no store and no prefix", hint=error.hint
        ) from error
    return store
