"""`kill -9` at random moments under eight writers: no acknowledged change lost, none invented, ready again soon.

Each cycle starts the server on the same file, lets the writers first retry what was not acknowledged and then write new
records, and kills it. A subscriber follows across all kills with its own cursor. `Truth` holds what was sent and what
was acknowledged, and checks every answer and every change against it; at the end a new subscriber reads everything
from the start. A violation ends the benchmark with `LoadError`, which names the seed.
"""

import json
import random
import time
from collections.abc import Iterator
from statistics import median
from typing import Any

from .bench import Bench
from .load import Address, Channel, Load, LoadError
from .report import Line, at_most
from .server import Server, free_port
from .wire import STORE, masked, subscribe

__all__ = ["kills"]

_WRITERS = 8
_IN_FLIGHT = 4

#: One request in four is a transaction of so many ADDs.
_OPS = 5


def kills(bench: Bench) -> Iterator[Line]:
    """200 cycles."""
    cycles = bench.pick(200, 5)
    seed = random.SystemRandom().randrange(2**32)
    truth = Truth()
    file, port = bench.directory / "kills.sqlite", free_port()
    chance = random.Random(seed)
    ready_s: list[float] = []
    try:
        for cycle in range(cycles):
            with Load() as load, Server(file, port=port) as server:
                if cycle == 0:
                    server.create_store()
                else:
                    ready_s.append(server.ready_s)
                _cycle(load, server, truth, chance, bench.pick(0.6, 0.2))
        _read_all(Server(file, port=port), truth)
    except LoadError as error:
        raise LoadError(f"seed {seed}: {error}") from error
    yield Line(
        f"kills: ready again after kill -9, longest of {cycles}",
        max(ready_s),
        "s",
        min(ready_s),
        at_most(figure=2),
        f"floor: shortest; median {median(ready_s):.2f} s; "
        f"{len(truth.acknowledged):,} records acknowledged, {truth.retried:,} requests retried, "
        f"{truth.retried_committed:,} of them had been committed; none lost, none invented",
    )


class Truth:
    """What must be so, worked out from what was sent and answered alone."""

    def __init__(self) -> None:
        self.sent: dict[str, str] = {}
        self.acknowledged: dict[str, int] = {}
        self.followed: dict[str, int] = {}
        self.cursor = "start"
        self.pending: list[dict[str, str]] = []
        self.retried = 0
        self.retried_committed = 0
        self._numbers = iter(range(10**12))

    def new_request(self, chance: random.Random) -> dict[str, str]:
        """Return records that are to be added together: key → value text."""
        count = _OPS if chance.random() < 0.25 else 1
        request = {f"{chance.getrandbits(128):032x}": f'{{"n":{next(self._numbers)}}}' for _ in range(count)}
        self.sent |= request
        return request

    def acknowledge(self, request: dict[str, str], result: dict[str, Any]) -> None:
        """Check the answer to a request: `ok`, or `dup` for one that was retried; in either case where it stands."""
        if result["status"] not in ("ok", "dup"):
            raise LoadError(f"{request} was answered {result}")
        ops = result.get("ops") or [result]
        seqs = [op["seq"] for op in ops]
        if len(seqs) != len(request) or seqs != list(range(seqs[0], seqs[0] + len(seqs))):
            raise LoadError(f"{request} stands at {seqs}")
        for key, seq in zip(request, seqs, strict=True):
            if self.followed.get(key, seq) != seq:
                raise LoadError(f"{key} was seen at {self.followed[key]} and acknowledged at {seq}")
            self.acknowledged[key] = seq

    def follow(self, batch: dict[str, Any]) -> None:
        """Check a batch of the subscriber that follows across all kills."""
        if self.cursor not in ("start", batch["from"]):
            raise LoadError(f"a batch begins at {batch['from']}, the subscriber stands at {self.cursor}")
        _take(batch, self.sent, self.followed)
        self.cursor = batch["to"]

    def check(self, seen: dict[str, int], what: str) -> None:
        """Check that what one subscriber has seen holds everything acknowledged, where it was acknowledged."""
        for key, seq in self.acknowledged.items():
            if seen.get(key) != seq:
                raise LoadError(f"{what}: {key} was acknowledged at {seq} and is at {seen.get(key)}")


def _take(batch: dict[str, Any], sent: dict[str, str], seen: dict[str, int]) -> None:
    for change in batch["changes"]:
        key, seq = change["key"], change["seq"]
        if seq != len(seen) + 1 or key in seen:
            raise LoadError(f"seq {seq} with {key} came as number {len(seen) + 1}")
        if sent.get(key) != json.dumps(change["value"], separators=(",", ":")):
            raise LoadError(f"{key} at {seq} was never sent with the value {change['value']}")
        seen[key] = seq


class _Mortal(Channel):
    """A connection to a server that may die; nothing of that is an error."""

    whole_bytes_max = 1 << 30

    def on_lost(self) -> None:
        pass


class _Writer(_Mortal):
    def __init__(self, load: Load, address: Address, truth: Truth, chance: random.Random) -> None:
        super().__init__(load, address)
        self.truth = truth
        self.chance = chance
        self.open_requests: dict[int, dict[str, str]] = {}
        self.retries: set[int] = set()
        self._next_id = 1

    def write(self) -> None:
        """Retry what is left of earlier cycles, else write something new."""
        request_id, self._next_id = self._next_id, self._next_id + 1
        truth = self.truth
        if truth.pending:
            request = truth.pending.pop()
            self.retries.add(request_id)
            truth.retried += 1
        else:
            request = truth.new_request(self.chance)
        self.open_requests[request_id] = request
        self.send(_request(request_id, request))

    def on_text(self, payload: bytes) -> None:
        message = json.loads(payload)
        if message["type"] != "WROTE":
            raise LoadError(f"unexpected: {payload[:300]!r}")
        for result in message["results"]:
            request = self.open_requests.pop(result["id"])
            self.truth.acknowledge(request, result)
            if result["status"] == "dup":
                if result["id"] not in self.retries:
                    raise LoadError(f"{request} was sent once and is {result}")
                self.truth.retried_committed += 1
            self.write()


def _request(request_id: int, request: dict[str, str]) -> bytes:
    if len(request) == 1:
        ((key, text),) = request.items()
        return masked(f'{{"type":"ADD","id":{request_id},"store":"{STORE}","key":"{key}","value":{text}}}'.encode())
    ops = ",".join(f'{{"op":"ADD","key":"{key}","value":{text}}}' for key, text in request.items())
    return masked(f'{{"type":"WRITE","id":{request_id},"store":"{STORE}","ops":[{ops}]}}'.encode())


class _Follower(_Mortal):
    """Follows across kills; `caught_up` in this cycle."""

    caught_up = False

    def __init__(self, load: Load, address: Address, truth: Truth) -> None:
        super().__init__(load, address)
        self.truth = truth

    def on_text(self, payload: bytes) -> None:
        message = json.loads(payload)
        match message["type"]:
            case "BATCH":
                self.truth.follow(message)
            case "CAUGHT_UP":
                self.caught_up = True
            case "SUBSCRIBED":
                if message["how"] != "resume":
                    raise LoadError(f"the cursor {self.truth.cursor} was answered {message}")
            case "BEHIND":
                pass
            case _:
                raise LoadError(f"unexpected: {payload[:300]!r}")


def _cycle(load: Load, server: Server, truth: Truth, chance: random.Random, longest_s: float) -> None:
    follower = _Follower(load, server.address, truth)
    writers = [_Writer(load, server.address, truth, chance) for _ in range(_WRITERS)]
    load.open([follower, *writers])
    follower.send(subscribe(truth.cursor))
    load.run_until(lambda: follower.caught_up, timeout_s=30, what="the follower has not caught up")
    truth.check(truth.followed, "after a kill")
    for writer in writers:
        for _ in range(_IN_FLIGHT):
            writer.write()
    load.run_for(chance.uniform(0, longest_s))
    server.kill()
    # What the server had sent before it died has still to be read, and counts.
    deadline = time.monotonic() + 10
    while any(channel.is_open for channel in [follower, *writers]) and time.monotonic() < deadline:
        load.run_for(0.01)
    for writer in writers:
        truth.pending += writer.open_requests.values()


def _read_all(running: Server, truth: Truth) -> None:
    """Read everything with a new subscriber; the two that have read it must agree."""
    with Load() as load, running as server:
        again = Truth()
        again.sent = truth.sent
        for reader in (_Follower(load, server.address, truth), _Follower(load, server.address, again)):
            load.open([reader])
            reader.send(subscribe(reader.truth.cursor))
            load.run_until(lambda reader=reader: reader.caught_up, timeout_s=120, what="not caught up")  # type: ignore[misc]
    truth.check(again.followed, "at the end")
    if again.followed != truth.followed:
        raise LoadError("two subscribers have seen different logs")
