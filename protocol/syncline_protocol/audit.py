"""The audit log: what an entry is, how entries are chained, and how a reader convinces himself that none was altered.

An entry is one JSON text, and its hash is that of the exact text; each entry holds the hash of the one before it. The
server writes entries, `syncline audit verify` checks them, and both have the rules from here. Invariants: n is 0, 1,
2 … without a gap; `prev` of entry 0 is `NO_HASH`; what `make_entry` makes is bounded in size and holds no secret.

A chain shows that entries before its head are as they were when the head was noted. It cannot show by itself that the
newest ones were cut off, or that all of it was written anew: for that a head has to be kept elsewhere, and given to
`Verifier`.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Annotated, Literal

import msgspec

from .limits import SEQ_MAX

__all__ = [
    "ACTIONS",
    "DETAILS_MAX",
    "ENTRY_BYTES_MAX",
    "NO_HASH",
    "NO_HEAD",
    "TEXT_CHARS_MAX",
    "AuditBroken",
    "AuditEntry",
    "AuditHead",
    "AuditOutcome",
    "SecretInEntry",
    "Verified",
    "Verifier",
    "decode_entry",
    "encode_entry",
    "entry_hash",
    "make_entry",
    "parse_head",
    "verify",
]

#: Every action and what it means. `begun` entries are written before the effect, so that none goes without an entry.
ACTIONS: dict[str, str] = {
    "audit.export": "the audit log was read to its end, as `syncline audit export` and `verify` do; pages, as "
    "`audit show` and the console read them, are not recorded",
    "backup.make": "a copy of the stores was made",
    "backup.read": "a copy of the stores, with the hashes of passwords and tokens, was downloaded",
    "grant.add": "a grant was made, or took the place of one",
    "grant.remove": "a grant was taken back",
    "group.add": "a group was made",
    "group.change": "the members of a group changed",
    "group.remove": "a group was removed",
    "index.create": "an index of a store was declared",
    "index.drop": "an index of a store was dropped",
    "invitation.accept": "an invitation was accepted",
    "invitation.add": "an invitation was made",
    "invitation.remove": "an invitation was taken back",
    "login.failed": "a name and password, or an identity of the provider, was refused",
    "login.ok": "somebody logged in",
    "logout": "a session was ended by its user",
    "password.change": "a password was changed by its user, which ends his other sessions",
    "server.start": "a server began to write to this log",
    "setup.done": "an administrator was made with the link that the server printed: the first one, or another with "
    "`--rescue`",
    "store.compact": "a store was cleaned up because somebody asked for it",
    "store.configure": "the settings of a store were changed: description, bounds, ages",
    "store.create": "a store was created",
    "store.drop": "a store was dropped with everything in it",
    "store.export": "all records of a store were read at once",
    "store.restore": "a store was set back to a copy",
    "token.add": "a token was made",
    "token.revoke": "a token was revoked",
    "user.add": "an account was made",
    "user.change": "an account was changed: its password, title, rights of an administrator, or whether it is disabled",
    "user.remove": "an account was deleted",
}

#: What became of the action. `refused`: it was not allowed; `failed`: it was, and could not be done.
AuditOutcome = Literal["ok", "refused", "failed", "begun"]

#: Texts of an entry are cut to so many characters, and have so many details at most.
TEXT_CHARS_MAX = 256
DETAILS_MAX = 16

#: No entry is longer: 35 texts of 256 characters of at most 6 bytes, and what is around them.
ENTRY_BYTES_MAX = 64 * 1024

#: In place of the hash of an entry that is not there.
NO_HASH = "0" * 64

_Hash = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
_Number = Annotated[int, msgspec.Meta(ge=0, le=SEQ_MAX)]


class AuditEntry(msgspec.Struct, frozen=True):
    """One entry. Unknown members are ignored, so that later versions can add some; the hash covers them.

    Attributes:
        n: its number: 0, 1, 2 …
        time: when it was recorded, in ms since 1970, by the clock of the server that did.
        action: what was done or tried, of `ACTIONS`.
        actor: who did it, as grants name him; None if nobody was logged in.
        subject: to what: a name or an id.
        outcome: what became of it.
        address: from where.
        detail: what else is worth knowing.
        prev: hash of the entry before it.
    """

    n: _Number
    time: _Number
    action: str
    actor: str | None
    subject: str | None
    outcome: AuditOutcome
    address: str | None
    detail: dict[str, str]
    prev: _Hash


class AuditHead(msgspec.Struct, frozen=True):
    """The end of a chain: number and hash of its last entry. `NO_HEAD` is that of an empty one."""

    n: int
    hash: _Hash

    def __str__(self) -> str:
        return f"{self.n}:{self.hash}"


NO_HEAD = AuditHead(-1, NO_HASH)


@dataclass(frozen=True, slots=True)
class Verified:
    """A chain that is whole: how many entries, its head, and the times of the first and the last entry in ms."""

    count: int
    head: AuditHead
    first_ms: int | None
    last_ms: int | None


class AuditBroken(Exception):
    """The chain is broken: entry `n` is the first one that is not what it has to be, for the `reason`."""

    def __init__(self, n: int, reason: str) -> None:
        super().__init__(n, reason)
        self.n = n
        self.reason = reason

    def __str__(self) -> str:
        return f"the audit log is broken at entry {self.n}: {self.reason}"


class SecretInEntry(ValueError):
    """An entry would have held what looks like a token. The text is not in the message."""


_decode = msgspec.json.Decoder(AuditEntry).decode


# --- making entries ---

#: Tokens, tickets, invitation and setup codes; and what begins like a JWT and has a second part.
_SECRET = re.compile(r"syncline_[pstic]_[A-Za-z0-9_-]+|ey[JA][A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}(\.[A-Za-z0-9_-]*)*")

#: So much of a text is looked at. A secret that begins in the part that is kept is recognised by then.
_SEARCHED_CHARS = 2 * TEXT_CHARS_MAX


def make_entry(
    prev: AuditHead,
    time_ms: int,
    action: str,
    *,
    actor: str | None,
    subject: str | None = None,
    outcome: AuditOutcome = "ok",
    address: str | None = None,
    detail: Mapping[str, str] | None = None,
) -> AuditEntry:
    """Make the entry behind `prev`. Texts may be anything that a peer sent; they come out bounded and without secrets.

    A secret becomes `[secret 0123456789abcdef]`: the begin of its SHA-256, by which an operator finds which token it
    was, and by which a name that was made to look like a secret still has one name in the log.

    Raises:
        ValueError: the action is not in the table, or there are more details than an entry has.
    """
    if action not in ACTIONS:
        raise ValueError(f"{action!r} is no action of the audit log")
    details = detail or {}
    if len(details) > DETAILS_MAX:
        raise ValueError(f"an entry has at most {DETAILS_MAX} details")
    return AuditEntry(
        n=prev.n + 1,
        time=time_ms,
        action=action,
        actor=_clean(actor),
        subject=_clean(subject),
        outcome=outcome,
        address=_clean(address),
        detail={_clean_text(name): _clean_text(text) for name, text in details.items()},
        prev=prev.hash,
    )


def encode_entry(entry: AuditEntry) -> bytes:
    """Return the exact text of an entry, in UTF-8 on one line. Control characters are escaped.

    Raises:
        SecretInEntry: it holds what looks like a token.
    """
    for text in (entry.actor, entry.subject, entry.address, *entry.detail, *entry.detail.values()):
        if text is not None and _SECRET.search(text):
            raise SecretInEntry(f"the entry for {entry.action} would hold a secret")
    return msgspec.json.encode(entry)


def decode_entry(text: bytes) -> AuditEntry:
    """Read what `encode_entry` wrote.

    Raises:
        ValueError: it is not an entry.
    """
    try:
        return _decode(text)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"it is not an entry: {error}") from error


def entry_hash(text: bytes) -> str:
    """Return the SHA-256 of an entry's exact text, in hex."""
    return sha256(text).hexdigest()


def _clean(text: str | None) -> str | None:
    return None if text is None else _clean_text(text)


def _clean_text(text: str) -> str:
    # Lone surrogates have no UTF-8; the header or JSON of a peer may hold some.
    readable = text[:_SEARCHED_CHARS].encode(errors="replace").decode()
    return _SECRET.sub(_fingerprint, readable)[:TEXT_CHARS_MAX]


def _fingerprint(secret: re.Match[str]) -> str:
    return f"[secret {entry_hash(secret[0].encode())[:16]}]"


# --- verification ---

_HEAD = re.compile(r"(-1|0|[1-9][0-9]{0,15}):([0-9a-f]{64})", re.ASCII)


def parse_head(text: str) -> AuditHead:
    """Read `N:HASH`, as `str` of a head writes it.

    Raises:
        ValueError: it has another form.
    """
    match = _HEAD.fullmatch(text)
    if match is None:
        raise ValueError("a head is N:HASH, the number of an entry and its SHA-256 in hex")
    return AuditHead(int(match[1]), match[2])


class Verifier:
    """Takes the exact texts of a chain, entry by entry from 0 on; needs no more memory for a longer one.

    Args:
        heads: heads that were noted at any time. Each of them has to be in the chain.
    """

    def __init__(self, *heads: AuditHead) -> None:
        self._noted = list(heads)
        self._head = NO_HEAD
        self._first_ms: int | None = None
        self._last_ms: int | None = None
        self._compare()

    def take(self, text: bytes) -> AuditEntry:
        """Check that this is the next entry, and return it.

        Raises:
            AuditBroken: it is not.
        """
        n = self._head.n + 1
        entry = self._read(n, text)
        if entry.n > n:
            raise AuditBroken(n, f"it is missing; entry {entry.n} is in its place")
        if entry.n < n:
            raise AuditBroken(n, f"entry {entry.n} is in its place, out of order or repeated")
        if entry.prev != self._head.hash:
            before = f"is not the hash of entry {n - 1}: one of the two was altered" if n else "has to be zeros"
            raise AuditBroken(n, f"its prev {before}")
        self._head = AuditHead(n, entry_hash(text))
        self._first_ms = entry.time if self._first_ms is None else self._first_ms
        self._last_ms = entry.time
        self._compare()
        return entry

    def finish(self) -> Verified:
        """Say that there are no more entries. Returns what was verified.

        Raises:
            AuditBroken: a head that was noted lies behind the end: the newest entries were cut off.
        """
        n = self._head.n + 1
        for head in self._noted:
            if head.n >= n:
                raise AuditBroken(n, f"the log ends before it, but there was an entry {head.n}")
        return Verified(n, self._head, self._first_ms, self._last_ms)

    def _compare(self) -> None:
        for head in self._noted:
            if head.n == self._head.n and head.hash != self._head.hash:
                raise AuditBroken(head.n, "its hash is not the one that was noted: it or one before it was altered")

    def _read(self, n: int, text: bytes) -> AuditEntry:
        if len(text) > ENTRY_BYTES_MAX:
            raise AuditBroken(n, f"it is longer than {ENTRY_BYTES_MAX} bytes")
        try:
            return decode_entry(text)
        except ValueError as error:
            raise AuditBroken(n, str(error)) from error


def verify(texts: Iterable[bytes], head: AuditHead | None = None) -> Verified:
    """Verify a whole chain, and that a head that was noted elsewhere is in it.

    Raises:
        AuditBroken: it is not whole, or does not hold the head.
    """
    verifier = Verifier() if head is None else Verifier(head)
    for text in texts:
        verifier.take(text)
    return verifier.finish()
