"""What one local transaction is going to save, and what is to be told to whom once it is saved. No I/O."""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from syncline.errors import SynclineError

from .entry import Entry, EntryId
from .report import Report
from .step import Apply, DropEntry, SaveEntries, SavePlace, Step

__all__ = ["Group", "Order"]


@dataclass(slots=True, eq=False)
class Order:
    """Something that is to be done between two items of the feed.

    Attributes:
        work: does it; returns what `done` gets once it is saved.
        reads: it looks at the records, so what came before has to be saved first.
        done: gets the result, or the error; None if nobody waits.
    """

    work: "Callable[[], Entry | None]"
    reads: bool = False
    done: "asyncio.Future[Entry | None] | None" = None

    def succeed(self, entry: Entry | None) -> None:
        """Tell who waits."""
        if self.done is not None and not self.done.done():
            self.done.set_result(entry)

    def fail(self, error: SynclineError) -> None:
        """Tell who waits that it was not done."""
        if self.done is not None and not self.done.done():
            self.done.set_exception(error)


@dataclass(slots=True)
class Group:
    """Attributes:
    orders: those that were carried out, with their results.
    has_rows: the steps change records.
    """

    orders: list[tuple[Order, Entry | None]] = field(default_factory=list)
    reports: list[Report] = field(default_factory=list)
    has_rows: bool = False
    touched: set[str] | None = field(default_factory=set)
    _steps: list[Step] = field(default_factory=list)
    _place: SavePlace | None = None
    _entries: dict[EntryId, Entry] = field(default_factory=dict)
    _gone: dict[EntryId, Entry] = field(default_factory=dict)
    _told: list[Entry] = field(default_factory=list)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to save and nobody to tell."""
        saved = self._steps or self._place or self._entries or self._gone
        return not (saved or self._told or self.orders or self.reports)

    def add(self, steps: Iterable[Step]) -> None:
        """Take steps. Of several places the last counts, and the changes of several batches are applied as one."""
        for step in steps:
            if isinstance(step, SavePlace):
                self._place = step
                continue
            self.has_rows = True
            last = self._steps[-1] if self._steps else None
            if (
                isinstance(step, Apply)
                and isinstance(last, Apply)
                and (step.generation, step.horizon) == (last.generation, last.horizon)
            ):
                last.changes.extend(step.changes)
            else:
                self._steps.append(step)

    def save(self, entry: Entry) -> Entry:
        """Save an entry as it is now."""
        self._gone.pop(entry.id, None)
        self._entries[entry.id] = entry
        return entry

    def forget(self, entry: Entry) -> None:
        """Forget an entry."""
        self._entries.pop(entry.id, None)
        self._gone[entry.id] = entry

    def tell(self, entry: Entry) -> None:
        """Tell of an entry as it is now, and save it later."""
        self._told.append(entry)

    def touch(self, keys: Iterable[str] | None) -> None:
        """Note keys whose records look different once this is saved; None for any."""
        if keys is None or self.touched is None:
            self.touched = None
        else:
            self.touched.update(keys)

    def steps(self) -> list[Step]:
        """Return what is to be carried out."""
        steps = [*self._steps, *[DropEntry(entry_id) for entry_id in self._gone]]
        if self._entries:
            steps.append(SaveEntries(list(self._entries.values())))
        return [*steps, self._place] if self._place is not None else steps

    def moved(self) -> list[Entry]:
        """Return the entries that changed, as they are now; also those that were forgotten."""
        return [*self._entries.values(), *self._gone.values(), *self._told]

    def fail(self, error: SynclineError) -> None:
        """Tell everybody that it was not saved."""
        for order, _ in self.orders:
            order.fail(error)
