"""What is done with each thing that comes: it goes through the fold or the outbox, and into the group to be saved.

No I/O but reads of what was saved, through `records`. The keeper calls it with one item after the other, saves the
group, and tells it the tally; when that fails, the desk is thrown away and another one made of what is in the file.
"""

from collections.abc import Callable, Iterable, Sequence

import msgspec

from syncline.write import Written
from syncline_protocol import messages
from syncline_protocol.cursor import Cursor, Lineage, Seq, parse_cursor

from .base import RecordsAndOutbox
from .database import Database, Saved
from .draft import Draft
from .entry import Entry, EntryId, EntryOp, Refusal, SyncState, deletions_of
from .fold import FeedFold, Folded, Result, Stage
from .group import Group
from .meaning import Conflict, Leftovers, Meaning, Postponed, Remade
from .outbox import Outbox, Verdict, is_in, taken_back
from .report import NotPutBack, PutBack, Rejected, Returned, RewoundTo, StoreReplaced
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
    restores_all: what the server has lost is put back whoever wrote it, not only what we wrote.

    Attributes:
        group: what is to be saved next.
        tally: of what was saved last.
    """

    def __init__(
        self,
        saved: Saved,
        records: Database,
        prefix: str,
        meaning: Meaning,
        new_key: Callable[[], str],
        *,
        restores_all: bool,
    ) -> None:
        arrived = _arrived_among(saved)
        self.outbox = Outbox([entry for entry in saved.entries if entry.id not in arrived])
        self.outbox.last_id = max(self.outbox.last_id, saved.last_entry_id)
        self.outbox.publish()
        self.fold = FeedFold(saved.place, bool(prefix))
        self.tally: Tally = saved.tally
        self.group = Group()
        self._records = records
        self._prefix = prefix
        self._meaning = meaning
        self._new_key = new_key
        self._restores_all = restores_all
        self._base = RecordsAndOutbox(records, self.outbox)
        # What has arrived, and may have left something behind. It is SYNCED in the file when that was looked for.
        self._arrived = [entry.with_state(SyncState.SYNCED) for entry in saved.entries if entry.id in arrived]
        self._discarded: list[Entry] = []
        # What was staged before is not known key by key any more.
        has_staged = self.fold.seq > saved.place.horizon
        self._staged: set[str] | None = None if has_staged else set()

    # --- what the application does ---

    def write(self, draft: Draft, made_ms: int) -> Entry:
        """Put a write into the outbox."""
        # While another history is built, what is shown, and what the write builds on, may be lost.
        returned = self.fold.stage is Stage.LISTING or not self.fold.shows_built
        entry = Entry(
            self.outbox.last_id + 1, draft.ops, made_ms, atomic=draft.atomic, edits=draft.edits, returned=returned
        )
        self.group.reports += draft.reports
        if draft.refusal is not None:
            entry = entry.with_state(SyncState.REJECTED, refusal=draft.refusal)
            self.group.reports.append(Rejected(entry.id))
        return self.group.save(self.outbox.put(entry))

    def retry(self, entry_id: EntryId) -> Entry | None:
        """Put a rejected write back. None if it is not rejected."""
        place = self.fold.place
        entry = self.outbox.retry(
            entry_id, None if place.lineage is None else Lineage.parse(place.lineage), self.fold.head
        )
        return None if entry is None else self.group.save(entry)

    def discard(self, entry_id: EntryId) -> Entry | None:
        """Forget a rejected write, or one that waits. None if it is neither."""
        entry = self.outbox.discard(entry_id)
        if entry is not None:
            self.group.forget(entry)
            # If it made a document, what was changed of that one is below nothing now.
            self._discarded.append(entry)
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
        if message.keep_to is not None and self._restores_all:
            self._put_back(message.keep_to)
        self._save(self.outbox.reconsider(lineage, head, is_forked=is_forked))

    def _put_back(self, keep_to: Seq) -> None:
        """Put into the outbox what others had written and the server lost, unless it is there, from us or from before.

        Each record goes by itself, with the very text that it had, so of several replicas that do this one puts it
        back, and to the others it is `dup`. DELETEs above `keep_to` are not repeated: the record is not here any more,
        and whoever deleted it has the DELETE in its own outbox.
        """
        rows = [row for row in self._records.built_above(keep_to) if not self.outbox.of_key(row.key)]
        for row in rows:
            entry = Entry(
                self.outbox.last_id + 1, (EntryOp(row.key, row.text),), row.time, returned=True, restores=True
            )
            self.group.save(self.outbox.put(entry))
        if rows:
            self.group.reports.append(PutBack(tuple([row.key for row in rows])))

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

    def withdrawn(self) -> None:
        """Forget every record, and what was synced of ours; what the server may not have is kept."""
        folded = self.fold.withdrawn()
        self.group.add(folded.steps)
        if folded.result is Result.WITHDRAWN:
            self.group.add([ForgetHistory()])
            self.group.touch(None)
            self._staged = set()

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
        if not self.fold.shows_built or self.fold.stage not in (Stage.CATCHING_UP, Stage.LIVE):
            return
        for entry in self.outbox.passed(self.fold.place.horizon):
            if _may_leave_something(entry):
                self._arrived.append(entry)
                self.group.tell(entry)
            else:
                self.group.save(entry)

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
        if answer.verdict is Verdict.GIVEN_UP:
            self._give_up(answer.entry)
            return False
        self.group.save(answer.entry)
        if answer.verdict is Verdict.ACKED:
            self._passed()
        elif answer.verdict is Verdict.REJECTED:
            self.group.reports.append(Rejected(sent.id))
        elif answer.verdict is Verdict.WAITS and (back := self._back(answer.entry)):
            self._save(self.outbox.wake(back))
            return False
        if not answer.entry.returned:
            return False
        return answer.verdict is Verdict.REBASES or (
            answer.verdict is Verdict.WAITS and (bool(answer.entry.edits) or not answer.entry.atomic)
        )

    def _give_up(self, entry: Entry) -> None:
        """Forget a record of others that the server does not take from us."""
        refusal = entry.refusal
        assert refusal is not None
        reason = refusal.message or refusal.code or refusal.status
        self.group.forget(self.outbox.settle(entry.id))
        self.group.reports.append(NotPutBack(entry.ops[0].key, reason))

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
        if entry.atomic and not entry.edits:
            # What it would mean without what it lacks only the application knows, so it waits on.
            return
        if not entry.atomic:
            # What it is to delete does not come back: then it is as good as deleted.
            self.group.save(self.outbox.put(msgspec.structs.replace(entry, refusal=None, returned=False)))
            return
        remaking = self._meaning.remake(entry, self._base, self._new_key)
        if not isinstance(remaking, Postponed):
            self._take(entry, remaking)
        elif remaking.given_up is not None and not patient:
            self._take(entry, Conflict(remaking.given_up))

    def _take(self, entry: Entry, remaking: Remade | Conflict) -> None:
        """Let an entry be what it was made, and then those that build on it. None of them was sent yet."""
        if isinstance(remaking, Conflict):
            self.group.save(self.outbox.put(entry.with_state(SyncState.REJECTED, refusal=remaking.refusal)))
            self.group.reports.append(Rejected(entry.id))
            return
        self.group.reports += remaking.reports
        keys = dict.fromkeys([*remaking.renamed, *remaking.merged, *remaking.dropped])
        if not remaking.ops:
            self.group.forget(self.outbox.settle(entry.id))
        elif remaking.ops != entry.ops or remaking.edits != entry.edits or entry.refusal is not None:
            made = msgspec.structs.replace(entry, ops=remaking.ops, edits=remaking.edits, refusal=None)
            self.group.save(self.outbox.put(made))
        followers = {other.id: other for key in keys for other in self.outbox.of_key(key) if other.id > entry.id}
        for entry_id in sorted(followers):
            follower = self.outbox.get(entry_id)
            if follower is not None and follower.state is SyncState.PENDING:
                self._take(follower, self._meaning.follow(follower, remaking))

    # --- what has arrived ---

    def look_after_arrived(self) -> list[tuple[EntryOp, ...]]:
        """Return the writes that clean up what entries which have arrived left below documents that are gone.

        The entries are saved as SYNCED together with these writes, so that no crash comes between.
        """
        arrived, self._arrived = self._arrived, []
        discarded, self._discarded = self._discarded, []
        keys: set[str] = set()
        for entry in [*arrived, *discarded]:
            found = self._meaning.leftovers(entry, self._base) if _may_leave_something(entry) else Leftovers()
            keys.update(found.keys)
            self.group.reports += found.reports
        self._save(arrived)
        return deletions_of([key for key in sorted(keys) if not self._is_being_deleted(key)])

    @property
    def has_arrived(self) -> bool:
        """Whether there is something to look after."""
        return bool(self._arrived or self._discarded)

    def _is_being_deleted(self, key: str) -> bool:
        # A set deletes too, and may be dropped itself.
        return any(not entry.atomic for entry in self.outbox.of_key(key))


def _may_leave_something(entry: Entry) -> bool:
    return bool(entry.edits) or not entry.atomic


def _arrived_among(saved: Saved) -> frozenset[EntryId]:
    """Return which entries have arrived, in the history that is shown, but were not looked after when they did."""
    place = saved.place
    acked = [entry for entry in saved.entries if entry.state is SyncState.ACKED and _may_leave_something(entry)]
    if not acked or place.lineage is None or place.shown != place.built:
        return frozenset()
    lineage = Lineage.parse(place.lineage)
    return frozenset([entry.id for entry in acked if is_in(lineage, place.horizon, entry.at)])
