"""When something ends, as callers say it and as the server wants it."""

from datetime import datetime, timedelta

from syncline.errors import Misuse

__all__ = ["Expiry", "expires_ms_of"]

#: A moment with its time zone, or a time from now on; None is for ever.
Expiry = datetime | timedelta | None


def expires_ms_of(expires: Expiry, now_s: float) -> int | None:
    """Return it in ms since 1970.

    Raises:
        Misuse: it is a moment without a time zone.
    """
    if expires is None:
        return None
    if isinstance(expires, timedelta):
        return int((now_s + expires.total_seconds()) * 1000)
    if expires.tzinfo is None:
        raise Misuse(f"{expires} has no time zone", hint="say which: datetime.now(UTC), or give a timedelta")
    return int(expires.timestamp() * 1000)
