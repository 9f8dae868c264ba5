"""How often one connection may ask: messages and bytes, each by a bucket, and what counts as a flood. Pure."""

from .throttle import TokenBucket

__all__ = ["Meter"]

#: So many seconds of its rate a connection may use at once: a reconnect with a full outbox is no flood.
_BURST_S = 10.0

#: So many messages in a row that came too early, in spite of the answers, are a flood. It is well above the writes
#: that may be in flight: a client that has just begun to hear that it is early has sent as many.
_EARLY_MAX = 5000


class Meter:
    """Args:
    messages_per_s, bytes_per_s: what one connection may send on average.
    """

    __slots__ = ("_bytes", "_early", "_messages")

    def __init__(self, messages_per_s: float, bytes_per_s: float) -> None:
        self._messages = TokenBucket(messages_per_s, messages_per_s * _BURST_S)
        self._bytes = TokenBucket(bytes_per_s, bytes_per_s * _BURST_S)
        self._early = 0

    def take(self, size: int, now: float) -> float:
        """Take note of a message of `size` bytes. Returns 0, or the seconds after which it may come."""
        wait_s = max(self._messages.wait_s(1, now), self._bytes.wait_s(size, now))
        if wait_s:
            self._early += 1
            return wait_s
        self._early = 0
        self._messages.take_at_once(1)
        self._bytes.take_at_once(size)
        return 0.0

    @property
    def is_flooded(self) -> bool:
        """Whether the client goes on although it is told to wait."""
        return self._early >= _EARLY_MAX
