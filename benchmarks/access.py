"""What it costs that everybody has to log in.

The floor is the same server with `--auth none`. All servers of a comparison run at once on one core and take turns, so
that what else the machine does meets all of them; the ratio is that of the sums. The note says between which ratios the
middle half of the turns lies.
"""

import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TypeVar

from .bench import Bench, Stretch
from .fanout import lockstep
from .guarded import GuardedServer, Limits
from .load import Load
from .report import Line, Target, at_most
from .server import Server
from .subscriber import Swarm
from .wire import HELLO, STORE, adds
from .writer import Writer, acknowledged, stop

__all__ = ["access"]

S = TypeVar("S", bound=Server)

#: All keys begin so. Any beginning of it is a prefix that shows every record, and each is another view.
_KEYS = "everything/"


def access(bench: Bench) -> Iterator[Line]:
    """Reading, writing, logging in, and changing what somebody may do, beside a server that lets everybody in."""
    yield from _reading(bench)
    yield from _writing(bench)
    yield from _logging_in(bench)
    yield from _changing(bench)


@dataclass
class _Side:
    """One of those that take turns. `turn` does a number of things that is returned."""

    name: str
    server: Server
    turn: Callable[[], int]
    target: Target | None = None
    cpu_s: list[float] = field(default_factory=list)
    done: list[int] = field(default_factory=list)

    def take_turn(self) -> None:
        stretch = Stretch(self.server)
        done = self.turn()
        self.cpu_s.append(stretch.end().cpu_s)
        self.done.append(done)

    @property
    def cpu_us_each(self) -> float:
        return 1e6 * sum(self.cpu_s) / sum(self.done)

    def line(self, what: str, unit: str, floor: "_Side") -> Line:
        """Return how it did beside the floor."""
        turns = zip(self.cpu_s, self.done, floor.cpu_s, floor.done, strict=True)
        ratios = [cpu_s / done / (floor_s / floor_done) for cpu_s, done, floor_s, floor_done in turns if floor_s]
        low, _, high = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else (0.0, 0.0, 0.0)
        note = f"middle half of {len(self.done)} turns: {low:.2f} to {high:.2f} x"
        return Line(f"access: {what}, {self.name}", self.cpu_us_each, unit, floor.cpu_us_each, self.target, note)


def _compare(what: str, unit: str, sides: Sequence[_Side], turns: int) -> Iterator[Line]:
    """Let all take turns; the first is the floor. One turn more comes before, to warm up."""
    for side in sides:
        side.turn()
    for _ in range(turns):
        for side in sides:
            side.take_turn()
    for side in sides[1:]:
        yield side.line(what, unit, sides[0])


def _open(bench: Bench, stack: ExitStack) -> Server:
    return stack.enter_context(Server(bench.new_file())).create_store()


def _guarded(bench: Bench, stack: ExitStack) -> GuardedServer:
    return stack.enter_context(GuardedServer(bench.new_file())).create_store()


# --- reading ---


def _reading(bench: Bench) -> Iterator[Line]:
    """One change a commit to a thousand subscribers, in lockstep."""
    subscribers = bench.pick(1000, 20)
    views = [_KEYS[: 1 + number] for number in range(bench.pick(10, 2))]
    with ExitStack() as servers, Load() as load:
        sides = [_reading_side(bench, load, "nobody logs in", _open(bench, servers), (HELLO,), HELLO)]
        for name, prefixes, target in (
            ("logged in", [None], None if bench.quick else at_most(ratio=1.05)),
            ("one view of everything", views[:1], None),
            ("ten views of everything", views, None),
        ):
            server = _guarded(bench, servers)
            readers = _readers(bench, server, prefixes)
            sides.append(_reading_side(bench, load, name, server, readers, _writers(server, 1)[0], target))
        what = f"one change a commit, {subscribers:,} subscribers"
        yield from _compare(what, "µs CPU a delivery", sides, bench.pick(15, 2))


def _readers(bench: Bench, server: GuardedServer, prefixes: Sequence[str | None]) -> list[bytes]:
    """Make users, of whom each sees what begins with one of these prefixes, in turn. They log in over and over."""
    hellos: list[bytes] = []
    for number in range(max(len(prefixes), bench.pick(20, 1))):
        prefix = prefixes[number % len(prefixes)]
        hellos.append(server.new_user(f"reader{number}"))
        server.grant(f"user:reader{number}", STORE, "reader", {} if prefix is None else {"read_prefix": prefix})
    return hellos


def _writers(server: GuardedServer, count: int, limits: Limits | None = None) -> list[bytes]:
    hellos: list[bytes] = []
    for number in range(count):
        hellos.append(server.new_user(f"writer{number}"))
        server.grant(f"user:writer{number}", STORE, "writer", limits)
    return hellos


def _reading_side(
    bench: Bench,
    load: Load,
    name: str,
    server: Server,
    hellos: Sequence[bytes],
    writer_hello: bytes,
    target: Target | None = None,
) -> _Side:
    subscribers, rounds = bench.pick((1000, 20), (20, 2))
    swarm = Swarm().join(load, server.address, subscribers, hellos)
    swarm.subscribe(load)
    writer = Writer(load, server.address, adds(_KEYS), hello=writer_hello)
    load.open([writer])

    def turn() -> int:
        lockstep(load, swarm, writer, rounds)
        return subscribers * rounds

    return _Side(name, server, turn, target)


# --- writing ---

_LIMITS: Limits = {"key_prefix": _KEYS[:5], "own_only": True, "records_max": 10**9, "bytes_max": 10**12}


def _writing(bench: Bench) -> Iterator[Line]:
    """Eight writers with 64 ADDs in flight each."""
    writers = bench.pick(8, 2)
    with ExitStack() as servers, Load() as load:
        sides = [_writing_side(bench, load, "nobody logs in", _open(bench, servers), [HELLO] * writers)]
        for name, limits in (("a writer's grant", None), ("key_prefix, own_only and a quota", _LIMITS)):
            server = _guarded(bench, servers)
            sides.append(_writing_side(bench, load, name, server, _writers(server, writers, limits)))
        yield from _compare("8 writers x 64 ADDs in flight", "µs CPU an ack", sides, bench.pick(10, 2))


def _writing_side(bench: Bench, load: Load, name: str, server: Server, hellos: Sequence[bytes]) -> _Side:
    writers = [Writer(load, server.address, adds(_KEYS), in_flight=64, hello=hello) for hello in hellos]
    load.open(writers)

    def turn() -> int:
        before = acknowledged(writers)
        for writer in writers:
            writer.go()
        load.run_for(bench.pick(0.6, 0.1))
        stop(load, writers)
        return acknowledged(writers) - before

    return _Side(name, server, turn)


# --- logging in ---


def _logging_in(bench: Bench) -> Iterator[Line]:
    """From the socket to WELCOME."""
    with ExitStack() as servers, Load() as load:
        server = _guarded(bench, servers)
        sides = [
            _logging_in_side(bench, load, "nobody logs in", _open(bench, servers), (HELLO,)),
            _logging_in_side(bench, load, "a personal token", server, _readers(bench, server, [None])),
        ]
        yield from _compare("1,000 connections up to WELCOME", "µs CPU a connection", sides, bench.pick(6, 2))


def _logging_in_side(bench: Bench, load: Load, name: str, server: Server, hellos: Sequence[bytes]) -> _Side:
    connections = bench.pick(1000, 20)
    swarm = Swarm()

    def turn() -> int:
        # Those of the last turn leave in this one, on both sides.
        for subscriber in swarm.subscribers:
            subscriber.close()
        swarm.subscribers.clear()
        swarm.join(load, server.address, connections, hellos)
        return connections

    return _Side(name, server, turn)


# --- changing what somebody may do ---


def _changing(bench: Bench) -> Iterator[Line]:
    """One change of the accounts while many are connected, and the same change before they were."""
    connections, users = bench.pick((10_000, 500), (40, 4))
    with ExitStack() as servers, Load() as load:
        server = _guarded(bench, servers)
        names = [f"reader{number}" for number in range(users)]
        hellos = [server.new_user(name) for name in names]
        server.request("PUT", "/v1/groups/readers", {"members": names})
        server.grant("group:readers", STORE, "reader")
        changes = _Changes(load, server, bench.pick(9, 2))
        alone = changes.measure()
        swarm = Swarm().join(load, server.address, connections, hellos)
        swarm.subscribe(load)
        load.run_for(bench.pick(1.0, 0.1))
        for name, times in changes.measure().items():
            target = at_most(figure=20) if name.startswith("revoked") and not bench.quick else None
            yield Line(
                f"access: {name}, {connections:,} subscribers of {users} users",
                _ms(times),
                "ms CPU",
                _ms(alone[name]),
                target,
                f"floor: nobody is connected; from {1000 * min(times):.1f} to {1000 * max(times):.1f} ms",
            )


def _ms(times: Sequence[float]) -> float:
    return 1000 * statistics.median(times)


class _Changes:
    """The changes that are measured, each so many times."""

    def __init__(self, load: Load, server: GuardedServer, times: int) -> None:
        self._load = load
        self._server = server
        self._times = times

    def measure(self) -> dict[str, list[float]]:
        """Return the CPU times that the server took for each."""
        return {
            "a new token": self._measure(lambda: self._server.new_token("reader0")),
            "revoked: one user's grant": self._revocations("user:reader0", STORE),
            "revoked: a grant to everyone for another store": self._revocations("everyone", "other"),
            "everybody judged anew": self._revocations("everyone", STORE),
        }

    def _revocations(self, to: str, store: str) -> list[float]:
        cpu_s: list[float] = []
        for _ in range(self._times):
            grant = self._server.grant(to, store, "writer")
            cpu_s += self._measure(lambda grant=grant: self._server.revoke(grant), 1)  # type: ignore[misc]
        return cpu_s

    def _measure(self, change: Callable[[], object], times: int | None = None) -> list[float]:
        cpu_s: list[float] = []
        for _ in range(times or self._times):
            # Heartbeats are answered meanwhile, and what the last change has left behind is over.
            self._load.run_for(0.05)
            stretch = Stretch(self._server)
            change()
            cpu_s.append(stretch.end().cpu_s)
        return cpu_s
