"""A set of keys in their order, to find those with a prefix. Keys come and go one by one; there are thousands."""

from bisect import bisect_left

__all__ = ["SortedKeys", "end_of_prefix"]


def end_of_prefix(prefix: str) -> str:
    """Return a text that is above every key that begins so, and below every other one that is above them."""
    return prefix + "\U0010ffff"


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
