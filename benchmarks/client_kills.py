"""`kill -9` of a client with a replica, at random moments: what `add` had returned for is on the server once.

Each cycle somebody else changes the store, a client is started on the same file, and killed: while it opens, writes
offline, sends, takes acks, or catches up; now and then the server is killed first. `Truth` has the client's journal,
which says what was asked for and what was stored. At the end the last client lets everything arrive, and its replica,
the records of the server, the keys that were ever used and the number of changes are checked against it. A violation
ends the benchmark with `LoadError`, which names the seed.
"""

import random
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import msgspec

from .bench import Bench
from .load import LoadError
from .mortal_client import LANES
from .mortal_client import Line as Noted
from .process import Process
from .report import Line, at_most
from .rival import Rival
from .server import Server, free_port

__all__ = ["Truth", "client_kills", "kill_repeatedly"]

_TIMEOUT_S = 180.0

#: How often: the client has no server; the server dies before it; it dies before it has opened its file.
_OFFLINE, _SERVER_DIES, _EARLY = 0.2, 0.1, 0.15

#: A client lives so long at most: before it has opened its file, and after.
_EARLY_MAX_S, _LIFE_MAX_S = 0.6, 0.5


def client_kills(bench: Bench) -> Iterator[Line]:
    """200 kills, 10,000 writes."""
    kills, writes = bench.pick(200, 4), bench.pick(10_000, 200)
    seed = random.SystemRandom().randrange(2**32)
    truth = kill_repeatedly(bench.directory, kills=kills, writes=writes, seed=seed)
    yield Line(
        f"client-kills: a replica opens after kill -9, longest of {len(truth.opened_s)}",
        max(truth.opened_s),
        "s",
        min(truth.opened_s),
        at_most(figure=1),
        f"floor: shortest; median {median(truth.opened_s) * 1000:.1f} ms; seed {seed}, {kills} kills; {truth}",
    )


def kill_repeatedly(directory: Path, *, kills: int, writes: int, seed: int) -> "Truth":
    """Kill a client again and again until it has made so many writes; return what was checked.

    Raises:
        LoadError: something was lost, invented, or done twice; names the seed.
    """
    try:
        return _Run(directory, kills, writes, random.Random(seed)).all()
    except LoadError as error:
        raise LoadError(f"seed {seed}: {error}") from error


# --- what must be so ---


@dataclass
class Intent:
    """A write that the client was about to ask for. `returned`: it was stored."""

    ops: list[tuple[str, str, str | None]]
    returned: bool = False

    @property
    def added(self) -> dict[str, str]:
        """Keys and texts that it adds."""
        return {key: text for _, key, text in self.ops if text is not None}

    @property
    def deleted(self) -> set[str]:
        """Keys that it deletes."""
        return {key for _, key, text in self.ops if text is None}


@dataclass
class Truth:
    """What the journal says.

    Attributes:
        arrived: of the writes that were cut off while they were stored, those that had been.
        changes: how many the log of the server has.
    """

    intents: dict[tuple[int, int], Intent] = field(default_factory=dict)
    opened_s: list[float] = field(default_factory=list)
    shown: dict[str, str] = field(default_factory=dict)
    ended: bool = False
    rejected: int = 0
    arrived: int = 0
    changes: int = 0

    def __str__(self) -> str:
        returned = sum(1 for intent in self.intents.values() if intent.returned)
        cut_off = len(self.intents) - returned
        return (
            f"{returned:,} writes returned, {cut_off} were cut off and {self.arrived} of them arrived; "
            f"{self.changes:,} changes in the log; none lost, none invented, none twice"
        )

    def take(self, noted: Noted) -> None:
        """Take a line of the journal."""
        if noted.opened_s is not None:
            self.opened_s.append(noted.opened_s)
        if noted.intent is not None:
            self.intents[noted.intent] = Intent(noted.ops)
        if noted.returned is not None:
            self.intents[noted.returned].returned = True
        if noted.shown is not None:
            self.shown[noted.shown[0]] = noted.shown[1]
        self.ended = self.ended or noted.ended
        self.rejected += noted.rejected or 0

    def next_numbers(self) -> list[int]:
        """Return where each lane goes on, so that no key is made twice."""
        return [1 + max((n for own, n in self.intents if own == lane), default=0) for lane in range(LANES)]

    def check(self, live: dict[str, str], used: set[str]) -> None:
        """Check what the server has: the texts of the live records, and all keys of ours that were ever used."""
        for name, intent in self.intents.items():
            self._check_write(name, intent, live, used)
        added = {key: text for intent in self.intents.values() for key, text in intent.added.items()}
        deleted = set[str]().union(*[intent.deleted for intent in self.intents.values()])
        for key, text in live.items():
            if added.get(key) != text:
                raise LoadError(f"{key} is {text!r}, which was never written")
        if lost := used - live.keys() - deleted:
            raise LoadError(f"{sorted(lost)[:5]} were deleted by nobody")

    def _check_write(self, name: tuple[int, int], intent: Intent, live: dict[str, str], used: set[str]) -> None:
        there = intent.added.keys() & used
        if there and there != intent.added.keys():
            raise LoadError(f"of the write {name} only {sorted(there)} arrived")
        is_there = bool(there) if intent.added else not intent.deleted & live.keys()
        if intent.returned and not is_there:
            raise LoadError(f"the write {name} was stored, and never arrived: {intent.ops}")
        if not intent.returned and is_there:
            self.arrived += 1
        if (intent.returned or there) and (alive := intent.deleted & live.keys()):
            raise LoadError(f"the write {name} arrived, and {sorted(alive)} are still there")


# --- the run ---


class _Run:
    def __init__(self, directory: Path, kills: int, writes: int, chance: random.Random) -> None:
        self._directory = directory
        self._kills = kills
        self._writes = writes
        self._chance = chance
        self._truth = Truth()
        self._port = free_port()
        self._rival = Rival(("127.0.0.1", self._port), chance)
        self._nowhere = free_port()
        self._journal_read = 0
        self._server: Server | None = None

    def all(self) -> Truth:
        """Kill the client, let the last one arrive, and check."""
        try:
            self._start_server().create_store()
            for _ in range(self._kills):
                self._cycle()
            self._last()
            return self._truth
        finally:
            if self._server is not None:
                self._server.stop()

    def _start_server(self) -> Server:
        if self._server is None:
            self._server = Server(self._directory / "client-kills.sqlite", port=self._port)
        return self._server

    def _cycle(self) -> None:
        server, chance = self._start_server(), self._chance
        self._rival.write()
        client = self._start_client(self._writes, offline=chance.random() < _OFFLINE)
        if chance.random() < _EARLY:
            time.sleep(chance.uniform(0, _EARLY_MAX_S))
        else:
            opened = len(self._truth.opened_s)
            self._wait(client, lambda: len(self._truth.opened_s) > opened)
            server_dies = chance.random() < _SERVER_DIES
            time.sleep(chance.uniform(0, _LIFE_MAX_S))
            if server_dies:
                server.kill()
                self._server = None
                time.sleep(chance.uniform(0, _LIFE_MAX_S))
            elif chance.random() < 0.5:
                # Changes of somebody else come while it writes.
                self._rival.write()
        if client.child.poll() is not None:
            raise LoadError(f"the client ended by itself; {client.failure()}")
        client.kill()
        self._read_journal()

    def _start_client(self, writes: int | str, *, offline: bool = False) -> Process:
        port = self._nowhere if offline else self._port
        left = writes if isinstance(writes, str) else max(0, writes - len(self._truth.intents))
        paths = [str(self._directory / name) for name in ("replica.db", "journal")]
        command = [sys.executable, "-m", "benchmarks.mortal_client", f"http://127.0.0.1:{port}", *paths]
        command += [str(self._chance.randrange(2**32)), str(left), *map(str, self._truth.next_numbers())]
        return Process(command, log=self._directory / "client.log")

    def _wait(self, client: Process, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _TIMEOUT_S
        while not condition():
            if client.child.poll() is not None or time.monotonic() > deadline:
                raise LoadError(f"the client does not go on; {client.failure()}")
            time.sleep(0.005)
            self._read_journal()

    def _read_journal(self) -> None:
        """Take what is new in the journal; a line without an end was never written."""
        path = self._directory / "journal"
        if not path.exists():
            return
        with path.open("rb") as file:
            file.seek(self._journal_read)
            whole, end, _ = file.read().rpartition(b"\n")
        self._journal_read += len(whole) + len(end)
        for line in whole.splitlines():
            self._truth.take(msgspec.json.decode(line, type=Noted))

    def _last(self) -> None:
        """Write what is left, let everything arrive, and compare the client, the server and the journal."""
        self._start_server()
        for writes in (self._writes, "finish"):
            self._truth.ended = False
            client = self._start_client(writes)
            self._wait(client, lambda: self._truth.ended)
            client.kill()
        truth, rival = self._truth, self._rival
        if truth.rejected:
            raise LoadError(f"{truth.rejected} writes were rejected")
        live = rival.records()
        if truth.shown != live:
            different = [key for key in truth.shown.keys() | live if truth.shown.get(key) != live.get(key)]
            raise LoadError(f"the replica differs from the server in {sorted(different)[:5]}")
        rival.check(live)
        ours = {key: text for key, text in live.items() if not rival.owns(key)}
        asked = {key for intent in truth.intents.values() for key in intent.added}
        used = ours.keys() | rival.used_among(asked - ours.keys())
        truth.check(ours, used)
        truth.changes = rival.head()
        expected = len(used) + len(used - ours.keys()) + rival.changes
        if truth.changes != expected:
            raise LoadError(f"the log has {truth.changes} changes, and {expected} were made")
