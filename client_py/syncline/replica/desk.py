"""What is done with each thing that comes: it goes through the fold or the outbox, and into the group to be saved.

No I/O but reads of what was saved, through `records`. The keeper calls it with one item after the other, saves the
group, and tells it the tally; when that fails, the desk is thrown away and another one made of what is in the file.
"""

from collections.abc import Callable, Iterable, Sequence

import msgspec

from syncline.write import Written
from syncline_protocol import messages
from syncline_protocol.cursor import Cursor, Lineage, parse_cursor

from .database import Database, Saved
from .entry import Edit, Entry, EntryId, EntryOp, Refusal, SyncState
from .fold import FeedFold, Folded, Result, Stage
from .group import Group
from .meaning import Conflict, Meaning, Postponed
from .outbox import Outbox, Verdict, is_in, taken_back
from .report import Rejected, Report, Returned, RewoundTo, StoreReplaced
from .step import ForgetHistory, IndexKeys, Tally

__all__ = ["Desk"]

#: What a catch-up touched is remembered key by key up to so many; beyond that everything counts as touched.
_STAGED_KEYS_MAX = 20_000


class Desk:
    """Args:
    saved: what the file remembers.
    records: what was saved, to look things up.
    prefix: the replica holds the records with these keys only.
    meaning: what the collections make of a write.
    new_key: makes keys.

    Attributes:
        group: what is to be saved next.
        tally: of what was saved last.
    """

    def __init__(
        self, saved: Saved, records: Database, prefix: str, meaning: Meaning, new_key: Callable[[], str]
    ) -> None:
        self.outbox = Outbox(saved.entries)
        self.outbox.last_id = max(self.outbox.last_id, saved.last_entry_id)
        self.outbox.publish()
        self.fold = FeedFold(saved.place, bool(prefix))
        self.tally: Tally = saved.tally
        self.group = Group()
        self._records = records
        self._prefix = prefix
        self._meaning = meaning
        self._new_key = new_key
        # What was staged before is not known key by key any more.
        has_staged = self.fold.seq > saved.place.horizon
        self._staged: set[str] | None = None if has_staged else set()

    # --- what the application does ---

    def write(
        self, ops: tuple[EntryOp, ...], made_ms: int, *, atomic: bool = True, edits: tuple[Edit, ...] = ()
    ) -> Entry:
        """Put a write into the outbox."""
        entry = Entry(self.outbox.last_id + 1, ops, made_ms, atomic=atomic, edits=edits)
        return self.group.save(self.outbox.put(entry))

    def retry(self, entry_id: EntryId) -> Entry | None:
        """Put a rejected write back. None if it is not rejected."""
        entry = self.outbox.retry(entry_id)
        return None if entry is None else self.group.save(entry)

    def discard(self, entry_id: EntryId) -> Entry | None:
        """Forget a rejected write, or one that waits. None if it is neither."""
        entry = self.outbox.discard(entry_id)
        if entry is not None:
            self.group.forget(entry)
        return entry

    # --- what the feed brings ---

    def opened(self, message: messages.Subscribed) -> None:
        """Take SUBSCRIBED: go on, and take back those writes that the server has lost."""
        folded = self.fold.subscribed(message)
        self.group.add(folded.steps)
        if folded.result is Result.REPLACED:
            self._replaced()
            return
        lineage, head = Lineage.parse(message.lineage), parse_cursor(message.head).seq
        self.outbox.reopened()
        returned = self.outbox.lost(lineage, head)
        is_forked = folded.result is Result.REWINDS or self.fold.place.restarted is not None
        if is_forked:
            self._save(self.outbox.unsettle())
        if folded.result is Result.REWINDS:
            if message.keep_to is not None:
                self.group.reports.append(RewoundTo(message.keep_to))
            lost = [entry for entry in self._records.synced_entries() if not is_in(lineage, head, entry.at)]
            returned += [self.outbox.put(taken_back(entry)) for entry in lost]
        self._return(returned)
        self._save(self.outbox.reconsider(lineage, head, is_forked=is_forked))

    def _replaced(self) -> None:
        refusal = Refusal("store_replaced", message="the store was dropped and made anew")
        rejected = self.outbox.reject_all(refusal)
        self._save(rejected)
        self.group.add([ForgetHistory()])
        self.group.reports.append(StoreReplaced(len(rejected)))

    def batch(self, message: messages.Batch) -> None:
        """Take BATCH."""
        changes = self._held(message.changes)
        folded = self.fold.batch(message, changes)
        self.group.add(folded.steps)
        keys = [change.key for change in changes]
        if folded.result is Result.APPLIED:
            self.group.touch(keys)
            self._passed()
            self._save(self.outbox.wake([change.key for change in changes if change.op == "ADD"]))
        elif self._staged is not None:
            self._staged.update(keys)
            if len(self._staged) > _STAGED_KEYS_MAX:
                self._staged = None

    def fill(self, message: messages.Fill) -> None:
        """Take FILL."""
        self.group.add(self.fold.fill(message, self._held(message.changes)).steps)

    def before_caught_up(self) -> None:
        """Make ready for `settle`, which may have to look for our own writes in what was built."""
        if self.fold.place.restarted is not None:
            self.group.add([IndexKeys(self.fold.place.built)])

    def settle(self, folded: Folded) -> Result:
        """Take a result of the fold that may mean that everything is there."""
        if folded.result is Result.CAUGHT_UP:
            if folded.restarted is not None:
                self._return([self.outbox.put(taken_back(entry)) for entry in self._unseen()])
            self.group.touch(None if folded.switched else self._staged)
            self._staged = set()
            self._passed()
            self._save(self.outbox.wake())
        self.group.add(folded.steps)
        return folded.result

    def lost(self) -> None:
        """The feed is over."""
        self.fold.lost()
        self.outbox.connection_lost()

    def _held(self, changes: Sequence[messages.Change]) -> list[messages.Change]:
        if not self._prefix:
            return list(changes)
        return [change for change in changes if change.key.startswith(self._prefix)]

    def _unseen(self) -> list[Entry]:
        """Return the synced entries that are not in this log, and do not show in what was built from the start either.

        One whose record a later one of ours has replaced shows by that one.
        """
        place = self.fold.place
        assert place.lineage is not None
        lineage = Lineage.parse(place.lineage)
        unseen: list[Entry] = []
        replaced: set[str] = set()
        for entry in reversed(self._records.synced_entries()):
            if is_in(lineage, self.fold.seq, entry.at) or self._shows(entry, replaced):
                replaced |= entry.deleted
            else:
                unseen.append(entry)
        return unseen[::-1]

    def _shows(self, entry: Entry, replaced: set[str]) -> bool:
        if entry.added:
            return any(key in replaced or self._records.holds_built(key) for key in entry.added)
        return not any(self._records.holds_built(key) for key in entry.deleted)

    def _passed(self) -> None:
        """Let go of the entries that can be seen among the records now.

        While a rewind lists what lives, the horizon is one of the history that is about to be left.
        """
        if self.fold.shows_built and self.fold.stage in (Stage.CATCHING_UP, Stage.LIVE):
            self._save(self.outbox.passed(self.fold.place.horizon))

    def _return(self, entries: list[Entry]) -> None:
        self._save(entries)
        if entries:
            self.group.reports.append(Returned(tuple([entry.id for entry in entries])))

    def _save(self, entries: Iterable[Entry]) -> None:
        for entry in entries:
            self.group.save(entry)

    # --- what the server answers ---

    def answered(self, sent: Entry, result: Written) -> bool:
        """Take the answer to an entry as it was sent. Returns whether it waits for what it was made on to come back."""
        answer = self.outbox.answered(sent, result)
        if answer is None:
            return False
        self.group.save(answer.entry)
        if answer.verdict is Verdict.ACKED:
            self._passed()
        elif answer.verdict is Verdict.REJECTED:
            self.group.reports.append(Rejected(sent.id))
        elif answer.verdict is Verdict.WAITS and (back := self._back(answer.entry)):
            self._save(self.outbox.wake(back))
            return False
        return answer.verdict is Verdict.WAITS and bool(answer.entry.edits)

    def _back(self, entry: Entry) -> list[str]:
        """Return what an entry lacked and is there by now: the feed may bring that before the answer comes."""
        if self.fold.stage is not Stage.LIVE or entry.refusal is None:
            return []
        lacking = [op.key for op, status in zip(entry.ops, entry.refusal.ops, strict=False) if status == "absent"]
        return [key for key in lacking if self._records.get(key) is not None]

    def due_to_be_remade(self) -> list[EntryId]:
        """Return the entries whose rivals can be seen now."""
        return [
            entry.id
            for entry in self.outbox.waiting()
            if entry.is_overtaken and entry.refusal is not None and self._has_passed(entry.refusal.head)
        ]

    def _has_passed(self, head: Cursor | None) -> bool:
        if self.fold.stage is not Stage.LIVE or not self.fold.shows_built:
            return False
        return head is None or parse_cursor(head).seq <= self.fold.place.horizon

    def remake(self, entry_id: EntryId, *, patient: bool = True) -> None:
        """Make an entry anew that a rival forestalled. `patient`: one that waits for what it lacks waits on."""
        entry = self.outbox.get(entry_id)
        if entry is None or entry.state is not SyncState.PENDING or entry.refusal is None:
            return
        if patient and entry.lacks:
            return
        remaking = self._meaning.remake(entry, self._records, self._new_key)
        if isinstance(remaking, Conflict):
            self.group.save(self.outbox.put(entry.with_state(SyncState.REJECTED, refusal=remaking.refusal)))
            self.group.reports.append(Rejected(entry_id))
        elif not isinstance(remaking, Postponed):
            self._remade(entry, remaking.ops, remaking.edits, remaking.renamed, remaking.reports)

    def _remade(
        self,
        entry: Entry,
        ops: tuple[EntryOp, ...],
        edits: tuple[Edit, ...],
        renamed: dict[str, str],
        reports: tuple[Report, ...],
    ) -> None:
        self.group.reports += reports
        # None of these was sent yet, as they come after this one.
        followers = [other for key in renamed for other in self.outbox.of_key(key) if other.id > entry.id]
        if ops:
            self.group.save(self.outbox.put(msgspec.structs.replace(entry, ops=ops, edits=edits, refusal=None)))
        else:
            self.group.forget(self.outbox.settle(entry.id))
        self._save([self.outbox.put(_with_other_names(other, renamed)) for other in followers])

    def leftovers(self, entries: Iterable[Entry]) -> tuple[EntryOp, ...]:
        """Return what cleans up what entries that have arrived left below documents that are gone."""
        arrived = [entry for entry in entries if entry.state is SyncState.SYNCED]
        found = {key for entry in arrived for key in self._meaning.leftovers(entry, self._records)}
        # What the outbox is about to delete anyway needs no second write.
        return tuple([EntryOp(key) for key in sorted(found) if not self.outbox.of_key(key)])


def _with_other_names(entry: Entry, renamed: dict[str, str]) -> Entry:
    """Return an entry that deletes records which have another name now."""
    ops = tuple([EntryOp(renamed.get(op.key, op.key)) if op.text is None else op for op in entry.ops])
    edits = tuple([msgspec.structs.replace(e, on=renamed.get(e.on, e.on)) if e.on else e for e in entry.edits])
    return msgspec.structs.replace(entry, ops=ops, edits=edits)
