"""The directory of a dump of a whole server: a file of NDJSON for each store, and a manifest that says what is whole.

    manifest.json       the stores: name, file, position, count, digest, settings, indexes, and whether it is done
    NAME.ndjson         the records of a store, as `syncline dump NAME` writes them
    .dumping.json       how far the dump of one store has come, whose file is .NAME.ndjson.part
    .loaded.json        how far a load has come, for each store that it went into

Invariants: a store is done in the manifest only once its file is whole and on the disk; each file takes the place of
its older self at once, so an interruption at any moment leaves what the next run goes on from.
"""

from pathlib import Path
from typing import TypeVar

import msgspec

from syncline_protocol.cursor import Cursor

from .frame import REFUSED, Stop
from .whole_file import whole_file

__all__ = ["Dumping", "Index", "Manifest", "StoreEntry", "loaded_so_far", "note_loaded"]

T = TypeVar("T")

_FORMAT = 1


class Index(msgspec.Struct, frozen=True):
    """An index, as it is declared."""

    name: str
    path: str
    kind: str = "equality"


class StoreEntry(msgspec.Struct, omit_defaults=True):
    """A store of a dump.

    Attributes:
        at: the position that all of its records are of.
        digest: of these records, as CAUGHT_UP has it.
        is_verified: count and digest are what the server said for this position. A store to which others write at
            every moment may have no position for which the server is asked in time.
    """

    name: str
    file: str
    is_done: bool = False
    at: Cursor | None = None
    count: int = 0
    digest: str = ""
    is_verified: bool = False
    settings: msgspec.Raw = msgspec.Raw(b"{}")
    indexes: list[Index] = []


class Manifest(msgspec.Struct):
    """What is in the directory."""

    format: int
    made_ms: int
    stores: list[StoreEntry]

    @classmethod
    def begin(cls, made_ms: int) -> "Manifest":
        """Return that of an empty dump."""
        return cls(_FORMAT, made_ms, [])

    @classmethod
    def read(cls, directory: Path) -> "Manifest | None":
        """Return that of a directory, or None if it has none. Raises Stop: it is none of ours."""
        path = directory / "manifest.json"
        if not path.exists():
            return None
        manifest = _read(path, cls)
        if manifest.format != _FORMAT:
            raise Stop(REFUSED, f"{path} has the format {manifest.format}, this version reads {_FORMAT}; update it")
        return manifest

    def save(self, directory: Path) -> None:
        """Put it in the place of the older one."""
        _save(directory / "manifest.json", msgspec.json.format(msgspec.json.encode(self), indent=1) + b"\n")

    @property
    def is_whole(self) -> bool:
        """Whether every store is done."""
        return all(store.is_done for store in self.stores)

    def entry(self, name: str) -> StoreEntry | None:
        """Return the store of this name, or None."""
        return next((store for store in self.stores if store.name == name), None)


class Dumping(msgspec.Struct):
    """How far the dump of one store has come.

    Attributes:
        at: the position that its records are of.
        page: what the server gave as `next`.
        size: so many bytes of the file are good.
        total: the sum of the digest terms.
        expected: count and digest of the position, if they are known.
    """

    store: str
    at: Cursor
    page: str | None
    size: int = 0
    count: int = 0
    total: int = 0
    expected: tuple[int, str] | None = None

    @classmethod
    def read(cls, directory: Path) -> "Dumping | None":
        """Return what was broken off, or None."""
        path = directory / ".dumping.json"
        return _read(path, cls) if path.exists() else None

    def save(self, directory: Path) -> None:
        """Note it."""
        _save(directory / ".dumping.json", msgspec.json.encode(self))

    @staticmethod
    def forget(directory: Path) -> None:
        """Nothing is under way."""
        (directory / ".dumping.json").unlink(missing_ok=True)


def loaded_so_far(directory: Path) -> dict[str, int]:
    """Return how many bytes of a store's file are loaded, by the identity of the store that they went into."""
    path = directory / ".loaded.json"
    return _read(path, dict[str, int]) if path.exists() else {}


def note_loaded(directory: Path, loaded: dict[str, int]) -> bool:
    """Note how far a load has come. Returns False if the directory cannot be written to."""
    try:
        _save(directory / ".loaded.json", msgspec.json.encode(loaded))
    except OSError:
        return False
    return True


def _read(path: Path, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Stop(REFUSED, f"{path} is not of a dump: {error}; name the directory of one") from error


def _save(path: Path, text: bytes) -> None:
    with whole_file(path) as file:
        file.write(text)
