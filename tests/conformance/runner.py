"""Runs the cases of protocol/scenarios against anything that serves the protocol.

Owns the language of the steps (protocol/scenarios/README.md) and the checks that hold for every connection; it leaves
to a `Target` how connections are opened and what can be done to the server. A pure `ClientSession` watches every
connection that greeted properly: what it does not take, the server must not send.
"""

import asyncio
import json
from collections import defaultdict, deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pytest
import yaml

from syncline_protocol import SUBPROTOCOL
from syncline_protocol.client import ClientSession
from syncline_protocol.codec import decode_client_message
from syncline_protocol.errors import LocalProtocolError, ProtocolError
from syncline_protocol.messages import Find, Hello, Subscribe

from .patterns import ABSENT, Variables, explain, fill, loads

__all__ = ["SCENARIOS", "Case", "Closed", "Link", "Target", "cases", "run"]

SCENARIOS = Path(__file__).parents[2] / "protocol" / "scenarios"

_LANES = dict.fromkeys(("BATCH", "LIVE", "FILL", "CAUGHT_UP", "BEHIND", "ENDED"), "feed") | {"HEARTBEAT": "heads"}


@dataclass(frozen=True)
class Closed:
    """The other side closed."""

    code: int


@dataclass(frozen=True)
class Case:
    """One case, as it stands in its file."""

    id: str
    title: str
    clauses: tuple[str, ...]
    needs: frozenset[str]
    covers: tuple[str, ...]
    stores: int
    steps: tuple[dict[str, Any], ...]


class Link(Protocol):
    """The client's end of one WebSocket."""

    async def send(self, data: bytes, *, binary: bool = False) -> None:
        """Send one message."""

    async def receive(self, *, waiting: bool = True) -> bytes | Closed:
        """Return the next text message, or the close; raises TimeoutError if nothing comes.

        `waiting`: wait as long as a busy machine may need; otherwise take what is there.
        """

    async def close(self) -> None:
        """Close from this side."""

    def set_slow(self, slow: bool) -> None:
        """Stop or go on reading."""


class Target(Protocol):
    """Something that serves the protocol."""

    abilities: frozenset[str]

    async def connect(self, subprotocol: str | None) -> Link: ...
    async def create(self, store: str) -> None: ...
    async def drop(self, store: str) -> None: ...
    async def declare(self, store: str, name: str, path: str, kind: str) -> None:
        """Declare an index, and return when it is complete."""

    async def drop_index(self, store: str, name: str) -> None: ...
    async def settle(self) -> None:
        """Let what is under way arrive."""

    async def restart(self) -> None: ...
    async def copy(self) -> object: ...
    async def restore(self, copy: object) -> None: ...
    async def advance(self, seconds: float) -> None: ...
    def fail_next_append(self, kind: str) -> None: ...
    async def drain(self) -> None: ...
    async def http(
        self, method: str, path: str, headers: dict[str, str], body: bytes | None
    ) -> tuple[int, dict[str, str], bytes]: ...


def cases(folder: str, abilities: frozenset[str] | None = None) -> list[Case]:
    """Return the cases of `server` or `client`, in the order of their files.

    With `abilities`, only those that a target with these can run; each case is run by some target (`test_coverage`).
    """
    found = []
    for path in sorted((SCENARIOS / folder).glob("*.yaml")):
        for raw in yaml.safe_load(path.read_text()):
            clause = raw["clause"]
            found.append(
                Case(
                    raw["id"],
                    raw["title"],
                    tuple(str(c) for c in (clause if isinstance(clause, list) else [clause])),
                    frozenset(raw.get("needs", ())),
                    tuple(raw.get("covers", ())),
                    raw.get("stores", 1),
                    tuple(raw["steps"]),
                )
            )
    return found if abilities is None else [case for case in found if case.needs <= abilities]


class _Wire:
    """One connection: sorts what comes into lanes, and lets a client session watch it."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.lanes: dict[str, deque[tuple[Any, bytes]]] = defaultdict(deque)
        self.pending_changes: deque[tuple[Any, bytes, int]] = deque()
        self.caught_up: deque[tuple[Any, bytes]] = deque()
        self.batches = 0
        self.last_to = ""
        self.closed: Closed | None = None
        self.watcher: ClientSession | None = None

    async def send(self, data: bytes) -> None:
        if self.watcher is None and data.startswith(b'{"type": "HELLO"'):
            self.watcher = ClientSession(Hello(), now=0)
        if self.watcher is not None:
            try:
                message = decode_client_message(data)
                if isinstance(message, Subscribe):
                    self.watcher.subscribe(message)
                elif isinstance(message, Find):
                    self.watcher.send(message)
            except (ProtocolError, LocalProtocolError):
                pass
        await self.link.send(data)

    async def pump(self, *, waiting: bool = True) -> bool:
        """Take one message in; returns False after the close."""
        if self.closed is not None:
            return False
        frame = await self.link.receive(waiting=waiting)
        if isinstance(frame, Closed):
            self.closed = frame
            return False
        if self.watcher is not None:
            self.watcher.receive(frame, 0)
            assert self.watcher.close_code is None, f"a client closes: {self.watcher.close_reason} ({frame[:200]!r})"
        message = loads(frame)
        if message["type"] == "WROTE":
            self.lanes["results"].extend((result, frame) for result in message["results"])
        else:
            self.lanes[_LANES.get(message["type"], "answers")].append((message, frame))
        return True

    async def next(self, lane: str) -> tuple[Any, bytes]:
        waiting = self.lanes[lane]
        while not waiting:
            try:
                if not await self.pump():
                    pytest.fail(f"the connection was closed with {self.closed} while {lane} was expected")
            except TimeoutError:
                left = {name: [m for m, _ in queue] for name, queue in self.lanes.items() if queue}
                pytest.fail(f"nothing came in the lane {lane}; elsewhere: {str(left)[:1000]}")
        return waiting.popleft()

    async def next_change(self) -> tuple[Any, bytes, int]:
        """Return the next change, its frame, and the number of its batch."""
        while not self.pending_changes:
            message, frame = await self.next("feed")
            if message["type"] == "CAUGHT_UP":
                # Whether what was just written came with the catch-up or after it is a matter of time.
                self.caught_up.append((message, frame))
                continue
            assert message["type"] == "BATCH", f"{message} instead of a BATCH"
            self.take_batch(message, frame)
        return self.pending_changes.popleft()

    def take_batch(self, message: Any, frame: bytes) -> None:
        self.batches += 1
        self.last_to = message["to"]
        self.pending_changes.extend((change, frame, self.batches) for change in message["changes"])

    async def drain_available(self) -> None:
        try:
            while await self.pump(waiting=False):
                pass
        except TimeoutError:
            pass


class _Run:
    """One case being run."""

    def __init__(self, target: Target, store: str) -> None:
        self.target = target
        self.wires: dict[str, _Wire] = {}
        self.variables: Variables = {"store": store}
        self.copies: dict[str, object] = {}
        self.drained = False

    async def steps(self, steps: "tuple[dict[str, Any], ...] | list[dict[str, Any]]") -> None:
        for step in steps:
            try:
                await self.step(step)
            except (AssertionError, pytest.fail.Exception) as error:
                shown = {key: value for key, value in step.items() if key != "steps"}
                raise AssertionError(f"{error}\n  in the step {str(shown)[:400]}") from error

    async def step(self, step: dict[str, Any]) -> None:
        for name, action in _ACTIONS.items():
            if name in step:
                await action(self, step, step[name])
                return
        pytest.fail(f"there is no step {step}")

    def wire(self, step: dict[str, Any]) -> _Wire:
        return self.wires[step.get("via", "c")]

    # --- connections ---

    async def connect(self, step: dict[str, Any], name: str) -> None:
        wire = self.wires[name] = _Wire(await self.target.connect(step.get("subprotocol", SUBPROTOCOL)))
        if step.get("hello", True):
            await wire.send(b'{"type": "HELLO"}')
            self.match({"type": "WELCOME"}, await wire.next("answers"), {})

    async def close(self, step: dict[str, Any], name: str) -> None:
        await self.wires.pop(name).link.close()

    async def send(self, step: dict[str, Any], message: dict[str, Any]) -> None:
        await self.wire(step).send(json.dumps(fill(message, self.variables), ensure_ascii=False).encode())

    async def send_text(self, step: dict[str, Any], parts: Any) -> None:
        text = "".join(self.part(part) for part in (parts if isinstance(parts, list) else [parts]))
        await self.wire(step).send(text.encode())

    def part(self, part: Any) -> str:
        if isinstance(part, str):
            return str(fill(part, self.variables, as_text=True))
        times = part["times"]
        if "${n}" not in part["text"]:
            return str(part.get("join", "")).join([part["text"]] * times)
        return str(part.get("join", "")).join(part["text"].replace("${n}", str(n)) for n in range(1, times + 1))

    async def send_bytes(self, step: dict[str, Any], data: str) -> None:
        await self.wire(step).link.send(bytes.fromhex(data))

    async def send_binary(self, step: dict[str, Any], data: str) -> None:
        await self.wire(step).link.send(bytes.fromhex(data), binary=True)

    # --- expectations ---

    def match(self, pattern: Any, got: tuple[Any, bytes], step: dict[str, Any]) -> None:
        message, frame = got
        wrong = explain(pattern, message, self.variables)
        assert wrong is None, f"{wrong}\n  in {str(message)[:600]}"
        self.match_frame(frame, step)

    def match_frame(self, frame: bytes, step: dict[str, Any]) -> None:
        if "frame_contains" in step:
            assert step["frame_contains"].encode() in frame, frame[:600]
        if "frame_bytes_max" in step:
            assert len(frame) <= step["frame_bytes_max"]
        if "frame_is" in step:
            assert frame.decode() == fill(step["frame_is"], self.variables)
        if "save_frame_to" in step:
            self.variables[step["save_frame_to"]] = frame.decode()

    async def expect(self, step: dict[str, Any], pattern: dict[str, Any]) -> None:
        wire = self.wire(step)
        lane = _LANES.get(pattern["type"], "answers")
        if pattern["type"] == "CAUGHT_UP" and wire.caught_up:
            self.match(pattern, wire.caught_up.popleft(), step)
            return
        if lane == "feed":
            assert not wire.pending_changes, f"changes are left: {wire.pending_changes}"
        got = await wire.next(lane)
        while pattern["type"] != "BATCH" and got[0]["type"] == "BATCH" and not got[0]["changes"]:
            got = await wire.next(lane)
        self.match(pattern, got, step)

    async def expect_result(self, step: dict[str, Any], pattern: dict[str, Any]) -> None:
        self.match(pattern, await self.wire(step).next("results"), step)

    async def expect_changes(self, step: dict[str, Any], patterns: list[Any]) -> None:
        wire = self.wire(step)
        batches = set()
        for pattern in patterns:
            change, frame, batch = await wire.next_change()
            self.match(pattern, (change, frame), step)
            batches.add(batch)
        if step.get("in_one_batch"):
            assert len(batches) == 1
        if "save_to" in step:
            self.variables[step["save_to"]] = wire.last_to

    async def expect_transactions(self, step: dict[str, Any], sizes: list[int]) -> None:
        wire = self.wire(step)
        for size in sizes:
            batches = set()
            for _ in range(size):
                _, frame, batch = await wire.next_change()
                batches.add(batch)
            assert len(batches) == 1, "a transaction was split"
            self.match_frame(frame, step)

    async def expect_live(self, step: dict[str, Any], expected: Any) -> None:
        wire = self.wire(step)
        if isinstance(expected, dict):
            expected = [[expected["keys"].replace("${n}", str(n)), n] for n in range(1, expected["to"] + 1)]
        held: dict[str, int] = dict(step.get("holding", []))
        while True:
            while wire.pending_changes:
                change, _, _ = wire.pending_changes.popleft()
                if change["op"] == "ADD":
                    held[change["key"]] = int(change["seq"])
                else:
                    held.pop(change["key"], None)
            message, frame = await wire.next("feed")
            if message["type"] != "BATCH":
                wire.lanes["feed"].appendleft((message, frame))
                break
            wire.take_batch(message, frame)
        assert sorted(held.items()) == sorted((key, seq) for key, seq in expected)

    async def expect_no_changes(self, step: dict[str, Any], _: Any) -> None:
        wire = self.wire(step)
        await self.target.settle()
        await wire.drain_available()
        assert not wire.pending_changes
        left = [m for m, _ in wire.lanes["feed"] if m["type"] == "BATCH" and m["changes"]]
        assert not left, left

    async def expect_close(self, step: dict[str, Any], code: int) -> None:
        wire = self.wire(step)
        await self.target.settle()
        try:
            while await wire.pump():
                pass
        except TimeoutError:
            pytest.fail(f"the connection is open; it should have been closed with {code}")
        assert wire.closed == Closed(code)

    # --- the server ---

    async def store(self, step: dict[str, Any], action: str) -> None:
        name = str(fill(step.get("name", "${store}"), self.variables))
        await (self.target.create(name) if action == "create" else self.target.drop(name))

    async def index(self, step: dict[str, Any], spec: dict[str, str]) -> None:
        store = str(self.variables["store"])
        await self.target.declare(store, spec["name"], spec["path"], spec.get("kind", "equality"))

    async def drop_index(self, step: dict[str, Any], name: str) -> None:
        await self.target.drop_index(str(self.variables["store"]), name)

    async def restart(self, step: dict[str, Any], _: Any) -> None:
        self.wires.clear()
        await self.target.restart()

    async def copy(self, step: dict[str, Any], name: str) -> None:
        self.copies[name] = await self.target.copy()

    async def restore(self, step: dict[str, Any], name: str) -> None:
        self.wires.clear()
        await self.target.restore(self.copies[name])

    async def advance(self, step: dict[str, Any], seconds: float) -> None:
        await self.target.advance(seconds)

    async def fault(self, step: dict[str, Any], kind: str) -> None:
        self.target.fail_next_append(kind)

    async def slow(self, step: dict[str, Any], slow: bool) -> None:
        # What was acknowledged before has reached the feed, so that it is this subscriber alone who lags.
        await self.target.settle()
        self.wire(step).link.set_slow(slow)

    async def drain(self, step: dict[str, Any], _: Any) -> None:
        self.drained = True
        await self.target.drain()

    async def http(self, step: dict[str, Any], request: dict[str, Any]) -> None:
        body = fill(request.get("body", ABSENT), self.variables)
        data = None if body is ABSENT else body.encode() if isinstance(body, str) else json.dumps(body).encode()
        headers = dict(request.get("headers", {}))
        if data is not None:
            headers.setdefault("Content-Type", "application/json")
        path = str(fill(request["path"], self.variables))
        status, got_headers, got_body = await self.target.http(request["method"], path, headers, data)
        expected = step.get("expect", {})
        assert status == expected.get("status", status), got_body[:500]
        for name, value in expected.get("headers", {}).items():
            assert got_headers.get(name.lower(), "").split(";")[0] == value
        if "body" in expected:
            self.match(expected["body"], (loads(got_body), got_body), {})

    async def repeat(self, step: dict[str, Any], times: int) -> None:
        for i in range(1, times + 1):
            self.variables["i"] = i
            await self.steps(step["steps"])


#: What a step may be, in the order in which its keys are looked for: `expect` may be part of `http`.
_ACTIONS = {
    name: getattr(_Run, name)
    for name in (
        *("http", "repeat", "connect", "close", "send", "send_text", "send_bytes", "send_binary", "expect"),
        *("expect_result", "expect_changes", "expect_transactions", "expect_live", "expect_no_changes", "expect_close"),
        *("store", "index", "drop_index", "restart", "copy", "restore", "advance", "fault", "slow", "drain"),
    )
}


async def run(case: Case, target: Target, store: str) -> None:
    """Run one case; the test fails at the first step that does not go as written."""
    assert case.needs <= target.abilities
    running = _Run(target, store)
    if case.stores:
        await target.create(store)
    await running.steps(case.steps)
    for wire in running.wires.values():
        await wire.link.close()
    if not running.drained:
        await running.connect({}, "after the case")
        await running.wires["after the case"].link.close()
    await asyncio.sleep(0)
