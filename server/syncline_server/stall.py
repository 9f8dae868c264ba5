"""Whether a peer takes nothing any more: a full transport of which no byte goes out is not merely slow.

A slow client costs constant memory and may take as long as it likes; one that has stalled is closed, and resumes later.
"""

from .transport import Transport

__all__ = ["Stall"]


class Stall:
    """What is known of one transport, from look to look."""

    __slots__ = ("_since", "_unsent_before")

    def __init__(self) -> None:
        self._since: float | None = None
        self._unsent_before = 0

    def over(self) -> None:
        """The transport takes again."""
        self._since = None

    def has_lasted(self, transport: Transport, now: float, timeout_s: float) -> bool:
        """Look again. Returns whether the transport is full and has not moved a byte for so long."""
        if not transport.full:
            self._since = None
            return False
        unsent = transport.unsent_bytes()
        if self._since is None or unsent < self._unsent_before:
            self._since = now
        self._unsent_before = unsent
        return now - self._since >= timeout_s
