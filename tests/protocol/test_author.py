"""The author of a change stands at its end, and is cut off exactly, whatever keys, values and names look like."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncline_protocol import Seq
from syncline_protocol.codec import decode_change, encode_change, without_author

#: What could be taken for a member or for the end of a change.
_TRAPS = [',"by":"', '","by":"ada"}', '"}', '\\"}', ',"time":5', "}", '"', "\\", ",", "by", "", "ключ", "\u2028", "🙂"]
_texts = st.text(st.characters(codec="utf-8"), max_size=6) | st.lists(st.sampled_from(_TRAPS), max_size=4).map("".join)
_values = st.recursive(
    st.none() | st.integers() | _texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_texts, inner, max_size=3),
    max_leaves=4,
)
#: Values that hold what the end of a change looks like, as members of their own.
_DOUBLES = [b'{"a":1,"by":"b"}', b'[{"value":1,"time":5,"by":"b"}]', b'{"time":5,"by":"b"}']
_kept = (
    st.none()
    | st.sampled_from(_DOUBLES)
    | st.builds(
        lambda value, ascii_: json.dumps(value, ensure_ascii=ascii_, separators=(",", ":")).encode(),
        _values,
        st.booleans(),
    )
)


@given(st.integers(1, 2**53 - 1), _texts, _kept, st.integers(0, 2**53 - 1), _texts)
def test_a_change_without_its_author_is_what_it_would_be_had_nobody_made_it(
    seq: int, key: str, value: bytes | None, time_ms: int, by: str
) -> None:
    nobodys = encode_change(Seq(seq), key, value, time_ms)
    authored = encode_change(Seq(seq), key, value, time_ms, by)
    assert without_author(authored) == nobodys
    assert without_author(nobodys) == nobodys
    change = decode_change(authored)
    assert (change.seq, change.key, change.time, change.by) == (seq, key, time_ms, by)
    assert (bytes(change.value) if isinstance(change.value, msgspec.Raw) else None) == value
    assert decode_change(nobodys).by is None


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (b'{"by":"b"}', b'{"seq":8,"op":"ADD","key":"k","value":{"by":"b"},"time":5,"by":"ada"}'),
        (None, b'{"seq":8,"op":"DELETE","key":"k","time":5,"by":"ada"}'),
    ],
)
def test_the_author_is_the_last_member(value: bytes | None, text: bytes) -> None:
    assert encode_change(Seq(8), "k", value, 5, "ada") == text
