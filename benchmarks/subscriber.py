"""Subscribers that check what they receive and cost little.

Every subscriber checks that the intervals of its batches tile the log, counts changes by the cursors, and records how
old they are. At the tip all subscribers receive the same bytes, so what a piece of the stream means is worked out once
and looked up by the others (`Swarm.meaning`).
"""

import json
import time
from collections.abc import Callable, Sequence
from itertools import cycle, islice
from typing import NamedTuple

from .load import Address, Channel, Load, LoadError
from .report import Histogram
from .wire import HELLO, SENT_AT, batch_interval, seq_of, subscribe

__all__ = ["Subscriber", "Swarm"]

#: Longer pieces are seldom the same for two subscribers.
_SHARED_BYTES_MAX = 16 * 1024

_KNOWN_MAX = 4096


class Meaning(NamedTuple):
    """What a piece of the stream does to a subscriber."""

    after: bytes
    to: bytes
    changes: int
    sent_at: tuple[int, ...]


class Swarm:
    """What the subscribers of one load have received together."""

    def __init__(self) -> None:
        self.subscribers: list[Subscriber] = []
        self.bytes = 0
        self.frames = 0
        self.changes = 0
        self.caught_up = 0
        self.ages: Histogram | None = None
        self._known: dict[bytes, Meaning | None] = {}

    def join(self, load: Load, address: Address, count: int, hellos: Sequence[bytes] = (HELLO,)) -> "Swarm":
        """Open so many subscribers; they have been greeted, and have not subscribed.

        Args:
            hellos: what they say, in turn.
        """
        joining = [Subscriber(load, address, self) for _ in range(count)]
        for subscriber, hello in zip(joining, islice(cycle(hellos), count), strict=True):
            subscriber.hello = hello
        load.open(joining)
        self.subscribers += joining
        return self

    def subscribe(self, load: Load, after: Callable[["Subscriber"], str] = lambda _: "now", *, each: int = 100) -> None:
        """Subscribe all, and return when all have caught up."""
        expected = self.caught_up + len(self.subscribers)
        for index, subscriber in enumerate(self.subscribers):
            subscriber.send(subscribe(after(subscriber)))
            if index % each == each - 1:
                load.run_for(0)
        load.run_until(
            lambda: self.caught_up >= expected,
            timeout_s=120,
            what=f"not all of {len(self.subscribers)} subscribers have caught up",
        )

    def wait_for(self, load: Load, changes: int, *, timeout_s: float = 60) -> None:
        """Return when so many changes have been delivered, counted over all subscribers."""
        load.run_until(lambda: self.changes >= changes, timeout_s=timeout_s, what=f"fewer than {changes} deliveries")

    def meaning(self, data: bytes) -> Meaning | None:
        """Return what a piece of whole BATCH frames means, or None if it is something else."""
        try:
            return self._known[data]
        except KeyError:
            if len(self._known) >= _KNOWN_MAX:
                self._known.clear()
            meaning = self._known[data] = _read_batches(data)
            return meaning


class Subscriber(Channel):
    """One subscriber. `cursor` is where it stands."""

    def __init__(self, load: Load, address: Address, swarm: Swarm) -> None:
        super().__init__(load, address)
        self.swarm = swarm
        self.cursor = b""
        self.how = ""

    def on_readable(self) -> None:
        data = self.receive()
        if not data:
            return
        swarm = self.swarm
        swarm.bytes += len(data)
        if len(data) <= _SHARED_BYTES_MAX and self.between_frames and self.cursor:
            meaning = swarm.meaning(data)
            if meaning is not None:
                self._take(meaning)
                return
        self.on_data(data)

    def _take(self, meaning: Meaning) -> None:
        if meaning.after != self.cursor:
            raise LoadError(f"a batch begins at {meaning.after!r}, the subscriber stands at {self.cursor!r}")
        swarm = self.swarm
        self.cursor = meaning.to
        swarm.frames += 1
        swarm.changes += meaning.changes
        if swarm.ages is not None:
            now = time.perf_counter_ns()
            for sent_at in meaning.sent_at:
                swarm.ages.add(now - sent_at)

    def on_text(self, payload: bytes) -> None:
        interval = batch_interval(payload)
        if interval is not None:
            self._take(_meaning(payload, interval))
            return
        message = json.loads(payload)
        match message["type"]:
            case "SUBSCRIBED":
                self.cursor, self.how = message["at"].encode(), message["how"]
            case "CAUGHT_UP":
                if message["at"].encode() != self.cursor:
                    raise LoadError(f"caught up at {message['at']}, the subscriber stands at {self.cursor!r}")
                self.swarm.caught_up += 1
            case "BEHIND":
                pass
            case _:
                raise LoadError(f"unexpected: {payload[:300]!r}")

    def on_beginning(self, beginning: bytes) -> None:
        interval = batch_interval(beginning)
        if interval is None:
            raise LoadError(f"an unexpected long frame: {beginning!r}")
        self._take(Meaning(*interval, seq_of(interval[1]) - seq_of(interval[0]), ()))


def _meaning(payload: bytes, interval: tuple[bytes, bytes]) -> Meaning:
    after, to = interval
    return Meaning(after, to, seq_of(to) - seq_of(after), tuple(map(int, SENT_AT.findall(payload))))


def _read_batches(data: bytes) -> Meaning | None:
    """Read frames of 126 to 65,535 bytes, which is what the tip sends; other pieces take the long way."""
    at = 0
    whole: Meaning | None = None
    while at < len(data):
        if data[at : at + 2] != b"\x81\x7e":
            return None
        end = at + 4 + int.from_bytes(data[at + 2 : at + 4], "big")
        interval = batch_interval(data[at + 4 : at + 600])
        if interval is None or end > len(data):
            return None
        part = _meaning(data[at + 4 : end], interval)
        if whole is None:
            whole = part
        elif whole.to == part.after:
            whole = Meaning(whole.after, part.to, whole.changes + part.changes, whole.sent_at + part.sent_at)
        else:
            raise LoadError(f"a batch begins at {part.after!r}, the one before it ended at {whole.to!r}")
        at = end
    return whole
