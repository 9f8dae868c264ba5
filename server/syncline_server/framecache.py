"""Frames of catch-ups that are kept for whoever comes by next, bounded over all feeds together.

Readers that reconnect together stand at the same few positions, so the second of them finds here what the first
had read and encoded. A frame stays true for ever, as the log does not change; the least recently used ones go.
"""

from collections import OrderedDict

from syncline_protocol.cursor import Seq

from .frame import Frame

__all__ = ["FrameCache"]


class FrameCache:
    """Args:
    bytes_max: about how much memory the frames may hold together.
    """

    __slots__ = ("_bytes_held", "_bytes_max", "_frames")

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._bytes_held = 0
        self._frames: OrderedDict[tuple[str, Seq], Frame] = OrderedDict()

    def get(self, feed: str, after: Seq) -> Frame | None:
        """Return the frame of this feed that begins there."""
        frame = self._frames.get((feed, after))
        if frame is not None:
            self._frames.move_to_end((feed, after))
        return frame

    def keep(self, feed: str, frame: Frame) -> None:
        """Keep a frame, in the place of a shorter one that begins where it does."""
        replaced = self._frames.pop((feed, frame.after), None)
        if replaced is not None:
            self._bytes_held -= replaced.bytes_held
        self._frames[feed, frame.after] = frame
        self._bytes_held += frame.bytes_held
        while self._bytes_held > self._bytes_max and len(self._frames) > 1:
            self._bytes_held -= self._frames.popitem(last=False)[1].bytes_held
