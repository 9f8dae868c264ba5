"""Positions as requests name them: a cursor, a seq in digits, a time of RFC 3339, `start` or `now`.

Every one becomes the seq at which a transaction ends, so that what is shown is what somebody could have seen; whether
that much of the past is still there is asked of the floors, under a pin.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime

from syncline_protocol.cursor import NOW, START, Resume, Seq, decide_resume, parse_cursor
from syncline_server.hub import Hub
from syncline_server.storage.base import HistoryGone, Storage, StoreInfo

from .problem import Refusal

__all__ = ["past", "position_of"]

_DIGITS_MAX = 16

#: What stands where the time begins in a text of RFC 3339.
_TIME_AT = 10


async def position_of(storage: Storage, info: StoreInfo, text: str, name: str = "at") -> Seq:
    """Return the position that a parameter means.

    Args:
        info: the store, freshly read.
        name: that of the parameter.

    Raises:
        Refusal: `cursor_invalid`, it is none of these; `cursor_lost`, the log does not have it.
    """
    if text == START:
        return Seq(0)
    if text == NOW:
        return info.head.seq
    if text.isascii() and text.isdigit():
        return await _end_of(storage, info, text, name)
    if text[4:5] == "-" and text[_TIME_AT : _TIME_AT + 1] in ("T", "t", " "):
        return await storage.position_at(info.name, _milliseconds(text, name))
    position = parse_cursor(text)
    found = decide_resume(info.head.lineage, info.head.seq, position, None, position.view)
    if not isinstance(found, Resume):
        raise _lost(info, name)
    return found.at


async def _end_of(storage: Storage, info: StoreInfo, digits: str, name: str) -> Seq:
    """Return the end of the transaction that a seq is part of."""
    if len(digits) > _DIGITS_MAX or int(digits) > info.head.seq:
        raise _lost(info, name)
    at = Seq(int(digits))
    if at == 0:
        return at
    # Above the history floor every row is there that lived at its own seq, which each does.
    rows = (await storage.read(info.name, Seq(at - 1), at)).rows
    return rows[-1].last_seq if rows else at


def _milliseconds(text: str, name: str) -> int:
    try:
        # A plus that was not escaped in a URL comes as a blank.
        moment = datetime.fromisoformat(text[: _TIME_AT + 1] + text[_TIME_AT + 1 :].replace(" ", "+"))
    except ValueError as error:
        raise Refusal("cursor_invalid", f"{name} is neither a cursor nor a seq nor a time of RFC 3339") from error
    if moment.tzinfo is None:
        raise Refusal("cursor_invalid", f"{name} is a time without an offset", hint="put a Z behind it for UTC")
    return round(moment.timestamp() * 1000)


def _lost(info: StoreInfo, name: str) -> Refusal:
    return Refusal(
        "cursor_lost",
        f"{name} is not in the history of this store, which ends at seq {info.head.seq}",
        hint="name a position that the store has, or leave it out",
        how="snapshot",
        at=info.head.lineage.cursor(Seq(0)),
        lineage=info.head.lineage.to_text(),
    )


@asynccontextmanager
async def past(hub: Hub, store: str, *, held: Seq, whole: Seq, known: Seq | None = None) -> AsyncIterator[StoreInfo]:
    """Hold what a walk needs of the past while it goes on. What is entered is the store, freshly read.

    Args:
        held: the lowest position that is read of; nothing is cleaned up above it.
        whole: the position whose records have to be all there.
        known: the position above which every DELETE has to be there, if they are asked for.

    Raises:
        HistoryGone: clean-up was faster.
    """
    async with hub.pins.hold(store, held):
        info = await hub.storage.info(store)
        floors = info.floors
        if whole < floors.history:
            raise HistoryGone(store, whole, floors.history)
        if known is not None and known < floors.tombstones:
            raise HistoryGone(store, known, floors.tombstones)
        yield info
