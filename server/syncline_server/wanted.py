"""What a reader asks for, as the view that he gets: what his rights show, narrowed by his filter.

Filters and grants name indexes, the log knows them by uid; this is where the one becomes the other, with a fresh look
at the indexes of the store. The same for subscriptions and for HTTP.
"""

from syncline_protocol.filter import Filter, check_filter

from .access.view import View
from .storage.base import IndexBuilding, Storage
from .storage.selection import Condition, Selector

__all__ = ["narrowed", "needs_indexes", "shows_record", "view_of"]


async def view_of(storage: Storage, store: str, granted: View, wanted: Filter | None) -> View:
    """Return what somebody sees of a store.

    Args:
        granted: what his rights show.
        wanted: his filter, if he has one.

    Raises:
        RemoteProtocolError: `filter_invalid`.
        StorageError: the store or the index is not there, or the index is not complete yet.
    """
    if not needs_indexes(granted, wanted):
        return narrowed(granted, wanted)
    info = await storage.info(store)
    granted = granted.resolved(info.indexes)
    if wanted is None or wanted.index is None:
        return narrowed(granted, wanted)
    index = info.index(wanted.index)
    check_filter(wanted, index.spec.kind)
    if index.state != "ready":
        raise IndexBuilding(store, wanted.index, index.done, info.head.seq)
    return granted.narrowed(Selector(wanted.key_prefix, (Condition(index.uid, wanted.term_range()),)))


def needs_indexes(granted: View, wanted: Filter | None) -> bool:
    """Return whether the indexes of the store have to be looked at."""
    return bool(granted.wheres) or (wanted is not None and wanted.index is not None)


def narrowed(granted: View, wanted: Filter | None) -> View:
    """Return a view, narrowed by a filter that names no index."""
    return granted if wanted is None else granted.narrowed(Selector(wanted.key_prefix))


async def shows_record(storage: Storage, store: str, granted: View, change: bytes) -> bool:
    """Return whether rights show the record that this ADD adds. Raises StorageError."""
    if not granted.wheres:
        return granted.shows_record(change, ())
    indexes = (await storage.info(store)).indexes
    return granted.resolved(indexes).shows_record(change, indexes)
