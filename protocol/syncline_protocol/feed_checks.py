"""What a client checks of changes and listings before it believes them (PROTOCOL 5). Pure.

Each check raises RemoteProtocolError `bad_message`, after which the connection is closed: a server that says such a
thing may say anything.
"""

import msgspec

from .cursor import Cursor, Seq, parse_cursor
from .errors import RemoteProtocolError
from .limits import SEQ_MAX
from .messages import Change, Live
from .seq_set import last_named

__all__ = ["check_changes", "check_listing", "check_records"]

_NONE, _LAST = Seq(0), Seq(SEQ_MAX)


def check_changes(changes: tuple[Change, ...], after: Seq = _NONE, upto: Seq = _LAST) -> None:
    """Check the changes of (after, upto]: they ascend, and each has a value or has none as it should."""
    if changes and changes[-1].seq > upto:
        raise RemoteProtocolError("bad_message", f"the change {changes[-1].seq} is not in a batch up to {upto}")
    before = after
    for change in changes:
        if change.seq <= before:
            raise RemoteProtocolError("bad_message", f"the change {change.seq} comes after {before}")
        if (change.op == "ADD") != isinstance(change.value, msgspec.Raw):
            raise RemoteProtocolError("bad_message", f"the change {change.seq}: an ADD, and no DELETE, has a value")
        before = change.seq


def check_listing(message: Live, listed_upto: Seq, at: Cursor) -> Seq:
    """Check the next part of what lives at a position, and return the last seq that it names."""
    if message.upto != at:
        raise RemoteProtocolError("bad_message", f"LIVE: what lives at {message.upto}, not at {at}")
    last = last_named(message.seqs, listed_upto)
    if last > max(parse_cursor(at).seq, listed_upto):
        raise RemoteProtocolError("bad_message", f"LIVE: it names {last}, which is above {at}")
    return last


def check_records(name: str, changes: tuple[Change, ...]) -> None:
    """Check that a frame brings records, and nothing else."""
    if any(change.op != "ADD" or not isinstance(change.value, msgspec.Raw) for change in changes):
        raise RemoteProtocolError("bad_message", f"{name}: it brings records, and nothing else")
