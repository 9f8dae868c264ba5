"""A set of seqs, as which the live records of a store are told: at most a bit for each seq (PROTOCOL 4.4.1).

Ranges are short where deaths are rare or come in runs; where they are scattered, a bitmap is. The text form takes,
piece by piece, whichever is shorter.
"""

from collections.abc import Iterable, Iterator

from .cursor import Seq
from .ranges import Range

__all__ = ["SeqSet"]


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

    def __len__(self) -> int:
        return int.from_bytes(self.bits, "little").bit_count()

    def __contains__(self, seq: Seq) -> bool:
        index = seq - 1
        return 0 <= index < len(self.bits) * 8 and bool(self.bits[index >> 3] >> (index & 7) & 1)

    def ranges(self) -> Iterator[Range]:
        """Yield the set as inclusive ranges, in ascending order."""
        first: int | None = None
        seq = 1
        for byte in self.bits:
            if byte == (0 if first is None else 0xFF):
                seq += 8
                continue
            for bit in range(8):
                if byte >> bit & 1:
                    first = seq if first is None else first
                elif first is not None:
                    yield Seq(first), Seq(seq - 1)
                    first = None
                seq += 1
        if first is not None:
            yield Seq(first), Seq(seq - 1)
