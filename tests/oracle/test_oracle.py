"""Thousands of random steps over everything that happens to a store in its life, on every backend, beside the model.

`SYNCLINE_ORACLE_EXAMPLES` sets how many lives are lived; a failure prints the shortest one that hypothesis finds.
"""

import asyncio
import json
import os
import tempfile
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from .life import FILTERS, INDEXES, Life
from .places import PLACES

_EXAMPLES = int(os.environ.get("SYNCLINE_ORACLE_EXAMPLES", "25"))
_STEPS = 60

_keys = st.builds(lambda letter, number: f"{letter}{number}", st.sampled_from("ab"), st.integers(0, 30))
_scalars = st.sampled_from([0, 1, 1.0, 2, 3, -1, "x", "xy", "y", True, False, None])
_values = st.builds(
    lambda n, t, pad: json.dumps({"n": n, "t": t, "pad": "p" * pad}),
    _scalars,
    st.lists(st.sampled_from(["red", "blue", True, 1, None]), max_size=3),
    st.sampled_from([0, 0, 300]),
) | st.sampled_from(["1", '"x"', "[1]", "{}"])
_ops = st.tuples(_keys, _values | st.none())
_which = st.integers(0, len(FILTERS) - 1)
_shares = st.floats(0, 1)


class Oracle(RuleBasedStateMachine):
    """The steps of `Life` as rules."""

    backend: ClassVar[str]

    def __init__(self) -> None:
        super().__init__()
        self._runner = asyncio.Runner()
        self._folder = tempfile.TemporaryDirectory()

    @initialize(tail=st.sampled_from([0, 500, 100_000]))
    def begin(self, tail: int) -> None:
        self.life = Life(self.backend, Path(self._folder.name), tail_bytes_max=tail)
        self._runner.run(self.life.begin())

    def _at(self, share: float) -> int:
        store = self.life.store()
        return 0 if store is None else round(share * store.head)

    @rule(ops=st.lists(_ops, min_size=1, max_size=6, unique_by=lambda op: op[0]))
    def write(self, ops: list[tuple[str, str | None]]) -> None:
        self._runner.run(self.life.write(ops, single=False))

    @rule(op=_ops)
    def write_one(self, op: tuple[str, str | None]) -> None:
        self._runner.run(self.life.write([op], single=True))

    @rule(numbers=st.lists(st.integers(0, 1000), min_size=20, max_size=40, unique=True), value=_values)
    def add_many(self, numbers: list[int], value: str) -> None:
        self._runner.run(self.life.write([(f"b-{number}", value) for number in numbers], single=False))

    @rule(share=_shares)
    def delete_living(self, share: float) -> None:
        store = self.life.store()
        living = sorted(store.living()) if store is not None else []
        if living:
            key = living[min(int(share * len(living)), len(living) - 1)]
            self._runner.run(self.life.write([(key, None)], single=True))

    @rule(values=_shares, tombstones=_shares)
    def compact(self, values: float, tombstones: float) -> None:
        self._runner.run(self.life.compact(self._at(values), self._at(tombstones)))

    @rule()
    def reclaim(self) -> None:
        self._runner.run(self.life.reclaim())

    @rule(name=st.sampled_from(sorted(INDEXES)))
    def create_index(self, name: str) -> None:
        self._runner.run(self.life.create_index(name))

    @rule(name=st.sampled_from(sorted(INDEXES)))
    def drop_index(self, name: str) -> None:
        self._runner.run(self.life.drop_index(name))

    @rule()
    def drop(self) -> None:
        self._runner.run(self.life.drop())

    @rule()
    def create(self) -> None:
        self._runner.run(self.life.create())

    @rule()
    def crash(self) -> None:
        self._runner.run(self.life.crash())

    @rule()
    def backup(self) -> None:
        self._runner.run(self.life.backup())

    @rule(which=st.integers(0, 3))
    def restore(self, which: int) -> None:
        self._runner.run(self.life.restore(which))

    @rule(which=_which)
    def read(self, which: int) -> None:
        self._runner.run(self.life.read(which))

    @rule(which=_which)
    def leave(self, which: int) -> None:
        self._runner.run(self.life.leave(which))

    @rule(which=_which, full=st.booleans())
    def stuff(self, which: int, full: bool) -> None:
        self._runner.run(self.life.stuff(which, full=full))

    @rule()
    def settle(self) -> None:
        self._runner.run(self.life.settle())

    @rule(share=_shares)
    def look(self, share: float) -> None:
        self._runner.run(self.life.look(self._at(share)))

    @rule(which=_which, descending=st.booleans(), limit=st.sampled_from([1, 3, 100]))
    def find(self, which: int, descending: bool, limit: int) -> None:
        self._runner.run(self.life.find(which, descending=descending, limit=limit))

    def teardown(self) -> None:
        try:
            if hasattr(self, "life"):
                self._runner.run(self.life.end())
        finally:
            self._runner.close()
            self._folder.cleanup()


@pytest.mark.parametrize("backend", sorted(PLACES))
def test_a_random_life_of_a_store_is_what_the_list_of_its_changes_says(backend: str) -> None:
    machine = type(f"Oracle{backend.title()}", (Oracle,), {"backend": backend})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=_EXAMPLES,
            stateful_step_count=_STEPS,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
