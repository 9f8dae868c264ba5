"""The one place that is asked whether somebody may do something: by WebSocket, HTTP, streams and every op of a batch.

`authorize` answers for a request, `rights` gives what its parts are judged by. Rights are kept until something changes:
`forget` marks all of them stale, so whoever holds some knows by a look that he has to ask again.

A store of which nothing may be seen is answered as one that is not there, and nothing is looked up for it, so neither
the text nor the time of an answer tells which of the two it is.
"""

from collections.abc import Callable
from enum import Enum
from typing import Literal

from syncline_protocol.errors import RemoteProtocolError
from syncline_server.storage.base import StoreUnknown

from .grant import Grant
from .principal import Principal
from .rights import OPEN_RIGHTS, Rights, rights_of

__all__ = ["Action", "Authority"]

#: Rights that are kept; about 500 bytes each. They are thrown away together, as every change does.
_KEPT_MAX = 20_000


class Action(Enum):
    """What somebody wants to do. Those from `READ` on are about a store."""

    ANYTHING = "be answered at all"
    LOG_IN = "act under one's own name"
    LIST = "list the stores that one may see"
    ADMINISTER = "administer the server"
    READ = "read a store"
    WRITE = "write to a store"
    CREATE = "create a store"
    SHARE = "say who may use a store"
    CONFIGURE = "say how a store is kept, and clean it up"
    DROP = "drop a store"


class Authority:
    """Args:
    grants: returns the grants that concern a principal in a store now.
    creators: who may create stores besides administrators and owners of a prefix.
    """

    def __init__(
        self, grants: Callable[[Principal, str], list[Grant]], creators: Literal["users", "admins"] = "users"
    ) -> None:
        self._grants = grants
        self._creators = creators
        self._kept: dict[tuple[Principal, str], Rights] = {}

    def rights(self, principal: Principal, store: str) -> Rights:
        """Return what a principal may do in a store, whether it is there or not."""
        if principal.kind == "open":
            return OPEN_RIGHTS
        kept = self._kept.get((principal, store))
        if kept is None:
            if len(self._kept) >= _KEPT_MAX:
                self.forget()
            # NO_RIGHTS and OPEN_RIGHTS are shared; a copy of its own is what can become stale.
            found = rights_of(principal, store, self._grants(principal, store))
            kept = Rights(found.view, found.by, found.writes, found.quota, found.writes_per_s, found.is_owner)
            self._kept[principal, store] = kept
        return kept

    def forget(self) -> None:
        """Something has changed: all rights that were given out are stale."""
        for rights in self._kept.values():
            rights.is_stale = True
        self._kept.clear()

    def authorize(self, principal: Principal, action: Action, store: str | None = None) -> None:
        """Let a request pass.

        Raises:
            RemoteProtocolError: `unauthenticated` if he has not logged in, `forbidden` if no grant allows it.
            StoreUnknown: there is no store of this name, as far as he may know.
        """
        if action is Action.ANYTHING or action is Action.LIST or principal.kind == "open":
            return
        if action is Action.LOG_IN:
            _require(principal, principal.name is not None)
        elif action is Action.ADMINISTER:
            if not (principal.is_admin and principal.stores is None):
                _require(principal, principal.name is not None)
                raise RemoteProtocolError("forbidden", "this is for administrators")
        else:
            assert store is not None
            self._authorize_in(principal, action, store)

    def _authorize_in(self, principal: Principal, action: Action, store: str) -> None:
        rights = self.rights(principal, store)
        if action is Action.CREATE:
            _require(principal, rights.is_owner or self._may_create(principal))
            return
        if rights.view is None:
            _require(principal, principal.name is not None)
            raise StoreUnknown(store)
        if action is Action.WRITE:
            _require(principal, rights.may_write)
        elif action is Action.SHARE:
            _require(principal, rights.is_owner)
        elif action in (Action.CONFIGURE, Action.DROP):
            # An age in the settings deletes records, as a drop does.
            _require(principal, rights.is_owner and rights.may_write)

    def _may_create(self, principal: Principal) -> bool:
        named = principal.name is not None and {"write", "share"} <= principal.scopes and principal.stores is None
        return named and self._creators == "users"


def _require(principal: Principal, allowed: bool) -> None:
    if allowed:
        return
    if principal.name is None:
        raise RemoteProtocolError("unauthenticated", "this needs a login", hint="log in, or send a token")
    raise RemoteProtocolError("forbidden", "no grant allows this", hint="ask for one whoever owns or administers it")
