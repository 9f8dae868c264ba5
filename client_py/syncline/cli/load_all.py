"""`syncline load --all`: everything that `dump --all` wrote, into a server.

Stores, settings and indexes first, then the records, piece by piece. How far it has come is noted beside the dump, by
the identity of the store that the records went into, so that an interrupted load goes on; were that lost, the keys
would still keep everything from being added twice.
"""

import io
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import click
import msgspec

from syncline.client import Client
from syncline.errors import RequestRefused
from syncline.http import HttpApi, StoreInfo

from .frame import REFUSED, Stop, connected, notice
from .load import Tally, add_lines
from .manifest import Manifest, StoreEntry, loaded_so_far, note_loaded
from .server import Server

__all__ = ["load_all"]

#: How much is loaded before it is noted.
_PIECE_BYTES = 1024 * 1024


@dataclass
class _Load:
    """A load under way; `loaded` is what `loaded_so_far` returns."""

    directory: Path
    url: str
    loaded: dict[str, int]
    tally: Tally


async def load_all(server: Server, directory: Path, tally: Tally) -> None:
    """Load a dump, or go on with a load that was interrupted. A line that is wrong ends it."""
    manifest = Manifest.read(directory)
    if manifest is None:
        raise Stop(REFUSED, f"{directory} holds no dump of a server; `syncline load STORE FILE` loads one file")
    if not manifest.is_whole:
        raise Stop(REFUSED, f"the dump in {directory} is not whole; run `dump --all` again, which goes on with it")
    load = _Load(directory, server.address.url, loaded_so_far(directory), tally)
    async with server.http() as http, connected(server) as client:
        for entry in manifest.stores:
            info = await _prepare(http, entry)
            await _load_store(client, load, entry, info)


async def _prepare(http: HttpApi, entry: StoreEntry) -> StoreInfo:
    """Create a store as it was: settings and indexes come before the records, so that they hold for them."""
    info, is_new = await http.create_store(entry.name)
    if info.seq > 0:
        notice(f"{entry.name} is there already; its settings and indexes stay")
        return info
    if is_new:
        notice(f"created the store {entry.name}")
    # A store that is still empty may be one that was interrupted right here.
    if msgspec.json.decode(entry.settings):
        await _tell(http, entry, "settings", body=entry.settings)
    for index in entry.indexes:
        await _tell(http, entry, "indexes", index.name, body={"path": index.path, "kind": index.kind})
    return info


async def _tell(http: HttpApi, entry: StoreEntry, *parts: str, body: object) -> None:
    try:
        await http.request("PUT", "stores", entry.name, *parts, kind=msgspec.Raw, body=body)
    except RequestRefused as error:
        # The records are what matters.
        notice(f"{entry.name}: {'/'.join(parts)} were not taken over: {error}")


async def _load_store(client: Client, load: _Load, entry: StoreEntry, info: StoreInfo) -> None:
    place = f"{load.url} {info.name} {info.store_id}"
    path = load.directory / entry.file
    with _open(path) as file:
        size = os.fstat(file.fileno()).st_size
        done = min(load.loaded.get(place, 0), size)
        file.seek(done)
        with click.progressbar(
            length=size or 1, label=f"loading {entry.name}", hidden=not sys.stderr.isatty(), file=sys.stderr
        ) as bar:
            bar.update(done)
            while piece := _piece_of(file):
                await _add(client, entry.name, _Piece(piece, f"{path} from byte {done}"), load.tally)
                done += len(piece)
                load.loaded[place] = done
                note_loaded(load.directory, load.loaded)
                bar.update(len(piece))
    notice(f"{entry.name}: loaded")


def _open(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except FileNotFoundError as error:
        raise Stop(REFUSED, f"{path} is missing from the dump; copy the whole directory") from error


async def _add(client: Client, store: str, piece: "_Piece", tally: Tally) -> None:
    faults = await add_lines(client, store, piece, tally, lambda size: None)
    if faults:
        raise faults[0]


def _piece_of(file: BinaryIO) -> bytes:
    """Return the next lines, whole ones; empty at the end."""
    piece = file.read(_PIECE_BYTES)
    return piece if piece.endswith(b"\n") or not piece else piece + file.readline()


class _Piece(io.BytesIO):
    """Lines of a file; `name` says which."""

    def __init__(self, lines: bytes, name: str) -> None:
        super().__init__(lines)
        self.name = name
