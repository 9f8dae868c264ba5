"""`python -m benchmarks [NAME…] [--quick]`: run benchmarks and print one table."""

import argparse
import contextlib
import gc
import platform
import sqlite3
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

from .access import access
from .backup import backup
from .bench import Bench, Benchmark
from .catchup import catchup
from .client_kills import client_kills
from .commit import commit
from .compaction import compaction
from .connections import memory, storm
from .fanout import fanout, latency
from .filters import filters
from .indexes import indexes
from .kills import kills
from .live_set import live_set
from .load import LoadError
from .neighbours import Neighbours, alone
from .process import pin_load
from .replica import replica
from .report import Line, table

__all__ = ["BENCHMARKS", "main"]

BENCHMARKS: dict[str, Benchmark] = {
    "commit": commit,
    "fanout": fanout,
    "latency": latency,
    "catchup": catchup,
    "memory": memory,
    "storm": storm,
    "replica": replica,
    "access": access,
    "filters": filters,
    "indexes": indexes,
    "compaction": compaction,
    "backup": backup,
    "live-set": live_set,
    "kills": kills,
    "client-kills": client_kills,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the arguments name. Returns the exit code: 1 if a benchmark broke; a missed target is none."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which of: {', '.join(BENCHMARKS)}; all by default")
    parser.add_argument("--quick", action="store_true", help="see that everything works; the figures mean nothing")
    parser.add_argument(
        "--directory",
        type=Path,
        default=Path("data"),
        help="where files go meanwhile; not a tmpfs, where an fsync costs nothing (default: %(default)s)",
    )
    options = parser.parse_args(arguments)
    unknown = set(options.names) - set(BENCHMARKS)
    if unknown:
        parser.error(f"there is no benchmark {', '.join(sorted(unknown))}; there are {', '.join(BENCHMARKS)}")
    with contextlib.nullcontext() if options.quick else alone():
        lines, broken = run(options.names or list(BENCHMARKS), quick=options.quick, directory=options.directory)
    print(f"\n{_machine()}\n\n{table(lines)}")
    return 1 if broken else 0


def run(names: Sequence[str], *, quick: bool, directory: Path) -> tuple[list[Line], list[str]]:
    """Run benchmarks one after the other. Returns their lines, and the names of those that broke."""
    if not quick:
        pin_load()
    gc.disable()
    directory.mkdir(parents=True, exist_ok=True)
    lines: list[Line] = []
    broken: list[str] = []
    for name in names:
        began, neighbours = time.monotonic(), Neighbours()
        with tempfile.TemporaryDirectory(prefix="bench-", dir=directory) as own_directory:
            try:
                for line in BENCHMARKS[name](Bench(Path(own_directory), quick)):
                    lines.append(line)
                    print(" | ".join(line.cells()), file=sys.stderr, flush=True)
            except LoadError as error:
                broken.append(name)
                print(f"{name} broke: {error}", file=sys.stderr, flush=True)
            except Exception:
                broken.append(name)
                print(f"{name} broke:\n{traceback.format_exc()}", file=sys.stderr, flush=True)
        gc.collect()
        seconds, cores = time.monotonic() - began, neighbours.cores()
        print(f"({name}: {seconds:.1f} s; others kept {cores:.1f} cores busy)", file=sys.stderr, flush=True)
    return lines, broken


def _machine() -> str:
    return (
        f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, "
        f"{platform.system()} {platform.release()}; the server on one core, the load on another"
    )


if __name__ == "__main__":
    sys.exit(main())
