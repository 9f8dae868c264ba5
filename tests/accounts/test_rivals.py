"""Two processes that change the same accounts at random: whatever happens, some things hold.

There is always an administrator, both processes know the same in the end, and neither ever allows what the other has
taken away and it has seen. Each run is made from its seed; a failure prints it.
"""

import asyncio
import random

import pytest

from syncline_protocol.transaction import Transaction
from syncline_server.accounts.error import AccountError
from syncline_server.accounts.plans.users import UserChange
from syncline_server.committer import Answer
from syncline_server.storage.memory import MemoryStorage

from .office import Office, Process

NAMES = ["ada", "bob", "cleo", "dora"]
STEPS = 40

#: What may come of a change here. Anything else is a mistake.
_REFUSALS = {"account_unknown", "name_taken", "forbidden", "invitation_invalid", "login_failed", "overloaded"}


class Rival(Process):
    """A process that others get ahead of: between a decision and its write there are some turns of the loop."""

    def __init__(self, office: Office, chance: random.Random) -> None:
        super().__init__(office)
        self.chance = chance
        self.lost = 0

    async def write(self, transaction: Transaction) -> Answer:
        for _ in range(self.chance.randrange(4)):
            await asyncio.sleep(0)
        answer = await super().write(transaction)
        self.lost += getattr(answer, "status", "") == "refused"
        assert self._has_admin(), "somebody can always see to things"
        return answer

    def _has_admin(self) -> bool:
        return self.directory.registry.has_admin or self.directory.is_behind


async def act(process: Rival, codes: list[str]) -> None:
    """Change something at random."""
    chance, directory = process.chance, process.directory
    name, other = chance.choice(NAMES), chance.choice(NAMES)
    change = UserChange(is_admin=chance.random() < 0.5, is_disabled=chance.random() < 0.3)
    match chance.randrange(10):
        case 0 | 1:
            await directory.add_user(f"{name}{chance.randrange(3)}" if chance.random() < 0.5 else name)
        case 2 | 3 | 4:
            await directory.change_user(name, change)
        case 5:
            await directory.delete_user(name)
        case 6:
            await directory.put_group("staff", [name, other])
        case 7:
            await directory.add_token(name, "x", kind="session")
        case 8:
            await directory.add_grant(f"user:{name}", "notes", "reader", by=None)
        case _:
            await directory.accept_invitation(chance.choice(codes), name)


async def live(process: Rival, codes: list[str]) -> None:
    """Change one thing after another."""
    for _ in range(STEPS):
        try:
            await act(process, codes)
        except AccountError as error:
            if error.code not in _REFUSALS:
                raise
        if process.chance.random() < 0.2:
            await process.directory.catch_up()


async def check(office: Office, processes: list[Rival]) -> None:
    """Compare what they know with each other and with what the log says from its start."""
    for process in processes:
        await process.directory.catch_up()
    processes.append(Rival(office, random.Random(0)))
    await processes[-1].directory.open()
    known = [process.directory.registry._entries for process in processes]
    assert known[0] == known[1] == known[2]
    registry = processes[0].directory.registry
    assert registry.has_admin
    for invitation in registry.invitations.values():
        assert invitation.uses <= (invitation.uses_max or 0)
    office.now_ms += 1
    await processes[0].directory.remove_expired()
    registry = processes[0].directory.registry
    assert all(token.user in registry.users for token in registry.tokens.values())


async def run(seed: int) -> int:
    """Let two processes live, each with two requests at a time. Returns how often one was in the other's way."""
    chance = random.Random(seed)
    storage = MemoryStorage()
    await storage.open()
    office = Office(storage)
    processes = [Rival(office, random.Random(chance.random())) for _ in range(2)]
    first = processes[0].directory
    await first.open()
    await first.add_first_admin("ada", "h")
    for name in NAMES[1:]:
        await first.add_user(name)
    codes = [(await first.add_invitation("notes", "reader", by=None, uses_max=3))[1] for _ in range(3)]
    await processes[1].directory.open()
    await asyncio.gather(*(live(process, codes) for process in processes for _ in range(2)))
    await check(office, processes)
    return sum(process.lost for process in processes)


@pytest.mark.parametrize("batch", range(5))
async def test_whatever_two_processes_do_at_once_leaves_sound_accounts(batch: int) -> None:
    lost = 0
    for seed in range(batch * 10, batch * 10 + 10):
        print("seed", seed)
        lost += await run(seed)
    assert lost, "nobody was ever in anybody's way"
