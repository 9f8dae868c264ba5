"""What the record of used keys says of the log: every seq is in it once, as that of an ADD or of a DELETE.

It stays for ever, also when clean-up has taken the rows, so by it one knows which rows there have to be.
"""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field

from syncline_server.storage.base import StoreInfo

from .finding import Faults

__all__ = ["KeyFacts", "walk_keys"]

_ROWS_AT_ONCE = 5000


@dataclass
class KeyFacts:
    """What a walk has found: how many keys, how many of live records, how many DELETEs above each floor."""

    keys: int = 0
    live: int = 0
    deletes_above_history: int = 0
    deletes_above_tombstones: int = 0
    faults: Faults = field(default_factory=Faults)


def walk_keys(connection: sqlite3.Connection, store: int, info: StoreInfo, progress: Callable[[int], None]) -> KeyFacts:
    """Look at every used key. `progress` is called with how many seqs were accounted for."""
    facts = KeyFacts()
    head, floors = info.head.seq, info.floors
    seen = bytearray(-(-head // 8))
    accounted = 0

    def account(seq: int) -> None:
        nonlocal accounted
        if not 1 <= seq <= head:
            facts.faults.add(f"a used key names change {seq}, the log ends at {head}")
        elif seen[seq - 1 >> 3] >> (seq - 1 & 7) & 1:
            facts.faults.add(f"change {seq} belongs to two used keys")
        else:
            seen[seq - 1 >> 3] |= 1 << (seq - 1 & 7)
            accounted += 1

    with closing(connection.execute(f"SELECT add_seq, delete_seq FROM keys_{store}")) as found:
        while rows := found.fetchmany(_ROWS_AT_ONCE):
            for add_seq, delete_seq in rows:
                facts.keys += 1
                account(add_seq)
                if delete_seq is None:
                    facts.live += 1
                    continue
                account(delete_seq)
                facts.deletes_above_history += delete_seq > floors.history
                facts.deletes_above_tombstones += delete_seq > floors.tombstones
                if delete_seq <= add_seq:
                    facts.faults.add(f"record {add_seq} is said to be deleted before, by {delete_seq}")
            progress(accounted)
    if accounted != head:
        facts.faults.add(f"{head - accounted} changes up to {head} belong to no used key")
    return facts
