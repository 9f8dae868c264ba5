"""Restores a backup and is killed at a named step: `BACKUP PATH STEP`."""

import os
import signal
import sys

from syncline_server.restore import restore


def _kill_at(step: str, reached: str) -> None:
    if step == reached:
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    backup, path, step = sys.argv[1:]
    restore(backup, path, 1_800_000_000_000, lambda what, done, total: None, lambda name: _kill_at(step, name))
