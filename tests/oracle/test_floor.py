"""Clean-up, DELETEs and readers around the floor, in thousands of orders, each compared with the model.

A store of a few records is old enough that its tombstones may go. Readers stand at the start, right below, at and right
above the positions at which the floor will be; then all of it happens in a random order. A reader who skips a change or
keeps what was deleted differs from the model at the end. `SYNCLINE_INTERLEAVINGS` sets how many orders are tried.
"""

import asyncio
import os
import random
from collections import Counter
from pathlib import Path

import pytest

from .life import Life
from .places import PLACES

_INTERLEAVINGS = int(os.environ.get("SYNCLINE_INTERLEAVINGS", "1000"))
_STEPS = 14


async def _interleave(backend: str, seed: int, folder: Path) -> Counter[str]:
    """Carry out one order of steps. Returns how often readers were answered how."""
    dice = random.Random(seed)
    life = Life(backend, folder, tail_bytes_max=dice.choice([0, 300, 100_000]), filters=(None, {"key_prefix": "a"}))
    await life.begin()
    for number in range(dice.randrange(3, 9)):
        await life.write([(f"{dice.choice('ab')}{number}", str(number))], single=True)
    for step in range(_STEPS):
        which = dice.randrange(len(life.readers))
        store = life.store()
        assert store is not None
        match dice.choice(["delete", "delete", "add", "both", "compact", "compact", "read", "read", "leave", "full"]):
            case "delete" if living := sorted(store.living()):
                await life.write([(dice.choice(living), None)], single=True)
            case "add":
                await life.write([(f"{dice.choice('ab')}-{step}", "1")], single=True)
            case "both" if living := sorted(store.living()):
                await life.write([(dice.choice(living), None), (f"{dice.choice('ab')}+{step}", "2")], single=False)
            case "compact":
                near = store.head + dice.randrange(-3, 1)
                await life.compact(max(0, near), max(0, near - dice.randrange(2)))
            case "read":
                await life.read(which)
            case "leave":
                await life.leave(which)
            case "full":
                await life.stuff(which, full=dice.random() < 0.5)
    await life.end()
    return Counter(how for reader in life.readers for how in reader.how)


@pytest.mark.parametrize("backend", sorted(PLACES))
def test_nobody_skips_or_resurrects_anything_around_the_floor(backend: str, tmp_path: Path) -> None:
    async def interleave_all() -> Counter[str]:
        seen: Counter[str] = Counter()
        for number in range(_INTERLEAVINGS if backend == "memory" else _INTERLEAVINGS // 10):
            folder = tmp_path / str(number)
            folder.mkdir()
            try:
                seen += await _interleave(backend, number, folder)
            except BaseException:
                print(f"the order of seed {number} on {backend} fails")
                raise
        return seen

    seen = asyncio.run(interleave_all())
    assert seen["resume"] > 0
    assert seen["reconcile"] > 0, "no reader was ever below the floor"
