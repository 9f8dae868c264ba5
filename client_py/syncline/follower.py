"""Where one store's feed stands on the wire, over all connections of a client. No I/O.

    IDLE ──request──> ASKED ──opened──> OPEN ──leave──> LEAVING ──ended──> IDLE, or OVER if it is closing
                        └──put off──> RESTING ──rested──> IDLE; to RESTING also if the server ended it
    a lost connection leads from all but OVER to IDLE

A `Link` drives a follower and sends what it asks for; what becomes of the changes is the affair of the two kinds:
`Intake` hands them to an application, the feed of a replica keeps them.
"""

from abc import ABC, abstractmethod
from enum import Enum

from syncline_protocol import messages

__all__ = ["TAKEN_UP_AGAIN", "Follower", "Phase"]

#: The longest rest before a subscription that the server ended is taken up again; its storage may be away for long.
_REST_MAX_S = 30.0

#: After these a subscription can go on: the server says with `how` in what way.
TAKEN_UP_AGAIN = frozenset({"resubscribe", "view_changed"})


class Phase(Enum):
    """Where a subscription stands on the wire."""

    IDLE = "idle"
    ASKED = "asked"
    OPEN = "open"
    LEAVING = "leaving"
    RESTING = "resting"
    OVER = "over"


_ON_THE_WIRE = frozenset({Phase.ASKED, Phase.OPEN, Phase.LEAVING})


class Follower(ABC):
    """One who follows a store.

    Attributes:
        store: the name of the store.
        phase: where it stands on the wire.
        is_closing: nobody wants it any more; the server may still hold its feed.
    """

    def __init__(self, store: str) -> None:
        self.store = store
        self.phase = Phase.IDLE
        self.is_closing = False
        self._fruitless = 0

    # --- what the link asks ---

    @property
    @abstractmethod
    def wants_to_ask(self) -> bool:
        """Whether a SUBSCRIBE is due."""

    @property
    @abstractmethod
    def wants_to_leave(self) -> bool:
        """Whether an UNSUBSCRIBE is due."""

    @property
    def is_on_the_wire(self) -> bool:
        """Whether the server may hold a feed for it."""
        return self.phase in _ON_THE_WIRE

    @abstractmethod
    def request(self, request_id: int) -> messages.Subscribe:
        """Return the SUBSCRIBE to send now, and be ASKED."""

    def next_fetch(self) -> str | None:
        """Return the ranges of seqs to FETCH now, if there are any."""
        return None

    @property
    def is_crowded(self) -> bool:
        """Whether the link is to read nothing more until there is `room`."""
        return False

    async def room(self) -> None:
        """Return when it can take more. Acks wait meanwhile too, so that must never be up to an application."""
        return

    # --- what the link tells ---

    @abstractmethod
    def opened(self, message: messages.Subscribed) -> str | None:
        """Take the answer to SUBSCRIBE. Returns what is wrong with it, if it would skip or repeat something."""

    @abstractmethod
    def batch(self, message: messages.Batch, frame_bytes: int) -> None:
        """Take the next changes."""

    @abstractmethod
    def came_up(self, message: messages.CaughtUp) -> None:
        """Take CAUGHT_UP."""

    @abstractmethod
    def fell_behind(self, message: messages.Behind) -> None:
        """Take BEHIND."""

    @abstractmethod
    def listed(self, message: messages.Live, frame_bytes: int) -> None:
        """Take LIVE."""

    @abstractmethod
    def filled(self, message: messages.Fill, frame_bytes: int) -> None:
        """Take FILL."""

    def fetch_refused(self, error: messages.Error) -> None:
        """Take the refusal of a FETCH."""
        return

    @abstractmethod
    def refused(self, error: messages.Error) -> None:
        """Take the final refusal of the SUBSCRIBE."""

    def leave(self) -> None:
        """Note that UNSUBSCRIBE is on its way; what still comes is dropped, it comes again later."""
        self.phase = Phase.LEAVING

    def ended(self, message: messages.Ended) -> None:
        """Take ENDED: go on later if that is what ended it."""
        if self.is_closing:
            self.phase = Phase.OVER
        elif message.reason == "unsubscribed":
            self.phase = Phase.IDLE
        elif message.reason in TAKEN_UP_AGAIN:
            self._rest()
        else:
            self._dismissed(message)

    @abstractmethod
    def _dismissed(self, message: messages.Ended) -> None:
        """Take an ENDED after which the same subscription cannot simply go on."""

    def _rest(self) -> None:
        """Ask again after a while, a longer one each time that nothing came of it."""
        self._fruitless += 1
        self.phase = Phase.RESTING

    @property
    def rest_bound_s(self) -> float:
        """The longest wait before the next SUBSCRIBE, after the server ended one."""
        return min(_REST_MAX_S, 2.0 ** min(self._fruitless - 1, 5))

    def put_off(self) -> None:
        """Note that the server refused for now."""
        self.phase = Phase.OVER if self.is_closing else Phase.RESTING

    def rested(self) -> None:
        """Ask again, unless things went on without."""
        if self.phase is Phase.RESTING:
            self.phase = Phase.IDLE

    def connection_lost(self) -> None:
        """Go back to where a SUBSCRIBE is due."""
        if self.phase is not Phase.OVER:
            self.phase = Phase.OVER if self.is_closing else Phase.IDLE

    def stall(self, error: Exception | None) -> None:
        """Nothing comes before somebody has logged in, as `error` says; None: somebody has."""
        return

    @abstractmethod
    def fail(self, error: Exception) -> None:
        """The connection ended for good with this error."""

    @abstractmethod
    def drop(self, error: Exception) -> None:
        """The client is closed."""
