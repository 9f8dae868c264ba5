"""What every benchmark is given: how large it is to be, a directory, a load, and servers on their core."""

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from .load import Load, own_cpu_s
from .process import Process
from .report import Line
from .server import Server

__all__ = ["Bench", "Benchmark", "Stretch"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Bench:
    """The circumstances of one benchmark. `directory` is its own and empty."""

    directory: Path
    quick: bool

    def pick(self, full: T, quick: T) -> T:
        """Choose by whether this is a smoke run."""
        return quick if self.quick else full

    def new_file(self) -> Path:
        """Return a path for a server's file."""
        return self.directory / f"{len(list(self.directory.iterdir()))}.sqlite"

    @contextmanager
    def server(self) -> Iterator[tuple[Server, Load]]:
        """A fresh server with an empty store, and a load for it."""
        file = self.new_file()
        # The load leaves first: a server that drains would wait for clients that have stopped listening.
        with Server(file) as server, Load() as load:
            yield server.create_store(), load


Benchmark = Callable[[Bench], Iterator[Line]]


class Stretch:
    """CPU time and wall time from here on, of the measured process and of the load.

    The load does not collect garbage meanwhile: it makes none that is cyclic, and a pause would be taken for latency.
    """

    def __init__(self, process: Process) -> None:
        gc.collect()
        self._process = process
        self.began = time.perf_counter()
        self._own_began = own_cpu_s()
        self._cpu_began = process.cpu_s()

    def end(self) -> "Stretch":
        """Stop measuring."""
        self.cpu_s = self._process.cpu_s() - self._cpu_began
        self.wall_s = time.perf_counter() - self.began
        self.load_cpu_s = own_cpu_s() - self._own_began
        return self

    @property
    def busy(self) -> str:
        """How busy both were; a load near 100 % may have been the limit."""
        return f"server {100 * self.cpu_s / self.wall_s:.0f} %, load {100 * self.load_cpu_s / self.wall_s:.0f} % busy"
