"""The outbox of a replica: which writes are to be sent, in what order, and how they look until they come back. No I/O.

Every method that changes something returns the entries as they are now, to be saved; what is not PENDING, ACKED or
REJECTED any more is not kept here. Invariants:

- entries that share a key are sent one after the other, the next when the one before was acked; all others at once;
- an entry shadows the records of its keys from the moment it is put in until the shown records have passed it, so
  that nothing flickers between the ack and the feed; a rejected one does not;
- what happened can be seen after `publish` only, which comes when it is saved;
- a PENDING entry that was refused for what the log holds keeps the refusal, and says by it what it waits for.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from heapq import heappop, heappush

import msgspec

from syncline.write import Written
from syncline_protocol.cursor import Cursor, Lineage, Seq, parse_cursor

from .entry import Entry, EntryId, Refusal, SyncState
from .sorted_keys import SortedKeys

__all__ = ["Answer", "Outbox", "Shadow", "Verdict"]

#: These say of an op that somebody else was first; the rest of the statuses would be the same at any time.
_RIVALRY = frozenset({"gone", "conflict", "exists", "absent", "skipped", "ok", "dup"})

#: After these a DELETE has nothing left to do.
_IS_GONE = frozenset({"ok", "dup", "absent", "gone"})

#: These say of the ops of a write that was lost that others have put back a part of it.
_IS_PARTLY_BACK = frozenset({"exists", "skipped"})

#: The store that was meant is not there: it is for the subscription to find out what became of it.
_STORE_CODES = frozenset({"store_unknown", "store_mismatch"})


_NONE = Seq(0)


class Verdict(Enum):
    """What an answer of the server means for an entry."""

    ACKED = "acked"
    REJECTED = "rejected"
    #: It goes out again once what it builds on is back.
    WAITS = "waits"
    #: It is what others had written, and the server does not take it from us; nobody has to decide anything.
    GIVEN_UP = "given_up"
    #: Somebody has put back what it adds before us; what is left of it goes out now.
    PARTED = "parted"
    #: It is written anew once the shown records have passed `refusal.head`.
    REBASES = "rebases"
    #: It goes out again after the next SUBSCRIBED.
    HELD = "held"
    #: It is denied now and may have been committed before, so it goes out again after the next SUBSCRIBED.
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer that was taken: what it means, and the entry as it is now."""

    verdict: Verdict
    entry: Entry


@dataclass(frozen=True, slots=True)
class Shadow:
    """How one key looks through the outbox: its record is `entry`'s, or hidden by it if there is no `text`.

    Attributes:
        index: which op of the entry it is.
    """

    entry: Entry
    text: str | None
    index: int = 0

    @property
    def seq(self) -> Seq | None:
        """The seq of the op, once the server has it."""
        seqs = self.entry.seqs
        return seqs[self.index] or None if self.index < len(seqs) else None

    @property
    def written_order(self) -> tuple[bool, int, int]:
        """Its place among others like it: acked ones first, by seq; then the pending ones, as they were written."""
        return (self.entry.state is SyncState.PENDING, self.seq or self.entry.id, self.index)


class Outbox:
    """The writes that the server does not have for good.

    Args:
        entries: what was saved, in the order of their ids.
    """

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        self._entries: dict[EntryId, Entry] = {}
        self._by_key: dict[str, list[EntryId]] = {}
        # Which op is the last one of a key, of entries with several: they may have thousands.
        self._indexes: dict[EntryId, dict[str, int]] = {}
        self._keys = SortedKeys()
        self._shadows: dict[str, Shadow] = {}
        self._shadow_keys = SortedKeys()
        self._changed: set[str] = set()
        # Those that may have become free to go; what shares a key with an older one comes back when that one moves on.
        self._candidates: set[EntryId] = set()
        self._under_way: set[EntryId] = set()
        self._held: set[EntryId] = set()
        self._waiting: set[EntryId] = set()
        # What was sent and not answered, here or before the program was started: the server may have it.
        self._unanswered: set[EntryId] = set()
        # The seqs of acked entries, lowest first, with what has moved on meanwhile still among them.
        self._acked: list[tuple[int, EntryId]] = []
        self.size = 0
        self.last_id: EntryId = 0
        self._pending: dict[EntryId, None] = {}
        self.rejected = 0
        for entry in entries:
            self.put(entry)
        self._unanswered.update(self._pending)

    # --- looking ---

    def __iter__(self) -> Iterator[Entry]:
        return iter(sorted(self._entries.values(), key=lambda entry: entry.id))

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, entry_id: EntryId) -> Entry | None:
        """Return an entry, unless it is synced or discarded."""
        return self._entries.get(entry_id)

    def of_key(self, key: str) -> list[Entry]:
        """Return the entries that touch a key, oldest first."""
        return [self._entries[entry_id] for entry_id in self._by_key.get(key, ())]

    def keys(self, prefix: str) -> list[str]:
        """Return the keys that begin so and that entries touch, in their order."""
        return self._keys.with_prefix(prefix)

    def of_prefix(self, prefix: str) -> list[Entry]:
        """Return the entries that touch keys which begin so, oldest first."""
        ids = {entry_id for key in self._keys.with_prefix(prefix) for entry_id in self._by_key[key]}
        return [self._entries[entry_id] for entry_id in sorted(ids)]

    def shadow(self, key: str) -> Shadow | None:
        """Return how a key looks through the outbox as it was published, or None if that has nothing to say of it."""
        return self._shadows.get(key)

    def shadows(self, prefix: str = "") -> list[tuple[str, Shadow]]:
        """Return the keys that look different through the outbox as it was published, in their order."""
        return [(key, self._shadows[key]) for key in self._shadow_keys.with_prefix(prefix)]

    def next_shadow(self, key: str) -> Shadow | None:
        """Return what `shadow` will return once everything is published."""
        for entry_id in reversed(self._by_key.get(key, ())):
            entry = self._entries[entry_id]
            if entry.state is not SyncState.REJECTED:
                index = self._indexes[entry_id][key] if entry_id in self._indexes else 0
                return Shadow(entry, entry.ops[index].text, index)
        return None

    def next_shadows(self, prefix: str) -> list[tuple[str, Shadow]]:
        """Return what `shadows` will return once everything is published."""
        found = [(key, self.next_shadow(key)) for key in self._keys.with_prefix(prefix)]
        return [(key, shadow) for key, shadow in found if shadow is not None]

    def publish(self) -> set[str]:
        """Let everything that happened be seen. Returns the keys that look different now."""
        changed, self._changed = self._changed, set()
        for key in changed:
            shadow = self.next_shadow(key)
            if shadow is not None:
                if key not in self._shadows:
                    self._shadow_keys.add(key)
                self._shadows[key] = shadow
            elif self._shadows.pop(key, None) is not None:
                self._shadow_keys.remove(key)
        return changed

    @property
    def pending(self) -> int:
        """How many entries are PENDING."""
        return len(self._pending)

    def has_pending(self, upto: EntryId) -> bool:
        """Return whether an entry with this id or a lower one is PENDING."""
        return any(entry_id <= upto for entry_id in self._pending)

    def in_state(self, state: SyncState) -> list[Entry]:
        """Return the entries in one state, oldest first."""
        return [entry for entry in self if entry.state is state]

    # --- putting and sending ---

    def put(self, entry: Entry) -> Entry:
        """Take an entry: a new one, or one that was here and has changed."""
        before = self._entries.get(entry.id)
        if before is not None:
            self._forget(before)
            if before.ops != entry.ops:
                self._unanswered.discard(entry.id)
        self.last_id = max(self.last_id, entry.id)
        self._entries[entry.id] = entry
        if len(entry.ops) > 1:
            self._indexes[entry.id] = {key: index for index, key in enumerate(entry.keys)}
        self.size += entry.size
        if entry.state is SyncState.PENDING:
            self._pending[entry.id] = None
            if entry.refusal is None:
                self._candidates.add(entry.id)
            else:
                self._waiting.add(entry.id)
        elif entry.state is SyncState.ACKED:
            heappush(self._acked, (_seq_of(entry), entry.id))
        elif entry.state is SyncState.REJECTED:
            self.rejected += 1
        for key in dict.fromkeys(entry.keys):
            ids = self._by_key.get(key)
            if ids is None:
                ids = self._by_key[key] = []
                self._keys.add(key)
            ids.append(entry.id)
            ids.sort()
        self._changed.update(entry.keys)
        return entry

    def ready(self) -> list[Entry]:
        """Return the entries that may be sent now, oldest first, and count them as under way."""
        ready = [self._entries[entry_id] for entry_id in sorted(self._candidates) if self._may_go(entry_id)]
        self._candidates.clear()
        self._under_way.update([entry.id for entry in ready])
        return ready

    def _may_go(self, entry_id: EntryId) -> bool:
        entry = self._entries[entry_id]
        return entry.refusal is None and not any(
            self._entries[other].state is SyncState.PENDING
            for key in entry.keys
            for other in self._by_key[key]
            if other < entry_id
        )

    def connection_lost(self) -> None:
        """Count nothing as under way: what was sent is to be sent again."""
        self._candidates |= self._under_way
        self._unanswered |= self._under_way
        self._under_way.clear()

    def reopened(self) -> None:
        """Let those go that were held until the subscription knew its store."""
        self._candidates |= self._held
        self._held.clear()

    # --- answers ---

    def answered(self, sent: Entry, result: Written) -> Answer | None:
        """Take the server's answer. None if the entry is not PENDING any more, or another one than was sent.

        An entry can be on its way twice when the feed was opened anew over the same connection, and have been made
        anew before the second answer.
        """
        entry = self._entries.get(sent.id)
        if entry is None or entry.state is not SyncState.PENDING or entry.ops != sent.ops:
            return None
        self._under_way.discard(entry.id)
        verdict, entry = judge(entry, result, was_sent_before=entry.id in self._unanswered)
        self.put(entry)
        if verdict not in (Verdict.UNKNOWN, Verdict.HELD):
            self._unanswered.discard(entry.id)
        if verdict is Verdict.HELD:
            # It must not go out before the subscription has found out which store this is.
            self._candidates.discard(entry.id)
            self._held.add(entry.id)
        return Answer(verdict, entry)

    def waiting(self) -> list[Entry]:
        """Return the entries that wait for what they build on, or to be written anew."""
        return [self._entries[entry_id] for entry_id in sorted(self._waiting)]

    def wake(self, keys: Iterable[str] | None = None) -> list[Entry]:
        """Let entries go that wait for one of these keys to be back; for any key with None."""
        if not self._waiting:
            return []
        known = None if keys is None else frozenset(keys)
        woken = [entry for entry in self.waiting() if entry.lacks and (known is None or entry.deleted & known)]
        return [self.put(msgspec.structs.replace(entry, refusal=None)) for entry in woken]

    def reconsider(self, lineage: Lineage, head: Seq, *, is_forked: bool) -> list[Entry]:
        """Let entries go of which a log with this lineage and head may decide otherwise than when they were refused."""
        woken = [
            entry
            for entry in self.waiting()
            if is_forked
            or not entry.is_overtaken
            or (entry.refusal is not None and not is_in(lineage, head, entry.refusal.head))
        ]
        return [self.put(msgspec.structs.replace(entry, refusal=None)) for entry in woken]

    def passed(self, seq: Seq) -> list[Entry]:
        """Take out the acked entries that the shown records have passed; they are synced."""
        synced = []
        while self._acked and self._acked[0][0] <= seq:
            at, entry_id = heappop(self._acked)
            entry = self._entries.get(entry_id)
            if entry is not None and entry.state is SyncState.ACKED and _seq_of(entry) == at:
                synced.append(entry.with_state(SyncState.SYNCED))
                self._remove(entry_id)
        return synced

    # --- history ---

    def lost(self, lineage: Lineage, head: Seq) -> list[Entry]:
        """Take back the acked entries whose position is not in this log (PROTOCOL 11.2.2)."""
        gone = [entry for entry in self.in_state(SyncState.ACKED) if not is_in(lineage, head, entry.at)]
        return [self.put(taken_back(entry)) for entry in gone]

    def unsettle(self) -> list[Entry]:
        """Note that the history that pending entries build on is another now: what they lack may still come back."""
        changed = [entry for entry in self.in_state(SyncState.PENDING) if not entry.returned]
        return [self.put(msgspec.structs.replace(entry, returned=True)) for entry in changed]

    def reject_all(self, refusal: Refusal) -> list[Entry]:
        """Reject everything that the server does not have for good."""
        entries = [entry for entry in self if entry.state is not SyncState.REJECTED]
        return [self.put(entry.with_state(SyncState.REJECTED, refusal=refusal)) for entry in entries]

    # --- the user ---

    def retry(self, entry_id: EntryId, lineage: Lineage | None = None, head: Seq = _NONE) -> Entry | None:
        """Put a rejected entry back. Its edits stand this time, whoever was first.

        With edits that a rival forestalled it waits to be made anew, if the refusal is of a log with this lineage and
        head. Without it is sent as it is.
        """
        entry = self._entries.get(entry_id)
        if entry is None or entry.state is not SyncState.REJECTED:
            return None
        edits = tuple([msgspec.structs.replace(edit, policy="last") for edit in entry.edits])
        refusal = entry.refusal
        if refusal is not None:
            is_rivalry = refusal.status != "absent" and bool(refusal.ops) and _RIVALRY.issuperset(refusal.ops)
            if not (edits and is_rivalry and lineage and refusal.head and is_in(lineage, head, refusal.head)):
                refusal = None
        return self.put(entry.with_state(SyncState.PENDING, at=None, seqs=(), refusal=refusal, edits=edits))

    def discard(self, entry_id: EntryId) -> Entry | None:
        """Forget a rejected entry, or a pending one that waits."""
        entry = self._entries.get(entry_id)
        if entry is None or (entry.state is not SyncState.REJECTED and entry.refusal is None):
            return None
        self._remove(entry_id)
        # Who waits for it to arrive has to learn that it never will.
        return entry.with_state(SyncState.REJECTED)

    def settle(self, entry_id: EntryId) -> Entry:
        """Take out an entry that has nothing left to do."""
        entry = self._entries[entry_id].with_state(SyncState.SYNCED, refusal=None)
        self._remove(entry_id)
        return entry

    # --- keeping book ---

    def _remove(self, entry_id: EntryId) -> None:
        self._forget(self._entries[entry_id])
        self._unanswered.discard(entry_id)

    def _forget(self, entry: Entry) -> None:
        del self._entries[entry.id]
        self._indexes.pop(entry.id, None)
        self.size -= entry.size
        if entry.state is SyncState.PENDING:
            self._pending.pop(entry.id, None)
        elif entry.state is SyncState.REJECTED:
            self.rejected -= 1
        for kept in (self._candidates, self._under_way, self._held, self._waiting):
            kept.discard(entry.id)
        for key in dict.fromkeys(entry.keys):
            ids = self._by_key[key]
            ids.remove(entry.id)
            self._candidates.update([other for other in ids if self._is_idle(other)])
            if not ids:
                del self._by_key[key]
                self._keys.remove(key)
        self._changed.update(entry.keys)

    def _is_idle(self, entry_id: EntryId) -> bool:
        return (
            self._entries[entry_id].state is SyncState.PENDING
            and entry_id not in self._under_way
            and entry_id not in self._held
        )


def judge(entry: Entry, result: Written, *, was_sent_before: bool) -> tuple[Verdict, Entry]:
    """Say what an answer means for a pending entry, and return the entry with it.

    Args:
        was_sent_before: and not answered, so that the server may have committed it then.
    """
    if result.status in ("ok", "dup"):
        seqs = tuple([op.seq or Seq(0) for op in result.ops]) or (result.seq or Seq(0),)
        return Verdict.ACKED, entry.with_state(SyncState.ACKED, at=result.at, seqs=seqs, refusal=None)
    statuses = tuple([op.status for op in result.ops]) or (result.status,)
    if not entry.atomic and _IS_GONE.issuperset(statuses) and not (entry.returned and "absent" in statuses):
        seqs = tuple([op.seq or Seq(0) for op in result.ops])
        return Verdict.ACKED, entry.with_state(SyncState.ACKED, at=result.at, seqs=seqs, refusal=None)
    if result.code in _STORE_CODES:
        return Verdict.HELD, entry
    if entry.returned and "exists" in statuses and _IS_PARTLY_BACK.issuperset(statuses):
        return _parted(entry, statuses)
    refusal = Refusal(result.status, statuses, result.code, _reason_of(result), result.head)
    if "denied" in statuses and was_sent_before:
        return Verdict.UNKNOWN, msgspec.structs.replace(entry, refusal=refusal)
    if entry.restores:
        return Verdict.GIVEN_UP, entry.with_state(SyncState.REJECTED, refusal=refusal)
    if _RIVALRY.issuperset(statuses):
        if entry.returned and "absent" in statuses:
            return Verdict.WAITS, msgspec.structs.replace(entry, refusal=refusal)
        if entry.edits:
            return Verdict.REBASES, msgspec.structs.replace(entry, refusal=refusal)
    return Verdict.REJECTED, entry.with_state(SyncState.REJECTED, refusal=refusal)


def _parted(entry: Entry, statuses: tuple[str, ...]) -> tuple[Verdict, Entry]:
    """Return what is left to do of an entry, of which others have put back what `exists`."""
    left = tuple([op for op, status in zip(entry.ops, statuses, strict=True) if status != "exists"])
    if not left:
        return Verdict.ACKED, entry.with_state(SyncState.ACKED, at=None, seqs=(), refusal=None)
    if all(op.text is None for op in left):
        # What it means is there. What it replaced only has to be gone, whoever sees to that.
        return Verdict.PARTED, msgspec.structs.replace(entry, ops=left, refusal=None, edits=(), atomic=False)
    keys = {op.key for op in left}
    edits = tuple([edit for edit in entry.edits if edit.key in keys])
    return Verdict.PARTED, msgspec.structs.replace(entry, ops=left, refusal=None, edits=edits)


def _seq_of(entry: Entry) -> int:
    """Return the seq of an acked entry's position; one that had nothing to do is passed by any."""
    return 0 if entry.at is None else parse_cursor(entry.at).seq


def taken_back(entry: Entry) -> Entry:
    """Return an entry that the server had and lost, as it goes out again."""
    return entry.with_state(SyncState.PENDING, at=None, seqs=(), refusal=None, returned=True)


def is_in(lineage: Lineage, head: Seq, at: Cursor | None) -> bool:
    """Return whether a position is in a log with this lineage and head. No position is in every log."""
    if at is None:
        return True
    position = parse_cursor(at)
    last = lineage.last_seq(position.incarnation, head)
    return last is not None and position.seq <= last


def _reason_of(result: Written) -> str | None:
    return next((op.message for op in result.ops if op.message), None) or result.message
