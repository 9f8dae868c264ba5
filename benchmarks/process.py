"""A measured process: pinned to the server's core, with its CPU time and memory read from outside.

The load stays on the other core; before `pin_load` nothing is pinned, as in a smoke run. With one core both share it,
and the figures mean little.
"""

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO

__all__ = ["Process", "pin_load"]

_CORES = sorted(os.sched_getaffinity(0))
_SERVER_CORES = {_CORES[0]}
_LOAD_CORES = {_CORES[-1]}


def pin_load() -> None:
    """Put this process on the core of the load."""
    os.sched_setaffinity(0, _LOAD_CORES)


class Process:
    """A child on the server's core. Leaving the context ends it, and it alone.

    Args:
        command: what to run.
        log: where its output goes; shown if it ends before its time.
        stdout: where its standard output goes instead, for one that reports there.
    """

    def __init__(self, command: Sequence[str], *, log: Path, stdout: IO[bytes] | int | None = None) -> None:
        self.log = log
        self.started_at = time.monotonic()
        own_cores = os.sched_getaffinity(0)
        # A child inherits the affinity, and so does every thread that it starts.
        if own_cores == _LOAD_CORES:
            os.sched_setaffinity(0, _SERVER_CORES)
        try:
            with log.open("ab") as output:
                self.child = subprocess.Popen(command, stdout=stdout or output, stderr=output)
        finally:
            os.sched_setaffinity(0, own_cores)
        self.pid = self.child.pid

    def __enter__(self) -> "Process":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def cpu_s(self) -> float:
        """Return the CPU time of all its threads, also of those that have ended, to the nanosecond."""
        return time.clock_gettime((~self.pid << 3) | 2)  # MAKE_PROCESS_CPUCLOCK(pid, CPUCLOCK_SCHED)

    def rss_bytes(self) -> int:
        """Return its resident memory."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def kill(self) -> None:
        """kill -9."""
        self.child.kill()
        self.child.wait()

    def stop(self) -> None:
        """End it politely, and after a while not."""
        if self.child.poll() is None:
            self.child.send_signal(signal.SIGTERM)
            try:
                self.child.wait(15)
            except subprocess.TimeoutExpired:
                self.kill()

    def failure(self) -> str:
        """Return what it said last, for the text of an error."""
        return f"{self.child.args!r} ended with {self.child.poll()}:\n{self.log.read_text(errors='replace')[-3000:]}"
