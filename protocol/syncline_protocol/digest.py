"""The digest of a store: an order-free sum over its live records.

Each live record contributes a mixed 32-bit hash of its key and seq; the digest is their sum modulo 2^32,
so an ADD adds its term, a DELETE takes it away, and two parties that hold the same records agree however
they got there. Keys differ between histories, so a digest also tells a fork from its sibling. It finds
mistakes; it is no protection against an adversary. The hash is cheap in Python and JavaScript:
CRC-32 of the key (RFC 1952) and the finalizer of MurmurHash3 (PROTOCOL 7.3).
"""

from zlib import crc32

from .cursor import Seq

__all__ = ["digest_term", "digest_text"]

_MASK = 0xFFFFFFFF


def digest_term(seq: Seq, key: str) -> int:
    """Return what the live record `key`, added at `seq`, contributes: an integer below 2^32."""
    mixed = crc32(key.encode()) ^ (seq & _MASK) ^ ((seq >> 32) * 0x9E3779B1 & _MASK)
    mixed = (mixed ^ mixed >> 16) * 0x85EBCA6B & _MASK
    mixed = (mixed ^ mixed >> 13) * 0xC2B2AE35 & _MASK
    return mixed ^ mixed >> 16


def digest_text(total: int) -> str:
    """Return the wire form of a digest: eight hexadecimal digits of the sum modulo 2^32."""
    return f"{total & _MASK:08x}"
