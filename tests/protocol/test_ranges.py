"""Sets of seqs as text (PROTOCOL 4.4.1)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncline_protocol.cursor import Seq
from syncline_protocol.errors import RemoteProtocolError
from syncline_protocol.limits import SEQ_MAX
from syncline_protocol.ranges import format_ranges, parse_ranges


def test_the_empty_set_is_the_empty_text() -> None:
    assert parse_ranges("", ranges_max=1) == []
    assert format_ranges([]) == ""


def test_ranges_are_read_as_the_specification_writes_them() -> None:
    assert parse_ranges("1-44,46,50-880", ranges_max=3) == [(1, 44), (46, 46), (50, 880)]
    assert parse_ranges(f"{SEQ_MAX}", ranges_max=1) == [(SEQ_MAX, SEQ_MAX)]


@pytest.mark.parametrize(
    "text",
    [
        *(",", "1,", ",1", "0", "0-1", "2-1", "1-2-3", "1--2", "-1", "1-", "01", "1 ,2", "1.5", "a", "2,1", "1-5,5"),
        *("1,1", f"{SEQ_MAX + 1}", "9" * 5000, "1\n", "\uff11", "1,2,3,4,5"),
    ],
)
def test_text_of_another_form_is_a_bad_message(text: str) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        parse_ranges(text, ranges_max=4)
    assert caught.value.code == "bad_message"
    assert len(caught.value.message) < 200


@given(st.sets(st.integers(1, 300), max_size=60))
def test_a_set_is_read_back_as_it_was_written(seqs: set[int]) -> None:
    ranges: list[tuple[Seq, Seq]] = []
    for seq in sorted(seqs):
        if ranges and ranges[-1][1] == seq - 1:
            ranges[-1] = (ranges[-1][0], Seq(seq))
        else:
            ranges.append((Seq(seq), Seq(seq)))
    assert parse_ranges(format_ranges(ranges), ranges_max=300) == ranges
