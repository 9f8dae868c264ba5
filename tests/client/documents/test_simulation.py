"""Documents through everything: random lives of several programs and a server that fails; at the end all is equal.

SYNCLINE_SEEDS=500 makes so many lives of each kind. A failure names its seed, which repeats it, but for lives with
files, where the disk has a pace of its own.
"""

import os
from pathlib import Path

import pytest

from tests.client.documents.simulation import Options, Simulation

_SEEDS = int(os.environ.get("SYNCLINE_SEEDS", "0"))


def _seeds(count: int) -> range:
    return range(_SEEDS or count)


@pytest.mark.parametrize("seed", _seeds(8))
async def test_programs_that_crash_and_a_server_that_restarts_lose_nothing(seed: int) -> None:
    await Simulation(seed, Options()).run()


@pytest.mark.parametrize("seed", _seeds(6))
async def test_what_nobody_deletes_is_kept_to_the_last_attribute(seed: int) -> None:
    await Simulation(seed, Options(deletes=False)).run()


@pytest.mark.parametrize("seed", _seeds(10))
async def test_a_server_that_is_set_back_gets_everything_again(seed: int) -> None:
    await Simulation(seed, Options(restores=True)).run()


@pytest.mark.parametrize("seed", _seeds(3))
async def test_some_of_the_programs_have_files(seed: int, tmp_path: Path) -> None:
    await Simulation(seed, Options(restores=seed % 2 == 1, steps=80), tmp_path).run()


async def test_every_kind_of_event_happens_and_every_rule_is_met() -> None:
    """A simulation that finds nothing may be one in which nothing happens."""
    happened: set[str] = set()
    reported: set[str] = set()
    for seed in range(5):
        life = Simulation(seed, Options(restores=True))
        await life.run()
        happened |= {name for name, count in life.happened.items() if count}
        reported |= {type(report).__name__ for station in life.stations for report in station.reports}
    assert happened >= {"create", "create below", "set", "tag", "own", "unset", "delete", "cut", "deaf", "crash"}
    assert happened >= {"close", "restart", "backup", "restore", "change of what was kept"}
    assert reported >= {"EditDropped", "EditMerged", "EditOverwrote", "Returned", "RewoundTo"}
