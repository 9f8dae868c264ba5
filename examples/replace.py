"""Counts up together with others, losing no step: python replace.py STORE TIMES."""

import asyncio
import sys
import uuid

import syncline


async def count_up(client: syncline.Client, store: str) -> int:
    """Replace the one live record by its successor; begin again if somebody else was first."""
    while True:
        async with client.records(store) as records:
            old = await anext(records)
        assert isinstance(old.value, int)
        # The new key is random: two writers that sent the very same ops would both be told that they did it.
        new = syncline.Add(str(uuid.uuid4()), old.value + 1)
        try:
            await client.write(store, [syncline.Delete(old.key), new])
        except syncline.WriteRefused as refused:
            if refused.result.ops[0].status != "gone":
                raise
        else:
            return old.value + 1


async def main(store: str, times: int) -> None:
    """Count up so many times."""
    async with syncline.connect() as client:
        await client.stores.create(store)
        # Whoever comes first adds this record; for all others it is there, or was there, already.
        await client.add(store, 0, key="zero")
        for _ in range(times):
            print(await count_up(client, store))


asyncio.run(main(sys.argv[1], int(sys.argv[2])))
