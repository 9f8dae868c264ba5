"""Where stores live: one contract (`base`), one module for each backend, a URL that chooses.

`decide` and `staging` say what a write does, the same for every backend. A backend's driver is imported only when
a URL asks for it.
"""

from .base import Storage, StorageError

__all__ = ["file_of", "open_storage"]

_KNOWN = "sqlite:///relative.db, sqlite:////absolute/path.db or memory:"


def open_storage(url: str) -> Storage:
    """Return the storage that `url` names; `await storage.open()` is the caller's.

    Args:
        url: `sqlite:///PATH` (relative to the working directory; with four slashes absolute) or `memory:`.

    Raises:
        StorageError: the URL names no backend of this version.
    """
    path = file_of(url)
    if path is None:
        from .memory import MemoryStorage

        return MemoryStorage()
    from .sqlite import SqliteStorage

    return SqliteStorage(path)


def file_of(url: str) -> str | None:
    """Return the file that a storage URL names, None if it names none. Raises as `open_storage`."""
    if url == "memory:":
        return None
    scheme, colon, rest = url.partition(":")
    if not colon or scheme != "sqlite":
        # Only the scheme is shown, as the rest may hold a password.
        named = f"the storage {scheme}:" if colon else "a storage URL without a scheme"
        raise StorageError(f"{named} is not one that this version knows", hint=f"use {_KNOWN}")
    path = rest.removeprefix("///")
    if path == rest or not path or path.endswith("/") or "?" in path:
        raise StorageError(f"{url!r} does not name a file", hint=f"use {_KNOWN}")
    return path
