"""Where `syncline login` keeps its sessions: one JSON file in the user's folder of settings, one session per server.

Nobody else may read it: it is made with the mode 0600, in a folder with 0700, and never changed in place, so whoever
reads it while it is written sees the old one or the new one.
"""

import contextlib
import os
import tempfile
from pathlib import Path

import click
import msgspec

__all__ = ["Kept", "TokenFile"]


class Kept(msgspec.Struct, frozen=True, omit_defaults=True):
    """A session. `expires_ms` is when it ends, in ms since 1970."""

    token: str
    user: str
    expires_ms: int | None = None


class TokenFile:
    """The file. Errors of the file system go through as they are."""

    def __init__(self) -> None:
        self.path = Path(click.get_app_dir("syncline")) / "sessions.json"

    def get(self, url: str) -> Kept | None:
        """Return the session at a server."""
        return self._read().get(url)

    def put(self, url: str, kept: Kept) -> None:
        """Keep a session in the place of the one that there was."""
        self._write({**self._read(), url: kept})

    def forget(self, url: str) -> None:
        """Forget the session at a server."""
        self._write({known: kept for known, kept in self._read().items() if known != url})

    def _read(self) -> dict[str, Kept]:
        try:
            return msgspec.json.decode(self.path.read_bytes(), type=dict[str, Kept])
        except FileNotFoundError:
            return {}
        except (msgspec.DecodeError, UnicodeDecodeError):
            # It holds nothing but what another login brings back.
            return {}

    def _write(self, sessions: dict[str, Kept]) -> None:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # A temporary file has the mode 0600 from the start.
        descriptor, name = tempfile.mkstemp(prefix=".sessions.", dir=self.path.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(msgspec.json.format(msgspec.json.encode(sessions), indent=2) + b"\n")
                file.flush()
                os.fsync(file.fileno())
            os.replace(name, self.path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name)
            raise
