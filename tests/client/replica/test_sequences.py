"""`protocol/behaviour/sequences.yaml` against a replica on paper: its keeper, link and session, without a socket."""

import re
from typing import Any

import pytest

from tests.client.replica.steps import BEHAVIOUR, read, run

SEQUENCES: list[dict[str, Any]] = read("sequences.yaml")

#: The attacks on the design that a replica alone can answer, by their numbers.
_ATTACKS = {1, 6, 8, 9, 11, 13, 14, 15, 16, 17, 22, 29}


@pytest.mark.parametrize("sequence", SEQUENCES, ids=lambda sequence: sequence["id"])
async def test_a_replica_goes_through_the_sequence(sequence: dict[str, Any]) -> None:
    await run(sequence["steps"], restores_all=sequence.get("restores") == "all")


def test_each_sequence_has_its_own_name_and_expects_something() -> None:
    assert len({sequence["id"] for sequence in SEQUENCES}) == len(SEQUENCES)
    for sequence in SEQUENCES:
        assert set(sequence) <= {"id", "title", "attack", "clause", "restores", "steps"}
        assert any(name.startswith(("expect_", "subscribed")) for name in map(_name_of, sequence["steps"]))


def test_the_attacks_on_the_design_are_there() -> None:
    assert {sequence["attack"] for sequence in SEQUENCES if "attack" in sequence} == _ATTACKS


@pytest.mark.parametrize("sequence", SEQUENCES, ids=lambda sequence: sequence["id"])
def test_the_clauses_of_a_sequence_exist(sequence: dict[str, Any]) -> None:
    protocol = (BEHAVIOUR.parent / "PROTOCOL.md").read_text()
    clauses = sequence["clause"] if isinstance(sequence["clause"], list) else [sequence["clause"]]
    for clause in clauses:
        assert re.search(rf"^\*\*{re.escape(str(clause))}\b[^*]*\*\*", protocol, re.MULTILINE), clause


def test_the_readme_describes_every_step() -> None:
    readme = (BEHAVIOUR / "README.md").read_text()
    outbox = read("outbox.yaml")
    lists = [sequence["steps"] for sequence in SEQUENCES]
    lists += [outbox["world"], *(each["steps"] for kind in ("states", "events") for each in outbox[kind].values())]
    for name in {_name_of(step) for steps in lists for step in steps}:
        assert f"| `{name}: " in readme, name


def _name_of(step: dict[str, Any]) -> str:
    ((name, _),) = step.items()
    return name
