"""A frame of changes: made once, written to everybody.

`payload` is the JSON text of the BATCH, `wire` the same as an unmasked WebSocket text frame (RFC 6455, 5.2), which
is what goes to the transport of every subscriber at the tip. A frame is immutable, so sharing it needs no copy.
"""

from collections.abc import Sequence

from syncline_protocol.codec import batch_frame
from syncline_protocol.cursor import Lineage, Seq

__all__ = ["Frame", "text_frame"]

_NOWHERE = Seq(0)


class Frame:
    """The changes of the interval (after, to] of one feed, encoded.

    `texts` are the encoded changes, for the HTTP twins, which wrap the same changes in another envelope. A frame is
    `complete` if it has every change of its interval that its view shows, and leaves out no pair that has died since;
    if that is not said, every change is shown. `view` is the token that its cursors carry.

    DELETEs up to `floor` may be missing, as clean-up has dropped them. Records that died up to `upto` were left out; of
    those that are here each lived there, or its DELETE is here too.
    """

    __slots__ = ("after", "complete", "floor", "payload", "texts", "to", "upto", "wire")

    def __init__(
        self,
        feed: str,
        lineage: Lineage,
        after: Seq,
        to: Seq,
        texts: Sequence[bytes],
        *,
        complete: bool | None = None,
        view: str | None = None,
        floor: Seq = _NOWHERE,
        upto: Seq | None = None,
    ) -> None:
        self.after = after
        self.to = to
        self.texts = texts
        self.complete = len(texts) == to - after if complete is None else complete
        self.floor = floor
        self.upto = to if upto is None else upto
        self.payload = batch_frame(feed, lineage.cursor(after, view), lineage.cursor(to, view), texts)
        self.wire = text_frame(self.payload)

    def suits(self, since: Seq) -> bool:
        """Return whether a reader misses no DELETE who takes this frame, and whose every record lived at `since`.

        Who stands at the beginning holds nothing that could have died.
        """
        return self.after == 0 or self.floor <= max(self.after, since)

    @property
    def bytes_held(self) -> int:
        """About how much memory the frame keeps alive."""
        return 3 * len(self.wire)


def text_frame(payload: bytes) -> bytes:
    """Wrap a payload as one final, unmasked text frame."""
    size = len(payload)
    if size < 126:
        return b"\x81" + size.to_bytes(1, "big") + payload
    if size < 65536:
        return b"\x81\x7e" + size.to_bytes(2, "big") + payload
    return b"\x81\x7f" + size.to_bytes(8, "big") + payload
