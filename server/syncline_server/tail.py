"""The recent part of one store's log, in memory, for everybody who is close to the tip.

Holds every row of (base, head] as it was committed, nothing left out, so any position in that interval can be
continued from here; who is below `base` reads the storage. A tail is only ever extended by what is durable, and
trimmed by whoever keeps the budget of all tails.
"""

from syncline_protocol.cursor import Seq
from syncline_protocol.limits import BATCH_BYTES_TARGET

from .storage.base import Commit, Head, Row

__all__ = ["Tail"]

_NOWHERE = Seq(0)


class Tail:
    """Args:
    head: where the log stood when this process began to follow it; the tail begins there, empty.
    floor: the tombstone floor of the log; whoever reads it anew notes it here.
    """

    __slots__ = ("_rows", "base", "bytes_held", "floor", "head")

    def __init__(self, head: Head, floor: Seq = _NOWHERE) -> None:
        self.head = head
        self.floor = floor
        self.base: Seq = head.seq
        self.bytes_held = 0
        self._rows: list[Row] = []

    def extend(self, commit: Commit) -> None:
        """Take the next commit of the log."""
        assert commit.after == self.head.seq, "commits come in order and without a gap"
        self._rows.extend(commit.rows)
        self.bytes_held += sum([len(row.text) for row in commit.rows])
        self.head = commit.head

    def note_floor(self, floor: Seq) -> None:
        """Take note of a tombstone floor that was read from the log; it only ever rises."""
        self.floor = max(self.floor, floor)

    def trim(self, bytes_max: int, upto: Seq) -> None:
        """Let the oldest rows go, none above `upto`, until at most `bytes_max` are held."""
        drop = 0
        while self.bytes_held > bytes_max and self.base + drop < upto:
            self.bytes_held -= len(self._rows[drop].text)
            drop += 1
        del self._rows[:drop]
        self.base = Seq(self.base + drop)

    def texts(self, after: Seq, upto: Seq) -> tuple[Seq, list[bytes]]:
        """Return the changes above `after`, at most to `upto`, and the seq that they reach.

        They end with a transaction, after about `BATCH_BYTES_TARGET`. `after` is not below `base`.
        """
        assert self.base <= after <= upto <= self.head.seq
        texts: list[bytes] = []
        size = 0
        to = after
        rows = self._rows
        for index in range(after - self.base, upto - self.base):
            row = rows[index]
            texts.append(row.text)
            size += len(row.text)
            to = row.seq
            if size >= BATCH_BYTES_TARGET and row.seq == row.last_seq:
                break
        return to, texts
