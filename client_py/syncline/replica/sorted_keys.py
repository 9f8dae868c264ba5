"""A set of keys in their order, to find those with a prefix. Keys come and go one by one; there are thousands."""

from bisect import bisect_left

from syncline_protocol.limits import DEFAULT_LIMITS

__all__ = ["SortedKeys", "end_of_prefix"]


#: No key is longer, and no character is above this one; as each of these has four bytes, so many are no key any more.
_ABOVE = "\U0010ffff" * (DEFAULT_LIMITS.key_bytes_max // 4 + 1)


def end_of_prefix(prefix: str) -> str:
    """Return a text that is above every key that begins so, and below every other one that is above them."""
    return prefix + _ABOVE


class SortedKeys:
    """The keys."""

    def __init__(self) -> None:
        self._keys: list[str] = []

    def add(self, key: str) -> None:
        """Put in a key that is not there."""
        # Most keys are made by time, and so come at the end.
        if not self._keys or self._keys[-1] < key:
            self._keys.append(key)
        else:
            self._keys.insert(bisect_left(self._keys, key), key)

    def remove(self, key: str) -> None:
        """Take out a key that is there."""
        del self._keys[bisect_left(self._keys, key)]

    def with_prefix(self, prefix: str) -> list[str]:
        """Return the keys that begin so, in their order."""
        first = bisect_left(self._keys, prefix)
        return self._keys[first : bisect_left(self._keys, end_of_prefix(prefix), first)]
