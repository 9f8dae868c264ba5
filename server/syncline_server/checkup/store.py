"""One store of a file: what the log and the used keys say, set against each other and what the file keeps beside them.

Each check is one finding. What is derived from the log can be repaired, and the finding says so.
"""

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

from syncline_protocol.digest import digest_text
from syncline_protocol.index import check_index
from syncline_server.storage.base import IndexInfo, StoreInfo
from syncline_server.storage.sqlite_gone import GONE_SEQS, read_gone

from .finding import Faults, Finding, Progress
from .key_walk import KeyFacts, walk_keys
from .log_walk import LogFacts, TermSum, walk_log

__all__ = ["REPAIR", "CheckedStore", "check_store"]

REPAIR = "it is derived: `syncline doctor --repair` works it out again"
_RESTORE = "the log itself is damaged; restore a backup"


@dataclass(frozen=True)
class CheckedStore:
    """A store that was looked at: its findings, what the log says, and which derived parts are not what they should be:
    `head`, `gone`, `sizes`, `usage`, and the uids of indexes.
    """

    id: int
    info: StoreInfo
    log: LogFacts
    findings: tuple[Finding, ...]
    wrong: frozenset[str]

    @property
    def is_log_sound(self) -> bool:
        """Whether what is derived can be worked out from the log."""
        return not self.log.rows and not self.log.keys


def check_store(connection: sqlite3.Connection, store: int, info: StoreInfo, progress: Progress) -> CheckedStore:
    """Look at everything of one store."""
    name, head = info.name, info.head.seq
    log = walk_log(connection, store, info, lambda seq: progress(f"{name}: log", seq, head))
    keys = walk_keys(connection, store, info, lambda done: progress(f"{name}: used keys", done, head))
    say = partial(_say, name)
    findings = [
        say(f"log: {log.looked_at} changes up to {head}, transactions whole", _log_faults(info, log), _RESTORE),
        say(f"used keys: {keys.keys}", _key_faults(info, log, keys), _RESTORE),
        say(f"lineage: {len(info.head.lineage.entries)} incarnations", _lineage_faults(info), _RESTORE),
        say(
            f"floors: history {info.floors.history}, tombstones {info.floors.tombstones}", _floor_faults(info), _RESTORE
        ),
        say("terms of DELETEs", log.terms, "filtered feeds may miss these DELETEs; restore a backup"),
    ]
    wrong: set[str] = set()
    for part, text, faults in _derived(connection, store, info, log, progress):
        findings.append(say(text, faults, REPAIR))
        if faults:
            wrong.add(part)
    return CheckedStore(store, info, log, tuple(findings), frozenset(wrong))


def _say(name: str, text: str, faults: Faults, todo: str) -> Finding:
    if not faults:
        return Finding("ok", f"{name}: {text}")
    return Finding("fail", f"{name}: {text.partition(':')[0]}: {faults}", todo)


# --- the log ---


def _log_faults(info: StoreInfo, log: LogFacts) -> Faults:
    faults, head = log.rows, info.head.seq
    if log.last != head:
        faults.add(f"the last change is {log.last}, the head says {head}")
    elif log.transaction_end != head:
        faults.add(f"the last transaction ends at {log.transaction_end}, the head says {head}")
    return faults


def _key_faults(info: StoreInfo, log: LogFacts, keys: KeyFacts) -> Faults:
    faults = log.keys
    if keys.faults:
        faults.add(str(keys.faults))
    for what, expected, found in (
        ("live records", keys.live, log.count),
        (f"values of records deleted above {info.floors.history}", keys.deletes_above_history, log.retained_values),
        (f"DELETEs above {info.floors.tombstones}", keys.deletes_above_tombstones, log.retained_deletes),
    ):
        if expected != found:
            faults.add(f"the used keys say {expected} {what}, the log has {found}")
    return faults


def _lineage_faults(info: StoreInfo) -> Faults:
    faults = Faults()
    entries = info.head.lineage.entries
    if entries[0].first_seq != 0:
        faults.add(f"it begins at {entries[0].first_seq}")
    if any(a.first_seq >= b.first_seq for a, b in pairwise(entries)):
        faults.add("its entries do not ascend")
    if len({entry.incarnation for entry in entries}) != len(entries):
        faults.add("an incarnation is in it twice")
    if entries[-1].first_seq > info.head.seq + 1:
        faults.add(f"its newest entry begins at {entries[-1].first_seq}, behind the head")
    return faults


def _floor_faults(info: StoreInfo) -> Faults:
    faults = Faults()
    floors = info.floors
    if not 0 <= floors.tombstones <= floors.history <= info.head.seq:
        faults.add("they are not in the order: tombstones, history, head")
    return faults


# --- what is derived ---


def _derived(
    connection: sqlite3.Connection, store: int, info: StoreInfo, log: LogFacts, progress: Progress
) -> Iterator[tuple[str, str, Faults]]:
    head = info.head
    yield "head", f"count {head.count}, digest {digest_text(head.digest)}", _head_faults(info, log)
    yield "sizes", f"sizes: {info.sizes.live_bytes} bytes live, {info.sizes.dead_bytes} dead", _size_faults(info, log)
    yield "gone", "set of live records", _gone_faults(connection, store, info, log)
    yield "usage", f"usage of {len(log.usage)} authors", _usage_faults(connection, store, log)
    for index in info.indexes:
        progress(f"{info.name}: index {index.spec.name}", 0, 0)
        text = f"index {index.spec.name}" + ("" if index.state == "ready" else f" (being built, up to {index.done})")
        yield index.uid, text, _index_faults(connection, store, index, log)


def _head_faults(info: StoreInfo, log: LogFacts) -> Faults:
    faults = Faults()
    if info.head.count != log.count:
        faults.add(f"the head says {info.head.count} records, {log.count} live")
    if info.head.digest != log.digest % 2**32:
        faults.add(f"the digest is {digest_text(log.digest)}, the head says {digest_text(info.head.digest)}")
    return faults


def _size_faults(info: StoreInfo, log: LogFacts) -> Faults:
    faults = Faults()
    for name in ("live_bytes", "dead_values", "dead_bytes", "tombstones"):
        kept, found = getattr(info.sizes, name), getattr(log.sizes, name)
        if kept != found:
            faults.add(f"{name} is {found}, kept is {kept}")
    return faults


def _gone_faults(connection: sqlite3.Connection, store: int, info: StoreInfo, log: LogFacts) -> Faults:
    faults = Faults()
    head = info.head.seq
    pieces = -(-head // GONE_SEQS)
    expected = bytearray(pieces * GONE_SEQS // 8)
    whole = int.from_bytes(log.live, "little") ^ ((1 << head) - 1)
    expected[: len(log.live)] = whole.to_bytes(len(log.live), "little")
    different = int.from_bytes(expected, "little") ^ int.from_bytes(
        read_gone(connection, store, info.head.seq), "little"
    )
    if different:
        faults.add(f"{different.bit_count()} seqs are taken for live, or for gone, and are not")
    sql = f"SELECT count(*) FROM gone_{store} WHERE piece < 0 OR piece >= ?"
    (beyond,) = connection.execute(sql, (pieces,)).fetchone()
    if beyond:
        faults.add(f"{beyond} pieces lie behind the head")
    return faults


def _usage_faults(connection: sqlite3.Connection, store: int, log: LogFacts) -> Faults:
    faults = Faults()
    kept = {
        author.decode(): (records, size)
        for author, records, size in connection.execute(f"SELECT author, records, bytes FROM usage_{store}")
    }
    found = {author: (usage.records, usage.bytes) for author, usage in log.usage.items()}
    for author in sorted(kept.keys() | found.keys()):
        # One who has nothing any more may or may not have a row.
        ours, theirs = found.get(author, (0, 0)), kept.get(author, (0, 0))
        if ours != theirs:
            faults.add(f"{author} keeps {ours[0]} records of {ours[1]} bytes, kept is {theirs[0]} of {theirs[1]}")
    return faults


def _index_faults(connection: sqlite3.Connection, store: int, index: IndexInfo, log: LogFacts) -> Faults:
    faults = Faults()
    check_index(index.spec)
    if index.state != "ready":
        # What it has already is looked at when it is ready; until then nobody is answered by it.
        return faults
    (table,) = connection.execute("SELECT id FROM indexes WHERE store = ? AND uid = ?", (store, index.uid)).fetchone()
    found = TermSum()
    for term, seq in connection.execute(f"SELECT term, seq FROM index_{table}"):
        found.add(term, seq)
    expected = log.index_sums[index.uid]
    if found != expected:
        faults.add(f"it has {found.count} terms of records, {expected.count} were expected, and they are not the same")
    return faults
