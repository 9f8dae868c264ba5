"""`protocol/behaviour/feed.yaml` against the feed's fold: one test for each cell, each state with each event."""

import json
from dataclasses import dataclass
from itertools import product
from typing import Any

import msgspec
import pytest

from syncline.replica.fold import FeedFold, Folded, Result, Stage
from syncline.replica.step import Apply, Branch, FillIn, Place, SavePlace, Show, StartOver, Step, Tally
from syncline_protocol import ClientSession, CloseCode, messages
from syncline_protocol.codec import decode_server_message, encode
from syncline_protocol.cursor import START, Seq, parse_cursor
from syncline_protocol.limits import DEFAULT_LIMITS
from syncline_protocol.messages import Hello, ServerMessage, Subscribe, Welcome
from syncline_protocol.seq_set import SeqSet
from tests.client.replica.paper import Message
from tests.client.replica.steps import read
from tests.conformance.patterns import fill

TABLE = read("feed.yaml")

#: What each step of a local transaction is called in the table.
_WORDS: dict[type[Step], str] = {
    StartOver: "empty",
    Branch: "branch",
    Apply: "changes",
    FillIn: "records",
    Show: "show",
}


@dataclass(frozen=True)
class Cell:
    """One cell of the table."""

    state: str
    event: str
    wanted: Any

    @property
    def kind(self) -> str:
        """Return `illegal`, `never` or `legal`."""
        if self.wanted == "illegal":
            return "illegal"
        return "never" if "never" in self.wanted else "legal"

    def __str__(self) -> str:
        return f"{self.event}-{self.state}"


def cells_of(table: Any) -> list[Cell]:
    """Return the cells of a table; a row names the states that are alike with blanks between."""
    return [
        Cell(state, event, wanted)
        for event, row in table["events"].items()
        for states, wanted in row["cells"].items()
        for state in states.split()
    ]


CELLS = cells_of(TABLE)


def of_kind(kind: str) -> list[Cell]:
    """Return the cells of one kind."""
    return [cell for cell in CELLS if cell.kind == kind]


class Driven:
    """A fold that is driven by messages as they stand in the table."""

    def __init__(self, event: dict[str, Any]) -> None:
        saved = {**TABLE["place"], "horizon": 12, **event.get("place", {})}
        if saved.pop("rebuilding", False):
            saved.update(built=2, shown=1, horizon=5)
        if saved["cursor"] == START:
            saved["horizon"] = 0
        self.fold = FeedFold(msgspec.convert(saved, Place))
        self.missing = ""
        self.differs = False

    @property
    def state(self) -> str:
        """Where it stands, in the words of the table."""
        if self.fold.stage is Stage.CATCHING_UP and not self.fold.shows_built:
            return "rebuilding"
        return self.fold.stage.value

    @property
    def tally(self) -> Tally:
        """What is held: two records, as the CAUGHT_UP of the table says, unless it shall differ."""
        return Tally(2, 3 if self.differs else 2, SeqSet.parse(self.missing))

    def take(self, raw: Message | None, event: str = "") -> Folded:
        """Take a message of the table; None for the events that are none."""
        if raw is None and event == "contradiction":
            return self.fold.contradicted()
        if raw is None or raw["type"] == "ENDED":
            self.fold.lost()
            is_forbidden = raw is not None and raw["reason"] == "forbidden"
            return self.fold.withdrawn() if is_forbidden else Folded(Result.NOTED)
        message = read_message(raw, self.fold.place.cursor)
        match message:
            case messages.Subscribed():
                return self.fold.subscribed(message)
            case messages.Live():
                return self.fold.live(message)
            case messages.Batch():
                return self.fold.batch(message, list(message.changes))
            case messages.Behind():
                return self.fold.behind(message)
            case messages.CaughtUp():
                return self.fold.caught_up(message, self.tally)
            case messages.Fill():
                return self._fill(message)
        raise AssertionError(message)

    def _fill(self, message: messages.Fill) -> Folded:
        filled = self.fold.fill(message, list(message.changes))
        settled = self.fold.settle(self.tally)
        result = filled.result if settled.result is Result.NOTED else settled.result
        return Folded(result, (*filled.steps, *settled.steps))

    def bring_to(self, state: str, event: dict[str, Any]) -> None:
        """Bring it to a state, and to what the event needs to have happened before."""
        for raw in TABLE["states"][state]["after"]:
            self.take(raw)
        assert self.state == state
        self.missing = event.get("fetching", event.get("missing", ""))
        for raw in event.get("before", []):
            self.take(raw)
        if "fetching" in event:
            assert self.fold.next_fetch(self.tally) == event["fetching"]
        self.missing = event.get("missing", "")
        self.differs = event.get("differs", False)


def read_message(raw: Message, cursor: str) -> ServerMessage:
    """Read a message of the table as it would come over the wire."""
    return decode_server_message(json.dumps(fill(raw, {"cursor": cursor})).encode())


def saved_by(steps: tuple[Step, ...], before: Place, after: Place) -> set[str]:
    """Return what is saved, in the words of the table."""
    words = {_WORDS[type(step)] for step in steps if not isinstance(step, SavePlace)}
    if (before.store_id, before.lineage) != (after.store_id, after.lineage):
        words.add("store")
    if before.cursor != after.cursor:
        words.add("start" if after.cursor == START else "cursor")
    if before.horizon != after.horizon:
        words.add("horizon")
    if after.mending == "asks" != before.mending:
        words.add("mend")
    return words


@pytest.mark.parametrize("cell", of_kind("legal"), ids=str)
def test_an_event_leads_to_the_state_and_saves_what_the_table_says(cell: Cell) -> None:
    event = TABLE["events"][cell.event]
    driven = Driven(event)
    driven.bring_to(cell.state, event)
    before = driven.fold.place
    folded = driven.take(event["message"], cell.event)
    after = driven.fold.place
    assert (driven.state, folded.result.value) == (cell.wanted["to"], cell.wanted["result"])
    assert saved_by(folded.steps, before, after) == set(cell.wanted["saves"])
    _check_steps(folded.steps, before, after, event["message"])
    assert after == before or [step.place for step in folded.steps if isinstance(step, SavePlace)] == [after]


def _check_steps(steps: tuple[Step, ...], before: Place, after: Place, raw: Message | None) -> None:
    """Check what the words of the table mean."""
    if after.cursor != before.cursor and after.cursor != START:
        assert raw is not None
        assert after.cursor == {"SUBSCRIBED": raw.get("at"), "LIVE": "a:10"}.get(raw["type"], raw.get("to"))
    if after.horizon != before.horizon:
        assert after.horizon == (0 if after.cursor == START else parse_cursor(after.cursor).seq)
    for step in steps:
        match step:
            case StartOver():
                assert step.generation == after.built not in (before.built, before.shown)
                assert step.instead_of == (None if before.built == before.shown else before.built)
                assert (after.restarted is None) == any(isinstance(each, Show) for each in steps)
            case Branch():
                assert (step.source, step.generation) == (before.built, after.built)
                assert (step.keep_to, step.live) == (10, SeqSet.parse("1-4"))
                assert step.drop_source == (before.built != before.shown)
            case Apply():
                # What can be seen must stay to be seen; in a generation that cannot be seen nothing has to.
                is_seen_later = before.built == before.shown and after.horizon == before.horizon
                assert (step.generation, step.horizon) == (before.built, before.horizon if is_seen_later else None)
            case Show():
                assert (step.generation, after.shown, after.restarted) == (after.built, after.built, None)
                assert step.instead_of == (None if before.shown == after.shown else before.shown)


@pytest.mark.parametrize("cell", of_kind("illegal"), ids=str)
def test_what_is_illegal_closes_the_connection_and_never_reaches_the_fold(cell: Cell) -> None:
    session = ClientSession(Hello(), now=0)
    session.receive(encode(Welcome("s1", "test/1", DEFAULT_LIMITS, 15000, ())), 0)
    after = TABLE["states"][cell.state]["after"]
    if after:
        session.subscribe(Subscribe(1, "notes"))
    cursor = "a:12"
    for raw in after:
        assert session.receive(encode(read_message(raw, cursor)), 0)
    events = session.receive(encode(read_message(TABLE["events"][cell.event]["message"], cursor)), 0)
    assert (events, session.close_code) == ([], CloseCode.MISUSE)


@pytest.mark.parametrize(
    "cell", [cell for cell in of_kind("illegal") if cell.event not in ("ended", "withdrawn")], ids=str
)
def test_the_fold_refuses_what_is_illegal_before_anything_changes(cell: Cell) -> None:
    event = TABLE["events"][cell.event]
    driven = Driven({})
    for raw in TABLE["states"][cell.state]["after"]:
        driven.take(raw)
    before = (driven.fold.place, driven.fold.stage)
    with pytest.raises(AssertionError):
        driven.take(event["message"])
    assert (driven.fold.place, driven.fold.stage) == before


def test_every_cell_of_states_and_events_is_there_once() -> None:
    assert sorted((cell.state, cell.event) for cell in CELLS) == sorted(product(TABLE["states"], TABLE["events"]))


def test_the_table_has_every_stage_and_every_result_and_uses_each_word_that_it_explains() -> None:
    assert {stage.value for stage in Stage} == set(TABLE["states"]) - {"rebuilding"}
    assert {result.value for result in Result} == set(TABLE["results"])
    legal = [cell.wanted for cell in of_kind("legal")]
    assert {wanted["result"] for wanted in legal} == set(TABLE["results"])
    assert {word for wanted in legal for word in wanted["saves"]} == set(TABLE["saves"])


def test_the_horizon_of_a_replica_is_where_it_was_shown_last() -> None:
    driven = Driven({})
    driven.bring_to("live", {})
    assert driven.fold.place.horizon == Seq(12)
