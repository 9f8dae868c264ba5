"""`syncline dump --all`: every store of a server that one may see, into a directory (`manifest`).

Each store comes in pages that are all of one position, so a dump that was interrupted goes on at the next page. Memory
is bounded by a page. Count and digest are compared with what the server says of the position.
"""

import os
import sys
import time
from pathlib import Path
from typing import TypeVar

import click
import msgspec

from syncline.errors import RequestRefused
from syncline.http import HttpApi
from syncline.record import Record
from syncline_protocol.cursor import Cursor
from syncline_protocol.digest import digest_term, digest_text

from .frame import REFUSED, SERVER_FAILED, Stop, notice
from .manifest import Dumping, Index, Manifest, StoreEntry
from .server import Server

__all__ = ["dump_all"]

K = TypeVar("K")

_PAGE_RECORDS = "10000"

#: How often it is noted how far a store has come, in seconds. What came since then comes again.
_NOTE_EVERY_S = 1.0

#: A busy store is asked so often for a position of which it says the count in the same moment.
_TRIES_MAX = 5


class _Page(msgspec.Struct):
    records: tuple[Record, ...]
    at: Cursor
    next: str | None = None


class _Indexes(msgspec.Struct):
    indexes: tuple[Index, ...] = ()


class _LostError(Exception):
    """What was begun cannot be gone on with."""


async def dump_all(server: Server, directory: Path) -> None:
    """Dump every store, or go on with a dump that was interrupted."""
    manifest = _manifest_in(directory)
    async with server.http() as http:
        for info in await http.list_stores():
            if manifest.entry(info.name) is None:
                manifest.stores.append(StoreEntry(info.name, f"{info.name}.ndjson"))
        manifest.save(directory)
        for entry in manifest.stores:
            if not entry.is_done:
                await _dump_store(http, directory, entry)
                manifest.save(directory)
                Dumping.forget(directory)
    total = sum(entry.count for entry in manifest.stores)
    notice(f"dumped {total} records of {len(manifest.stores)} stores; accounts and grants are not in it")


def _manifest_in(directory: Path) -> Manifest:
    directory.mkdir(exist_ok=True)
    manifest = Manifest.read(directory)
    if manifest is None:
        if any(directory.iterdir()):
            raise Stop(REFUSED, f"{directory} is not empty, and holds no dump; name another directory")
        return Manifest.begin(time.time_ns() // 1_000_000)
    if manifest.is_whole:
        raise Stop(REFUSED, f"{directory} holds a whole dump already; name another directory, or remove it")
    notice(f"going on with the dump in {directory}")
    return manifest


async def _dump_store(http: HttpApi, directory: Path, entry: StoreEntry) -> None:
    entry.settings = await _said_of(http, entry.name, "settings", msgspec.Raw(b"{}"))
    entry.indexes = list((await _said_of(http, entry.name, "indexes", _Indexes())).indexes)
    was = Dumping.read(directory)
    begun = was if was is not None and was.store == entry.name else None
    try:
        done = await _walk(http, directory, entry, begun)
    except _LostError as error:
        if begun is None:
            raise Stop(SERVER_FAILED, f"{entry.name}: {error}; run it again") from error
        notice(f"{entry.name}: {error}; beginning this store anew")
        done = await _walk_anew(http, directory, entry)
    entry.at, entry.count, entry.digest = done.at, done.count, digest_text(done.total)
    entry.is_verified = done.expected is not None
    entry.is_done = True
    notice(f"{entry.name}: {entry.count} records as they were at {entry.at}")


async def _walk_anew(http: HttpApi, directory: Path, entry: StoreEntry) -> Dumping:
    try:
        return await _walk(http, directory, entry, None)
    except _LostError as error:
        raise Stop(SERVER_FAILED, f"{entry.name}: {error}; run it again") from error


async def _walk(http: HttpApi, directory: Path, entry: StoreEntry, begun: Dumping | None) -> Dumping:
    """Write the file of a store. Raises _LostError: what was begun is of no use any more."""
    part = directory / f".{entry.file}.part"
    with _Part(part, 0 if begun is None else begun.size) as file:
        if begun is None:
            state, page = await _begin(http, entry.name)
        elif begun.page is None:
            state, page = begun, None
        else:
            state, page = begun, await _page(http, entry.name, begun.page)
        await _take_pages(http, directory, file, state, page)
        if state.expected not in (None, (state.count, digest_text(state.total))):
            raise _LostError("what came is not what the server says of this position")
        file.flush()
    os.replace(part, directory / entry.file)
    return state


async def _take_pages(http: HttpApi, directory: Path, file: "_Part", state: Dumping, page: _Page | None) -> None:
    expected = state.expected[0] if state.expected is not None else 0
    noted_at = time.monotonic()
    with click.progressbar(
        length=expected or 1, label=f"dumping {state.store}", hidden=not expected or not sys.stderr.isatty(),
        file=sys.stderr,
    ) as bar:  # fmt: skip
        bar.update(state.count)
        while page is not None:
            _take(file, state, page)
            bar.update(len(page.records))
            if state.page is None or time.monotonic() - noted_at >= _NOTE_EVERY_S:
                file.flush()
                state.save(directory)
                noted_at = time.monotonic()
            page = None if state.page is None else await _page(http, state.store, state.page)


def _take(file: "_Part", state: Dumping, page: _Page) -> None:
    lines = bytearray()
    for record in page.records:
        lines += b'{"key":%b,"value":%b}\n' % (msgspec.json.encode(record.key), bytes(record.raw))
        state.total += digest_term(record.seq, record.key)
    file.write(lines)
    state.count += len(page.records)
    state.size += len(lines)
    state.page = page.next


async def _begin(http: HttpApi, store: str) -> tuple[Dumping, _Page]:
    """Return the first page, and with it, if that can be had, the count and digest of its position."""
    for _ in range(_TRIES_MAX):
        info = await http.store_info(store)
        page = await _page(http, store, None)
        if page.at == info.head:
            return Dumping(store, page.at, page.next, expected=(info.count, info.digest)), page
    return Dumping(store, page.at, page.next), page


async def _page(http: HttpApi, store: str, page: str | None) -> _Page:
    query = {"limit": _PAGE_RECORDS, "page": page}
    try:
        return await http.request("GET", "stores", store, "records", kind=_Page, query=query)
    except RequestRefused as error:
        if page is not None and error.code in ("cursor_lost", "cursor_invalid", "history_gone"):
            raise _LostError(f"the server cannot go on with what was begun ({error.code})") from error
        raise


async def _said_of(http: HttpApi, store: str, what: str, otherwise: K) -> K:
    """Return what the server says of a store, or what stands for a server that does not say it, or not to us."""
    try:
        return await http.request("GET", "stores", store, what, kind=type(otherwise))
    except RequestRefused as error:
        if error.code in ("not_found", "forbidden", "unauthenticated"):
            return otherwise
        raise


class _Part:
    """A file that is being written, of which the first bytes are good.

    Args:
        path: the file.
        size: so many bytes are.
    """

    def __init__(self, path: Path, size: int) -> None:
        self._file = path.open("r+b" if path.exists() else "w+b")
        if self._file.seek(0, os.SEEK_END) < size:
            self._file.close()
            raise _LostError(f"{path.name} is shorter than it was")
        self._file.truncate(size)
        self._file.seek(size)

    def write(self, text: bytes | bytearray) -> None:
        """Append."""
        self._file.write(text)

    def flush(self) -> None:
        """Make sure that what was written is on the disk."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def __enter__(self) -> "_Part":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
