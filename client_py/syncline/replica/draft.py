"""A write as it is put into the outbox, before it has a place there, and what is to be said of it. No I/O."""

from dataclasses import dataclass

from .entry import Edit, EntryOp, Refusal
from .report import Report

__all__ = ["Draft"]


@dataclass(frozen=True, slots=True)
class Draft:
    """Attributes:
    ops, atomic, edits: as those of an `Entry`.
    refusal: why the application has to decide about it first: then it is REJECTED from the start.
    reports: what became of its edits until now.
    """

    ops: tuple[EntryOp, ...]
    atomic: bool = True
    edits: tuple[Edit, ...] = ()
    refusal: Refusal | None = None
    reports: tuple[Report, ...] = ()
