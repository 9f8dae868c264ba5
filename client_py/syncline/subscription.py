"""A subscription as the application sees it: an iterator over the changes of one store, in order, each once.

It reconnects and resumes by itself, whether or not somebody iterates at that moment. `cursor` moves when the
application comes back for the next change, so what it saves has been dealt with. Nothing is skipped silently: when
the server says that history changed, the plain iterator raises `HistoryChanged`, each time it is asked, and
`events` yields `Rewound` or `Restarted` and goes on.
"""

from types import TracebackType

from syncline_protocol import messages

from .errors import HistoryChanged, Misuse, SubscriptionEnded
from .event import Behind, CaughtUp, Change, Ended, Restarted, Rewound, SubscriptionEvent
from .intake import Bookmark, Intake

__all__ = ["Subscription", "SubscriptionEvents"]


class Subscription:
    """The changes of one store; made by `Client.subscribe`.

    Use it with `async for`. It stays open when a loop is left, so that another loop can go on where that one stopped.
    End it with `aclose`, or use it with `async with`, or let the client end it.
    """

    def __init__(self, intake: Intake, after: str) -> None:
        self._intake = intake
        self._cursor = after
        self._batch: messages.Batch | None = None
        self._next_row = 0
        self._handed_out: SubscriptionEvent | None = None
        self._is_read = False

    @property
    def store(self) -> str:
        """The name of the store."""
        return self._intake.store

    @property
    def cursor(self) -> str:
        """The position after the last batch that the application has dealt with, as a whole.

        Save it to go on from there: `client.subscribe(store, after=cursor)`. Before anything came it is as `after` was.
        """
        return self._cursor

    @property
    def lineage(self) -> str | None:
        """The history that `cursor` belongs to.

        Saved with it and given back as `known`, it lets the server tell a fork from a store that is another one.
        """
        return self._intake.known

    @property
    def caught_up(self) -> bool:
        """Whether the application has dealt with everything up to the end that the log had when it was reached."""
        return self._intake.is_caught_up

    async def wait_caught_up(self) -> None:
        """Wait until `caught_up`. Somebody else has to iterate meanwhile, unless there is nothing to hand out.

        Raises:
            SynclineError: what ended the subscription, if it ended before.
        """
        await self._intake.wait_caught_up()

    def events(self) -> "SubscriptionEvents":
        """Return an iterator over everything that happens: changes, and what happens to the subscription.

        It shares the position with the plain iterator; use one at a time.
        """
        return SubscriptionEvents(self)

    def __aiter__(self) -> "Subscription":
        return self

    async def __anext__(self) -> Change:
        while True:
            event = await self._advance(plain=True)
            if isinstance(event, Change):
                return event

    async def aclose(self) -> None:
        """End the subscription. Iterations of it stop."""
        self._intake.close()

    async def __aenter__(self) -> "Subscription":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    # --- handing out ---

    async def _advance(self, *, plain: bool) -> SubscriptionEvent:
        """Return the next event. What was handed out before counts as dealt with from now on."""
        if self._is_read:
            raise Misuse(f"{self.store}: two tasks iterate over one subscription", hint="let one read and pass it on")
        self._is_read = True
        try:
            self._settle()
            while self._handed_out is None:
                self._handed_out = self._next_change() if self._batch is not None else await self._next_item(plain)
            return self._handed_out
        finally:
            self._is_read = False

    async def _next_item(self, plain: bool) -> SubscriptionEvent | None:
        """Take the next item of the intake; None if it is a batch or nothing to show."""
        item = await self._intake.first()
        if item is None:
            raise StopAsyncIteration
        if plain and isinstance(item, Rewound | Restarted):
            raise HistoryChanged(self.store, item)
        self._intake.pop()
        if isinstance(item, messages.Batch):
            self._batch, self._next_row = item, 0
            return None
        if isinstance(item, Bookmark):
            self._cursor = item.at
            return None
        return item

    def _next_change(self) -> Change:
        batch = self._batch
        assert batch is not None, "there is a change only inside of a batch"
        change = Change(batch.changes[self._next_row], batch)
        self._next_row += 1
        if change.ends_batch:
            self._batch = None
        return change

    def _settle(self) -> None:
        """Move the cursor past what was handed out last."""
        event, self._handed_out = self._handed_out, None
        if isinstance(event, Change):
            self._intake.delivered_change()
            if event.ends_batch:
                self._cursor = event.cursor
        elif isinstance(event, CaughtUp | Rewound | Restarted):
            self._cursor = event.at


class SubscriptionEvents:
    """The iterator of `Subscription.events`."""

    def __init__(self, subscription: Subscription) -> None:
        self._subscription = subscription
        self._is_over = False

    def __aiter__(self) -> "SubscriptionEvents":
        return self

    async def __anext__(self) -> Change | CaughtUp | Behind | Rewound | Restarted | Ended:
        if self._is_over:
            raise StopAsyncIteration
        try:
            return await self._subscription._advance(plain=False)
        except SubscriptionEnded as error:
            self._is_over = True
            return Ended(error.reason, self._subscription._intake.ended_at)
