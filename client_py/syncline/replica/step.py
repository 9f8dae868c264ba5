"""What one local transaction does to a replica's database, as data: made by the pure core, carried out by the shell.

Records are kept in generations. One is *shown*; one is *built*, and usually both are the same. What a catch-up brings
is above the shown seq (its *horizon*) and cannot be seen until it is moved; a history that is another one is built
beside the shown one, and takes its place when it is whole.
"""

from typing import Literal

import msgspec

from syncline_protocol.cursor import Seq
from syncline_protocol.messages import Change
from syncline_protocol.ranges import Range
from syncline_protocol.seq_set import SeqSet

from .entry import Entry, EntryId

__all__ = [
    "Apply",
    "Branch",
    "DropEntry",
    "FillIn",
    "ForgetHistory",
    "Generation",
    "IndexKeys",
    "SaveEntries",
    "SavePlace",
    "Place",
    "Show",
    "StartOver",
    "Step",
    "Tally",
]

Generation = int


class Place(msgspec.Struct, frozen=True):
    """Where a replica stands; saved with every change of it.

    Attributes:
        store_id: the store that it follows, once it has met it.
        cursor: the position of the built generation, or `start`.
        lineage: what the server said last of its history; given back as `known`.
        built: the generation that batches go to.
        shown: the generation that can be seen.
        horizon: the seq up to which it can be seen.
        restarted: why the built generation was begun from nothing, until it is shown: the server had none of our
            history, or what we held was not what it has.
        mending: what was held was not what the server has. The next SUBSCRIBE asks what lives, or that was listed
            since, and CAUGHT_UP has to prove that it is right now; otherwise everything is read anew.
    """

    store_id: str | None = None
    cursor: str = "start"
    lineage: str | None = None
    built: Generation = 1
    shown: Generation = 1
    horizon: Seq = Seq(0)
    restarted: Literal["snapshot", "repair"] | None = None
    mending: Literal["asks", "listed"] | None = None


class Tally(msgspec.Struct, frozen=True):
    """What the built generation holds at its cursor, and what is missing of it.

    Attributes:
        count: the records that live there.
        digest: the sum of their digest terms, modulo 2^32.
        missing: seqs that live and are not held yet.
        shown_count: the records that can be seen.
    """

    count: int = 0
    digest: int = 0
    missing: SeqSet = SeqSet()
    shown_count: int = 0


class Apply(msgspec.Struct, frozen=True):
    """Apply the changes of batches to a generation. `horizon`: what may be seen of it; None if everything may."""

    generation: Generation
    changes: list[Change]
    horizon: Seq | None


class FillIn(msgspec.Struct, frozen=True):
    """Add records that were missing; `done`: the ranges that were asked for and are answered."""

    generation: Generation
    changes: list[Change]
    done: tuple[Range, ...] = ()


class StartOver(msgspec.Struct, frozen=True):
    """Begin an empty generation; drop `instead_of`, one that was being built and is of no use any more."""

    generation: Generation
    instead_of: Generation | None


class Branch(msgspec.Struct, frozen=True):
    """Begin a generation with those records of another one that live at `keep_to` according to `live`."""

    generation: Generation
    source: Generation
    keep_to: Seq
    live: SeqSet
    drop_source: bool


class Show(msgspec.Struct, frozen=True):
    """Let everything that a generation holds be seen; drop the one that was shown before, if it is another."""

    generation: Generation
    instead_of: Generation | None


class IndexKeys(msgspec.Struct, frozen=True):
    """Make a generation ready for look-ups by key, which one that is being built from nothing is not."""

    generation: Generation


class SavePlace(msgspec.Struct, frozen=True):
    """Save where the replica stands."""

    place: Place


class SaveEntries(msgspec.Struct, frozen=True):
    """Save outbox entries as they are now."""

    entries: list[Entry]


class DropEntry(msgspec.Struct, frozen=True):
    """Forget an outbox entry."""

    entry_id: EntryId


class ForgetHistory(msgspec.Struct, frozen=True):
    """Forget the writes that were synced: they belong to another store."""


Step = Apply | FillIn | StartOver | Branch | Show | IndexKeys | SavePlace | SaveEntries | DropEntry | ForgetHistory
