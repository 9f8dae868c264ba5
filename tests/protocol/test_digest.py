"""The digest: the vectors of PROTOCOL 7.3, and what a sum over live records promises."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from syncline_protocol.cursor import Seq
from syncline_protocol.digest import digest_term, digest_text
from syncline_protocol.limits import SEQ_MAX

from .rendered import DIGEST_VECTORS

#: The terms as they were first published; a change of these is a change of the protocol.
_TERMS = ("57abfdf9", "19d83c54", "2803c666", "20d3e80a", "786a450f", "3675690b")

_RECORDS = st.tuples(st.integers(1, SEQ_MAX), st.text(st.characters(codec="utf-8"), min_size=1, max_size=20))


def _crc32(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0xEDB88320 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def _term_as_specified(key: str, seq: int) -> int:
    """The text of 7.3.2, step by step, without a line of ours."""
    u32 = 2**32
    low, high = seq % u32, seq // u32
    h = _crc32(key.encode()) ^ low ^ (high * 0x9E3779B1 % u32)
    h = (h ^ (h >> 16)) * 0x85EBCA6B % u32
    h = (h ^ (h >> 13)) * 0xC2B2AE35 % u32
    return h ^ (h >> 16)


def test_the_published_vectors_hold() -> None:
    assert tuple(f"{digest_term(Seq(seq), key):08x}" for key, seq in DIGEST_VECTORS) == _TERMS
    assert digest_text(sum(int(term, 16) for term in _TERMS)) == "693b96d7"


def test_the_digest_of_nothing_is_zero() -> None:
    assert digest_text(0) == "00000000"


@given(_RECORDS)
def test_a_term_is_what_the_specification_says(record: tuple[int, str]) -> None:
    seq, key = record
    assert digest_term(Seq(seq), key) == _term_as_specified(key, seq)


@given(st.lists(_RECORDS, unique=True, max_size=8), st.randoms())
def test_the_order_does_not_matter_and_a_delete_takes_its_term_away(
    records: list[tuple[int, str]], random: Random
) -> None:
    terms = [digest_term(Seq(seq), key) for seq, key in records]
    total = sum(terms)
    random.shuffle(terms)
    assert digest_text(sum(terms)) == digest_text(total)
    for term in terms:
        total -= term
    assert digest_text(total) == "00000000"


def test_the_seq_and_the_key_both_count() -> None:
    terms = {digest_term(Seq(seq), key) for seq in (1, 2, 2**32, 2**32 + 1, 2**33) for key in ("a", "b", "ab")}
    assert len(terms) == 15
