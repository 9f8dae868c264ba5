"""`python -m syncline_server.checkup FILE`: the check in a process of its own, for the server that has made a backup.

Says on stdout, a JSON array a line: `["progress", what, done, total]` or `["finding", level, text, todo]`. The exit
code is 1 if something is wrong. It leaves the processor to the server: nobody waits for it.
"""

import os
import sys
import time

import msgspec

from .examine import examine

#: Progress is told so often at most, in seconds.
_EVERY_S = 0.2


def _main(path: str) -> int:
    os.nice(10)
    told_at = 0.0

    def progress(what: str, done: int, total: int) -> None:
        nonlocal told_at
        if time.monotonic() - told_at >= _EVERY_S:
            told_at = time.monotonic()
            _tell("progress", what, done, total)

    is_sound = True
    for finding in examine(path, progress=progress):
        _tell("finding", *finding)
        is_sound &= finding.level != "fail"
    return 0 if is_sound else 1


def _tell(*parts: str | int) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(parts) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1]))
