"""A server that is a list of changes: what it may send, and all that it may send, in messages as on the wire.

It decides nothing by what clients hold: writes by the keys that were used, subscriptions by the resume table. Where
the protocol leaves it a choice (how far a batch reaches, what a catch-up leaves out, PROTOCOL 7.1.5), it asks.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from syncline_protocol.cursor import START, Lineage, Reconcile, Resume, Rewind, Seq, decide_resume, parse_cursor
from syncline_protocol.digest import digest_term, digest_text
from syncline_protocol.ranges import format_ranges, parse_ranges
from tests.client.replica.paper import Message

__all__ = ["Line", "ModelServer"]

#: Asks for a number from 0 to this one, both included.
Choose = Callable[[int], int]

Op = tuple[str, str | None]


@dataclass(frozen=True)
class Line:
    """One line of the log.

    Attributes:
        text: the value of an ADD; None for a DELETE.
        ends: it is the last one of its transaction.
    """

    seq: int
    key: str
    text: str | None
    ends: bool

    def message(self) -> Message:
        """Return it as BATCH and FILL carry it."""
        op = {"op": "DELETE"} if self.text is None else {"op": "ADD", "value": int(self.text)}
        return {"seq": self.seq, "key": self.key, "time": 0, **op}


@dataclass
class _Feed:
    """One subscription.

    Attributes:
        pinned: the highest head by which something was left out; CAUGHT_UP must not come below it.
        fetches: the seqs of each FETCH that was not answered.
    """

    id: int
    position: int
    is_listing: bool
    is_caught_up: bool = False
    pinned: int = 0
    fetches: list[str] = field(default_factory=list)


class ModelServer:
    """The server of one store and one client.

    Args:
        note: is told what happens.

    Attributes:
        log: what is committed, in order.
        states: every state that the store was in after a transaction, in any of its histories, as keys with seqs.
        floor: the tombstone floor.
        answers: results that were decided and not given yet.
    """

    def __init__(self, choose: Choose, note: Callable[[str], None]) -> None:
        self.choose = choose
        self.note = note
        self.log: list[Line] = []
        self.floor = 0
        self.lineage = Lineage.parse("i0@0")
        self.store_id = "s0"
        self.states: set[frozenset[tuple[str, int]]] = {frozenset()}
        self.answers: list[Message] = []
        self.feed: _Feed | None = None
        self._names = 0
        self._must_mint = False

    # --- the log ---

    @property
    def head(self) -> int:
        """The seq of the last change."""
        return len(self.log)

    def live(self, upto: int | None = None) -> dict[str, Line]:
        """Return the records that live at a position, by key."""
        records: dict[str, Line] = {}
        for line in self.log[:upto]:
            if line.text is None:
                records.pop(line.key, None)
            else:
                records[line.key] = line
        return records

    def commit(self, *ops: Op) -> None:
        """Commit a transaction that is sound."""
        if self._must_mint:
            self._must_mint = False
            self.lineage = self.lineage.extended(self._name(), Seq(self.head + 1))
        for number, (key, text) in enumerate(ops, 1):
            self.log.append(Line(self.head + 1, key, text, number == len(ops)))
        self.states.add(frozenset((key, line.seq) for key, line in self.live().items()))

    def restore(self, upto: int) -> None:
        """Go back to an older state, as from a backup; what follows bears another name."""
        while upto and not self.log[upto - 1].ends:
            upto -= 1
        del self.log[upto:]
        self.floor = min(self.floor, upto)
        self.lineage = Lineage(tuple([entry for entry in self.lineage.entries if entry.first_seq <= upto]))
        self._must_mint = True
        self.note("restored")
        self.hang_up()

    def forget(self, upto: int) -> None:
        """Clean DELETEs away: who is below learns what lives. Who is connected is cut off."""
        while upto and not self.log[upto - 1].ends:
            upto -= 1
        self.floor = max(self.floor, upto)
        self.hang_up()

    def begin_anew(self, upto: int) -> None:
        """Be a server that somebody filled with what lived once, under seqs of its own: no history in common."""
        records = list(self.live(upto).values())
        self.log, self.floor, self._must_mint = [], 0, False
        self.lineage = Lineage.parse(f"{self._name()}@0")
        for line in records:
            self.commit((line.key, line.text))
        self.hang_up()

    def replace(self) -> None:
        """Drop the store and make it anew."""
        self.log, self.floor, self._must_mint = [], 0, False
        name = self._name()
        self.store_id, self.lineage = f"s{name}", Lineage.parse(f"{name}@0")
        self.hang_up()

    def _name(self) -> str:
        self._names += 1
        return f"i{self._names}"

    def hang_up(self) -> None:
        """Forget the connection: its feed, and the answers that it did not get any more."""
        self.feed = None
        self.answers.clear()

    # --- requests ---

    def take(self, request: Message) -> list[Message]:
        """Take a request; return what is answered at once."""
        self.note(request["type"])
        match request["type"]:
            case "SUBSCRIBE":
                return self._subscribe(request)
            case "UNSUBSCRIBE":
                return self.end("unsubscribed")
            case "FETCH":
                assert self.feed is not None
                self.feed.fetches.append(request["seqs"])
            case _:
                self.answers.append(self._decide(request))
        return []

    def _subscribe(self, request: Message) -> list[Message]:
        assert self.feed is None, "a second subscription of one connection"
        head, after = Seq(self.head), request.get("after", START)
        known = Lineage.parse(request["known"]) if "known" in request else None
        answer: Message = {"how": "resume", "at": self.lineage.cursor(Seq(0))}
        if after != START:
            match decide_resume(self.lineage, head, parse_cursor(after), known, floor=Seq(self.floor)):
                case Resume(at) if request.get("reconcile") and at:
                    answer = {"how": "reconcile", "at": after}
                case Resume():
                    answer["at"] = after
                case Reconcile(at):
                    answer = {"how": "reconcile", "at": self.lineage.cursor(at)}
                case Rewind(keep_to):
                    answer = {"how": "rewind", "keep_to": keep_to, "at": self.lineage.cursor(keep_to)}
                case _:
                    answer["how"] = "snapshot"
        self.note(answer["how"])
        position = parse_cursor(answer["at"]).seq
        self.feed = _Feed(request["id"], position, answer["how"] in ("rewind", "reconcile"))
        about = {"head": self.lineage.cursor(head), "lineage": self.lineage.to_text(), "store_id": self.store_id}
        return [{"type": "SUBSCRIBED", "id": request["id"], "feed": "f1", **answer, **about}]

    def end(self, reason: str) -> list[Message]:
        """End the feed."""
        if self.feed is None:
            return []
        request_id, self.feed = self.feed.id, None
        return [{"type": "ENDED", "id": request_id, "feed": "f1", "reason": reason}]

    # --- writes ---

    def _decide(self, request: Message) -> Message:
        if request["store_id"] != self.store_id:
            error = {"code": "store_mismatch", "message": "", "retry": False}
            return {"type": "ERROR", "id": request["id"], **error}
        raw = request["ops"] if request["type"] == "WRITE" else [{**request, "op": request["type"]}]
        ops: list[Op] = [(op["key"], str(op["value"]) if op["op"] == "ADD" else None) for op in raw]
        first = next((line.seq for line in self.log if (line.key, line.text) == ops[0]), None)
        if first is not None and [(line.key, line.text) for line in self.log[first - 1 : first - 1 + len(ops)]] == ops:
            return self._done(request, "dup", first, ops)
        statuses = [self._status(op) for op in ops]
        if set(statuses) != {"skipped"}:
            return self._refused(request, statuses)
        self.commit(*ops)
        return self._done(request, "ok", self.head - len(ops) + 1, ops)

    def _done(self, request: Message, status: str, first: int, ops: list[Op]) -> Message:
        at = self.lineage.cursor(Seq(first + len(ops) - 1))
        result = {"id": request["id"], "status": status, "at": at}
        if request["type"] != "WRITE":
            return _wrote({**result, "seq": first})
        return _wrote({**result, "ops": [{"status": status, "seq": first + number} for number in range(len(ops))]})

    def _refused(self, request: Message, statuses: list[str]) -> Message:
        result = {"id": request["id"], "head": self.lineage.cursor(Seq(self.head))}
        if request["type"] != "WRITE":
            return _wrote({**result, "status": statuses[0]})
        return _wrote({**result, "status": "refused", "ops": [{"status": status} for status in statuses]})

    def _status(self, op: Op) -> str:
        key, text = op
        used = [line for line in self.log if line.key == key]
        if text is None:
            return "absent" if not used else "skipped" if len(used) == 1 else "gone"
        return "skipped" if not used else "gone" if len(used) > 1 else "conflict"

    # --- what is sent ---

    def next_messages(self) -> list[Message]:
        """Return what comes next: an answer, or the next of the feed; nothing if everything was sent."""
        choices: list[Callable[[], list[Message]]] = []
        feed = self.feed
        if self.answers:
            choices.append(lambda: [self.answers.pop(0)])
        if feed is not None and (feed.is_listing or feed.position < self.head or not feed.is_caught_up):
            choices.append(lambda: self._next_of_feed(feed))
        if feed is not None and feed.fetches and not feed.is_listing and (not choices or not self.choose(3)):
            choices.append(lambda: self._fill(feed))
        return choices[self.choose(len(choices) - 1)]() if choices else []

    def fall_behind(self) -> list[Message]:
        """Let the feed fall behind, if it was caught up and there is something to leave out."""
        feed = self.feed
        if feed is None or not feed.is_caught_up or feed.position == self.head:
            return []
        feed.is_caught_up = False
        self.note("BEHIND")
        return [{"type": "BEHIND", "feed": "f1", "at": self._cursor(feed.position), "head": self._cursor(self.head)}]

    def _next_of_feed(self, feed: _Feed) -> list[Message]:
        if feed.is_listing:
            return self._list(feed)
        if feed.position < self.head:
            return [self._batch(feed)]
        feed.is_caught_up = True
        assert feed.position >= feed.pinned
        records = self.live(feed.position)
        digest = digest_text(sum([digest_term(Seq(line.seq), key) for key, line in records.items()]))
        at = self._cursor(feed.position)
        return [{"type": "CAUGHT_UP", "feed": "f1", "at": at, "count": len(records), "digest": digest}]

    def _list(self, feed: _Feed) -> list[Message]:
        feed.is_listing = False
        seqs = sorted(line.seq for line in self.live(feed.position).values())
        part = self.choose(len(seqs))
        common = {"type": "LIVE", "feed": "f1", "upto": self._cursor(feed.position)}
        first = {**common, "seqs": _ranges(seqs[:part])}
        return [first, {**common, "seqs": _ranges(seqs[part:]), "last": True}]

    def _batch(self, feed: _Feed) -> Message:
        ends = [line.seq for line in self.log[feed.position :] if line.ends]
        to = ends[self.choose(min(len(ends) - 1, 6))]
        lines = full = self.log[feed.position : to]
        if not feed.is_caught_up:
            lines = self._less(full, feed.position)
            feed.pinned = self.head
        if len(lines) < len(full):
            self.note("left out")
        message = {"type": "BATCH", "feed": "f1", "from": self._cursor(feed.position), "to": self._cursor(to)}
        feed.position = to
        return {**message, "changes": [line.message() for line in lines]}

    def _less(self, lines: list[Line], after: int) -> list[Line]:
        """Leave out what may be: an ADD that is dead by now, a DELETE whose ADD is above `from` and left out too."""
        added = {line.key: line.seq for line in self.log if line.text is not None}
        live = self.live()
        dead = {line.key for line in lines if line.text is not None and line.key not in live and self.choose(2)}
        return [
            line
            for line in lines
            if line.key not in dead or (line.text is None and (added[line.key] <= after or not self.choose(1)))
        ]

    def _fill(self, feed: _Feed) -> list[Message]:
        wanted = parse_ranges(feed.fetches.pop(0), ranges_max=1000)
        lines = [line for line in self.live().values() if any(a <= line.seq <= b for a, b in wanted)]
        part = self.choose(len(lines))
        common: Message = {"type": "FILL", "feed": "f1"}
        first = {**common, "changes": [line.message() for line in lines[:part]]}
        return [first, {**common, "changes": [line.message() for line in lines[part:]], "last": True}]

    def _cursor(self, seq: int) -> str:
        return self.lineage.cursor(Seq(seq))


def _wrote(result: Message) -> Message:
    return {"type": "WROTE", "results": [result]}


def _ranges(seqs: list[int]) -> str:
    return format_ranges([(Seq(seq), Seq(seq)) for seq in seqs])
