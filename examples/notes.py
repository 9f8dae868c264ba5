"""Notes that can be read and written without a server, as objects of a type of your own.

    python notes.py FILE add "Title" "Text"     python notes.py FILE edit ID "Other text"
    python notes.py FILE list                   python notes.py FILE tag ID TAG

What is written is in the file at once. When the server can be reached it gets it, and what others wrote comes.
"""

import asyncio
import contextlib
import sys
from dataclasses import dataclass, field

import syncline


@dataclass
class Note:
    """One note."""

    title: str
    text: str = ""
    tags: list[str] = field(default_factory=list)


def both_tags(base: object, ours: object, theirs: object) -> list[str]:
    """When two have tagged a note meanwhile, it keeps the tags of both."""
    assert isinstance(ours, list)
    assert isinstance(theirs, list)
    return sorted({*ours, *theirs})


def show(note: syncline.Document[Note]) -> None:
    """Print a note, and whether the server has it."""
    value = note.value
    print(f"{note.id}  {value.title}: {value.text} {value.tags}  ({note.state.value})")


async def main(path: str, verb: str, *rest: str) -> None:
    """Do one thing."""
    async with syncline.connect(wait=False) as client, await client.replica("notes", path) as replica:
        notes = replica.collection("notes", type=Note, on_conflict={"tags": both_tags})
        with contextlib.suppress(TimeoutError):  # without a server it goes on with what is here
            await replica.wait_caught_up(timeout=2)
        if verb == "add":
            await notes.create(Note(rest[0], rest[1]))
        elif verb == "edit":
            await notes[rest[0]].set(text=rest[1])
        elif verb == "tag":
            note = notes[rest[0]]
            await note.set(tags=[*note.value.tags, rest[1]])
        with contextlib.suppress(syncline.FlushTimeout):  # what is left is sent the next time
            await replica.flush(timeout=2)
        for note in notes.find(order_by="title"):
            show(note)
        if replica.status.pending:
            print(f"{replica.status.pending} to be sent: {replica.status.reason}")


asyncio.run(main(*sys.argv[1:]))
