"""One server for one file: an advisory lock on a file beside it, held by the process and released with it.

SQLite's own locks let several processes write in turn, and each would believe that it alone knows the heads. The
lock file stays when the lock is released: removing it would let two processes lock two files of the same name.
"""

import fcntl
import os

from .base import StorageLocked, StorageUnavailable

__all__ = ["FileLock"]


class FileLock:
    """The lock on `path`; it is held from construction until `release` or the end of the process.

    Raises:
        StorageLocked: another process, or another storage of this process, holds it.
        StorageUnavailable: the lock file cannot be made; the message names it and the reason.
    """

    def __init__(self, path: str) -> None:
        lock_path = path + ".lock"
        try:
            self._fd = os.open(lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise StorageUnavailable(
                f"cannot make {lock_path}: {error.strerror}",
                hint="the directory has to be writable, as SQLite keeps its log beside the file",
            ) from error
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.read(self._fd, 20).decode(errors="replace").strip()
            os.close(self._fd)
            raise StorageLocked(
                f"{path} is served by process {holder or 'unknown'}",
                hint="stop that server, or give this one another file",
            ) from error
        self._write_pid()

    def _write_pid(self) -> None:
        try:
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, b"%d\n" % os.getpid(), 0)
        except OSError:
            # On a full disk the lock holds without the pid, which only words a message; the storage says what is full.
            return

    def release(self) -> None:
        """Let go. Safe to call once only."""
        os.close(self._fd)
