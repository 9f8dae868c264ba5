"""Passwords: what is accepted as one, and how it is hashed and checked.

Argon2id with 19 MiB, 2 passes and 1 lane, the first choice of OWASP's cheat sheet. A hash takes tens of milliseconds
and a core, so it never runs in the event loop: two threads hash, at most 50 calls wait for them, and the next one is
refused, so that a flood of logins costs a bounded amount of memory and time. Passwords are normalised to NFKC first,
as NIST SP 800-63B asks: the same letters typed on another keyboard are the same password.
"""

import asyncio
import threading
import unicodedata
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import argon2

__all__ = [
    "PASSWORD_BYTES_MAX",
    "PASSWORD_CHARACTERS_MIN",
    "HashingOverloaded",
    "PasswordHasher",
    "PasswordRefused",
    "check_password",
]

T = TypeVar("T")

PASSWORD_CHARACTERS_MIN = 10

#: In UTF-8. Longer than any passphrase, and short enough that normalising one costs nothing.
PASSWORD_BYTES_MAX = 512

_MEMORY_KIB = 19 * 1024
_PASSES = 2
_LANES = 1
_SALT_BYTES = 16
_HASH_BYTES = 32

_WORKERS = 2
_WAITING_MAX = 50

#: Fewer than this many different characters is a key held down.
_DIFFERENT_MIN = 4

#: Of the lists of leaked passwords, the most common ones that are long enough to pass the other rules.
_COMMON = frozenset(
    {
        "0123456789",
        "0987654321",
        "1234567890",
        "12345678910",
        "123456789a",
        "1q2w3e4r5t",
        "1q2w3e4r5t6y",
        "1qaz2wsx3edc",
        "9876543210",
        "abcdefghij",
        "changeme123",
        "iloveyou123",
        "letmein123",
        "password01",
        "password12",
        "password123",
        "password1234",
        "passwordpassword",
        "q1w2e3r4t5",
        "q1w2e3r4t5y6",
        "qwerty1234",
        "qwerty12345",
        "qwerty123456",
        "qwertyuiop",
        "qwertyuiop123",
        "welcome123",
        "administrator",
        "syncline123",
    }
)


class PasswordRefused(ValueError):
    """A new password breaks a rule; the text tells its user which, and never contains the password."""


class HashingOverloaded(Exception):
    """Too many passwords wait to be hashed; the caller should try again in a moment."""

    def __init__(self) -> None:
        super().__init__("too many logins at the same time")


def check_password(text: str, user: str) -> None:
    """Check a password that `user` wants to have from now on.

    Raises:
        PasswordRefused: it is too short, too long, too common or the user's name.
    """
    if _normalise(text) is None:
        raise PasswordRefused(f"a password is valid Unicode of at most {PASSWORD_BYTES_MAX} bytes in UTF-8")
    normal = unicodedata.normalize("NFKC", text)
    if len(normal) < PASSWORD_CHARACTERS_MIN:
        raise PasswordRefused(f"a password has at least {PASSWORD_CHARACTERS_MIN} characters")
    folded = normal.casefold()
    if folded == user.casefold():
        raise PasswordRefused("a password is not the name of its user")
    if folded in _COMMON or len(set(folded)) < _DIFFERENT_MIN:
        raise PasswordRefused("this password is among the first that anybody would try")


class PasswordHasher:
    """Hashes and verifies in threads of its own.

    Args:
        argon2id: what hashes; tests pass one that can be held up.
        waiting_max: how many calls may wait for a thread.
    """

    def __init__(self, argon2id: argon2.PasswordHasher | None = None, *, waiting_max: int = _WAITING_MAX) -> None:
        self._argon2 = argon2id or argon2.PasswordHasher(
            time_cost=_PASSES,
            memory_cost=_MEMORY_KIB,
            parallelism=_LANES,
            hash_len=_HASH_BYTES,
            salt_len=_SALT_BYTES,
            type=argon2.Type.ID,
        )
        self._unmatchable = _unmatchable_hash(self._argon2)
        self._threads = ThreadPoolExecutor(_WORKERS, thread_name_prefix="password")
        self._calls_max = _WORKERS + waiting_max
        self._calls = 0
        self._lock = threading.Lock()

    async def hash(self, password: str) -> str:
        """Return the text to store for a password that `check_password` has accepted.

        Raises:
            HashingOverloaded: too many calls wait.
        """
        secret = _normalise(password)
        if secret is None:
            raise ValueError("not a possible password")
        return await self._run(lambda: self._argon2.hash(secret))

    async def verify(self, hash: str | None, password: str) -> bool:
        """Say whether a password is the one that was hashed.

        Without a hash, because there is no such user, it takes as long and says no; so does a text that cannot be a
        password. Else the time of the answer would tell which users there are.

        Raises:
            HashingOverloaded: too many calls wait.
            argon2.exceptions.VerificationError: what was stored is not a hash.
        """
        secret = _normalise(password)
        if hash is None or secret is None:
            await self._run(lambda: self._matches(self._unmatchable, secret or b""))
            return False
        return await self._run(lambda: self._matches(hash, secret))

    def needs_rehash(self, hash: str) -> bool:
        """Say whether a hash was made with other costs than those of now; rehash at the next login then."""
        return self._argon2.check_needs_rehash(hash)

    async def close(self) -> None:
        """End the threads. What still waits is cancelled, what runs is waited for."""
        await asyncio.to_thread(self._threads.shutdown, cancel_futures=True)

    def _matches(self, hash: str, secret: bytes) -> bool:
        try:
            return self._argon2.verify(hash, secret)
        except argon2.exceptions.VerifyMismatchError:
            return False

    async def _run(self, work: Callable[[], T]) -> T:
        with self._lock:
            if self._calls >= self._calls_max:
                raise HashingOverloaded
            self._calls += 1
        try:
            call = self._threads.submit(work)
        except BaseException:
            self._forget()
            raise
        # Counted until the thread is done with it, not until the caller has lost interest: a client that goes away
        # in the middle of its login must not make room for another one.
        call.add_done_callback(self._forget)
        return await asyncio.wrap_future(call)

    def _forget(self, _call: Future[T] | None = None) -> None:
        with self._lock:
            self._calls -= 1


def _normalise(password: str) -> bytes | None:
    """Return the bytes that are hashed, or None if the text is too long or no valid Unicode."""
    try:
        if len(password.encode()) > PASSWORD_BYTES_MAX:
            return None
        return unicodedata.normalize("NFKC", password).encode()
    except UnicodeEncodeError:
        return None


def _unmatchable_hash(hasher: argon2.PasswordHasher) -> str:
    """Return a hash that costs what the others do, and that no password has: its result is all zeros."""
    costs = f"m={hasher.memory_cost},t={hasher.time_cost},p={hasher.parallelism}"
    salt, result = (_zeros(length) for length in (hasher.salt_len, hasher.hash_len))
    return f"$argon2id$v=19${costs}${salt}${result}"


def _zeros(length: int) -> str:
    """Return so many zero bytes in base64 without padding."""
    return "A" * ((length * 8 + 5) // 6)
