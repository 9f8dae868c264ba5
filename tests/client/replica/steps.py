"""Runs the steps of `protocol/behaviour` on a replica on paper; the README there describes them.

Where a write stands is told apart by what can be seen from outside: its record of the outbox, and what was sent of it
since the feed was opened.
"""

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from syncline.replica.entry import Entry, EntryId, EntryOp, SyncState
from syncline.replica.keeper import Keeper
from syncline.replica.report import NotPutBack, PutBack, Rejected, Repaired, Report, Returned, RewoundTo, StoreReplaced
from tests.client.replica.paper import Message, Paper, caught_up, entry_ops, raw_changes
from tests.conformance.patterns import Variables, explain, fill, loads

__all__ = ["BEHAVIOUR", "Run", "read"]

BEHAVIOUR = Path(__file__).parents[3] / "protocol" / "behaviour"

#: Messages of the feed, which are given without its name, as there is one only.
_OF_THE_FEED = frozenset({"BATCH", "LIVE", "FILL", "CAUGHT_UP", "BEHIND"})

#: The id of an answer to something that was not asked on this connection.
_NOBODYS_ID = 999_999


def read(name: str) -> Any:
    """Return what a file of the specification says."""
    return yaml.safe_load((BEHAVIOUR / name).read_text())


@dataclass(slots=True)
class _Sent:
    """A write as it was sent last on this connection.

    Attributes:
        is_current: a feed is open, and it need not be sent again for it.
    """

    request_id: int
    is_answered: bool = False
    is_current: bool = True


class Run:
    """One run of steps.

    Attributes:
        variables: what `${name}` stands for.
    """

    def __init__(self, paper: Paper) -> None:
        self.paper = paper
        self.variables: Variables = {}
        self._writes: list[EntryId] = []
        self._ops: dict[EntryId, tuple[EntryOp, ...]] = {}
        self._sent: dict[EntryId, _Sent] = {}
        # Of the frames of this connection: so many were read, expected, and sent before no feed was open any more.
        self._read = self._expected = self._closed_at = 0
        self._feed_id: int | None = None

    async def steps(self, steps: list[dict[str, Any]]) -> None:
        """Do steps, one after the other."""
        for number, step in enumerate(steps):
            ((name, argument),) = step.items()
            self.variables["cursor"] = self.paper.keeper.place.cursor
            try:
                await getattr(self, f"_on_{name}")(
                    fill(argument, self.variables) if not _is_pattern(name) else argument
                )
            except AssertionError as error:
                raise AssertionError(f"step {number + 1}, {name}: {error}") from error
            self._take_note()

    # --- the application ---

    async def _on_write(self, write: dict[str, Any]) -> None:
        ops = entry_ops(write["ops"])
        edited, atomic = write.get("edited", False), write.get("atomic", True)
        self._writes.append(await self.paper.write(*ops, edited=edited, atomic=atomic))

    async def _on_retry(self, number: int) -> None:
        entry_id = self._id(number)

        def retry(keeper: Keeper) -> Entry | None:
            return keeper.retry(entry_id)

        await self.paper.order(retry)

    async def _on_discard(self, number: int) -> None:
        entry_id = self._id(number)

        def discard(keeper: Keeper) -> Entry | None:
            return keeper.discard(entry_id)

        await self.paper.order(discard)

    async def _on_remade(self, writes: dict[int, list[dict[str, Any]] | None]) -> None:
        for number, ops in writes.items():
            self.paper.meaning.ops[self._id(int(number))] = None if ops is None else entry_ops(ops)

    async def _on_restart(self, _: bool) -> None:
        await self._on_cut(True)
        await self.paper.restart()

    async def _on_advance(self, seconds: float) -> None:
        await self.paper.advance(seconds)

    # --- the connection ---

    async def _on_connect(self, _: bool) -> None:
        self._read = self._expected = self._closed_at = 0
        self._sent.clear()
        await self.paper.connect()

    async def _on_cut(self, _: bool) -> None:
        await self.paper.cut()
        self._sent.clear()
        self._feed_id = None

    async def _on_subscribed(self, answer: dict[str, Any]) -> None:
        asked = answer.pop("asked", {})
        requests = self.paper.sent[self._closed_at :]
        assert [frame["type"] for frame in requests] == ["SUBSCRIBE"], f"it sent {requests}"
        wrong = explain(asked, {"after": "start", **requests[0]}, self.variables)
        assert wrong is None, wrong
        self._feed_id = requests[0]["id"]
        self._expected = len(self.paper.sent)
        for sent in self._sent.values():
            # What is still to be answered on this connection is not sent twice.
            sent.is_current = not sent.is_answered
        message = {"type": "SUBSCRIBED", "id": self._feed_id, "feed": "f1", "store_id": "s1", **answer}
        await self.paper.receive(message)

    async def _on_receive(self, message: Message) -> None:
        if message["type"] in _OF_THE_FEED:
            message = {"feed": "f1", **message}
        if "changes" in message:
            message["changes"] = raw_changes(message["changes"])
        await self.paper.receive(message)

    async def _on_caught_up(self, what: dict[str, Any]) -> None:
        holding = [(key, seq) for key, seq in what["holding"]]
        await self.paper.receive(caught_up(what["at"], holding, is_right=not what.get("wrong", False)))

    async def _on_ended(self, reason: str) -> None:
        assert self._feed_id is not None, "no feed is open"
        if self.paper.sent[-1]["type"] != "UNSUBSCRIBE":
            self._outdate(len(self.paper.sent))
        feed_id, self._feed_id = self._feed_id, None
        await self.paper.receive({"type": "ENDED", "id": feed_id, "feed": "f1", "reason": reason})

    async def _on_answer(self, result: dict[str, Any]) -> None:
        request_id = self._answered(result.pop("write"), is_final=result["status"] != "retry")
        await self.paper.receive({"type": "WROTE", "results": [{"id": request_id, **result}]})

    async def _on_refuse(self, error: dict[str, Any]) -> None:
        request_id = self._answered(error.pop("write"), is_final=not error.get("retry", False))
        await self.paper.receive({"type": "ERROR", "id": request_id, "message": "", "retry": False, **error})

    def _answered(self, number: int, *, is_final: bool) -> int:
        """Return the id of the request that is answered. One that was answered before is nobody's any more."""
        sent = self._sent.get(self._id(number))
        if sent is None or sent.is_answered:
            return _NOBODYS_ID
        sent.is_answered = is_final
        return sent.request_id

    # --- what is expected ---

    async def _on_expect_sent(self, patterns: list[Any]) -> None:
        frames = self.paper.frames[self._expected :]
        self._expected = len(self.paper.frames)
        sent = b"[" + b",".join(frames) + b"]"
        wrong = explain(patterns, loads(sent), self.variables)
        assert wrong is None, f"{wrong}; it sent {sent.decode()}"

    async def _on_expect_shown(self, records: dict[str, Any]) -> None:
        shown = {record.key: record.text for record in self.paper.records()}
        wanted = {op.key: op.text for op in entry_ops({"op": "ADD", "key": k, "value": v} for k, v in records.items())}
        assert shown == wanted, f"it shows {shown}"

    async def _on_expect_writes(self, states: dict[int, str]) -> None:
        found = {number: self.state_of(int(number)) for number in states}
        assert {number: _coarse(state, states[number]) for number, state in found.items()} == states, (
            f"they are {found}"
        )

    async def _on_expect_reports(self, reports: list[Any]) -> None:
        told = [self._told(report) for report in self.paper.ears.reports]
        self.paper.ears.reports.clear()
        assert told == reports, f"it reports {told}"

    async def _on_expect_close(self, code: int) -> None:
        assert self.paper.session is not None
        assert self.paper.session.close_code == code, f"it closed with {self.paper.session.close_code}"

    # --- where things stand ---

    def state_of(self, number: int) -> str:
        """Return where the write of this number stands, in the words of `outbox.yaml`."""
        entry = self.paper.keeper.outbox.get(self._id(number))
        if entry is None:
            state = self.paper.state_of(self._id(number))
            return "gone" if state is None else state.value
        if entry.state is not SyncState.PENDING:
            return str(entry.state.value)
        if entry.refusal is not None:
            return "overtaken" if entry.is_overtaken else "waiting" if entry.lacks else "doubtful"
        sent = self._sent.get(entry.id)
        if sent is not None and sent.is_current:
            return "held" if sent.is_answered else "under_way"
        others = [other for key in entry.keys for other in self.paper.keeper.outbox.of_key(key)]
        is_first = all(other.id >= entry.id or other.state is not SyncState.PENDING for other in others)
        return "free" if is_first else "blocked"

    def _id(self, number: int) -> EntryId:
        return self._writes[number - 1]

    def _told(self, report: Report) -> Any:
        match report:
            case RewoundTo(keep_to):
                return {"rewound_to": keep_to}
            case Returned(entry_ids):
                return {"returned": [self._writes.index(entry_id) + 1 for entry_id in entry_ids]}
            case PutBack(keys):
                return {"put_back": list(keys)}
            case NotPutBack(key, _):
                return {"not_put_back": key}
            case Rejected(entry_id):
                return {"rejected": self._writes.index(entry_id) + 1}
            case StoreReplaced(rejected):
                return {"store_replaced": rejected}
            case Repaired():
                return "repaired"
        raise AssertionError(report)

    def _take_note(self) -> None:
        """Read what was sent since the last look."""
        for entry in self.paper.keeper.outbox:
            self._ops[entry.id] = entry.ops
        for number, frame in enumerate(self.paper.sent[self._read :], self._read + 1):
            if frame["type"] == "UNSUBSCRIBE":
                self._outdate(number)
            for entry_id, ops in self._ops.items():
                if _ops_in(frame) == [(op.key, op.text is None) for op in ops]:
                    self._sent[entry_id] = _Sent(frame["id"])
        self._read = len(self.paper.sent)

    def _outdate(self, closed_at: int) -> None:
        """What was sent so far belongs to a feed that is over."""
        self._closed_at = closed_at
        for sent in self._sent.values():
            sent.is_current = False


def _is_pattern(name: str) -> bool:
    return name == "expect_sent"


def _coarse(state: str, wanted: str) -> str:
    """Return `pending` for every kind of it, if no more is asked."""
    return "pending" if wanted == "pending" and state not in ("acked", "synced", "rejected", "gone") else state


def _ops_in(frame: Message) -> list[tuple[str, bool]]:
    """Return the keys of a write, and of each whether it is a DELETE."""
    if frame["type"] == "WRITE":
        return [(op["key"], op["op"] == "DELETE") for op in frame["ops"]]
    return [(frame["key"], frame["type"] == "DELETE")] if frame["type"] in ("ADD", "DELETE") else []


async def run(steps: list[dict[str, Any]], *, restores_all: bool = True) -> None:
    """Run steps on a replica of their own."""
    paper = await Paper.open(restores_all=restores_all)
    async with asyncio.timeout(20):
        await Run(paper).steps(steps)
    await paper.close()
