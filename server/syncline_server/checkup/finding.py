"""What a check has found: one line of the report, and how the faults of one check become one."""

from collections.abc import Callable
from typing import Literal, NamedTuple

__all__ = ["Faults", "Finding", "Level", "Progress"]

Level = Literal["ok", "warn", "fail"]

#: Called with what is being looked at, how much of it was, and of how much: 0 of an unknown whole.
Progress = Callable[[str, int, int], None]

#: So many faults of one check are named; of the others it is said how many they are.
_NAMED_MAX = 3


class Finding(NamedTuple):
    """One line: `text` is what was found, `todo` what to do about it.

    A tuple, as it goes to the command line, which does not know this package.
    """

    level: Level
    text: str
    todo: str = ""


class Faults:
    """The faults of one check, of which there may be millions."""

    __slots__ = ("_named", "count")

    def __init__(self) -> None:
        self.count = 0
        self._named: list[str] = []

    def add(self, text: str) -> None:
        """Note one."""
        self.count += 1
        if len(self._named) < _NAMED_MAX:
            self._named.append(text)

    def __bool__(self) -> bool:
        return self.count > 0

    def __str__(self) -> str:
        rest = self.count - len(self._named)
        return "; ".join(self._named) + (f"; and {rest} more" if rest else "")
