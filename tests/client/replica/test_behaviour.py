"""The tables of `protocol/behaviour`: every cell is there, and the fold and the outbox do what each says."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from syncline.replica.entry import Edit, Entry, EntryOp, Refusal, SyncState
from syncline.replica.fold import FeedFold, Folded, Stage
from syncline.replica.outbox import Outbox, taken_back
from syncline.replica.step import Branch, Place, StartOver, Tally
from syncline.write import Written
from syncline_protocol import Lineage, Seq, messages
from syncline_protocol.codec import decode_server_message
from syncline_protocol.cursor import Cursor
from syncline_protocol.messages import OpResult, Status

FOLDER = Path(__file__).parents[3] / "protocol" / "behaviour"
FEED = yaml.safe_load((FOLDER / "feed.yaml").read_text())
OUTBOX = yaml.safe_load((FOLDER / "outbox.yaml").read_text())

_RIGHT = Tally(count=2, digest=0x2A)
_WRONG = Tally(count=3, digest=0x2A)
_MISSING = Tally(count=1, digest=0, missing=((Seq(3), Seq(3)),))


@pytest.mark.parametrize("table", [FEED, OUTBOX], ids=["feed", "outbox"])
def test_every_state_has_a_cell_for_every_event(table: dict[str, Any]) -> None:
    assert set(table["table"]) == set(table["states"])
    for state, cells in table["table"].items():
        assert set(cells) == set(table["events"]), state
        for event, cell in cells.items():
            kinds = cell.values() if isinstance(cell, dict) and "plain" in cell else (cell,)
            for each in kinds:
                following = each if each == "never" else each.get("next", state)
                assert following in {*table["states"], "never", "forgotten"}, (state, event)


# --- the feed ---


def message(name: str) -> Any:
    """Return a message of the table."""
    return decode_server_message(msgspec.json.encode(FEED["messages"][name]))


def feed_in(state: str) -> FeedFold:
    """Return the fold of a replica that had caught up to a:4, with its feed in this state."""
    fold = FeedFold(Place("s", "a:4", "a@0", horizon=Seq(4)))
    if state == "listing":
        fold.subscribed(message("rewind"))
    elif state != "idle":
        fold.subscribed(message("resume"))
    if state == "live":
        fold.caught_up(message("caught_up"), _RIGHT)
    assert fold.stage.value == state
    return fold


def changes_of(batch: messages.Batch) -> list[messages.Change]:
    """Return the changes of a batch as the fold gets them."""
    return list(batch.changes)


def fill(fold: FeedFold, name: str, tally: Tally) -> Folded:
    """Take FILL, and what follows from the last one."""
    folded = fold.fill(message(name), [])
    return fold.settle(tally) if name == "fill_last" else folded


def fetching(fold: FeedFold) -> FeedFold:
    """Ask for what is missing, unless the feed does not ask for anything."""
    fold.next_fetch(_MISSING if fold.stage is Stage.CATCHING_UP else _RIGHT)
    return fold


def fill_after_caught_up(fold: FeedFold, *batches: str) -> Folded:
    """Take CAUGHT_UP while something is missing, perhaps a batch, and then the last FILL."""
    fetching(fold).caught_up(message("caught_up"), _MISSING)
    for name in batches:
        fold.batch(message(name), changes_of(message(name)))
    return fill(fold, "fill_last", _RIGHT)


def lost(fold: FeedFold) -> None:
    """Lose the feed."""
    fold.lost()


def opens(name: str) -> Callable[[FeedFold], Folded]:
    """Return what takes a SUBSCRIBED."""
    return lambda fold: fold.subscribed(message(name))


def lists(name: str) -> Callable[[FeedFold], Folded]:
    """Return what takes a LIVE."""
    return lambda fold: fold.live(message(name))


def brings(name: str) -> Callable[[FeedFold], Folded]:
    """Return what takes a BATCH."""
    return lambda fold: fold.batch(message(name), changes_of(message(name)))


FEED_EVENTS: dict[str, Callable[[FeedFold], Folded | None]] = {
    **{how: opens(how) for how in ("resume", "rewind", "reconcile", "snapshot", "replaced")},
    **{name: lists(name) for name in ("live_more", "live_last")},
    **{name: brings(name) for name in ("batch", "bookmark")},
    "behind": lambda fold: fold.behind(message("behind")),
    "fill_more": lambda fold: fill(fetching(fold), "fill_more", _RIGHT),
    "fill_last": lambda fold: fill(fetching(fold), "fill_last", _RIGHT),
    "fill_last_equal": fill_after_caught_up,
    "fill_last_moved": lambda fold: fill_after_caught_up(fold, "batch"),
    "caught_up_equal": lambda fold: fold.caught_up(message("caught_up"), _RIGHT),
    "caught_up_unequal": lambda fold: fold.caught_up(message("caught_up"), _WRONG),
    "caught_up_missing": lambda fold: fold.caught_up(message("caught_up"), _MISSING),
    "lost": lost,
}


def feed_cells(*, possible: bool) -> list[Any]:
    """Return the cells of the feed's table as parameters."""
    return [
        pytest.param(state, event, cell, id=f"{state}-{event}")
        for state, cells in FEED["table"].items()
        for event, cell in cells.items()
        if (cell != "never") is possible
    ]


@pytest.mark.parametrize(("state", "event", "cell"), feed_cells(possible=True))
def test_a_feed_does_what_its_table_says(state: str, event: str, cell: dict[str, str]) -> None:
    fold = feed_in(state)
    built = fold.place.built
    folded = FEED_EVENTS[event](fold)
    assert fold.stage.value == cell.get("next", state)
    assert (folded.result.value if folded else None) == cell.get("result")
    assert fold.place.cursor == cell["cursor"]
    assert ("built" if fold.shows_built else "before") == cell["shown"]
    steps = folded.steps if folded else ()
    begun = next((step for step in steps if isinstance(step, StartOver | Branch)), None)
    if cell["built"] == "kept":
        assert begun is None
        assert fold.place.built == built
    else:
        assert isinstance(begun, StartOver if cell["built"] == "emptied" else Branch)
        assert fold.place.built == begun.generation != built


@pytest.mark.parametrize(("state", "event", "cell"), feed_cells(possible=False))
def test_what_never_comes_is_our_own_mistake_if_it_does(state: str, event: str, cell: str) -> None:
    if event.startswith(("fill_last_", "caught_up_missing")) and state == "live":
        # What is live lacks nothing, so nothing of it is ever being filled in.
        assert feed_in(state).next_fetch(_RIGHT) is None
        return
    fold = feed_in(state)
    before = fold.place
    with pytest.raises(AssertionError):
        FEED_EVENTS[event](fold)
    assert fold.place == before


# --- the outbox ---

_LINEAGE, _HEAD = Lineage.parse("a@0,b@8"), Seq(20)
_OPS = (EntryOp("old"), EntryOp("new", "1"))
_KINDS = {
    "plain": Entry(1, _OPS, 0),
    "edit": Entry(1, _OPS, 0, edits=(Edit("rooms:r", "title", "new", "old"),)),
    "returned": Entry(1, _OPS, 0, returned=True),
}


def refused(*statuses: Status) -> Written:
    """Return a refusal of the write as a whole."""
    return Written("refused", ops=tuple([OpResult(status) for status in statuses]), head=Cursor("b:9"))


ANSWERS = {
    "ok": Written("ok", at=Cursor("b:9"), ops=(OpResult("ok", Seq(8)), OpResult("ok", Seq(9)))),
    "rival": refused("gone", "skipped"),
    "absent": refused("absent", "skipped"),
    "invalid": refused("skipped", "invalid"),
    "denied": refused("denied", "skipped"),
    "no_store": Written("refused", code="store_mismatch"),
}

#: How a write gets into a state, which not every kind of it can.
_WAYS = {"free": (), "under_way": ("sent",), "held": ("sent", "no_store"), "acked": ("sent", "ok")}
_OWN_WAYS: dict[tuple[str, str], tuple[str, ...]] = {
    ("returned", "waiting"): ("sent", "absent"),
    ("edit", "overtaken"): ("sent", "rival"),
}


class Box:
    """An outbox with one write, and what became of it when it has left."""

    def __init__(self, kind: str) -> None:
        self.outbox = Outbox()
        self.outbox.put(_KINDS[kind])
        self.left: Entry | None = None
        self.is_forgotten = False

    def do(self, event: str) -> None:
        """Let something happen."""
        entry = self.outbox.get(1)
        match event:
            case "sent":
                assert [each.id for each in self.outbox.ready()] == [1]
            case "lost":
                self.outbox.connection_lost()
            case "denied_again":
                self.outbox.connection_lost()
                self.do("sent")
                self.do("denied")
            case "opened":
                self._opened(_LINEAGE)
            case "gone":
                self._opened(Lineage.parse("c@0"))
            case "replaced":
                self.outbox.reject_all(Refusal("store_replaced"))
                self.is_forgotten = self.left is not None
            case "back":
                self.outbox.wake(["old"])
            case "passed":
                self.left = next(iter(self.outbox.passed(Seq(9))), self.left)
            case "remade":
                assert entry is not None
                self.outbox.put(msgspec.structs.replace(entry, refusal=None))
            case "retry":
                self.outbox.retry(1, _LINEAGE, _HEAD)
            case "discard":
                self.is_forgotten = self.outbox.discard(1) is not None
            case _:
                assert entry is not None
                assert self.outbox.answered(entry, ANSWERS[event]) is not None

    def _opened(self, lineage: Lineage) -> None:
        self.outbox.reopened()
        self.outbox.lost(lineage, _HEAD)
        self.outbox.reconsider(lineage, _HEAD, is_forked=False)
        self.outbox.wake()
        if self.left is not None and lineage != _LINEAGE:
            self.outbox.put(taken_back(self.left))

    @property
    def state(self) -> str:
        """The state of the table that it is in."""
        entry = self.outbox.get(1)
        if self.is_forgotten:
            return "forgotten"
        if entry is None:
            return "synced"
        if entry.state is not SyncState.PENDING:
            return str(entry.state.value)
        if entry.refusal is not None:
            return "waiting" if entry.lacks else "overtaken" if entry.is_overtaken else "doubtful"
        return self._pending_state()

    def _pending_state(self) -> str:
        if self.outbox.ready():
            return "free"
        self.outbox.reopened()
        return "held" if self.outbox.ready() else "under_way"


def box_in(kind: str, state: str) -> Box:
    """Return a box whose write has come into a state as it does in life."""
    box = Box(kind)
    if state == "rejected":
        way: tuple[str, ...] = ("sent", "invalid")
    elif state == "synced":
        way = ("sent", "ok", "passed")
    elif state == "doubtful":
        way = ("sent", "denied_again")
    else:
        way = _OWN_WAYS.get((kind, state)) or _WAYS[state]
    for event in way:
        box.do(event)
    return box


def outbox_cells() -> list[Any]:
    """Return the possible cells of the outbox's table as parameters, one for each kind that can be in the state."""
    cells = []
    for state, row in OUTBOX["table"].items():
        kinds = [kind for (kind, own) in _OWN_WAYS if own == state] or list(_KINDS)
        for event, cell in row.items():
            for kind in kinds if cell != "never" else ():
                own = cell.get(kind, cell)
                cells.append(pytest.param(kind, state, event, own.get("next", state), id=f"{kind}-{state}-{event}"))
    return cells


@pytest.mark.parametrize(("kind", "state", "event", "following"), outbox_cells())
def test_a_write_goes_where_its_table_says(kind: str, state: str, event: str, following: str) -> None:
    box = box_in(kind, state)
    box.do(event)
    assert box.state == following


@pytest.mark.parametrize("state", sorted(OUTBOX["states"]))
def test_the_states_of_the_table_are_told_apart(state: str) -> None:
    kind = next((kind for (kind, own) in _OWN_WAYS if own == state), "plain")
    assert box_in(kind, state).state == state
