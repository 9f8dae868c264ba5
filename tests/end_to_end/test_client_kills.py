"""A client that is killed again and again loses nothing that was stored, and does nothing twice; a small run of it.

`make bench ARGS=client-kills` has the large one.
"""

import random
from pathlib import Path

import pytest

from benchmarks.client_kills import Intent, Truth, kill_repeatedly
from benchmarks.load import LoadError


def test_nothing_is_lost_invented_or_done_twice(tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    truth = kill_repeatedly(tmp_path, kills=8, writes=400, seed=seed)
    assert sum(intent.returned for intent in truth.intents.values()) > 350
    assert len(truth.opened_s) >= 4


# --- what it would find ---


def truth_of(**intents: Intent) -> Truth:
    return Truth({(0, number): intent for number, intent in enumerate(intents.values())})


STORED = Intent([("ADD", "a", "1"), ("ADD", "b", "2")], returned=True)
CUT_OFF = Intent([("ADD", "c", "3"), ("ADD", "d", "4")])
REPLACED = Intent([("DELETE", "a", None), ("ADD", "e", "5")], returned=True)


def test_what_is_as_it_was_written_passes() -> None:
    truth = truth_of(stored=STORED, cut_off=CUT_OFF)
    truth.check({"a": "1", "b": "2"}, {"a", "b"})
    truth.check({"a": "1", "b": "2", "c": "3", "d": "4"}, {"a", "b", "c", "d"})
    assert truth.arrived == 1
    truth_of(stored=STORED, replaced=REPLACED).check({"b": "2", "e": "5"}, {"a", "b", "e"})


@pytest.mark.parametrize(
    ("fault", "live", "used"),
    [
        ("never arrived", {}, set()),
        ("only", {"a": "1"}, {"a"}),
        ("never written", {"a": "1", "b": "two"}, {"a", "b"}),
        ("never written", {"a": "1", "b": "2", "x": "0"}, {"a", "b", "x"}),
        ("deleted by nobody", {"a": "1"}, {"a", "b"}),
        ("only", {"a": "1", "b": "2", "c": "3"}, {"a", "b", "c"}),
    ],
)
def test_every_kind_of_loss_is_found(fault: str, live: dict[str, str], used: set[str]) -> None:
    with pytest.raises(LoadError, match=fault):
        truth_of(stored=STORED, cut_off=CUT_OFF).check(live, used)


def test_a_record_that_was_to_be_replaced_and_is_still_there_is_found() -> None:
    with pytest.raises(LoadError, match="still there"):
        truth_of(stored=STORED, replaced=REPLACED).check({"a": "1", "b": "2", "e": "5"}, {"a", "b", "e"})
    with pytest.raises(LoadError, match="never arrived"):
        truth_of(stored=STORED, deleted=Intent([("DELETE", "b", None)], returned=True)).check(
            {"a": "1", "b": "2"}, {"a", "b"}
        )
