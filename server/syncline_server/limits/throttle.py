"""How often: token buckets, one by one and by key. Pure: the caller brings the time, in seconds of a clock of its own.

`Throttle` has a bucket for each user or address, in bounded memory. The usual way to bound it, to throw out the least
recently used, would let an attacker with more keys than there is room wash off his own debt: so only a bucket that is
full again is forgotten, which changes nothing for anybody. While every bucket is in debt, newcomers share one bucket,
the `rest`: an attacker with any number of keys then competes with other newcomers, but never with those who were there
before, and all keys together are bounded.
"""

import heapq
from collections.abc import Hashable
from typing import Generic, TypeVar

__all__ = ["Throttle", "TokenBucket"]

K = TypeVar("K", bound=Hashable)

#: Less than a microsecond is no wait: whoever waits exactly as long as he was told must not fail for rounding.
_NO_WAIT_S = 1e-6


class TokenBucket:
    """Holds `burst` tokens, and gets `rate_per_s` more every second until it is full.

    More than `burst` at once may be taken if it is full; it is then in debt, so the rate holds on average.
    """

    __slots__ = ("_at", "_tokens", "burst", "rate_per_s")

    def __init__(self, rate_per_s: float, burst: float) -> None:
        if not (rate_per_s > 0 and burst > 0):
            raise ValueError("rate and burst are above zero")
        self.rate_per_s = rate_per_s
        self.burst = burst
        self._tokens = burst
        self._at = float("-inf")

    def take(self, n: float, now: float) -> float:
        """Take `n` tokens and return 0; or take none, and return the seconds after which they will be there."""
        wait = self.wait_s(n, now)
        if not wait:
            self._tokens -= n
        return wait

    def wait_s(self, n: float, now: float) -> float:
        """Return what `take` would, without taking."""
        self._fill(now)
        wait = (min(n, self.burst) - self._tokens) / self.rate_per_s
        return wait if wait > _NO_WAIT_S else 0.0

    def take_at_once(self, n: float) -> None:
        """Take `n` tokens, of which `wait_s` has just said that they are there."""
        self._tokens -= n

    def give_back(self, n: float) -> None:
        """Put `n` tokens back that turned out not to count."""
        self._tokens = min(self.burst, self._tokens + n)

    def full_at(self) -> float:
        """Return when it is full, if nobody takes any more."""
        return self._at + (self.burst - self._tokens) / self.rate_per_s if self._tokens < self.burst else self._at

    def _fill(self, now: float) -> None:
        # A clock that was set back gives nothing, and takes nothing away.
        if now > self._at:
            if self._tokens < self.burst:
                self._tokens = min(self.burst, self._tokens + (now - self._at) * self.rate_per_s)
            self._at = now


class Throttle(Generic[K]):
    """A bucket for each key.

    Args:
        rate_per_s: how many tokens a key gets every second.
        burst: how many it has at most.
        keys_max: so many keys have a bucket of their own.
        rest_share: the bucket of all others is as large as this part of all buckets together, at least as one.
    """

    def __init__(self, rate_per_s: float, burst: float, keys_max: int, *, rest_share: float = 0.01) -> None:
        if keys_max < 1:
            raise ValueError("there is room for one key at least")
        self.rate_per_s = rate_per_s
        self.burst = burst
        self.keys_max = keys_max
        share = max(1.0, keys_max * rest_share)
        self._rest = TokenBucket(rate_per_s * share, burst * share)
        self._buckets: dict[K, TokenBucket] = {}
        #: Each key once, with a time before which its bucket was not full when last looked at. The true time is never
        #: earlier, unless tokens were given back; then the bucket is only forgotten later than it could be.
        self._full_at: list[tuple[float, int, K]] = []
        self._turn = 0

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, key: K, n: float, now: float) -> float:
        """Take `n` tokens of this key and return 0; or take none, and return the seconds to wait."""
        return self._bucket(key, now).take(n, now)

    def wait_s(self, key: K, n: float, now: float) -> float:
        """Return what `take` would, without taking."""
        bucket = self._buckets.get(key)
        if bucket is not None:
            return bucket.wait_s(n, now)
        self._forget_full(now)
        return self._rest.wait_s(n, now) if len(self._buckets) >= self.keys_max else 0.0

    def give_back(self, key: K, n: float) -> None:
        """Put tokens back that turned out not to count. Those that were taken from the rest are not known any more."""
        bucket = self._buckets.get(key)
        if bucket is not None:
            bucket.give_back(n)

    def _bucket(self, key: K, now: float) -> TokenBucket:
        bucket = self._buckets.get(key)
        if bucket is None:
            self._forget_full(now)
            if len(self._buckets) >= self.keys_max:
                return self._rest
            bucket = self._buckets[key] = TokenBucket(self.rate_per_s, self.burst)
            self._push(key, now)
        return bucket

    def _forget_full(self, now: float) -> None:
        """Forget every bucket that is full. Each step forgets one, or moves one behind `now`, so few are looked at."""
        while self._full_at and self._full_at[0][0] <= now:
            key = heapq.heappop(self._full_at)[2]
            full_at = self._buckets[key].full_at()
            if full_at <= now:
                del self._buckets[key]
            else:
                self._push(key, full_at)

    def _push(self, key: K, full_at: float) -> None:
        # Equal times are told apart by their turn, as keys need not have an order.
        self._turn += 1
        heapq.heappush(self._full_at, (full_at, self._turn, key))
