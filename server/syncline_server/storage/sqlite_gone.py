"""Which seqs are no live record, a bit for each, kept beside the log in rows of a kilobyte.

A set bit stands for a DELETE or an ADD that died; a seq that was never added to the table of bits lives. So a log that
only grows pays nothing, and what lives among ten million seqs is known by reading a megabyte instead of the log.
Derived: the log and the record of used keys say the same.
"""

import sqlite3
from collections.abc import Iterable, Mapping

from syncline_protocol.cursor import Seq

__all__ = ["GONE_SEQS", "mark_gone", "read_gone"]

#: Seqs of one row: a kilobyte, so that a row is rewritten fast and ten million seqs are some thousand rows.
GONE_SEQS = 8192

_PIECE_BYTES = GONE_SEQS // 8


def mark_gone(connection: sqlite3.Connection, store: int, seqs: Iterable[Seq]) -> None:
    """Set the bits of these seqs, inside the caller's transaction."""
    by_piece: dict[int, list[int]] = {}
    for seq in seqs:
        piece, bit = divmod(seq - 1, GONE_SEQS)
        by_piece.setdefault(piece, []).append(bit)
    if not by_piece:
        return
    known = _read(connection, store, by_piece)
    for piece, bits in by_piece.items():
        marked = bytearray(known.get(piece) or bytes(_PIECE_BYTES))
        for bit in bits:
            marked[bit >> 3] |= 1 << (bit & 7)
        known[piece] = bytes(marked)
    connection.executemany(f"INSERT OR REPLACE INTO gone_{store} VALUES (?, ?)", known.items())


def _read(connection: sqlite3.Connection, store: int, pieces: Mapping[int, object]) -> dict[int, bytes]:
    marks = ",".join("?" * len(pieces))
    if len(pieces) <= 100:
        sql = f"SELECT piece, bits FROM gone_{store} WHERE piece IN ({marks})"
        return dict(connection.execute(sql, [*pieces]).fetchall())
    return {piece: bits for piece, bits in connection.execute(f"SELECT * FROM gone_{store}") if piece in pieces}


def read_gone(connection: sqlite3.Connection, store: int, upto: Seq) -> bytearray:
    """Return the bits of all seqs up to `upto`, and of some above: bit `i % 8` of byte `i // 8` is that of `i + 1`."""
    pieces = -(-upto // GONE_SEQS)
    gone = bytearray(pieces * _PIECE_BYTES)
    for piece, bits in connection.execute(f"SELECT piece, bits FROM gone_{store} WHERE piece < ?", (pieces,)):
        gone[piece * _PIECE_BYTES : (piece + 1) * _PIECE_BYTES] = bits
    return gone
