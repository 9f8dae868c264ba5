"""Who else uses the machine: only one benchmark at a time, and how busy all others were meanwhile."""

import fcntl
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["Neighbours", "alone"]


@contextmanager
def alone() -> Iterator[None]:
    """Wait until no other benchmark runs on this machine; two would share the two cores and measure each other."""
    with Path(tempfile.gettempdir(), "syncline-benchmarks.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("another benchmark is running; waiting for it", file=sys.stderr, flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


class Neighbours:
    """How many cores all other processes kept busy since this was made."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._busy_s = _machine_busy_s()
        self._own_s = _own_s()

    def cores(self) -> float:
        """Return it. What our own processes used counts once they have ended."""
        busy_s = _machine_busy_s() - self._busy_s - (_own_s() - self._own_s)
        return max(0.0, busy_s / (time.monotonic() - self._began))


def _machine_busy_s() -> float:
    fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, fields)
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def _own_s() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system
