"""Positions in a log: cursor, lineage, and the one function that decides how a subscriber resumes.

Owns the text form of cursors and lineages and the resume table of PROTOCOL 5. Pure: minting the random
part of an incarnation is the caller's. Invariants:

- every position of a log has exactly one name: that of the last lineage entry with `first_seq <= seq`;
- a cursor is valid if it is the name of its position: its incarnation is in the lineage and its seq between that
  incarnation's first and last;
- a cursor that is ahead is proof of lost history, never waited for and never clamped.
"""

import re
from dataclasses import dataclass
from itertools import pairwise
from typing import NewType

from .errors import CursorInvalid
from .limits import INCARNATION_CHARS_MAX, LINEAGE_ENTRIES_MAX, SEQ_MAX

__all__ = [
    "NOW",
    "START",
    "Cursor",
    "Entry",
    "Lineage",
    "Position",
    "Reconcile",
    "Resume",
    "Resumption",
    "Rewind",
    "Seq",
    "Snapshot",
    "decide_resume",
    "lineage_with",
    "parse_cursor",
]

Seq = NewType("Seq", int)
#: The text `incarnation:seq`, in a view that shows a part only `incarnation:seq~view` (PROTOCOL 5.7). Opaque to
#: clients and always replaced whole.
Cursor = NewType("Cursor", str)

#: Reserved words that SUBSCRIBE takes in the place of a cursor (PROTOCOL 5.1.4).
START = "start"
NOW = "now"

_NOTHING = Seq(0)
_INCARNATION = re.compile(rf"[A-Za-z0-9_-]{{1,{INCARNATION_CHARS_MAX}}}", re.ASCII)
_VIEW = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
_SEQ = re.compile(r"0|[1-9][0-9]{0,15}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Position:
    """A parsed cursor; `view` is the token of a view that shows a part only."""

    incarnation: str
    seq: Seq
    view: str | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """One lineage entry: from `first_seq` on, positions bear the name of `incarnation`."""

    incarnation: str
    first_seq: Seq


@dataclass(frozen=True, slots=True)
class Resume:
    """The cursor is valid: batches go on after it."""

    at: Seq


@dataclass(frozen=True, slots=True)
class Rewind:
    """History forked: what the client holds above `keep_to` never happened here."""

    keep_to: Seq


@dataclass(frozen=True, slots=True)
class Reconcile:
    """The position is valid, but what was seen on the way there is not what is seen here.

    It was reached in another view, or DELETEs above it were cleaned away. `at` is where batches go on.
    """

    at: Seq


@dataclass(frozen=True, slots=True)
class Snapshot:
    """No common history: the walk begins at the start."""


Resumption = Resume | Rewind | Reconcile | Snapshot


def _seq(text: str) -> Seq:
    if not _SEQ.fullmatch(text) or int(text) > SEQ_MAX:
        raise CursorInvalid(f"{text[:24]!r} is not a seq")
    return Seq(int(text))


def parse_cursor(text: str) -> Position:
    """Parse `incarnation:seq` or `incarnation:seq~view`.

    Raises:
        CursorInvalid: the text has another form.
    """
    incarnation, colon, rest = text.partition(":")
    seq, tilde, view = rest.partition("~")
    if not colon or not _INCARNATION.fullmatch(incarnation) or (tilde and not _VIEW.fullmatch(view)):
        raise CursorInvalid(f"{text[:80]!r} is not a cursor")
    return Position(incarnation, _seq(seq), view or None)


class Lineage:
    """The incarnations of one log, oldest first, each with the first seq that bears its name.

    The first entry begins at seq 0, the position before the first change, so that an empty log has a
    named position too.
    """

    __slots__ = ("entries",)

    def __init__(self, entries: tuple[Entry, ...]) -> None:
        assert entries, "a log has at least one incarnation"
        assert all(a.first_seq < b.first_seq for a, b in pairwise(entries)), entries
        self.entries = entries

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Lineage) and self.entries == other.entries

    def __hash__(self) -> int:
        return hash(self.entries)

    def __repr__(self) -> str:
        return f"Lineage({self.to_text()!r})"

    @property
    def current(self) -> Entry:
        """The newest entry."""
        return self.entries[-1]

    def extended(self, incarnation: str, first_seq: Seq) -> "Lineage":
        """Return this lineage with one more incarnation.

        An incarnation under which nothing was committed is replaced: no position bears its name yet.
        """
        kept = self.entries if self.current.first_seq < first_seq else self.entries[:-1]
        return Lineage((*kept, Entry(incarnation, first_seq)))

    def cursor(self, seq: Seq, view: str | None = None) -> Cursor:
        """Return the one name of the position `seq`, in this view."""
        for entry in reversed(self.entries):
            if entry.first_seq <= seq:
                return Cursor(f"{entry.incarnation}:{seq}" if view is None else f"{entry.incarnation}:{seq}~{view}")
        raise AssertionError(f"seq {seq} is before the lineage")

    def last_seq(self, incarnation: str, head: Seq) -> Seq | None:
        """Return the last seq up to `head` that bears this incarnation's name, or None if there is none."""
        end = head
        for entry in reversed(self.entries):
            if entry.first_seq > head:
                continue
            if entry.incarnation == incarnation:
                return end
            end = Seq(entry.first_seq - 1)
        return None

    def to_text(self) -> str:
        """Return the form that SUBSCRIBED carries: the newest entries, `incarnation@first_seq`, comma-separated."""
        return ",".join(f"{e.incarnation}@{e.first_seq}" for e in self.entries[-LINEAGE_ENTRIES_MAX:])

    @classmethod
    def parse(cls, text: str) -> "Lineage":
        """Parse what `to_text` wrote.

        Raises:
            CursorInvalid: the text has another form.
        """
        parts = text.split(",")
        if len(parts) > LINEAGE_ENTRIES_MAX:
            raise CursorInvalid(f"a lineage has at most {LINEAGE_ENTRIES_MAX} entries")
        entries = []
        for part in parts:
            incarnation, at, first = part.partition("@")
            if not at or not _INCARNATION.fullmatch(incarnation):
                raise CursorInvalid(f"{part[:80]!r} is not a lineage entry")
            entries.append(Entry(incarnation, _seq(first)))
        if any(a.first_seq >= b.first_seq for a, b in pairwise(entries)):
            raise CursorInvalid("lineage entries are in ascending order of their first seq")
        return cls(tuple(entries))


def lineage_with(lineage: str, from_: Cursor, to: Cursor) -> str:
    """Return the lineage that a client keeps, with the incarnation that a batch has brought, if it is a new one.

    When exactly that one began cannot be told from the batch, so it counts from the first position that may be its own,
    which is behind those where the others begin: a rewind then reaches at most a batch too far back, where without it
    nothing would be known to be in common.
    """
    before, after = parse_cursor(from_), parse_cursor(to)
    if before.incarnation == after.incarnation:
        return lineage
    known = Lineage.parse(lineage)
    if any(entry.incarnation == after.incarnation for entry in known.entries):
        return lineage
    first = Seq(before.seq + 1)
    if known.current.first_seq > first:
        # A catch-up from far below comes by beginnings that are known in one batch with the new one.
        first = Seq(known.current.first_seq + 1)
    return known.extended(after.incarnation, first).to_text()


def decide_resume(
    lineage: Lineage, head: Seq, after: Position, known: Lineage | None, view: str | None = None, floor: Seq = _NOTHING
) -> Resumption:
    """Decide how a subscriber with the cursor `after` goes on: the resume table of PROTOCOL 5.4.

    Args:
        lineage: the log's lineage, freshly read.
        head: the log's last seq, of the same read.
        after: the client's cursor.
        known: the lineage that the client got with its last SUBSCRIBED, if it has one.
        view: the token of the view in which it goes on.
        floor: the tombstone floor; what died up to there may have left no DELETE.
    """
    last = lineage.last_seq(after.incarnation, head)
    if last is not None:
        if after.seq > last:
            return Rewind(last)
        # Below its incarnation's first seq the text names no position: it was not got from this log.
        if lineage.last_seq(after.incarnation, after.seq) is None:
            return Snapshot()
        # Nothing was seen at the position 0, in whatever view.
        if after.seq == 0 or (after.view == view and after.seq >= floor):
            return Resume(after.seq)
        return Reconcile(max(after.seq, floor))
    if known is None or known.last_seq(after.incarnation, after.seq) is None:
        return Snapshot()
    for entry in reversed(known.entries):
        here = lineage.last_seq(entry.incarnation, head)
        there = known.last_seq(entry.incarnation, after.seq)
        if here is not None and there is not None:
            return Rewind(min(here, there))
    return Snapshot()
