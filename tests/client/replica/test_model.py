"""A replica against a server that is a list of changes: whatever happens, after every message.

What is shown of the server is always the state at one position, and while the replica is not live it stays the same.
At the end it is the server's, and no write of ours that the server had is lost. SYNCLINE_SEEDS=1000 makes more runs.
"""

import os
import random

import pytest

from syncline.replica.entry import Entry, EntryId, EntryOp, SyncState
from syncline.replica.fold import Stage
from syncline.replica.record import LocalRecord
from syncline_protocol.cursor import Seq, parse_cursor
from tests.client.replica.model_server import Line, ModelServer
from tests.client.replica.paper import Message, Paper

SEEDS = int(os.environ.get("SYNCLINE_SEEDS", "30"))
STEPS = 150

#: What happens, each as often as it stands here.
_USUAL = (
    ["deliver"] * 30 + ["ours"] * 5 + ["theirs"] * 8 + ["cut", "cut", "restart", "behind", "end", "restore", "forget"]
)
_UNUSUAL = [*_USUAL, "begin_anew", "replace"]

#: More messages than any of these runs needs to come to rest.
_MESSAGES_MAX = 500

#: Everything that has to happen in some run, or it proves nothing.
_WITNESSED = {
    *("resume", "rewind", "reconcile", "snapshot", "FETCH", "UNSUBSCRIBE", "BEHIND", "left out", "restored"),
    *("synced", "rejected", "pending", "returned", "store_replaced"),
}


class Run:
    """One run: the replica, its server, and what has to be shown.

    Attributes:
        happened: what came about.
    """

    def __init__(self, paper: Paper, seed: int) -> None:
        self.paper = paper
        self.happened: set[str] = set()
        self.server = ModelServer(self.choose, self.happened.add)
        self.writes: dict[EntryId, tuple[EntryOp, ...]] = {}
        self.shown: dict[str, int] = {}
        self._looked: dict[str, LocalRecord] = {}
        self._chance = random.Random(seed)
        self._read = 0
        self._is_connected = False
        self._numbers = 0

    def choose(self, most: int) -> int:
        """Draw a number from 0 to this one."""
        return self._chance.randint(0, most)

    # --- what happens ---

    async def happen(self, what: str) -> None:
        """Let one thing happen, and check what is shown."""
        match what:
            case "deliver":
                await self.deliver()
            case "ours":
                await self.write()
            case "theirs":
                self.server.commit(*[(op.key, op.text) for op in self.ops("t")])
            case "cut":
                await self.cut()
            case "restart":
                await self.cut()
                await self.paper.restart()
            case "behind":
                await self.give(self.server.fall_behind())
            case "end":
                await self.give(self.server.end("resubscribe"))
                await self.paper.advance(4)
            case "replace":
                await self.cut()
                self.server.replace()
            case _:
                await self.cut()
                getattr(self.server, what)(self.choose(self.server.head))
        self.check()

    def ops(self, prefix: str) -> list[EntryOp]:
        """Return ops on what lives on the server: add, replace, or delete."""
        live = sorted(self.server.live())
        self._numbers += 1
        made = [EntryOp(f"{prefix}{self._numbers}", str(self._numbers))]
        if live and (kind := self.choose(2)):
            gone = EntryOp(live[self.choose(len(live) - 1)])
            made = [gone, *made] if kind == 1 else [gone]
        return made

    async def write(self) -> None:
        """Write something, on top of what we see."""
        ops = self.ops("o")
        seen = self.paper.shown()
        if all(op.text is not None or op.key in seen for op in ops):
            self.writes[await self.paper.write(*ops)] = tuple(ops)

    async def cut(self) -> None:
        """Lose the connection."""
        await self.paper.cut()
        self.server.hang_up()
        self._is_connected = False

    async def deliver(self) -> bool:
        """Give the replica what comes next. Returns whether there was anything."""
        if not self._is_connected:
            await self.paper.connect()
            self._is_connected, self._read = True, 0
            await self.give([])
            return True
        await self.give([])
        messages = self.server.next_messages()
        await self.give(messages)
        return bool(messages)

    async def give(self, messages: list[Message]) -> None:
        """Give messages, one after the other, and take what is asked for in return."""
        queue = list(messages)
        while self._is_connected and (queue or self._read < len(self.paper.sent)):
            if queue:
                await self.paper.receive(queue.pop(0))
                assert self.paper.session is not None
                assert self.paper.session.close_code is None, self.paper.session.close_reason
            requests, self._read = self.paper.sent[self._read :], len(self.paper.sent)
            for request in requests:
                queue += self.server.take(request)
            self.check()

    # --- what has to be ---

    def rows(self) -> dict[str, int]:
        """Return what is shown of the server, without the outbox."""
        return {row.key: row.seq for row in self.paper.database.page(Seq(0), 10_000)}

    def check(self) -> None:
        """Check what is shown."""
        rows, keeper = self.rows(), self.paper.keeper
        if keeper.stage is Stage.LIVE:
            position = parse_cursor(keeper.place.cursor).seq
            self.shown = {key: line.seq for key, line in self.server.live(position).items()}
        assert rows == self.shown
        assert frozenset(rows.items()) in self.server.states
        assert keeper.shown_count == len(rows)
        self.check_ours(rows)
        self.check_touches()

    def check_touches(self) -> None:
        """Whatever looks different now, those who watch were told of its key."""
        looks = {record.key: record for record in self.paper.records()}
        touches, self.paper.ears.touches = self.paper.ears.touches, []
        if None not in touches:
            touched = {key for keys in touches if keys is not None for key in keys}
            assert {
                key for key in looks.keys() | self._looked.keys() if looks.get(key) != self._looked.get(key)
            } <= touched
        self._looked = looks

    def check_ours(self, rows: dict[str, int]) -> None:
        """What is pending or acked is seen, and nothing but that and what the server has."""
        expected = set(rows)
        for entry in self.paper.keeper.outbox:
            if entry.state in (SyncState.PENDING, SyncState.ACKED):
                expected = expected - entry.deleted | entry.added
        assert set(self.paper.shown()) == expected

    async def come_to_rest(self) -> None:
        """Deliver everything."""
        for _ in range(_MESSAGES_MAX):
            if not await self.deliver() and self.paper.keeper.stage is Stage.LIVE:
                break
            if self.server.feed is None:
                await self.paper.advance(10)
                await self.give([])
            self.check()
        assert self.paper.keeper.stage is Stage.LIVE
        assert self.rows() == {key: line.seq for key, line in self.server.live().items()}
        assert self.paper.keeper.place.cursor == self.server.lineage.cursor(Seq(self.server.head))

    def check_writes(self, *, strictly: bool) -> None:
        """Every write was decided: it is in the log once and whole, or somebody else was first."""
        self.happened |= {_name_of(report) for report in self.paper.ears.reports}
        for entry_id, ops in self.writes.items():
            entry = self.paper.keeper.outbox.get(entry_id)
            state = self.paper.state_of(entry_id)
            self.happened.add("forgotten" if state is None else state.value)
            found = [line for line in self.server.log if _fits(line, ops)]
            if state is SyncState.SYNCED and strictly:
                assert [(line.key, line.text) for line in found] == [(op.key, op.text) for op in ops]
                assert [line.seq for line in found] == list(range(found[0].seq, found[0].seq + len(ops)))
            elif state is SyncState.REJECTED or state is SyncState.PENDING:
                assert entry is not None
                assert entry.refusal is not None or self.is_blocked(entry), f"{entry} should have been sent"
                assert not (strictly and any(line.key in entry.added for line in found))
            else:
                # What was synced to a store that was made anew is forgotten.
                assert state is SyncState.SYNCED or (state is None and not strictly)

    def is_blocked(self, entry: Entry) -> bool:
        """Whether an older write that waits shares a key with it."""
        others = [other for key in entry.keys for other in self.paper.keeper.outbox.of_key(key)]
        return any(other.id < entry.id and other.state is SyncState.PENDING for other in others)


def _fits(line: Line, ops: tuple[EntryOp, ...]) -> bool:
    return (line.key, line.text) in [(op.key, op.text) for op in ops]


def _name_of(report: object) -> str:
    return {"Returned": "returned", "StoreReplaced": "store_replaced"}.get(type(report).__name__, "reported")


async def run(seed: int, kinds: list[str], *, strictly: bool) -> set[str]:
    """Make one run; return what happened in it."""
    paper = await Paper.open()
    try:
        running = Run(paper, seed)
        for _ in range(STEPS):
            await running.happen(kinds[running.choose(len(kinds) - 1)])
        await running.come_to_rest()
        running.check_writes(strictly=strictly)
    finally:
        await paper.close()
    return running.happened


@pytest.mark.parametrize("seed", range(SEEDS))
async def test_through_cuts_catch_ups_and_restores_nothing_false_is_shown_and_nothing_is_lost(seed: int) -> None:
    await run(seed, _USUAL, strictly=True)


@pytest.mark.parametrize("seed", range(SEEDS))
async def test_through_other_histories_and_stores_nothing_false_is_shown(seed: int) -> None:
    await run(seed, _UNUSUAL, strictly=False)


async def test_everything_that_can_happen_has_happened_in_these_runs() -> None:
    happened: set[str] = set()
    for seed in range(60):
        happened |= await run(seed, _UNUSUAL, strictly=False)
    assert happened >= _WITNESSED
