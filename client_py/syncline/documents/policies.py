"""What the application wants done when two change the same attribute of a document. Pure but for its own functions."""

from collections.abc import Callable, Mapping
from typing import Any

from syncline.errors import Misuse
from syncline_protocol import Limits

from .attribute import decode_attribute, encode_attribute
from .edits import Policy

__all__ = ["ConflictPolicy", "Merge", "OnConflict", "Policies", "conflict_message", "merged"]

#: Makes one value of three: the one that both began with (None if there was none), ours, and theirs. What they are
#: is up to the application, which knows what it keeps in an attribute.
Merge = Callable[[Any, Any, Any], Any]
ConflictPolicy = str | Merge
OnConflict = ConflictPolicy | Mapping[str, ConflictPolicy]

_LAST: Policy = "last"
_NAMES = frozenset({"last", "report"})


class Policies:
    """The application's wishes, by collection and attribute.

    Args:
        changed: called when there is a new one; a write may have waited for it.
    """

    def __init__(self, changed: Callable[[], None] = lambda: None) -> None:
        self._policies: dict[str, OnConflict] = {}
        self._changed = changed

    def register(self, pattern: str, on_conflict: OnConflict) -> None:
        """Note the wish for all collections that have their place alike. Raises `Misuse` if there is no such policy."""
        for wish in on_conflict.values() if isinstance(on_conflict, Mapping) else [on_conflict]:
            if not callable(wish) and wish not in _NAMES:
                raise Misuse(f"{wish!r} is no way to deal with conflicts", hint="give 'last', 'report' or a function")
        self._policies[pattern] = on_conflict
        self._changed()

    def name_of(self, pattern: str, attribute: str) -> Policy:
        """Return what is kept with an edit: functions cannot be."""
        wish = self.wish(pattern, attribute)
        if callable(wish):
            return "merge"
        return "report" if wish == "report" else _LAST

    def wish(self, pattern: str, attribute: str) -> ConflictPolicy | None:
        """Return what is wanted now; None if nothing was said of the collection since the program was started."""
        wish = self._policies.get(pattern)
        return wish.get(attribute, _LAST) if isinstance(wish, Mapping) else wish


def merged(wish: ConflictPolicy, before: str | None, ours: str, theirs: str, limits: Limits) -> str | None:
    """Return the value that the application's function makes of two.

    None if there is no function, or it failed: both values are kept, and the application decides.
    """
    if not callable(wish):
        return None
    try:
        base = None if before is None else decode_attribute(before)
        return encode_attribute(wish(base, decode_attribute(ours), decode_attribute(theirs)), limits).decode()
    except Exception:
        return None


def conflict_message(document: str, attribute: str, theirs: str) -> str:
    """Return in words what the application has to decide about."""
    return f"{attribute!r} of {document} was set to {theirs[:200]} by somebody else"
