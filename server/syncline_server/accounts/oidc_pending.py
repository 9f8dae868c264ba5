"""Logins at an OpenID provider that have begun and not ended: what has to be the same at the end as at the beginning.

They live in memory, for 10 minutes, and each is taken once, whatever comes of it. There are at most 1000; the oldest
makes room for a new one, because refusing would let a flood keep everybody out for those 10 minutes. Each is bound to
the browser in which it began, by a value that only that browser has: without it, somebody could begin a login, stop
before its end, and have a victim's browser end it, who then works in a stranger's account without knowing it.
"""

import hmac
from collections.abc import Callable
from dataclasses import dataclass, field

__all__ = ["LIFETIME_S", "PENDING_MAX", "LoginUnknown", "PendingLogin", "PendingLogins", "check_next_path"]

LIFETIME_S = 10 * 60
PENDING_MAX = 1000

_PATH_CHARACTERS_MAX = 2000


class LoginUnknown(Exception):
    """No such login has begun in this browser, or not recently, or it has ended already."""


@dataclass(frozen=True, slots=True)
class PendingLogin:
    """What is remembered of a login. What proves that it is ours is left out of its text."""

    redirect_uri: str
    next_path: str
    nonce: str = field(repr=False)
    code_verifier: str = field(repr=False)
    browser_binding: str = field(repr=False)
    began_s: float


class PendingLogins:
    """Args:
    now: the time in seconds.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._logins: dict[str, PendingLogin] = {}

    def __len__(self) -> int:
        return len(self._logins)

    def add(self, state: str, login: PendingLogin) -> None:
        """Remember a login under its state."""
        while self._logins and (len(self._logins) >= PENDING_MAX or self._is_over(next(iter(self._logins.values())))):
            del self._logins[next(iter(self._logins))]
        self._logins[state] = login

    def take(self, state: str, browser_binding: str) -> PendingLogin:
        """Return a login and forget it.

        Raises:
            LoginUnknown: there is none, or it began in another browser; it is forgotten all the same.
        """
        login = self._logins.pop(state, None)
        if login is None or self._is_over(login):
            raise LoginUnknown("no login with this state is under way")
        if not hmac.compare_digest(login.browser_binding.encode(), browser_binding.encode(errors="replace")):
            raise LoginUnknown("the login began in another browser")
        return login

    def _is_over(self, login: PendingLogin) -> bool:
        return not 0 <= self._now() - login.began_s < LIFETIME_S


def check_next_path(path: str) -> None:
    """Check that a path stays on this server when a browser is sent there.

    Browsers take a backslash for a slash, leave out tabs and line ends, and read `//host` as another server.

    Raises:
        ValueError: it may lead away.
    """
    is_local = path.startswith("/") and not path.startswith("//")
    if not is_local or len(path) > _PATH_CHARACTERS_MAX or "\\" in path or " " in path or not path.isprintable():
        raise ValueError("not a path of this server")
