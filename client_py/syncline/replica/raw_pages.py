"""The rows of an SQLite file read from its pages, without SQLite: for files that SQLite does not read any more.

Knows of the format (https://sqlite.org/fileformat2.html) what is needed to find the rows of tables in their leaves: no
schema, no inner pages, no indexes. So it finds rows whose table is lost, and also some that were deleted or replaced
long ago. Pages of the write-ahead log stand before those of the file. Whatever is damaged is left out.
"""

import struct
from collections.abc import Iterator
from typing import BinaryIO

__all__ = ["Pages", "rows_of"]

_MAGIC = b"SQLite format 3\0"
_PAGE_BYTES = 4096
_LOG_MAGIC = (0x377F0682, 0x377F0683)
_LOG_HEADER_BYTES = 32
_FRAME_HEADER_BYTES = 24
_TABLE_LEAF = 13

#: Nothing that a replica writes into one row is larger; a damaged length may be anything.
_ROW_BYTES_MAX = 256 * 1024 * 1024

Column = bytes | int | None


class Pages:
    """The pages of a file, as the last transaction left them.

    Args:
        file: the database.
        log: its write-ahead log, if there is one.
    """

    def __init__(self, file: BinaryIO, log: BinaryIO | None = None) -> None:
        self._file = file
        self._log = log
        self._logged: dict[int, int] = {}
        file.seek(0)
        header = file.read(100)
        self.page_bytes = _PAGE_BYTES
        if header.startswith(_MAGIC):
            # A power of two, 1 for 65536; what is none is damaged too.
            (size,) = struct.unpack(">H", header[16:18])
            size = 65536 if size == 1 else size
            self.page_bytes = size if size >= 512 and size & (size - 1) == 0 else _PAGE_BYTES
        self.count = file.seek(0, 2) // self.page_bytes
        if log is not None:
            self._read_log(log)

    def _read_log(self, log: BinaryIO) -> None:
        """Note where the pages are that the committed transactions of the log have written."""
        log.seek(0)
        header = log.read(_LOG_HEADER_BYTES)
        if len(header) < _LOG_HEADER_BYTES or struct.unpack(">I", header[:4])[0] not in _LOG_MAGIC:
            return
        (self.page_bytes,) = struct.unpack(">I", header[8:12])
        salts, found = header[16:24], dict[int, int]()
        at = _LOG_HEADER_BYTES
        while len(frame := log.read(_FRAME_HEADER_BYTES)) == _FRAME_HEADER_BYTES and frame[8:16] == salts:
            number, pages_after_commit = struct.unpack(">II", frame[:8])
            found[number] = at + _FRAME_HEADER_BYTES
            at = log.seek(self.page_bytes, 1)
            if pages_after_commit:
                self._logged |= found
                self.count = max(pages_after_commit, *found)
                found.clear()

    def __getitem__(self, number: int) -> bytes:
        """Return a page by its number, which begins with 1; less or nothing if it is not there."""
        if number in self._logged and self._log is not None:
            self._log.seek(self._logged[number])
            return self._log.read(self.page_bytes)
        self._file.seek((number - 1) * self.page_bytes)
        return self._file.read(self.page_bytes)


def rows_of(pages: Pages) -> Iterator[tuple[int, list[Column]]]:
    """Yield rowid and columns of every row in every leaf of every table; texts come as bytes, floats as None."""
    # The first page is a leaf of the schema at most.
    for number in range(2, pages.count + 1):
        page = pages[number]
        if len(page) < pages.page_bytes or page[0] != _TABLE_LEAF:
            continue
        (cells,) = struct.unpack(">H", page[3:5])
        for at in range(8, min(8 + 2 * cells, len(page) - 1), 2):
            try:
                yield _cell(pages, page, int.from_bytes(page[at : at + 2], "big"))
            except (IndexError, ValueError):
                continue


def _cell(pages: Pages, page: bytes, at: int) -> tuple[int, list[Column]]:
    size, at = _varint(page, at)
    row_id, at = _varint(page, at)
    if size > _ROW_BYTES_MAX:
        raise ValueError(size)
    local = _local_bytes(size, pages.page_bytes)
    payload = bytearray(page[at : at + local])
    following = int.from_bytes(page[at + local : at + local + 4], "big") if local < size else 0
    while len(payload) < size:
        overflow = pages[following] if 1 < following <= pages.count else b""
        if len(overflow) < pages.page_bytes:
            raise ValueError("the end of the row is missing")
        following = int.from_bytes(overflow[:4], "big")
        payload += overflow[4:]
    return row_id, _columns(bytes(payload[:size]))


def _local_bytes(size: int, page_bytes: int) -> int:
    """Return how much of a row is in the leaf itself."""
    if size <= page_bytes - 35:
        return size
    least = (page_bytes - 12) * 32 // 255 - 23
    local = least + (size - least) % (page_bytes - 4)
    return local if local <= page_bytes - 35 else least


#: The bytes of the column types 0 to 9: NULL, integers, a float, the integers 0 and 1.
_TYPE_BYTES = (0, 1, 2, 3, 4, 6, 8, 8, 0, 0)
_FLOAT = 7


def _columns(payload: bytes) -> list[Column]:
    header_bytes, at = _varint(payload, 0)
    types: list[int] = []
    while at < header_bytes:
        kind, at = _varint(payload, at)
        types.append(kind)
    columns: list[Column] = []
    for kind in types:
        size = (kind - 12) // 2 if kind >= 12 else _TYPE_BYTES[kind]
        if at + size > len(payload):
            raise ValueError("the row is too short")
        content = payload[at : at + size]
        at += size
        if kind >= 12:
            columns.append(content)
        elif kind in (0, _FLOAT):
            columns.append(None)
        else:
            columns.append(kind - 8 if kind >= 8 else int.from_bytes(content, "big", signed=True))
    return columns


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """Return a number of one to nine bytes, and where it ends."""
    value = 0
    for _ in range(8):
        byte = data[at]
        at += 1
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, at
    return value << 8 | data[at], at + 1
