"""What an entry is made anew on: the records that the server has, and what the outbox is about to add. Reads only."""

from .database import Database
from .entry import EntryId
from .outbox import Outbox

__all__ = ["RecordsAndOutbox"]


class RecordsAndOutbox:
    """A `meaning.Base`."""

    def __init__(self, records: Database, outbox: Outbox) -> None:
        self._outbox = outbox
        self.get = records.get
        self.with_prefix = records.with_prefix

    def coming(self, prefix: str, before: EntryId | None = None) -> list[str]:
        """Return the keys that begin so and that entries of the outbox add, rejected ones among them."""
        return [
            key
            for key in self._outbox.keys(prefix)
            if any(key in entry.added for entry in self._outbox.of_key(key) if before is None or entry.id < before)
        ]
