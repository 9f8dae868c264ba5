"""`syncline outbox`: what a replica's file holds that the server may not have.

Needs no server and changes nothing. A line is one write; its ops are as a WRITE has them, each value with its own text.
"""

import sys

import click
import msgspec

from syncline.replica.entry import EntryOp, SyncState
from syncline.replica.salvage import Found, Salvage, salvage

from .frame import REFUSED, Stop, notice, run

__all__ = ["outbox"]


@click.command()
@click.argument("path", type=click.Path(exists=True, dir_okay=False))
@click.option(
    "--all", "with_synced", is_flag=True, help="Also those that the server has and that are kept for a while."
)
def outbox(path: str, with_synced: bool) -> None:
    """Print the writes in the file of a replica that the server may not have, one per line, as JSON.

    Reads only, also while a program has the file open, and also from a damaged file as far as that is possible.
    """
    run(_outbox(path, with_synced))


async def _outbox(path: str, with_synced: bool) -> None:
    result = salvage(path)
    shown = [found for _, found in sorted(result.found.items()) if with_synced or found.entry.state is not _SYNCED]
    for found in shown:
        sys.stdout.buffer.write(_line_of(found) + b"\n")
    sys.stdout.buffer.flush()
    notice(f"{path}: {_summary_of(result, with_synced)}")
    for fault in result.faults:
        notice(f"{path}: {fault}")
    if any(found.is_loose for found in shown):
        notice(f"{path}: what is loose was found apart from the rest, and may be out of date")
    if result.faults:
        raise Stop(REFUSED, f"{path}: the file is damaged; keep it, and what was printed, until you have what you need")


_SYNCED = SyncState.SYNCED


def _summary_of(result: Salvage, with_synced: bool) -> str:
    counts = dict.fromkeys(SyncState, 0)
    for found in result.found.values():
        counts[found.entry.state] += 1
    texts = [f"{counts[state]} {state.value}" for state in SyncState if state is not _SYNCED]
    if counts[_SYNCED]:
        texts.append(f"{counts[_SYNCED]} synced" + ("" if with_synced else " (--all prints them too)"))
    whose = f" of the replica of {result.identity.store}" if result.identity is not None else ""
    return f"the outbox{whose} has {', '.join(texts)}"


def _line_of(found: Found) -> bytes:
    entry = found.entry
    line: dict[str, object] = {"id": entry.id, "state": entry.state.value, "made_ms": entry.made_ms}
    if not entry.atomic:
        line["atomic"] = False
    line["ops"] = [_op_of(op) for op in entry.ops]
    if entry.at is not None:
        line["at"] = entry.at
    if entry.refusal is not None:
        line["refusal"] = entry.refusal
    if found.is_loose:
        line["loose"] = True
    return msgspec.json.encode(line)


def _op_of(op: EntryOp) -> dict[str, object]:
    if op.text is None:
        return {"op": "DELETE", "key": op.key}
    if _is_json(op.text):
        return {"op": "ADD", "key": op.key, "value": msgspec.Raw(op.text.encode())}
    return {"op": "ADD", "key": op.key, "damaged_text": op.text}


def _is_json(text: str) -> bool:
    try:
        msgspec.json.decode(text)
    except msgspec.MsgspecError:
        return False
    return "\n" not in text
