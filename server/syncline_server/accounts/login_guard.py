"""How often somebody may try a password. Pure: the caller brings the time, in seconds of a monotonic clock.

An attempt counts when it begins, so that many at once gain nothing, and is forgiven when it succeeds. It passes three
bounds, and is charged to none if one of them refuses: that of the *pair* of address and account (five attempts, then
waits of 1, 2, 4 … 60 s between two); that of the *address*, whatever accounts it tries, against one password for all of
them; and that of the *account*, whoever tries, against many addresses that guess together.

The last one must not lock out the owner. So an address from which somebody has logged in to this account before is
bound by its own failures alone; and one address cannot use the bound of the account up, as its pair lets it try only
once a minute. What an attacker with very many addresses can do is slow down logins to this account from addresses that
are new to it, while he goes on. Sessions and tokens are not concerned. Which addresses are known is lost with the
process. Accounts that do not exist are treated like those that do, so nothing can be learned from the answers.
"""

from collections import OrderedDict
from dataclasses import dataclass

from syncline_server.limits.admission import network_of
from syncline_server.limits.throttle import Throttle

__all__ = ["LoginGuard", "LoginLimits"]


@dataclass(frozen=True, slots=True)
class LoginLimits:
    """The bounds of logins.

    Attributes:
        free_attempts: so many fail before a pair waits.
        wait_max_s: the longest of these waits.
        forget_s: after so long without an attempt a pair begins anew. It is more than `free_attempts` of the longest
            waits, so that to rest and begin anew is never faster than to go on.
        address_per_s, address_burst: attempts of one address, in the long run and at once.
        account_per_s, account_burst: attempts on one account from addresses that are new to it.
        keys_max: so many pairs, addresses and accounts are remembered.
        known_max: so many addresses are known of one account.
    """

    free_attempts: int = 5
    wait_max_s: float = 60.0
    forget_s: float = 900.0
    address_per_s: float = 0.2
    address_burst: float = 50.0
    account_per_s: float = 0.2
    account_burst: float = 50.0
    keys_max: int = 10_000
    known_max: int = 32


class LoginGuard:
    """Says who may try a password now."""

    def __init__(self, limits: LoginLimits = LoginLimits()) -> None:
        self.limits = limits
        self._addresses: Throttle[str] = Throttle(limits.address_per_s, limits.address_burst, limits.keys_max)
        self._accounts: Throttle[str] = Throttle(limits.account_per_s, limits.account_burst, limits.keys_max)
        self._pairs: OrderedDict[tuple[str, str], _Pair] = OrderedDict()
        self._known: OrderedDict[str, OrderedDict[str, None]] = OrderedDict()

    def attempt(self, address: str, account: str, now: float) -> float:
        """Return 0 if the password may be looked at, which counts as a failure until `succeeded`; else seconds to wait.

        Args:
            address: from where, as text; of IPv6 the /64 counts.
            account: the name that was given, whether there is such an account or not. The caller bounds its length.
            now: the time.
        """
        network = network_of(address)
        is_known = network in self._known.get(account, ())
        pair = self._pair(network, account, now)
        wait = pair.not_before - now
        if not is_known:
            wait = max(wait, self._addresses.wait_s(network, 1, now), self._accounts.wait_s(account, 1, now))
        if wait > 0:
            return wait
        self._charge(pair, now)
        # An attacker can fill the room for pairs. Those that have none are still under the other two bounds; a known
        # pair is not, so it always has room.
        if is_known or len(self._pairs) < self.limits.keys_max or (network, account) in self._pairs:
            self._pairs[network, account] = pair
            self._pairs.move_to_end((network, account))
        if not is_known:
            self._addresses.take(network, 1, now)
            self._accounts.take(account, 1, now)
        return 0.0

    def succeeded(self, address: str, account: str) -> None:
        """Forgive the failures of this pair, and know the address from now on. The attempt before was allowed."""
        network = network_of(address)
        self._pairs.pop((network, account), None)
        known = self._known.setdefault(account, OrderedDict())
        self._known.move_to_end(account)
        if network not in known:
            # An office of many people behind one address logs in at nine o'clock.
            self._addresses.give_back(network, 1)
            self._accounts.give_back(account, 1)
        known[network] = None
        known.move_to_end(network)
        # Only somebody with a password gets in here, so nobody can push others out who could not log in anyway.
        if len(known) > self.limits.known_max:
            known.popitem(last=False)
        if len(self._known) > self.limits.keys_max:
            self._known.popitem(last=False)

    def forget(self, account: str) -> None:
        """Know no address of this account any more; its password was changed or reset, or it was deleted."""
        self._known.pop(account, None)

    def _pair(self, network: str, account: str, now: float) -> "_Pair":
        # Pairs are in the order of their last attempts, so those to be forgotten come first.
        while self._pairs and next(iter(self._pairs.values())).at + self.limits.forget_s <= now:
            self._pairs.popitem(last=False)
        return self._pairs.get((network, account)) or _Pair(0, now, now)

    def _charge(self, pair: "_Pair", now: float) -> None:
        pair.attempts += 1
        pair.at = now
        beyond = pair.attempts - self.limits.free_attempts
        if beyond >= 0:
            # The exponent is bounded, as a float is.
            pair.not_before = now + min(2.0 ** min(beyond, 32), self.limits.wait_max_s)


@dataclass(slots=True)
class _Pair:
    """An address that tries an account: how often since it last succeeded, when last, and when it may again."""

    attempts: int
    at: float
    not_before: float
