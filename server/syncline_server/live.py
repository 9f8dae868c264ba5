"""LIVE: which records live at a position, as frames of bounded size that are made once for everybody who asks at once.

After clean-up or a restore many clients come back together and stand at the same position; what they are told is the
same text. It is worked out once while somebody waits for it, and forgotten then: it is as large as a bit for each seq.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator

from syncline_protocol.codec import encode
from syncline_protocol.cursor import Cursor, Seq
from syncline_protocol.messages import Live
from syncline_protocol.seq_set import SeqSet

__all__ = ["LiveFrames", "frames_of"]

#: A LIVE frame has about so much text at most.
_TEXT_MAX = 60 * 1024

#: What has more bits than this is put into words beside the event loop: it takes some milliseconds.
_INLINE_BYTES_MAX = 4096

_Key = tuple[str, Seq, bool]


def frames_of(feed: str, upto: Cursor, seqs: SeqSet, *, bitmaps: bool) -> tuple[bytes, ...]:
    """Return the frames that tell these seqs; one, if there are none.

    Args:
        bitmaps: whether the client reads bitmaps (PROTOCOL 4.4.1).
    """
    texts = list(_gathered(seqs.pieces(bitmaps=bitmaps))) or [""]
    last = len(texts) - 1
    return tuple([encode(Live(feed, upto, text, at == last)) for at, text in enumerate(texts)])


def _gathered(pieces: Iterator[str]) -> Iterator[str]:
    """Join pieces of text with commas, into as few texts as their size allows."""
    held: list[str] = []
    size = 0
    for piece in pieces:
        if held and size + len(piece) > _TEXT_MAX:
            yield ",".join(held)
            held, size = [], 0
        held.append(piece)
        size += len(piece) + 1
    if held:
        yield ",".join(held)


class LiveFrames:
    """Frames that are being made, by feed, position and form."""

    def __init__(self) -> None:
        self._making: dict[_Key, asyncio.Task[tuple[bytes, ...]]] = {}

    async def get(
        self, feed: str, at: Seq, upto: Cursor, read: Callable[[], Awaitable[SeqSet]], *, bitmaps: bool
    ) -> tuple[bytes, ...]:
        """Return the frames of a feed at a position; who asks while they are made gets the same.

        Args:
            read: reads what lives there. What it raises is raised to everybody who waits.
        """
        key = (feed, at, bitmaps)
        making = self._making.get(key)
        if making is None:
            making = asyncio.get_running_loop().create_task(self._make(key, upto, read))
            self._making[key] = making
        return await asyncio.shield(making)

    async def _make(self, key: _Key, upto: Cursor, read: Callable[[], Awaitable[SeqSet]]) -> tuple[bytes, ...]:
        try:
            seqs = await read()
            if len(seqs.bits) <= _INLINE_BYTES_MAX:
                return frames_of(key[0], upto, seqs, bitmaps=key[2])
            return await asyncio.to_thread(frames_of, key[0], upto, seqs, bitmaps=key[2])
        finally:
            del self._making[key]

    async def close(self) -> None:
        """Wait for what is being made; for the end of the process."""
        await asyncio.gather(*self._making.values(), return_exceptions=True)
