"""Random histories with readers of every view: what each is sent adds up to what he may see, and nothing else is sent.

Adds and deletes, alone and in transactions, readers who come and go, sockets that take nothing for a while, a tail so
short that catch-ups read the storage, grants that change under all of that, and an index that comes and goes by which
some of them see.
"""

import random
from collections.abc import Sequence

import pytest

from tests.support.engine import settle

from .readers import Library, Reader, Shelf, library

_PREFIXES = ("a/", "a/x/", "b/", "c/")

#: What may be seen: the whole, with authors or not, parts that overlap, one that nothing is in, and nothing.
_SHELVES = (
    Shelf(("",)),
    Shelf(("",), authors=False),
    Shelf(("a/",)),
    Shelf(("a/",), authors=False),
    Shelf(("a/x/", "b/")),
    Shelf(("z/",)),
    Shelf(()),
)
#: Some by what an index finds: instead of keys, beside them, and by it alone.
_INDEXED = (
    Shelf((), rooms=("a",)),
    Shelf(("",)),
    Shelf(("a/x/",), rooms=("b",)),
    Shelf((), authors=False, rooms=("a",)),
    Shelf((), rooms=("b", "c")),
    Shelf((), rooms=("z",)),
    Shelf(("a/",), rooms=("a",)),
)
_READERS = 4

_STEPS = ("add", "add", "delete", "both", "many", "read", "read", "leave", "full", "drain", "time", "allow", "index")


class Life:
    """One run: the readers, and the steps that are carried out."""

    def __init__(self, place: Library, shelves: Sequence[Shelf], *, changing: bool) -> None:
        self.place = place
        self.shelves = shelves
        self.readers = [Reader(place, f"r{n}", shelves[n]) for n in range(_READERS)]
        self.changing = changing
        self.made = 0

    def _new_key(self, number: int) -> str:
        self.made += 1
        return f"{_PREFIXES[number % len(_PREFIXES)]}{self.made}"

    async def step(self, what: str, one: int, other: int) -> None:
        """Carry out a step."""
        reader, alive = self.readers[one % _READERS], sorted(self.place.alive)
        old = [(alive[other % len(alive)], False)] if alive else []
        match what:
            case "add":
                await self.place.write((self._new_key(one), True), by=f"by{other}")
            case "delete" if old:
                await self.place.write(*old)
            case "both":
                await self.place.write((self._new_key(one), True), *old, (self._new_key(other), True))
            case "many":
                await self.place.write(*[(self._new_key(one + n), True) for n in range(30)])
            case "read":
                await reader.subscribe()
                await reader.read()
            case "leave":
                reader.leave()
            case "full" | "drain":
                reader.socket.set_full(what == "full")
                await settle()
            case "time":
                await self.place.pass_time(float(other), self.readers)
            case "allow" if self.changing:
                self.place.allow(reader.name, self.shelves[other])
                await reader.read()
            case "index" if self.changing and self.shelves is _INDEXED:
                await self.place.set_index(not self.place.has_index)
                await reader.read()

    async def end(self) -> None:
        """Let everybody catch up, and compare."""
        for _ in range(2):
            for reader in self.readers:
                await reader.read()
                if reader.socket.full:
                    reader.socket.set_full(False)
                await reader.read()
                await reader.subscribe()
            await self.place.pass_time(6.0, self.readers)
            for reader in self.readers:
                await reader.read()
        for reader in self.readers:
            shelf = self.place.shelf(reader.name)
            if not self.place.has_grant(reader.name):
                assert not reader.open
                continue
            assert reader.caught_up
            head = self.place.log[-1][0] if self.place.log else 0
            assert reader.held == self.place.seen_at(head, shelf)
            assert reader.cursor.partition("~")[0].endswith(f":{head}")


async def live(seed: int, shelves: Sequence[Shelf], *, changing: bool, tail_bytes_max: int) -> None:
    """Carry out steps, and compare in the end."""
    chance = random.Random(seed)
    async with library(tail_bytes_max=tail_bytes_max) as place:
        await place.set_index(True)
        life = Life(place, shelves, changing=changing)
        for _ in range(150):
            await life.step(chance.choice(_STEPS), chance.randrange(6), chance.randrange(7))
        await life.end()


@pytest.mark.parametrize("tail_bytes_max", [300, 1_000_000])
@pytest.mark.parametrize("shelves", [_SHELVES, _INDEXED], ids=["keys", "index"])
@pytest.mark.parametrize("seed", range(6))
async def test_everybody_holds_what_his_view_shows(seed: int, shelves: Sequence[Shelf], tail_bytes_max: int) -> None:
    await live(seed, shelves, changing=False, tail_bytes_max=tail_bytes_max)


@pytest.mark.parametrize("tail_bytes_max", [300, 1_000_000])
@pytest.mark.parametrize("shelves", [_SHELVES, _INDEXED], ids=["keys", "index"])
@pytest.mark.parametrize("seed", range(12))
async def test_everybody_holds_what_he_may_see_now_however_grants_have_changed(
    seed: int, shelves: Sequence[Shelf], tail_bytes_max: int
) -> None:
    await live(seed, shelves, changing=True, tail_bytes_max=tail_bytes_max)
