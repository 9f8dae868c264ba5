"""Sets of seqs as text: `1-44,46,50-880`, inclusive, ascending, without overlap (PROTOCOL 4.4)."""

import re
from collections.abc import Iterable

from .cursor import Seq
from .errors import RemoteProtocolError
from .limits import SEQ_MAX

__all__ = ["Range", "format_ranges", "parse_ranges"]

#: First and last seq, both included.
Range = tuple[Seq, Seq]

_RANGE = re.compile(r"([1-9][0-9]{0,15})(?:-([1-9][0-9]{0,15}))?", re.ASCII)


def format_ranges(ranges: Iterable[Range]) -> str:
    """Return the text of a set of seqs."""
    return ",".join([str(first) if first == last else f"{first}-{last}" for first, last in ranges])


def parse_ranges(text: str, *, ranges_max: int) -> list[Range]:
    """Read what `format_ranges` wrote; the empty text is the empty set.

    Raises:
        RemoteProtocolError: `bad_message`, if the text has another form or more than `ranges_max` ranges.
    """
    if not text:
        return []
    if text.count(",") >= ranges_max:
        raise RemoteProtocolError("bad_message", f"more than {ranges_max} ranges of seqs")
    ranges: list[Range] = []
    above = 0
    for part in text.split(","):
        match = _RANGE.fullmatch(part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
        if not above < first <= last <= SEQ_MAX:
            raise RemoteProtocolError("bad_message", f"{part[:40]!r} is not the next range of seqs")
        ranges.append((Seq(first), Seq(last)))
        above = last
    return ranges
