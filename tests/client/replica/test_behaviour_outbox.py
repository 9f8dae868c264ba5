"""`protocol/behaviour/outbox.yaml` against a replica on paper: one test for each cell, each state with each event."""

from itertools import product
from typing import Any

import pytest

from syncline.replica.entry import SyncState
from tests.client.replica.paper import Paper
from tests.client.replica.steps import Run, read
from tests.client.replica.test_behaviour_feed import Cell, cells_of

TABLE = read("outbox.yaml")
CELLS = cells_of(TABLE)

#: The words of the table that are kinds of PENDING.
_PENDING = {"free", "blocked", "under_way", "resent", "held", "waiting", "doubtful", "overtaken"}


class Subject:
    """The write under test, in one state."""

    def __init__(self, run: Run, cell: Cell) -> None:
        state, event = TABLE["states"][cell.state], TABLE["events"][cell.event]
        self.run = run
        self.number: int = state.get("subject", 1)
        self._state, self._event = state, event
        self._name = cell.state
        edited = state.get("edited", False) or event.get("edited", False)
        run.variables.update({"w": self.number, "edited": edited})

    async def bring_to_its_state(self) -> None:
        """Do the steps that lead there."""
        await self.run.steps(TABLE["world"])
        await self.run.steps(self._state["steps"])
        assert self.state == self._state.get("is", self._name)
        self.check_looks(self._state["looks"])

    async def meet_the_event(self) -> None:
        """Do the steps of the event."""
        self.run.variables["held"] = [[row.key, row.seq] for row in self.run.paper.database.page(0, 10)]  # type: ignore[arg-type]
        await self.run.steps(self._event["steps"])

    @property
    def state(self) -> str:
        return self.run.state_of(self.number)

    def check_looks(self, looks: str) -> None:
        """Check that the records are shown through it, or without it."""
        entry_shows = self.run.paper.keeper.outbox.shadow("v2")
        assert (entry_shows is not None) == (looks == "ours")
        if looks == "ours":
            shown = self.run.paper.shown()
            assert shown["v2"] == 2
            assert "v1" not in shown


@pytest.mark.parametrize("cell", [cell for cell in CELLS if "never" not in cell.wanted], ids=str)
async def test_an_event_leads_a_write_to_the_state_that_the_table_says(cell: Cell) -> None:
    paper = await Paper.open()
    subject = Subject(Run(paper), cell)
    await subject.bring_to_its_state()
    before = subject.state
    await subject.meet_the_event()
    assert subject.state == (before if cell.wanted == "same" else cell.wanted)
    if subject.state in TABLE["states"]:
        subject.check_looks(TABLE["states"][subject.state]["looks"])
    await paper.close()


def test_every_cell_of_states_and_events_is_there_once() -> None:
    assert sorted((cell.state, cell.event) for cell in CELLS) == sorted(product(TABLE["states"], TABLE["events"]))


def test_the_table_knows_every_state_of_a_write() -> None:
    assert {state.value for state in SyncState} - {"pending"} == set(TABLE["states"]) - _PENDING
    reached: set[Any] = {cell.wanted for cell in CELLS if isinstance(cell.wanted, str)} - {"same", "gone"}
    assert reached == set(TABLE["states"]) - {"blocked", "resent"}
