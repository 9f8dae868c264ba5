"""A program that ends at a named point in the way of a write or of a change, as if its machine had lost power.

`python -m tests.end_to_end.crashing_program URL STORE FILE POINT` replaces the record `old` by `new` in a replica, and
dies at the point on its way; with the point `none` it makes no write, waits until everything is settled, and prints
what the replica shows. Points of the catch-up let it write nothing either.
"""

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NoReturn

import syncline
from syncline import Add, Delete
from syncline.replica import database
from syncline.replica.database import Database
from syncline.replica.entry import SyncState
from syncline.replica.feed import ReplicaFeed
from syncline.replica.keeper import Keeper
from syncline.replica.local_file import LocalFile
from syncline.replica.step import Apply, SaveEntries, Show, Step
from syncline.wire import Wire

__all__ = ["CATCH_UP_POINTS", "CRASHED", "WRITE_POINTS"]

CRASHED = 77

TIMEOUT_S = 30.0


def die() -> NoReturn:
    """End without a word: no destructor, no buffer, no exit handler."""
    os._exit(CRASHED)


# --- what a transaction is about ---


def saves(*states: SyncState) -> Callable[[Sequence[Step]], bool]:
    """Return whether a transaction saves an entry in one of these states."""
    return lambda steps: any(
        entry.state in states for step in steps if isinstance(step, SaveEntries) for entry in step.entries
    )


def has(kind: type[Step]) -> Callable[[Sequence[Step]], bool]:
    """Return whether a transaction has a step of this kind."""
    return lambda steps: any(isinstance(step, kind) for step in steps)


# --- where to die ---


def before_commit(fits: Callable[[Sequence[Step]], bool]) -> None:
    """Die before a transaction has begun."""
    commit = Database.commit

    async def dying(self: Database, steps: Sequence[Step], place: Any) -> Any:
        if fits(steps):
            die()
        return await commit(self, steps, place)

    Database.commit = dying  # type: ignore[method-assign]


def within_commit(fits: Callable[[Sequence[Step]], bool]) -> None:
    """Die when everything of a transaction is written but its end."""
    module: Any = database
    carry_out = module.carry_out

    def dying(db: Any, steps: Sequence[Step]) -> None:
        carry_out(db, steps)
        if fits(steps):
            die()

    module.carry_out = dying


def after_commit(fits: Callable[[Sequence[Step]], bool]) -> None:
    """Die when a transaction is durable, and nobody knows yet."""
    commit = Database.commit

    async def dying(self: Database, steps: Sequence[Step], place: Any) -> Any:
        tally = await commit(self, steps, place)
        if fits(steps):
            die()
        return tally

    Database.commit = dying  # type: ignore[method-assign]


def before_sending() -> None:
    """Die when a write is published, before the connection gets it."""
    hand_out = Keeper._hand_out

    def dying(self: Keeper) -> None:
        if self.outbox.pending:
            die()
        hand_out(self)

    Keeper._hand_out = dying  # type: ignore[method-assign]


def after_sending() -> None:
    """Die when a write is with the kernel."""
    send_frames = Wire.send_frames

    async def dying(self: Wire, frames: Any) -> None:
        frames = list(frames)
        await send_frames(self, frames)
        if any(b'"WRITE"' in bytes(frame) for frame in frames):
            die()

    Wire.send_frames = dying  # type: ignore[method-assign]


def at_the_ack() -> None:
    """Die when the ack is there, before anybody has looked at it."""

    def dying(self: ReplicaFeed, *answer: Any) -> None:
        die()

    ReplicaFeed.answered = dying  # type: ignore[method-assign, assignment]


def while_writing_back(*, is_over: bool) -> Callable[[], None]:
    """Die when the log is about to be written back into the file, or has been."""

    def install() -> None:
        module: Any = database
        module.WAL_BYTES_MAX = 1
        run: Callable[..., Awaitable[Any]] = LocalFile.run

        async def dying(self: LocalFile, work: Callable[[Any], Any]) -> Any:
            is_checkpoint = "tidy" in work.__qualname__
            if is_checkpoint and not is_over:
                die()
            result = await run(self, work)
            if is_checkpoint:
                die()
            return result

        LocalFile.run = dying  # type: ignore[method-assign]

    return install


#: The ack and the change itself may come together; then there is but one transaction.
_ACK = (SyncState.ACKED, SyncState.SYNCED)

#: Points on the way of a write, and whether it is stored there: then it has one effect, otherwise none.
WRITE_POINTS: dict[str, tuple[Callable[[], None], bool]] = {
    "before-commit": (lambda: before_commit(saves(SyncState.PENDING)), False),
    "within-commit": (lambda: within_commit(saves(SyncState.PENDING)), False),
    "after-commit": (lambda: after_commit(saves(SyncState.PENDING)), True),
    "before-sending": (before_sending, True),
    "after-sending": (after_sending, True),
    "at-the-ack": (at_the_ack, True),
    "before-commit-of-ack": (lambda: before_commit(saves(*_ACK)), True),
    "within-commit-of-ack": (lambda: within_commit(saves(*_ACK)), True),
    "after-commit-of-ack": (lambda: after_commit(saves(*_ACK)), True),
    "before-commit-of-feed": (lambda: before_commit(saves(SyncState.SYNCED)), True),
    "within-commit-of-feed": (lambda: within_commit(saves(SyncState.SYNCED)), True),
    "after-commit-of-feed": (lambda: after_commit(saves(SyncState.SYNCED)), True),
    "before-writing-back": (while_writing_back(is_over=False), True),
    "after-writing-back": (while_writing_back(is_over=True), True),
}

#: Points on the way of changes that somebody else has made.
CATCH_UP_POINTS: dict[str, Callable[[], None]] = {
    "before-commit-of-batch": lambda: before_commit(has(Apply)),
    "within-commit-of-batch": lambda: within_commit(has(Apply)),
    "after-commit-of-batch": lambda: after_commit(has(Apply)),
    "before-commit-of-show": lambda: before_commit(has(Show)),
    "within-commit-of-show": lambda: within_commit(has(Show)),
    "after-commit-of-show": lambda: after_commit(has(Show)),
}


#: Before the name of a point: it makes no write, and dies on the way of one that it made in an earlier life.
_AGAIN = "again-"


async def main(url: str, store: str, path: str, point: str) -> None:
    async with syncline.connect(url, wait=False) as client:
        if point in CATCH_UP_POINTS:
            CATCH_UP_POINTS[point]()
        elif point.startswith(_AGAIN):
            WRITE_POINTS[point.removeprefix(_AGAIN)][0]()
        replica = await client.replica(store, path)
        await replica.wait_caught_up(TIMEOUT_S)
        if point.startswith(_AGAIN):
            await asyncio.sleep(TIMEOUT_S)
        if point in WRITE_POINTS:
            WRITE_POINTS[point][0]()
            await replica.write([Delete("old"), Add("new", {"n": 1})])
            await asyncio.sleep(TIMEOUT_S)
        assert point == "none", f"{point} was not reached"
        await replica.flush(TIMEOUT_S)
        await asyncio.gather(*[write.synced(TIMEOUT_S) for write in replica.pending])
        assert not replica.rejections
        print(json.dumps({record.key: record.value for record in replica}))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
