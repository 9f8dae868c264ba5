"""The demo store: a week of recorded earthquakes, replayed one every second or so, for ever.

Gives `make run` something that moves. The events are real (see data/README.md); a pass over them begins with the
first one again under new keys, and all but the newest are deleted, so the store stays small while its log grows.
"""

import asyncio
from collections import deque
from importlib.resources import files

import msgspec

from syncline_protocol.limits import DEFAULT_LIMITS
from syncline_protocol.transaction import Op, Transaction, make_op

from .hub import Hub
from .storage.base import Outcome, StorageError

__all__ = ["DEMO_STORE", "keep_demo_filling"]

DEMO_STORE = "demo"

_INTERVAL_S = 0.7
_RECORDS_KEPT = 200


class _Line(msgspec.Struct):
    key: str
    value: msgspec.Raw


async def keep_demo_filling(hub: Hub) -> None:
    """Add a recorded event to the store `demo` about every second, until cancelled; also after the storage failed."""
    lines = (files(__package__) / "data" / "earthquakes.ndjson").read_bytes().splitlines()
    run = await _begin(hub)
    live: deque[str] = deque()
    number = 0
    while True:
        event = msgspec.json.decode(lines[number % len(lines)], type=_Line)
        key = f"{event.key}.{run}.{number // len(lines)}"
        ops: list[Op] = [make_op(key, bytes(event.value), DEFAULT_LIMITS)]
        if len(live) >= _RECORDS_KEPT:
            ops.append(make_op(live[0], None, DEFAULT_LIMITS))
        # Each op is decided alone, since somebody may have deleted the old record by hand.
        answer = await hub.write(Transaction(DEMO_STORE, tuple(ops), atomic=False))
        if isinstance(answer, Outcome):
            live.append(key)
            number += 1
            if len(ops) > 1:
                live.popleft()
        await asyncio.sleep(_INTERVAL_S)


async def _begin(hub: Hub) -> int:
    """Create the store, and return a number that tells this run's keys from those of earlier ones."""
    while True:
        try:
            info, _ = await hub.create(DEMO_STORE)
        except StorageError:
            await asyncio.sleep(_INTERVAL_S)
        else:
            return info.head.seq
