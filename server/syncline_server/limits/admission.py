"""How many at once: who may open a connection, by counts of those that are open. Pure.

Bounds, each with a name: `connections` in all, `address` for each address, `user` for each account, and for those that
have not logged in yet `pending` in all and `pending_address`. So whoever does not log in can hold a small part of the
places only, and who brings his credentials along is never refused for those who wait. WebSockets and SSE streams count
alike. Each connection has a `Seat`, which knows as what it was counted, so that entering and leaving cannot differ.
"""

from collections import Counter
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from typing import Literal

__all__ = ["Admission", "AdmissionLimits", "Refusal", "Seat", "Which", "network_of"]

#: Which limit refused.
Which = Literal["connections", "address", "user", "pending", "pending_address"]


@dataclass(frozen=True, slots=True)
class AdmissionLimits:
    """So many may be open at once. Those that wait for a login get a tenth of all places, and few for each address."""

    connections: int = 10_000
    address: int = 1_000
    user: int = 200
    pending: int = 1_000
    pending_address: int = 20


@dataclass(frozen=True, slots=True)
class Refusal:
    """The limit that was reached, and its value."""

    which: Which
    maximum: int

    def __str__(self) -> str:
        return _TEXTS[self.which].format(self.maximum)


_TEXTS: dict[Which, str] = {
    "connections": "the server has {} connections open, and takes no more",
    "address": "this address has {} connections open, and gets no more",
    "user": "this user has {} connections open, and gets no more",
    "pending": "{} connections wait for a login, and no more may",
    "pending_address": "{} connections of this address wait for a login, and no more may",
}


class Admission:
    """Counts open connections."""

    def __init__(self, limits: AdmissionLimits = AdmissionLimits()) -> None:
        self.limits = limits
        self._all = 0
        self._pending = 0
        self._by_address: Counter[str] = Counter()
        self._by_user: Counter[str] = Counter()
        self._pending_by_address: Counter[str] = Counter()

    def enter(self, address: str) -> "Seat | Refusal":
        """Let in a connection that has yet to say who it is; `Seat.settle` comes next, or `Seat.leave`."""
        return self._enter(Seat(self, network_of(address), None, is_pending=True))

    def enter_as(self, address: str, user: str | None) -> "Seat | Refusal":
        """Let in a connection that came with its credentials; None is one that needs none, and is nobody's."""
        return self._enter(Seat(self, network_of(address), user, is_pending=False))

    @property
    def open(self) -> int:
        """How many connections are open."""
        return self._all

    @property
    def pending(self) -> int:
        """How many of them have not logged in."""
        return self._pending

    def _enter(self, seat: "Seat") -> "Seat | Refusal":
        refusal = self._refusal(seat)
        if refusal is not None:
            return refusal
        seat.is_open = True
        self._count(seat, 1)
        return seat

    def _refusal(self, seat: "Seat") -> Refusal | None:
        limits, network = self.limits, seat.network
        if self._all >= limits.connections:
            return Refusal("connections", limits.connections)
        if self._by_address[network] >= limits.address:
            return Refusal("address", limits.address)
        if seat.is_pending and self._pending_by_address[network] >= limits.pending_address:
            return Refusal("pending_address", limits.pending_address)
        if seat.is_pending and self._pending >= limits.pending:
            return Refusal("pending", limits.pending)
        return self._refusal_of_user(seat.user)

    def _refusal_of_user(self, user: str | None) -> Refusal | None:
        if user is not None and self._by_user[user] >= self.limits.user:
            return Refusal("user", self.limits.user)
        return None

    def _count(self, seat: "Seat", by: int) -> None:
        self._all += by
        _add(self._by_address, seat.network, by)
        if seat.user is not None:
            _add(self._by_user, seat.user, by)
        if seat.is_pending:
            self._pending += by
            _add(self._pending_by_address, seat.network, by)


class Seat:
    """The place of one open connection. `network` is what its address is counted as."""

    __slots__ = ("_admission", "is_open", "is_pending", "network", "user")

    def __init__(self, admission: Admission, network: str, user: str | None, *, is_pending: bool) -> None:
        self._admission = admission
        self.network = network
        self.user = user
        self.is_pending = is_pending
        self.is_open = False

    def settle(self, user: str | None) -> Refusal | None:
        """Say who it is, for the first time or anew; None if it is let in without being anybody.

        Returns the limit if this user has too many. Nothing has changed then, and the caller closes the connection.
        One that left while its credentials were looked at is counted no more.
        """
        if not self.is_open:
            return None
        admission = self._admission
        if user != self.user:
            refusal = admission._refusal_of_user(user)
            if refusal is not None:
                return refusal
        admission._count(self, -1)
        self.user, self.is_pending = user, False
        admission._count(self, 1)
        return None

    def leave(self) -> None:
        """Give the place back. Safe to call twice."""
        if self.is_open:
            self.is_open = False
            self._admission._count(self, -1)


def network_of(address: str) -> str:
    """Return what an address counts as: of IPv6 the /64, as one host has all of it; else the address itself.

    An IPv4 address in the dress of IPv6 is the IPv4 address. What is no IP address, as that of a Unix socket, is kept.
    """
    try:
        ip = ip_address(address)
    except ValueError:
        return address
    if not isinstance(ip, IPv6Address):
        return str(ip)
    if ip.ipv4_mapped is not None:
        return str(ip.ipv4_mapped)
    return f"{IPv6Address(ip.packed[:8] + bytes(8))}/64"


def _add(counter: Counter[str], key: str, by: int) -> None:
    counter[key] += by
    # What is zero again is forgotten, so that memory is bounded by what is open.
    if not counter[key]:
        del counter[key]
