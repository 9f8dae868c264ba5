"""Sets of keys in their order, against sorting and comparing every key."""

import random

from hypothesis import given
from hypothesis import strategies as st

from syncline.replica.sorted_keys import SortedKeys, end_of_prefix

#: Characters at the borders that a look for a prefix could be wrong about.
_CHARACTERS = st.sampled_from("ab:~é\ud7ff\ue000\uffff\U00010000\U0010ffff")
_KEYS = st.text(_CHARACTERS, min_size=1, max_size=5)


@given(st.sets(_KEYS), st.text(_CHARACTERS, max_size=3), st.integers())
def test_those_with_a_prefix_are_found_in_their_order(keys: set[str], prefix: str, seed: int) -> None:
    found = SortedKeys()
    for key in random.Random(seed).sample(sorted(keys), len(keys)):
        found.add(key)
    assert found.with_prefix(prefix) == [key for key in sorted(keys) if key.startswith(prefix)]


@given(st.lists(_KEYS, unique=True), st.data())
def test_what_was_taken_out_is_not_found(keys: list[str], data: st.DataObject) -> None:
    found = SortedKeys()
    for key in keys:
        found.add(key)
    gone = data.draw(st.sets(st.sampled_from(keys))) if keys else set()
    for key in gone:
        found.remove(key)
    assert found.with_prefix("") == sorted(set(keys) - gone)


@given(_KEYS, st.text(_CHARACTERS, max_size=4))
def test_the_end_of_a_prefix_parts_those_that_begin_so_from_those_above(key: str, prefix: str) -> None:
    assert (prefix <= key < end_of_prefix(prefix)) == key.startswith(prefix)


def test_the_longest_key_is_below_the_end_of_its_prefix() -> None:
    assert end_of_prefix("") > "\U0010ffff" * 128
