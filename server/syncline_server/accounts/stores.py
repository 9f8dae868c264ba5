"""Stores and their owners: whoever creates a store owns it, and with a store go the grants for it.

A grant is for a name, so what is left of one for a store that is gone must not come to hold for another one that gets
its name: grants are taken back when a store is dropped, and again before one is created.
"""

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
    hub: Hub, accounts: Accounts, store: str, principal: Principal, rights: Rights, address: str
) -> StoreInfo:
    """Create a store for somebody who may, and make him its owner.

    Raises:
        RemoteProtocolError: `name_taken`; `quota_exceeded`, he owns too many.
        StorageError: the storage failed, or the entry in the audit log could not be written.
    """
    async with accounts.creating:
        return await _create(hub, accounts, store, principal, rights, address)


async def _create(
    hub: Hub, accounts: Accounts, store: str, principal: Principal, rights: Rights, address: str
) -> StoreInfo:
    directory = accounts.directory
    taken = RemoteProtocolError(
        "name_taken", f"there is a store {store!r} of somebody else", hint="choose another name"
    )
    if not rights.is_owner and await _is_there(hub, store):
        raise taken
    if not rights.is_owner and _owned_count(directory.registry, principal) >= _STORES_PER_USER_MAX:
        raise RemoteProtocolError("quota_exceeded", f"a user may own {_STORES_PER_USER_MAX} stores", hint="drop one")
    await accounts.note("store.create", principal, store, address)
    if rights.is_owner:
        return (await hub.create(store))[0]
    await directory.remove_store_grants(store)
    info, created = await hub.create(store)
    if not created:
        # Another process was first.
        raise taken
    try:
        await directory.add_grant(
            f"user:{principal.name}", store, "owner", by=principal.name, must_exist=accounts.knows_all
        )
    except (AccountError, StorageError):
        # A store without an owner would keep its name from everybody; only an administrator could give it away.
        await hub.drop(store)
        raise
    return info


async def _is_there(hub: Hub, store: str) -> bool:
    try:
        await hub.storage.info(store)
    except StoreUnknown:
        return False
    return True


def _owned_count(registry: Registry, principal: Principal) -> int:
    return sum(grant.role == "owner" for grant in registry.grants_to(f"user:{principal.name}"))


async def drop_owned(hub: Hub, accounts: Accounts, store: str, principal: Principal, address: str) -> StoreInfo:
    """Drop a store for somebody who may, with the grants for it. Raises StorageError."""
    await hub.storage.info(store)
    await accounts.note("store.drop", principal, store, address, outcome="begun")
    try:
        info = await hub.drop(store)
    except StorageError:
        await accounts.note("store.drop", principal, store, address, outcome="failed")
        raise
    await accounts.directory.remove_store_grants(store)
    await accounts.note("store.drop", principal, store, address)
    return info
