"""What it costs to tell a client, after clean-up or a restore, which of ten million seqs still live.

The file is written beside the server, row by row as the server would have, since ten million writes would take long;
the record of used keys is left out, as nothing here looks at it. Deaths are scattered at random, which is the worst
that can happen to ranges. Measured is all the work of the server, in CPU time: reading the set and making the LIVE
frames. The floor of the text is a bit for each seq.
"""

import asyncio
import random
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from syncline_protocol.cursor import Seq
from syncline_server.live import frames_of
from syncline_server.storage.sqlite import SqliteStorage
from syncline_server.storage.sqlite_gone import mark_gone

from .bench import Bench
from .report import Line, at_most

__all__ = ["live_set"]

_STORE = "measured"

_SECONDS_MAX = 2.0
_MEGABYTES_MAX = 2.0

_ADDS = """WITH RECURSIVE numbers(seq) AS (SELECT 1 UNION ALL SELECT seq + 1 FROM numbers WHERE seq < ?)
           INSERT INTO log_{store}(seq, last_seq, change) SELECT seq, seq,
               '{{"seq":' || seq || ',"op":"ADD","key":"k' || seq || '","value":1,"time":1}}' FROM numbers"""


def live_set(bench: Bench) -> Iterator[Line]:
    """CPU time and bytes of telling what lives, by how much of it was deleted and how far back the position is."""
    seqs = bench.pick(10_000_000, 20_000)
    for deleted in (0.1, 0.5):
        file = bench.new_file()
        adds = asyncio.run(_fill(file, seqs, deleted))
        name = f"live: {seqs:,} seqs, {deleted:.0%} of the records deleted"
        for place, upto in [("at the head", seqs), ("half of the deletes later", (adds + seqs) // 2)]:
            told = asyncio.run(_tell(file, Seq(upto)))
            note = f"{told.frames} frames, {told.read_s:.2f} s of it reading"
            yield Line(f"{name}, {place}", told.cpu_s, "s", None, at_most(figure=_SECONDS_MAX), note)
            if upto == seqs:
                size = told.bytes / 1e6
                yield Line(f"{name}, text", size, "MB", seqs / 8e6, at_most(figure=_MEGABYTES_MAX), "floor: a bit each")


async def _fill(file: Path, seqs: int, deleted: float) -> int:
    """Write a store with so many seqs: ADDs, then DELETEs of a part of them. Returns how many ADDs."""
    storage = SqliteStorage(file)
    await storage.open()
    await storage.create(_STORE, 1)
    await storage.close()
    adds = round(seqs / (1 + deleted))
    dead = random.Random(1).sample(range(1, adds + 1), seqs - adds)
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        (store,) = connection.execute("SELECT id FROM stores").fetchone()
        connection.execute("BEGIN")
        connection.execute(_ADDS.format(store=store), (adds,))
        pairs = sorted(zip(dead, range(adds + 1, seqs + 1), strict=True))
        connection.executemany(
            f"UPDATE log_{store} SET partner = ? WHERE seq = ?", ((delete_seq, seq) for seq, delete_seq in pairs)
        )
        connection.executemany(
            f"INSERT INTO log_{store}(seq, last_seq, partner, change) VALUES (?1, ?1, ?2, ?3)",
            (
                (seq, partner, f'{{"seq":{seq},"op":"DELETE","key":"k{partner}","time":1}}')
                for seq, partner in enumerate(dead, adds + 1)
            ),
        )
        mark_gone(connection, store, [*map(Seq, sorted(dead)), *map(Seq, range(adds + 1, seqs + 1))])
        connection.execute("UPDATE stores SET head_seq = ?, live_count = ?", (seqs, adds - len(dead)))
        connection.execute("COMMIT")
    return adds


@dataclass(frozen=True, slots=True)
class _Told:
    cpu_s: float
    read_s: float
    frames: int
    bytes: int


async def _tell(file: Path, upto: Seq) -> _Told:
    """Read what lives and make the frames that say so, as the server does."""
    storage = SqliteStorage(file)
    await storage.open()
    try:
        head = (await storage.info(_STORE)).head
        began = time.process_time()
        seqs = await storage.live_set(_STORE, upto)
        read_s = time.process_time() - began
        frames = frames_of("f1", head.lineage.cursor(upto), seqs, bitmaps=True)
        cpu_s = time.process_time() - began
        if upto == head.seq and len(seqs) != head.count:
            raise RuntimeError(f"{len(seqs)} records are told to live, and {head.count} do")
        return _Told(cpu_s, read_s, len(frames), sum(map(len, frames)))
    finally:
        await storage.close()
