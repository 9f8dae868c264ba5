"""Clients that edit the same documents, through all that can go wrong, end equal to each other and to the server.

Each seed is a run of its own: three clients, two on files and one in memory, edit rooms and the messages in them, and
are cut off, restarted, and work offline; the server is restarted, and in half of the runs restored from an older log.
What happens follows from the seed, when it happens does not: sockets and disks are real. SYNCLINE_SEEDS=100 makes more.
"""

import asyncio
import os
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import syncline
from syncline import Client, Collection, Replica
from syncline.testing import Server

_ATTRIBUTES = ("title", "color", "size")
_STEPS = 60
_NOWHERE = "http://127.0.0.1:1"

#: Longer than a client may rest between two attempts (30 s) and an edit then waits for what the server lost (30 s).
_QUIET_TIMEOUT_S = 120.0


class Site:
    """A client with its replica, which can be offline, and restarted on its file."""

    def __init__(self, server: Server, name: str, path: Path | None) -> None:
        self.name = name
        self._server = server
        self._path = path
        self.client: Client
        self.replica: Replica

    async def open(self, *, online: bool) -> None:
        """Open it; offline it works all the same."""
        self.is_online = online
        self.client = syncline.connect(self._server.url if online else _NOWHERE, wait=False)
        await self.client.__aenter__()
        self.replica = await self.client.replica("app", self._path)

    async def restart(self, *, online: bool) -> None:
        """Close it and open it again; one in memory would forget, so it stays."""
        if self._path is not None:
            await self.client.aclose()
            await self.open(online=online)

    @property
    def rooms(self) -> Collection[Any]:
        return self.replica.collection("rooms")

    async def edit(self, chance: random.Random) -> None:
        """Do something to a room or a message."""
        value = f"{self.name}{chance.randrange(1000)}"
        rooms = list(self.rooms)
        roll = chance.random()
        if roll < 0.15 or not rooms:
            await self.rooms.create(title=value)
        elif roll < 0.25:
            await self.rooms.create(id=f"fixed{chance.randrange(3)}", **{chance.choice(_ATTRIBUTES): value})
        elif roll < 0.65:
            await chance.choice(rooms).set({chance.choice(_ATTRIBUTES): value})
        elif roll < 0.70:
            await chance.choice(rooms).unset(chance.choice(_ATTRIBUTES))
        elif roll < 0.85:
            await chance.choice(rooms).collection("messages").create(text=value)
        elif roll < 0.93:
            for message in chance.sample(list(chance.choice(rooms).collection("messages")), k=1) or ():
                await message.set(text=value)
        else:
            await chance.choice(rooms).delete()

    def documents(self) -> dict[str, Any]:
        """Return everything that its collections show."""
        return {
            room.path: (room.attributes, {each.path: each.attributes for each in room.collection("messages")})
            for room in self.rooms
        }


async def happen(sites: list[Site], server: Server, chance: random.Random, *, restores: bool) -> Counter[str]:
    """Let the things of one run happen. Returns how often each did."""
    happened: Counter[str] = Counter()
    backup = server.backup()
    for _ in range(_STEPS):
        site = chance.choice(sites)
        (what,) = chance.choices(
            ("edit", "wait", "site restarts", "cut", "server restarts", "backup", "restore"), (72, 8, 8, 4, 3, 2, 3)
        )
        happened[what] += 1
        match what:
            case "edit":
                try:
                    await site.edit(chance)
                except (syncline.DocumentError, ValueError):
                    # There is one of this id already, or nothing to choose from.
                    happened["refused edit"] += 1
            case "wait":
                for _ in range(chance.randrange(200)):
                    await asyncio.sleep(0)
            case "site restarts":
                await site.restart(online=chance.random() < 0.6)
            case "cut":
                server.cut()
            case "server restarts":
                server.restart()
            case "backup":
                backup = server.backup()
            case "restore" if restores:
                server.stop()
                server.restore(backup)
                if not server.running:
                    server.start()
    return happened


async def settle(sites: list[Site], reader: Client) -> None:
    """Return when nothing is pending and all have come up to the head, for a while."""
    deadline = asyncio.get_running_loop().time() + _QUIET_TIMEOUT_S
    quiet = 0
    while quiet < 3:
        info = await reader.stores.info("app")
        states = [site.replica.status for site in sites]
        is_quiet = all(s.pending == 0 and s.is_caught_up and s.cursor == info.head for s in states)
        quiet = quiet + 1 if is_quiet else 0
        if asyncio.get_running_loop().time() > deadline:
            pending = [(write, write.refusal) for site in sites for write in site.replica.pending]
            raise AssertionError(f"not quiet: {states}, the head is {info.head}, pending are {pending}")


@pytest.mark.parametrize("seed", range(int(os.environ.get("SYNCLINE_SEEDS", "12"))))
async def test_whatever_happens_all_end_equal(seed: int, tmp_path: Path) -> None:
    chance = random.Random(seed)
    restores = seed % 2 == 0
    async with Server(tmp_path / "server.db", stores=["app"]) as server:
        sites = [Site(server, name, tmp_path / f"{name}.db" if name != "c" else None) for name in "abc"]
        for site in sites:
            await site.open(online=True)
        happened = await happen(sites, server, chance, restores=restores)
        assert happened["edit"] > _STEPS // 3
        for site in sites:
            if not site.is_online:
                await site.restart(online=True)
        async with syncline.connect(server.url) as reader:
            await settle(sites, reader)
            truth = {record.key: (record.seq, record.text) async for record in reader.records("app")}
        for site in sites:
            assert {record.key: (record.seq, record.text) for record in site.replica} == truth, (seed, site.name)
            assert site.documents() == sites[0].documents(), (seed, site.name)
        if not restores:
            # What builds on something that the server lost may be refused in the end, and may leave remains.
            assert not [write.refusal for site in sites for write in site.replica.rejections], seed
            shown = {path for room, (_, messages) in sites[0].documents().items() for path in (room, *messages)}
            assert {":".join(key.split(":")[:2]) for key in truth} <= shown, seed
        for site in sites:
            await site.client.aclose()
