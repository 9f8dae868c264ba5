"""Sets of seqs as bits, and as text with ranges and bitmaps (PROTOCOL 4.4.1)."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncline_protocol.cursor import Seq
from syncline_protocol.errors import RemoteProtocolError
from syncline_protocol.limits import SEQ_MAX
from syncline_protocol.seq_set import SeqSet, last_named

_SEQS = st.sets(st.integers(1, 40_000), max_size=200) | st.builds(
    lambda first, count: set(range(first, first + count)), st.integers(1, 60_000), st.integers(1, 60_000)
)


def made_of(seqs: set[int]) -> SeqSet:
    """Return the set of these seqs."""
    return SeqSet.of([Seq(seq) for seq in sorted(seqs)])


def members(found: SeqSet) -> set[int]:
    """Return the seqs of a set."""
    return {seq for first, last in found.ranges() for seq in range(first, last + 1)}


@given(_SEQS, st.booleans())
def test_a_set_is_read_back_as_it_was_written(seqs: set[int], bitmaps: bool) -> None:
    found = made_of(seqs)
    text = ",".join(found.pieces(bitmaps=bitmaps))
    assert SeqSet.parse(text) == found
    assert SeqSet.parse(*text.split(",")) == found
    assert members(found) == seqs
    assert len(found) == len(seqs)
    assert last_named(text, Seq(0)) == max(seqs, default=0)


@given(_SEQS, _SEQS)
def test_a_difference_has_what_the_other_set_lacks(mine: set[int], others: set[int]) -> None:
    assert members(made_of(mine) - made_of(others)) == mine - others


@given(_SEQS, st.integers(0, 50_000))
def test_what_is_above_a_seq_is_cut_off(seqs: set[int], last: int) -> None:
    assert members(made_of(seqs).upto(Seq(last))) == {seq for seq in seqs if seq <= last}


def test_a_scattered_set_is_a_bitmap_and_a_run_is_a_range() -> None:
    seqs = set(range(1, 3072 * 8 + 1, 2)) | set(range(100_000, 5_000_000))
    pieces = list(made_of(seqs).pieces(bitmaps=True))
    assert pieces[0].startswith("1*")
    assert pieces[1:] == ["100000-4999999"]


def test_a_bitmap_is_read_as_the_specification_writes_it() -> None:
    assert members(SeqSet.parse("1-3,10*BQE,30")) == {1, 2, 3, 10, 12, 18, 30}


def test_ten_million_seqs_with_scattered_deaths_are_below_two_megabytes() -> None:
    bits = random.Random(1).randbytes(10_000_000 // 8)
    found = SeqSet(bits)
    text = ",".join(found.pieces(bitmaps=True))
    assert len(text) < 2_000_000
    assert SeqSet.parse(text) == found


@pytest.mark.parametrize(
    "text",
    [
        *(",", "1,", "0", "2-1", "01", "1 ,2", "2,1", "1-5,5", "1*", "1*A", "1*AA", "0*AQ", "1*AQ==", "1*A+", "1-2*AQ"),
        *("5,1*AQ", "3*AQ,3", f"{SEQ_MAX}", f"1-{SEQ_MAX}", "9" * 5000, "1\n"),
    ],
)
def test_text_of_another_form_is_a_bad_message(text: str) -> None:
    for read in (SeqSet.parse, lambda text: last_named(text, Seq(0))):
        with pytest.raises(RemoteProtocolError) as caught:
            read(text)
        assert caught.value.code == "bad_message"
        assert len(caught.value.message) < 200
