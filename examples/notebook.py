"""Cells for a notebook, or a script: earthquakes in a replica, looked at with the plain API.

Run it from top to bottom, or cell by cell: nothing here needs asyncio, and a notebook's own loop is in nobody's way.
"""

# %% A file of one's own: what is written here is there the next time, with or without a server.
import statistics
import sys
from collections import Counter
from dataclasses import dataclass

import syncline
from syncline import sync


@dataclass
class Quake:
    """One earthquake."""

    place: str
    magnitude: float
    felt: int | None = None


client = sync.connect(wait=False)
replica = client.replica("quakes", sys.argv[1] if len(sys.argv) > 1 else "quakes.db")
quakes = replica.collection("quakes", type=Quake)

# %% Some observations. The ids are ours, so a cell that runs twice adds nothing twice.
for number, (place, magnitude) in enumerate([("Tonga", 5.1), ("Chile", 4.4), ("Japan", 6.0), ("Chile", 4.9)]):
    if f"q{number}" not in quakes:
        quakes.create(Quake(place, magnitude), id=f"q{number}")

# %% Looking is local, and takes microseconds.
strong = quakes.find(lambda quake: quake["magnitude"] >= 4.9, order_by="magnitude", reverse=True)
for quake in strong:
    print(f"{quake.value.magnitude:.1f}  {quake.value.place}  ({quake.state.value})")
print("mean", round(statistics.mean(quake.value.magnitude for quake in quakes), 2))
print("most", Counter(quake.value.place for quake in quakes).most_common(1))

# %% A correction, and what a live query shows of it.
with quakes.watch(order_by="place") as views:
    views.next(timeout=5)
    quakes["q2"].set(magnitude=6.2, felt=140)
    print("changed", [quake.value for quake in views.next(timeout=5).changed])

# %% Is it on the server? If there is none, it will be.
try:
    replica.flush(timeout=2)
    print("all of it is on the server")
except syncline.FlushTimeout as error:
    print(f"{error.pending} to be sent the next time")

# %% At the end; whoever forgets it loses nothing.
client.close()
