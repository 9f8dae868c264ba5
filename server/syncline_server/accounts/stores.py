"""Stores and their owners: whoever creates a store owns it, and with a store go the grants for it.

A grant is for a name, so what is left of one for a store that is gone must not come to hold for another one that gets
its name: grants are taken back when a store is dropped. And a name that was granted to somebody in advance, or lies in
a prefix that somebody owns, is not free for others: he would write into their store.
"""

from collections.abc import Callable

from syncline_protocol.errors import RemoteProtocolError
from syncline_server.access.principal import Principal
from syncline_server.access.rights import Rights
from syncline_server.hub import Hub
from syncline_server.storage.base import StorageError, StoreInfo, StoreUnknown

from .accounts import Accounts
from .error import AccountError
from .registry import Registry

__all__ = ["create_owned", "drop_owned"]

#: A program that makes a store for each of something by mistake is stopped here.
_STORES_PER_USER_MAX = 1000


async def create_owned(
    hub: Hub, accounts: Accounts, store: str, principal: Principal, address: str, allowed: Callable[[], Rights]
) -> StoreInfo:
    """Create a store for somebody who may, and make him its owner, also if he could use it without that.

    Args:
        allowed: his rights in the store now. It raises what he is refused with if he may not create it, and is asked
            when it is his turn and again right before the effect, as others may have taken his right away meanwhile.

    Raises:
        RemoteProtocolError: `name_taken`; `quota_exceeded`, he owns too many.
        StorageError: the storage failed, or the entry in the audit log could not be written.
    """
    async with accounts.changing_stores:
        return await _create(hub, accounts, store, principal, address, allowed)


async def _create(
    hub: Hub, accounts: Accounts, store: str, principal: Principal, address: str, allowed: Callable[[], Rights]
) -> StoreInfo:
    directory, rights = accounts.directory, allowed()
    taken = RemoteProtocolError(
        "name_taken", f"there is a store {store!r} of somebody else", hint="choose another name"
    )
    if not rights.is_owner:
        _require_free(directory.registry, store, hub.now_ms(), taken)
        if await _is_there(hub, store):
            raise taken
    if not rights.is_owner and _owned_count(directory.registry, principal) >= _STORES_PER_USER_MAX:
        raise RemoteProtocolError("quota_exceeded", f"a user may own {_STORES_PER_USER_MAX} stores", hint="drop one")
    if rights.is_owner and await _is_there(hub, store):
        # Another request was first; it is his to look at, and nothing about it changes.
        return await hub.storage.info(store)
    await accounts.note("store.create", principal, store, address)
    rights = allowed()
    if not rights.is_owner:
        await directory.remove_store_grants(store)
    info, created = await hub.create(store)
    if not created and not rights.is_owner:
        # Another process was first.
        raise taken
    if not created or principal.name is None:
        return info
    try:
        await directory.add_grant(f"user:{principal.name}", store, "owner", by=principal.name)
    except (AccountError, StorageError):
        # A store without an owner would keep its name from everybody; only an administrator could give it away.
        await hub.drop(store)
        raise
    return info


def _require_free(registry: Registry, store: str, now_ms: int, taken: RemoteProtocolError) -> None:
    """Let a name pass that was granted to nobody, and lies in no prefix that somebody owns.

    Raises RemoteProtocolError: `taken`, or `forbidden`.
    """
    living = [
        grant for grant in registry.grants_covering(store) if grant.expires_ms is None or grant.expires_ms > now_ms
    ]
    if any(grant.store == store for grant in living):
        raise taken
    if any(grant.role == "owner" and grant.store != "*" for grant in living):
        raise RemoteProtocolError("forbidden", "stores whose names begin so are created by who owns the prefix")


async def _is_there(hub: Hub, store: str) -> bool:
    try:
        await hub.storage.info(store)
    except StoreUnknown:
        return False
    return True


def _owned_count(registry: Registry, principal: Principal) -> int:
    # Those that others have given him are not counted, or anybody could use up his room.
    grants = registry.grants_to(f"user:{principal.name}")
    return sum(grant.role == "owner" and grant.by == principal.name for grant in grants)


async def drop_owned(
    hub: Hub, accounts: Accounts, store: str, principal: Principal, address: str, allowed: Callable[[], object]
) -> StoreInfo:
    """Drop a store for somebody who may, with the grants for it.

    Args:
        allowed: raises what he is refused with if he may not do this any more. It is asked right before the effect: the
            name may be that of somebody else's store by then.

    Raises StorageError, and what `allowed` raises.
    """
    async with accounts.changing_stores:
        return await _drop(hub, accounts, store, principal, address, allowed)


async def _drop(
    hub: Hub, accounts: Accounts, store: str, principal: Principal, address: str, allowed: Callable[[], object]
) -> StoreInfo:
    allowed()
    await hub.storage.info(store)
    await accounts.note("store.drop", principal, store, address, outcome="begun")
    try:
        allowed()
        info = await hub.drop(store)
    except (StorageError, RemoteProtocolError):
        await accounts.note("store.drop", principal, store, address, outcome="failed")
        raise
    await accounts.directory.remove_store_grants(store)
    await accounts.note("store.drop", principal, store, address)
    return info
