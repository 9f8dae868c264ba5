"""Backups that the server makes of itself: on demand and by schedule, checked before they have a name, rotated.

Owns one directory. A file in it that has the name of a backup is whole, flushed, was read back and found sound; what is
under way, or was when the server was killed, has a name with a dot in front and goes at the next start. The copy is the
storage's; the check runs in a process of its own, since it would take the interpreter from everybody for a minute. One
backup is made at a time.
"""

import asyncio
import os
import re
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import msgspec

from syncline_protocol.audit import AuditOutcome

from .log import Log
from .storage.base import Storage, StorageError, StorageFull, StorageUnavailable, Unsupported

__all__ = ["Backup", "Backups", "Kind"]

Kind = Literal["manual", "scheduled"]

_NAME = re.compile(r"(manual|scheduled)-([0-9]{8}T[0-9]{6}Z)\.db", re.ASCII)
_STAMP = "%Y%m%dT%H%M%SZ"

#: Beyond the size of the stores, so much has to be free on the disk: it may be the one that the server writes to.
_ROOM_BYTES = 64 * 1024 * 1024

#: A schedule whose backup has failed is tried again after so long.
_RETRY_MS = 300_000


class Backup(msgspec.Struct, frozen=True):
    """One backup.

    Attributes:
        name: of the file, with the time in it.
        kind: `manual`, or `scheduled`: only these are rotated.
        state: `copying`, `checking`, `ready` or `failed`.
        done: how much of the present state is done, and `total` of how much; 0 of an unknown whole.
        bytes: of the file, once it is ready.
        time: the moment that it is a copy of, in ms since 1970, or a second later.
        error: why it has failed.
    """

    name: str
    kind: Kind
    state: Literal["copying", "checking", "ready", "failed"]
    time: int
    done: int = 0
    total: int = 0
    bytes: int = 0
    error: str = ""


#: Writes an entry of the audit log: action `backup.make`, name, outcome.
Note = Callable[[str, AuditOutcome], Awaitable[None]]


async def _no_note(name: str, outcome: AuditOutcome) -> None:
    """Where nobody has to log in, nothing is written down."""


class Backups:
    """Args:
    storage: what is copied.
    directory: where backups are kept; None if there is no place. It is made when it is needed.
    file: what the storage keeps its stores in, if that is a file: a backup needs about its room.
    now_ms: the wall clock in ms since 1970.
    spawn: carries out a coroutine beside everything else, and cancels it when the server stops.
    every_s: how often one is made by schedule; 0: never.
    keep: so many of the scheduled ones are kept.
    note: writes the entry of a scheduled one into the audit log.
    """

    def __init__(
        self,
        storage: Storage,
        directory: Path | None,
        file: Path | None,
        log: Log,
        *,
        now_ms: Callable[[], int],
        spawn: Callable[..., None],
        every_s: float = 0,
        keep: int = 7,
        note: Note = _no_note,
    ) -> None:
        self._storage = storage
        self._directory = directory
        self._file = file
        self._log = log
        self._now_ms = now_ms
        self._spawn = spawn
        self._every_ms = round(every_s * 1000)
        self._keep = keep
        self._note = note
        self._current: Backup | None = None
        self._retry_ms = 0

    @property
    def directory(self) -> Path:
        """Where they are. Raises Unsupported: there is no place for them."""
        if self._directory is None:
            raise Unsupported(
                "this server has no directory for backups",
                hint="keep the stores in a file with --store, and name a directory with --backup-dir",
            )
        return self._directory

    def all(self) -> list[Backup]:
        """Return all backups, the newest first, and with them one that is under way or has failed last.

        Raises:
            Unsupported: there is no place for them.
            StorageUnavailable: the directory cannot be read.
        """
        found = sorted(self._ready(), key=lambda backup: backup.time, reverse=True)
        current = self._current
        return found if current is None or current.state == "ready" else [current, *found]

    def get(self, name: str) -> Backup | None:
        """Return the backup of this name, or None. Raises as `all`."""
        return next((backup for backup in self.all() if backup.name == name), None)

    def path(self, name: str) -> Path | None:
        """Return the file of a backup that is ready, or None. Raises as `all`."""
        backup = self.get(name)
        return self.directory / name if backup is not None and backup.state == "ready" else None

    def begin(self, kind: Kind = "manual", note: Note = _no_note) -> tuple[Backup, bool]:
        """Begin a backup, unless one is under way. Returns it, and whether it was begun by this call.

        Args:
            note: writes down what becomes of it; that it was begun is written by the caller.

        Raises:
            Unsupported: there is no place for it.
            StorageUnavailable: the directory cannot be made, or written to.
        """
        if self.is_running and self._current is not None:
            return self._current, False
        self._make_directory()
        now_ms = self._now_ms()
        while True:
            stamp = datetime.fromtimestamp(now_ms / 1000, UTC).strftime(_STAMP)
            name = f"{kind}-{stamp}.db"
            if not (self.directory / name).exists():
                break
            now_ms += 1000
        self._current = backup = Backup(name, kind, "copying", now_ms // 1000 * 1000)
        self._spawn(self._make(backup, note))
        return backup, True

    @property
    def is_running(self) -> bool:
        """Whether one is under way."""
        return self._current is not None and self._current.state in ("copying", "checking")

    def tick(self) -> None:
        """Begin what is due by schedule. Call it now and then."""
        if not self._every_ms or self.is_running or self._now_ms() < self._retry_ms:
            return
        try:
            last_ms = max((backup.time for backup in self._ready() if backup.kind == "scheduled"), default=0)
            if self._now_ms() - last_ms >= self._every_ms:
                self.begin("scheduled", self._note)
        except StorageError as error:
            self._retry_ms = self._now_ms() + _RETRY_MS
            self._log.error("backup_failed", reason=str(error))

    def tidy(self) -> None:
        """Remove what a server that was killed has left of a backup under way. Call it at the start."""
        if self._directory is None or not self._directory.is_dir():
            return
        for path in self._directory.iterdir():
            if path.name.startswith(".") and _NAME.match(path.name, 1):
                with suppress(OSError):
                    path.unlink()

    # --- making one ---

    async def _make(self, backup: Backup, note: Note) -> None:
        unfinished = self.directory / f".{backup.name}.new"
        try:
            self._check_room()
            await self._storage.backup(str(unfinished), self._progress("copying"))
            await self._check(unfinished)
            size = unfinished.stat().st_size
            os.rename(unfinished, self.directory / backup.name)
            _flush(self.directory)
        except asyncio.CancelledError:
            self._fail(unfinished, "the server was stopped")
            raise
        except (StorageError, OSError) as error:
            self._fail(unfinished, str(error))
            await self._noted(note, backup.name, "failed")
            return
        self._current = msgspec.structs.replace(backup, state="ready", bytes=size)
        self._log.info("backup_made", backup=backup.name, bytes=size)
        self._rotate()
        await self._noted(note, backup.name, "ok")

    def _fail(self, unfinished: Path, reason: str) -> None:
        assert self._current is not None
        with suppress(OSError):
            unfinished.unlink()
        self._current = msgspec.structs.replace(self._current, state="failed", error=reason)
        self._retry_ms = self._now_ms() + _RETRY_MS
        self._log.error("backup_failed", backup=self._current.name, reason=reason)

    async def _noted(self, note: Note, name: str, outcome: AuditOutcome) -> None:
        try:
            await note(name, outcome)
        except StorageError as error:
            # That it was begun is written down; it is there or not whatever the log says.
            self._log.error("backup_not_noted", backup=name, reason=str(error))

    def _progress(self, state: Literal["copying", "checking"]) -> Callable[[int, int], None]:
        def progress(done: int, total: int) -> None:
            # Called in the thread of the copy: one value takes the place of another, which needs no lock.
            if self._current is not None:
                self._current = msgspec.structs.replace(self._current, state=state, done=done, total=total)

        return progress

    def _check_room(self) -> None:
        """Refuse to fill a disk on which the server itself may write."""
        there = os.statvfs(self.directory)
        free = there.f_bavail * there.f_frsize
        size = 0 if self._file is None else self._file.stat().st_size
        if free < size + _ROOM_BYTES:
            text = f"{self.directory} has {free} bytes free, a backup needs about {size}"
            raise StorageFull(text, hint="make room, name another directory with --backup-dir, or keep fewer")

    async def _check(self, path: Path) -> None:
        """Read a copy back, completely. Raises StorageUnavailable: it is not sound."""
        progress = self._progress("checking")
        progress(0, 0)
        command = [sys.executable, "-m", "syncline_server.checkup", str(path)]
        checking = await asyncio.create_subprocess_exec(
            *command,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            stdin=asyncio.subprocess.DEVNULL,
        )
        faults: list[str] = []
        try:
            assert checking.stdout is not None
            async for line in checking.stdout:
                told = msgspec.json.decode(line, type=list[str | int])
                if told[0] == "progress":
                    progress(int(told[2]), int(told[3]))
                elif told[1] == "fail":
                    faults.append(str(told[2]))
            code = await checking.wait()
        except BaseException:
            with suppress(ProcessLookupError):
                checking.kill()
            await checking.wait()
            raise
        if code or faults:
            text = "; ".join(faults) or f"the check ended with the code {code}"
            raise StorageUnavailable(
                f"the copy is not sound: {text}", hint="look at the store file: syncline doctor FILE"
            )

    # --- the directory ---

    def _make_directory(self) -> None:
        try:
            # Hashes of passwords are in it.
            self.directory.mkdir(mode=0o700, parents=not self.directory.is_absolute(), exist_ok=True)
        except OSError as error:
            text = f"the directory for backups {self.directory} cannot be made: {error.strerror}"
            raise StorageUnavailable(text, hint="make it, or name another one with --backup-dir") from error
        if not os.access(self.directory, os.W_OK | os.X_OK):
            raise StorageUnavailable(
                f"the directory for backups {self.directory} cannot be written to",
                hint="give it to the user of the server, or name another one with --backup-dir",
            )

    def _ready(self) -> list[Backup]:
        found: list[Backup] = []
        try:
            entries = list(os.scandir(self.directory)) if self.directory.exists() else []
            for entry in entries:
                match = _NAME.fullmatch(entry.name)
                if match is not None and entry.is_file():
                    moment = datetime.strptime(match[2], _STAMP).replace(tzinfo=UTC)
                    kind: Kind = "manual" if match[1] == "manual" else "scheduled"
                    size = entry.stat().st_size
                    found.append(Backup(entry.name, kind, "ready", round(moment.timestamp() * 1000), bytes=size))
        except (OSError, ValueError) as error:
            text = f"the directory for backups {self.directory} cannot be read: {error}"
            raise StorageUnavailable(text, hint="check its rights") from error
        return found

    def _rotate(self) -> None:
        """Remove the scheduled ones that are too many, the oldest first, once a newer one is there."""
        scheduled = [backup for backup in self._ready() if backup.kind == "scheduled"]
        for backup in sorted(scheduled, key=lambda backup: backup.time)[: -self._keep]:
            with suppress(OSError):
                (self.directory / backup.name).unlink()
                self._log.info("backup_removed", backup=backup.name)


def _flush(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
