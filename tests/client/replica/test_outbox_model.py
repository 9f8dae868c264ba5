"""The outbox against a plain list of writes: whatever happens to it, in whatever order."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from syncline.replica.entry import Entry, EntryOp, SyncState
from syncline.replica.outbox import Outbox
from syncline.write import Written
from syncline_protocol.cursor import Cursor, Lineage, Seq
from syncline_protocol.messages import OpResult

_KEYS = [f"k{number}" for number in range(6)]
_OPS = st.lists(
    st.builds(EntryOp, st.sampled_from(_KEYS), st.sampled_from([None, "1"])),
    min_size=1,
    max_size=3,
    unique_by=lambda o: o.key,
)
_ALIVE = (SyncState.PENDING, SyncState.ACKED)


class OutboxMachine(RuleBasedStateMachine):
    """Keeps beside the outbox what an outbox has to know: each entry as it is, and what is on its way."""

    def __init__(self) -> None:
        super().__init__()
        self.outbox = Outbox()
        self.entries: dict[int, Entry] = {}
        self.under_way: dict[int, Entry] = {}
        self.seq = 0

    @property
    def pending(self) -> list[Entry]:
        """What the server has not acknowledged."""
        return [entry for entry in self.entries.values() if entry.state is SyncState.PENDING]

    def note(self, entry: Entry | None) -> None:
        """Take over an entry as the outbox returned it."""
        if entry is None:
            return
        if entry.state is SyncState.SYNCED:
            del self.entries[entry.id]
        else:
            self.entries[entry.id] = entry

    def send(self) -> None:
        """Take everything that may go."""
        for entry in self.outbox.ready():
            assert entry.id not in self.under_way
            assert not _follows_one_that_waits(entry, self.pending)
            self.under_way[entry.id] = entry

    @initialize(ops=_OPS)
    def begin(self, ops: list[EntryOp]) -> None:
        self.write(ops)

    @rule(ops=_OPS)
    def write(self, ops: list[EntryOp]) -> None:
        self.note(self.outbox.put(Entry(self.outbox.last_id + 1, tuple(ops), 0)))

    @rule()
    def hand_out(self) -> None:
        self.send()

    @rule(data=st.data(), status=st.sampled_from(["ok", "invalid", "absent", "denied", "store_unknown"]))
    def answer(self, data: st.DataObject, status: str) -> None:
        if not self.under_way:
            return
        sent = self.under_way.pop(data.draw(st.sampled_from(sorted(self.under_way))))
        self.seq += 1
        ops = tuple([OpResult(status) for _ in sent.ops])  # type: ignore[arg-type]
        result = Written("refused", ops=ops, head=Cursor(f"a:{self.seq}"))
        if status == "ok":
            result = Written("ok", at=Cursor(f"a:{self.seq}"))
        elif status == "store_unknown":
            result = Written("refused", code=status)
        answered = self.outbox.answered(sent, result)
        if answered is not None:
            self.note(answered.entry)

    @rule()
    def lose_the_connection(self) -> None:
        self.outbox.connection_lost()
        self.under_way.clear()

    @rule(forked=st.booleans(), keep_to=st.integers(0, 40))
    def reopen(self, forked: bool, keep_to: int) -> None:
        self.lose_the_connection()
        head = Seq(min(keep_to, self.seq)) if forked else Seq(self.seq)
        lineage = Lineage.parse("a@0")
        self.outbox.reopened()
        changed = self.outbox.lost(lineage, head)
        if forked:
            changed += self.outbox.unsettle()
        for entry in [*changed, *self.outbox.reconsider(lineage, head, is_forked=forked)]:
            self.note(entry)
        self.seq = head

    @rule(back=st.integers(0, 3))
    def pass_by(self, back: int) -> None:
        for entry in self.outbox.passed(Seq(max(0, self.seq - back))):
            self.note(entry)

    @rule(key=st.sampled_from(_KEYS))
    def bring_back(self, key: str) -> None:
        for entry in self.outbox.wake([key]):
            self.note(entry)

    @rule(data=st.data(), discards=st.booleans())
    def deal_with_one(self, data: st.DataObject, discards: bool) -> None:
        if not self.entries:
            return
        entry_id = data.draw(st.sampled_from(sorted(self.entries)))
        if not discards:
            self.note(self.outbox.retry(entry_id))
        elif self.outbox.discard(entry_id) is not None:
            del self.entries[entry_id]

    @rule()
    def publish(self) -> None:
        self.outbox.publish()
        for key in _KEYS:
            assert self.outbox.shadow(key) == self.outbox.next_shadow(key)

    @invariant()
    def it_has_the_entries_and_counts_them(self) -> None:
        assert list(self.outbox) == [self.entries[entry_id] for entry_id in sorted(self.entries)]
        assert self.outbox.size == sum(entry.size for entry in self.entries.values())
        states = [entry.state for entry in self.entries.values()]
        assert self.outbox.pending == states.count(SyncState.PENDING)
        assert self.outbox.rejected == states.count(SyncState.REJECTED)

    @invariant()
    def a_key_looks_as_its_newest_write_says(self) -> None:
        for key in _KEYS:
            alive = [e for e in self.outbox if e.state in _ALIVE and key in e.keys]
            shadow = self.outbox.next_shadow(key)
            assert (shadow is None) == (not alive)
            if shadow is not None:
                assert shadow.entry == alive[-1]
                assert EntryOp(key, shadow.text) in alive[-1].ops

    def teardown(self) -> None:
        """Everything that is pending and waits for nothing goes, once what is before it was acked."""
        self.reopen(False, 0)
        for _ in range(len(self.entries) + 1):
            self.send()
            for entry in list(self.under_way.values()):
                self.seq += 1
                answered = self.outbox.answered(self.under_way.pop(entry.id), Written("ok", at=Cursor(f"a:{self.seq}")))
                assert answered is not None
                self.note(answered.entry)
        assert all(e.refusal is not None or _follows_one_that_waits(e, self.pending) for e in self.pending)


def _follows_one_that_waits(entry: Entry, pending: list[Entry]) -> bool:
    """Whether an older one that was not acknowledged shares a key with it."""
    return any(other.id < entry.id and set(other.keys) & set(entry.keys) for other in pending)


OutboxMachine.TestCase.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
TestOutbox = OutboxMachine.TestCase
