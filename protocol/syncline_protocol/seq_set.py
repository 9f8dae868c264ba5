"""A set of seqs, as which the live records of a store are told: at most a bit for each seq (PROTOCOL 4.4.1).

Ranges are short where deaths are rare or come in runs; where they are scattered, a bitmap is. The text form takes,
piece by piece, whichever is shorter.
"""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable, Iterator

from .cursor import Seq
from .errors import RemoteProtocolError
from .ranges import Range, format_ranges

__all__ = ["SeqSet", "last_named"]

#: A bitmap has at most so many bytes, which are 4,096 characters.
_BITMAP_BYTES = 3072

#: A peer can name no seq above this one, which takes 1 GiB of bits: a few characters must not cost all memory.
_NAMED_MAX = 2**33

#: Bytes of which every bit is set, or some are; of the latter not so many that it takes long to look at them.
_RUNS = re.compile(rb"\xff+|[^\x00\xff]{1,512}", re.DOTALL)
_ONES = re.compile(r"1+")

_PIECE = re.compile(r"([1-9][0-9]{0,15})(?:-([1-9][0-9]{0,15})|\*([A-Za-z0-9_-]+))?", re.ASCII)


class SeqSet:
    """Args:
    bits: bit `i % 8` of byte `i // 8`, counted from the lowest, says whether the seq `i + 1` is in the set.
    """

    __slots__ = ("bits",)

    def __init__(self, bits: bytes | bytearray = b"") -> None:
        self.bits = bytes(bits)

    @classmethod
    def of(cls, seqs: Iterable[Seq]) -> "SeqSet":
        """Return the set of these seqs, which ascend."""
        bits = bytearray()
        for seq in seqs:
            index = seq - 1
            if index >> 3 >= len(bits):
                bits.extend(bytes((index >> 3) + 1 - len(bits)))
            bits[index >> 3] |= 1 << (index & 7)
        return cls(bits)

    @classmethod
    def parse(cls, *texts: str) -> "SeqSet":
        """Read the text form (PROTOCOL 4.4.1) of a set, or those of its consecutive parts.

        Raises:
            RemoteProtocolError: `bad_message`, if a text has another form, or what it names does not ascend.
        """
        bits = bytearray()
        above = 0
        for text in texts:
            for first, last, bitmap in _read_pieces(text, above):
                above = last
                if (last + 7) // 8 > len(bits):
                    bits.extend(bytes((last + 7) // 8 - len(bits)))
                if bitmap:
                    _put(bits, first - 1, int.from_bytes(bitmap, "little"), len(bitmap))
                else:
                    _put_range(bits, first - 1, last)
        return cls(bits)

    def __sub__(self, other: "SeqSet") -> "SeqSet":
        mine, size = int.from_bytes(self.bits, "little"), len(self.bits)
        return SeqSet((mine & ~int.from_bytes(other.bits[:size], "little")).to_bytes(size, "little"))

    def upto(self, last: Seq) -> "SeqSet":
        """Return what of the set is not above `last`."""
        bits = bytearray(self.bits[: (last + 7) // 8])
        if last & 7 and len(bits) * 8 > last:
            bits[-1] &= (1 << (last & 7)) - 1
        return SeqSet(bits)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SeqSet) and self.bits.rstrip(b"\0") == other.bits.rstrip(b"\0")

    def __hash__(self) -> int:
        return hash(self.bits.rstrip(b"\0"))

    def __repr__(self) -> str:
        return f"SeqSet({','.join(self.pieces(bitmaps=True))[:200]!r})"

    def __bool__(self) -> bool:
        return bool(self.bits.strip(b"\0"))

    def __len__(self) -> int:
        return int.from_bytes(self.bits, "little").bit_count()

    def __contains__(self, seq: Seq) -> bool:
        index = seq - 1
        return 0 <= index < len(self.bits) * 8 and bool(self.bits[index >> 3] >> (index & 7) & 1)

    def ranges(self) -> Iterator[Range]:
        """Yield the set as inclusive ranges, in ascending order."""
        first = last = 0
        for begin, end in self._runs():
            if begin == last + 1 and first:
                last = end
                continue
            if first:
                yield Seq(first), Seq(last)
            first, last = begin, end
        if first:
            yield Seq(first), Seq(last)

    def _runs(self) -> Iterator[tuple[int, int]]:
        """Yield ranges of which neighbours may touch."""
        for run in _RUNS.finditer(self.bits):
            start, stop = run.span()
            if self.bits[start] == 0xFF:
                yield start * 8 + 1, stop * 8
                continue
            text = f"{int.from_bytes(run[0], 'little'):b}"[::-1]
            for ones in _ONES.finditer(text):
                yield start * 8 + ones.start() + 1, start * 8 + ones.end()

    def pieces(self, *, bitmaps: bool) -> Iterator[str]:
        """Yield the text form piece by piece, in ascending order; joined by commas they are the whole.

        Args:
            bitmaps: whether bitmaps may stand where they are shorter than ranges.
        """
        waiting: Range | None = None
        for found in self._ranges_and_bitmaps() if bitmaps else self.ranges():
            if isinstance(found, str) or waiting is None or waiting[1] + 1 != found[0]:
                if waiting is not None:
                    yield format_ranges([waiting])
                waiting = None
            if isinstance(found, str):
                yield found
            else:
                # A run that goes on behind the end of a window is one range.
                waiting = found if waiting is None else (waiting[0], found[1])
        if waiting is not None:
            yield format_ranges([waiting])

    def _ranges_and_bitmaps(self) -> Iterator[Range | str]:
        for start in range(0, len(self.bits), _BITMAP_BYTES):
            window = self.bits[start : start + _BITMAP_BYTES]
            number = int.from_bytes(window, "little")
            if not number:
                continue
            runs = (number & ~(number << 1)).bit_count()
            digits = len(str(start * 8 + 1))
            # Most ranges are short where there are many, so about one number and a half each.
            if runs * (digits + digits // 2 + 1) > len(window) * 4 // 3 + digits + 1:
                lead = len(window) - len(window.lstrip(b"\0"))
                text = urlsafe_b64encode(window[lead:].rstrip(b"\0")).rstrip(b"=").decode()
                yield f"{(start + lead) * 8 + 1}*{text}"
            else:
                base = start * 8
                for first, last in SeqSet(window).ranges():
                    yield Seq(base + first), Seq(base + last)


def last_named(text: str, above: Seq) -> Seq:
    """Check the text form of a part of a set without making it; returns the last seq that it names, or `above`.

    Raises:
        RemoteProtocolError: `bad_message`, if it has another form, or names a seq that is not above `above`.
    """
    for _, last, _ in _read_pieces(text, above):
        above = Seq(last)
    return above


def _read_pieces(text: str, above: int) -> Iterator[tuple[int, int, bytes]]:
    """Yield the pieces of a text: the first seq of each, the last one, and its bitmap if it is one."""
    for part in text.split(",") if text else ():
        match = _PIECE.fullmatch(part)
        first, last, bitmap = 0, 0, b""
        if match is not None:
            first = int(match[1])
            if match[3] is None:
                last = int(match[2] or first)
                lowest = first
            else:
                lowest, last, bitmap = _read_bitmap(first, match[3])
        if match is None or not above < lowest <= last <= _NAMED_MAX:
            raise RemoteProtocolError("bad_message", f"{part[:40]!r} does not name the next seqs")
        yield first, last, bitmap
        above = last


def _read_bitmap(first: int, text: str) -> tuple[int, int, bytes]:
    """Return the lowest and the highest seq of a bitmap, and its bytes; 0 and 0 if it is none."""
    if len(text) % 4 == 1:
        return 0, 0, b""
    bitmap = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    number = int.from_bytes(bitmap, "little")
    return first + (number & -number).bit_length() - 1, first + number.bit_length() - 1, bitmap


def _put(bits: bytearray, index: int, number: int, size: int) -> None:
    """Set the bits of `number`, which has `size` bytes, from `index` on; above its highest one may be no room."""
    start, shift = index >> 3, index & 7
    end = min(start + size + 1, len(bits))
    held = int.from_bytes(bits[start:end], "little") | number << shift
    bits[start:end] = held.to_bytes(end - start, "little")


def _put_range(bits: bytearray, index: int, end: int) -> None:
    """Set the bits from `index` up to below `end`."""
    start, stop = index >> 3, (end - 1) >> 3
    low, high = 0xFF << (index & 7) & 0xFF, 0xFF >> (7 - (end - 1 & 7))
    if start == stop:
        bits[start] |= low & high
        return
    bits[start] |= low
    bits[start + 1 : stop] = b"\xff" * (stop - start - 1)
    bits[stop] |= high
