"""A replica's file of format 1, kept so that later versions show that they open it; and what is in it.

The version of that time made it, as `format_2` makes its own. It stands in the middle of a catch-up, with an entry of
every kind.
"""

from pathlib import Path

from syncline.replica.entry import Edit, Entry, EntryOp, Refusal, SyncState
from syncline.replica.schema import Identity
from syncline.replica.step import Place
from syncline_protocol.cursor import Cursor, Seq

__all__ = ["ENTRIES", "FILE", "IDENTITY", "PLACE", "SHOWN", "SYNCED", "TIME"]

FILE = Path(__file__).with_name("format-1.replica")
IDENTITY = Identity("notes", "")
TIME = 1_795_400_000_000
SHOWN = {"k1": '{"n": 1.50}', "k2": '"zwei"', "k3": "3", "k4": '"' + "lang" * 2000 + '"'}

#: Seqs 1 to 4 are shown; 5 deleted k2 and 6 added k6, neither of which can be seen before the catch-up ends.
PLACE = Place("store-1", "inc1:6", "inc1:0", built=1, shown=1, horizon=Seq(4))

ENTRIES = [
    Entry(1, (EntryOp("e1", '{"n":1.0}'),), TIME),
    Entry(2, (EntryOp("k1"), EntryOp("e2", '"neu"')), TIME + 1, returned=True),
    Entry(3, (EntryOp("gone"),), TIME + 2, atomic=False),
    Entry(
        4,
        (EntryOp("k3"), EntryOp("d/a/4", '"ours"')),
        TIME + 3,
        edits=(Edit("d", "a", "d/a/4", "k3", "3", "merge"),),
        refusal=Refusal("refused", ("gone", "skipped"), head=Cursor("inc1:9")),
    ),
    Entry(5, (EntryOp("e5", "5"),), TIME + 4, SyncState.ACKED, at=Cursor("inc1:7"), seqs=(Seq(7),)),
    Entry(
        6,
        (EntryOp("k1", "6"),),
        TIME + 5,
        SyncState.REJECTED,
        refusal=Refusal("conflict", ("conflict",), "some_code", "somebody else was first", Cursor("inc1:4")),
    ),
]
SYNCED = [Entry(7, (EntryOp("k4", SHOWN["k4"]),), TIME + 6, SyncState.SYNCED, at=Cursor("inc1:4"), seqs=(Seq(4),))]
