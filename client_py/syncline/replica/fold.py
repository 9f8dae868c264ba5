"""What a replica makes of the messages of its feed: one fold, state and message in, named result and steps out. No I/O.

    IDLE ──resume, snapshot──> CATCHING_UP ──CAUGHT_UP, and it is equal──> LIVE ──BEHIND──> CATCHING_UP
      └──rewind, reconcile──> LISTING ──last LIVE──> CATCHING_UP         any ──connection lost, ENDED──> IDLE
      └──withdrawn──> IDLE

`protocol/behaviour/feed.yaml` is the whole table; what is illegal in it is a mistake of the caller here. Invariants:

- the cursor and the rows of a batch are in one local transaction (PROTOCOL 11.1.1), so there is none between them;
- nothing that a catch-up brings can be seen before CAUGHT_UP, and then all of it (P4);
- a history that is another one is built beside what is shown, and takes its place when it has been proved equal;
- the cursor does not move before the last LIVE was taken, so a rewind that is cut off is asked for again.
"""

from dataclasses import dataclass, field
from enum import Enum
from itertools import islice

import msgspec

from syncline_protocol import messages
from syncline_protocol.cursor import START, Seq, lineage_with, parse_cursor
from syncline_protocol.digest import digest_text
from syncline_protocol.limits import SEQ_MAX
from syncline_protocol.ranges import Range, format_ranges
from syncline_protocol.seq_set import SeqSet

from .step import Apply, Branch, FillIn, Place, SavePlace, Show, StartOver, Step, Tally

__all__ = ["FeedFold", "Folded", "Result", "Stage"]

#: A FETCH names at most so many ranges (PROTOCOL 9.4) and seqs; what a cut connection has to fetch again is bounded.
_RANGES_MAX = 1000
_FETCHED_MAX = 20_000

_NONE = Seq(0)


class Stage(Enum):
    """How far a feed has come since it was opened."""

    IDLE = "idle"
    LISTING = "listing"
    CATCHING_UP = "catching_up"
    LIVE = "live"


#: Where batches come. The session lets no message of the server come elsewhere (PROTOCOL 2.3.4, 5.5.2).
_FOLLOWING = frozenset({Stage.CATCHING_UP, Stage.LIVE})


class Result(Enum):
    """What came of a message."""

    #: Nothing that anybody has to know of.
    NOTED = "noted"
    #: Batches go on after the cursor.
    RESUMED = "resumed"
    #: History forked; what lives is about to be listed.
    REWINDS = "rewinds"
    #: What lives was listed; the common part of history was kept.
    REWOUND = "rewound"
    #: The server has none of our history; it is read from the start.
    RESTARTED = "restarted"
    #: The store was dropped and made anew.
    REPLACED = "replaced"
    #: Changes were taken that cannot be seen yet.
    STAGED = "staged"
    #: Changes were taken that can be seen at once.
    APPLIED = "applied"
    #: What is held is what the server has, and is shown.
    CAUGHT_UP = "caught_up"
    #: Something is still missing; it is being fetched.
    FETCHES = "fetches"
    #: Everything is there, but not at the position for which a digest came: subscribe again, for another digest.
    ASKS_AGAIN = "asks_again"
    #: What is held is not what the server has; it is read from the start.
    MISMATCH = "mismatch"
    #: A catch-up begins.
    FELL_BEHIND = "fell_behind"
    #: Nothing of the store may be seen any more; what was held is gone.
    WITHDRAWN = "withdrawn"


@dataclass(frozen=True, slots=True)
class Folded:
    """The result of one fold, and what has to be saved for it; the fold counts on that.

    Attributes:
        switched: of CAUGHT_UP: another generation is shown from now on.
        restarted: of CAUGHT_UP: why the generation that is shown now was begun from nothing, if it was.
    """

    result: Result
    steps: tuple[Step, ...] = ()
    switched: bool = False
    restarted: str | None = None


@dataclass(slots=True)
class FeedFold:
    """The feed of one replica.

    Args:
        place: where the replica stands, as saved.
        is_partial: the replica holds a part of the store only, so that count and digest cannot be compared.
    """

    place: Place
    is_partial: bool = False
    stage: Stage = Stage.IDLE
    head: Seq = _NONE
    _opened: messages.Subscribed | None = None
    _live: list[str] = field(default_factory=list)
    _caught_up: messages.CaughtUp | None = None
    _fetching: tuple[Range, ...] = ()

    @property
    def seq(self) -> Seq:
        """The seq of the cursor."""
        return Seq(0) if self.place.cursor == START else parse_cursor(self.place.cursor).seq

    @property
    def shows_built(self) -> bool:
        """Whether the generation that is shown is the one that is built."""
        return self.place.shown == self.place.built

    # --- opening ---

    def subscribed(self, message: messages.Subscribed) -> Folded:
        """Take SUBSCRIBED."""
        assert self.stage is Stage.IDLE, self.stage
        self.head = parse_cursor(message.head).seq
        self._caught_up, self._fetching, self._live = None, (), []
        if self.place.store_id is not None and self.place.store_id != message.store_id:
            return self._start_over(message, Result.REPLACED)
        if message.how == "snapshot" and self.place.cursor != START:
            return self._start_over(message, Result.RESTARTED)
        if message.how in ("rewind", "reconcile"):
            self.stage, self._opened = Stage.LISTING, message
            return Folded(Result.REWINDS)
        self.stage = Stage.CATCHING_UP
        return Folded(Result.RESUMED, (self._move(self._met(message)),))

    def _met(self, message: messages.Subscribed) -> Place:
        """Return the place with what SUBSCRIBED says of the store."""
        return msgspec.structs.replace(
            self.place, store_id=message.store_id, lineage=message.lineage, cursor=message.at
        )

    def _start_over(self, message: messages.Subscribed, result: Result) -> Folded:
        self.stage = Stage.CATCHING_UP
        step = self._new_generation()
        place = msgspec.structs.replace(self._met(message), built=step.generation, restarted="snapshot", mending=None)
        return Folded(result, (step, self._move(place)))

    def _new_generation(self) -> StartOver:
        return StartOver(self._next_generation(), None if self.shows_built else self.place.built)

    def _next_generation(self) -> int:
        return max(self.place.built, self.place.shown) + 1

    def _move(self, place: Place) -> SavePlace:
        self.place = place
        return SavePlace(place)

    # --- listing ---

    def live(self, message: messages.Live) -> Folded:
        """Take LIVE."""
        assert self.stage is not Stage.IDLE
        if self.stage is not Stage.LISTING:
            return Folded(Result.NOTED)
        self._live.append(message.seqs)
        if not message.last:
            return Folded(Result.NOTED)
        opened = self._opened
        assert opened is not None
        keep_to = parse_cursor(opened.at).seq if opened.keep_to is None else opened.keep_to
        branch = Branch(
            self._next_generation(),
            self.place.built,
            keep_to,
            SeqSet.parse(*self._live),
            drop_source=not self.shows_built,
        )
        self._live, self._opened, self.stage = [], None, Stage.CATCHING_UP
        return Folded(
            Result.REWOUND,
            (
                branch,
                self._move(
                    msgspec.structs.replace(
                        self._met(opened),
                        built=branch.generation,
                        mending=None if self.place.mending is None else "listed",
                    )
                ),
            ),
        )

    # --- changes ---

    def batch(self, message: messages.Batch, changes: list[messages.Change]) -> Folded:
        """Take a BATCH; `changes` are those of it that the replica holds."""
        assert self.stage in _FOLLOWING, self.stage
        assert message.from_ == self.place.cursor, (message.from_, self.place.cursor)
        shown = self.stage is Stage.LIVE
        to = parse_cursor(message.to).seq
        self.head = max(self.head, to)
        horizon = None if shown or not self.shows_built else self.place.horizon
        assert self.place.lineage is not None, "a feed was opened before"
        lineage = lineage_with(self.place.lineage, message.from_, message.to)
        place = msgspec.structs.replace(self.place, cursor=message.to, lineage=lineage)
        if shown:
            place = msgspec.structs.replace(place, horizon=to)
        steps: tuple[Step, ...] = (Apply(self.place.built, changes, horizon),) if changes else ()
        return Folded(Result.APPLIED if shown else Result.STAGED, (*steps, self._move(place)))

    def behind(self, message: messages.Behind) -> Folded:
        """Take BEHIND."""
        assert self.stage in _FOLLOWING, self.stage
        self.stage, self._caught_up = Stage.CATCHING_UP, None
        self.head = max(self.head, parse_cursor(message.head).seq)
        return Folded(Result.FELL_BEHIND)

    # --- what is missing ---

    def next_fetch(self, tally: Tally) -> str | None:
        """Return the ranges to FETCH now; None if nothing is missing, or something is being fetched."""
        if self.stage not in _FOLLOWING or self._fetching or not tally.missing:
            return None
        self._fetching = _first_of(tally.missing)
        return format_ranges(self._fetching)

    def fill(self, message: messages.Fill, changes: list[messages.Change]) -> Folded:
        """Take FILL."""
        assert self.stage in _FOLLOWING, self.stage
        if not self._fetching:
            return Folded(Result.NOTED)
        done = self._fetching if message.last else ()
        if message.last:
            self._fetching = ()
        return Folded(Result.FETCHES, (FillIn(self.place.built, changes, done),))

    # --- caught up ---

    def caught_up(self, message: messages.CaughtUp, tally: Tally) -> Folded:
        """Take CAUGHT_UP; `tally` is that at the cursor."""
        assert self.stage in _FOLLOWING, self.stage
        if tally.missing:
            self._caught_up = message
            return Folded(Result.FETCHES)
        self._caught_up = None
        return self._show() if self._is_equal(message, tally) else self._mend()

    def settle(self, tally: Tally) -> Folded:
        """Show what was built, if CAUGHT_UP has come and nothing is missing any more after a FILL.

        The server fills in what lives at its own position, which may be above the cursor already. So a difference
        from a digest that came before proves nothing, and another one is asked for.
        """
        message = self._caught_up
        if message is None:
            return Folded(Result.NOTED)
        if tally.missing:
            return Folded(Result.FETCHES)
        self._caught_up = None
        return self._show() if self._is_equal(message, tally) else Folded(Result.ASKS_AGAIN)

    def _is_equal(self, message: messages.CaughtUp, tally: Tally) -> bool:
        if message.at != self.place.cursor:
            return False
        return self.is_partial or (tally.count, digest_text(tally.digest)) == (message.count, message.digest)

    def _show(self) -> Folded:
        self.stage = Stage.LIVE
        show = Show(self.place.built, None if self.shows_built else self.place.shown)
        switched, restarted = not self.shows_built, self.place.restarted
        place = msgspec.structs.replace(
            self.place, shown=self.place.built, horizon=self.seq, restarted=None, mending=None
        )
        return Folded(Result.CAUGHT_UP, (show, self._move(place)), switched, restarted)

    def _mend(self) -> Folded:
        """Ask what lives, since what is held is not what the server has (PROTOCOL 7.4.4); if that was done, begin anew.

        A generation that is being read from the start is read again: it holds nothing that was right before.
        """
        if self.place.mending is not None or self.place.restarted is not None or self.seq == 0:
            return self.contradicted()
        self.stage = Stage.IDLE
        return Folded(Result.MISMATCH, (self._move(msgspec.structs.replace(self.place, mending="asks")),))

    def contradicted(self) -> Folded:
        """Begin anew, since what came contradicts what is held. The feed has to be reopened."""
        step = self._new_generation()
        place = msgspec.structs.replace(
            self.place, built=step.generation, cursor=START, restarted="repair", mending=None
        )
        self.stage = Stage.IDLE
        return Folded(Result.MISMATCH, (step, self._move(place)))

    # --- the end of a feed ---

    def withdrawn(self) -> Folded:
        """Forget every record, as nothing of the store may be seen any more (PROTOCOL 5.7.3). The feed is over."""
        assert self.stage is Stage.IDLE, self.stage
        if self.place.cursor == START and self.shows_built:
            return Folded(Result.NOTED)
        step = self._new_generation()
        show = Show(step.generation, self.place.shown)
        place = msgspec.structs.replace(
            self.place, built=step.generation, shown=step.generation, cursor=START, horizon=_NONE, restarted=None
        )
        return Folded(Result.WITHDRAWN, (step, show, self._move(place)))

    def lost(self) -> None:
        """The feed is over; another one begins with SUBSCRIBED."""
        self.stage = Stage.IDLE
        self._opened, self._live, self._caught_up, self._fetching = None, [], None, ()


def _first_of(missing: SeqSet) -> tuple[Range, ...]:
    """Return the beginning of what is missing, as much as one FETCH may ask for."""
    chosen: list[Range] = []
    left = _FETCHED_MAX
    for first, last in islice(missing.ranges(), _RANGES_MAX):
        last = min(last, Seq(first + left - 1), Seq(SEQ_MAX))
        chosen.append((first, last))
        left -= last - first + 1
        if left <= 0:
            break
    return tuple(chosen)
