"""A subscription as a blocking iterator over the changes of one store.

A page is what is left of a batch. The cursor moves only at the end of a batch, once the application has come back for
more, which is when the next page is fetched; so all the rules of the async subscription hold as they are.
"""

from collections.abc import Sequence
from typing import cast

from syncline import subscription
from syncline.errors import HistoryChanged
from syncline.event import Change, Restarted, Rewound, SubscriptionEvent

from .loop_thread import LoopThread
from .pages import Pages

__all__ = ["Subscription", "SubscriptionEvents"]


class Subscription(Pages[Change]):
    """The changes of one store, each once and in order; made by `Client.subscribe`.

    Use it with `for`. It stays open when a loop is left, so that another loop can go on where that one stopped. End it
    with `close`, or use it with `with`; it also ends when nobody holds it any more.
    """

    def __init__(self, thread: LoopThread, inner: subscription.Subscription) -> None:
        super().__init__(thread, inner.aclose)
        self._inner = inner

    @property
    def store(self) -> str:
        """The name of the store."""
        return self._inner.store

    @property
    def cursor(self) -> str:
        """The position after the last batch that the application has dealt with, as a whole.

        Save it to go on from there: `client.subscribe(store, after=cursor)`. Before anything came it is as `after` was.
        A change has been dealt with when the next one is asked for.
        """
        return self._inner.cursor

    @property
    def lineage(self) -> str | None:
        """The history that `cursor` belongs to.

        Saved with it and given back as `known`, it lets the server tell a fork from a store that is another one.
        """
        return self._inner.lineage

    @property
    def caught_up(self) -> bool:
        """Whether the application has dealt with everything up to the end that the log had when it was reached."""
        return self._inner.caught_up

    def wait_caught_up(self, timeout: float | None = None) -> None:
        """Wait until `caught_up`. Another thread has to iterate meanwhile, unless there is nothing to hand out.

        Raises:
            TimeoutError: it took longer than `timeout` seconds.
            SynclineError: what ended the subscription, if it ended before.
        """
        self._thread.run(self._inner.wait_caught_up(), timeout)

    def events(self) -> "SubscriptionEvents":
        """Return an iterator over everything that happens: changes, and what happens to the subscription.

        It shares the position with the plain iterator; use one at a time.
        """
        return SubscriptionEvents(self._thread, self, self._inner)

    def next(self, timeout: float | None = None) -> Change:
        """Return the next change, as `next(subscription)` does, but wait for it so many seconds at most.

        Raises:
            TimeoutError: nothing came. It can be asked for again.
            StopIteration: the subscription was closed here.
            HistoryChanged: the store's history is not the one that was read so far.
            SubscriptionEnded: the server ended the subscription.
            SubscriptionRefused: the server did not open it.
            ClientClosed: the client was closed.
            Misuse: another thread waits for it already.
        """
        while not isinstance(event := cast(SubscriptionEvent, super().next(timeout)), Change):
            # It came over for `events`, which was left before it was handed out.
            if isinstance(event, Rewound | Restarted):
                self._page.appendleft(cast(Change, event))
                raise HistoryChanged(self.store, event)
        return event

    async def _fetch(self) -> list[Change]:
        try:
            page = [await anext(self._inner)]
        except StopAsyncIteration:
            return []
        while not page[-1].ends_batch:
            # Inside of a batch nothing is waited for.
            page.append(await anext(self._inner))
        return page


class SubscriptionEvents(Pages[SubscriptionEvent]):
    """Everything that happens to a subscription; made by `Subscription.events`.

    It yields `Rewound` and `Restarted` in the place of raising `HistoryChanged`, and `Ended` last.
    """

    def __init__(self, thread: LoopThread, whole: Subscription, inner: subscription.Subscription) -> None:
        super().__init__(thread, None)
        self._whole = whole
        self._inner = inner.events()
        # Whichever iterator is asked next goes on with what has come over.
        self._page = whole._page  # type: ignore[assignment]
        self._reading = whole._reading

    async def _fetch(self) -> Sequence[SubscriptionEvent]:
        try:
            page = [await anext(self._inner)]
        except StopAsyncIteration:
            return []
        while isinstance(last := page[-1], Change) and not last.ends_batch:
            # Inside of a batch nothing is waited for.
            page.append(await anext(self._inner))
        return page
