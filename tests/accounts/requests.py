"""A request for every operation, with its variants, for the matrix of who may ask for what.

The name of a row is that of the operation, and after a blank what is special about the request. `{…}` in a path is
filled in with what the town has of this name, `{self}` with the token of who asks.
"""

from dataclasses import dataclass, field
from typing import Any

from .people import PASSWORD

__all__ = ["REQUESTS", "Asked"]

_GRANT = {"to": "user:other", "store": "notes", "role": "reader"}
_INVITATION = {"store": "notes", "role": "reader"}
_ADD, _DELETE = {"op": "ADD", "key": "v/9", "value": 1}, {"op": "DELETE", "key": "a/1"}


@dataclass(frozen=True, slots=True)
class Asked:
    """A request. Its method is that of the operation."""

    path: str
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)


def _accepting(media_type: str, path: str) -> Asked:
    return Asked(path, headers={"Accept": media_type})


_OF_THE_SERVER = {
    "getServer": Asked("/v1/server"),
    "isLive": Asked("/health/live"),
    "isReady": Asked("/health/ready"),
    "getMetrics": Asked("/metrics"),
    "getOpenApi": Asked("/v1/openapi.json"),
    "getAsyncApi": Asked("/v1/asyncapi.json"),
}

_OF_STORES = {
    "listStores": Asked("/v1/stores"),
    "createStore": Asked("/v1/stores/fresh"),
    "createStore there": Asked("/v1/stores/notes"),
    "createStore hidden": Asked("/v1/stores/hidden"),
    "createStore system": Asked("/v1/stores/_accounts"),
    "getStore": Asked("/v1/stores/notes"),
    "getStore hidden": Asked("/v1/stores/hidden"),
    "getStore public": Asked("/v1/stores/public"),
    "getStore system": Asked("/v1/stores/_accounts"),
    "getStoreSettings": Asked("/v1/stores/notes/settings"),
    "getStoreSettings hidden": Asked("/v1/stores/hidden/settings"),
    "putStoreSettings": Asked("/v1/stores/notes/settings", {"description": "ours"}),
    "putStoreSettings hidden": Asked("/v1/stores/hidden/settings", {"retention_s": 1}),
    "putStoreSettings public": Asked("/v1/stores/public/settings", {"retention_s": 1}),
    "putStoreSettings system": Asked("/v1/stores/_audit/settings", {"retention_s": 1}),
    "getStoreStats": Asked("/v1/stores/notes/stats"),
    "getStoreStats hidden": Asked("/v1/stores/hidden/stats"),
    "getStoreStats public": Asked("/v1/stores/public/stats"),
    "compactStore": Asked("/v1/stores/notes/compact"),
    "compactStore dry": Asked("/v1/stores/notes/compact?dry_run=1"),
    "compactStore hidden": Asked("/v1/stores/hidden/compact"),
    "compactStore public": Asked("/v1/stores/public/compact"),
    "compactStore system": Asked("/v1/stores/_audit/compact"),
    "dropStore": Asked("/v1/stores/notes"),
    "dropStore hidden": Asked("/v1/stores/hidden"),
    "dropStore public": Asked("/v1/stores/public"),
    "dropStore system": Asked("/v1/stores/_audit"),
}

_OF_RECORDS = {
    "addRecord": Asked("/v1/stores/notes/records", 1),
    "addRecord k/9": Asked("/v1/stores/notes/records", 1, {"Idempotency-Key": '"k/9"'}),
    "addRecord public": Asked("/v1/stores/public/records", 1),
    "putRecord": Asked("/v1/stores/notes/records/z", 1),
    "putRecord k/9": Asked("/v1/stores/notes/records/k%2F9", 1),
    "putRecord v/9": Asked("/v1/stores/notes/records/v%2F9", 1),
    "putRecord hidden": Asked("/v1/stores/hidden/records/z", 1),
    "putRecord system": Asked("/v1/stores/_accounts/records/z", 1),
    "getRecord": Asked("/v1/stores/notes/records/a%2F1"),
    "getRecord v/1": Asked("/v1/stores/notes/records/v%2F1"),
    "getRecord of the past": Asked("/v1/stores/notes/records/v%2F1?at=5"),
    "getRecord a/1 of the past": Asked("/v1/stores/notes/records/a%2F1?at=1"),
    "getRecord hidden": Asked("/v1/stores/hidden/records/h%2F1"),
    "deleteRecord": Asked("/v1/stores/notes/records/a%2F1"),
    "deleteRecord k/1": Asked("/v1/stores/notes/records/k%2F1"),
    "deleteRecord o/1": Asked("/v1/stores/notes/records/o%2F1"),
    "deleteRecord v/1": Asked("/v1/stores/notes/records/v%2F1"),
    "deleteRecord none": Asked("/v1/stores/notes/records/none"),
    "deleteRecord hidden": Asked("/v1/stores/hidden/records/h%2F1"),
    "listRecords": Asked("/v1/stores/notes/records"),
    "listRecords lines": _accepting("application/x-ndjson", "/v1/stores/notes/records"),
    "listRecords of the past": Asked("/v1/stores/notes/records?at=2"),
    "listRecords of the hidden past": Asked("/v1/stores/hidden/records?at=0"),
    "getDiff": Asked("/v1/stores/notes/diff?from=1"),
    "getDiff lines": _accepting("application/x-ndjson", "/v1/stores/notes/diff?from=1"),
    "getDiff hidden": Asked("/v1/stores/hidden/diff?from=0"),
    "listRecords hidden": Asked("/v1/stores/hidden/records"),
    "write": Asked("/v1/stores/notes/writes", {"ops": [_ADD]}),
    "write both": Asked("/v1/stores/notes/writes", {"ops": [_ADD, _DELETE]}),
    "write each": Asked("/v1/stores/notes/writes", {"ops": [_ADD, _DELETE], "atomic": False}),
    "write hidden": Asked("/v1/stores/hidden/writes", {"ops": [_ADD]}),
    "getChanges": Asked("/v1/stores/notes/changes"),
    "getChanges poll": Asked("/v1/stores/notes/changes?wait=1"),
    "getChanges hidden": Asked("/v1/stores/hidden/changes?wait=1"),
    "getChanges public": Asked("/v1/stores/public/changes"),
}

_OF_INDEXES = {
    "listIndexes": Asked("/v1/stores/notes/indexes"),
    "listIndexes hidden": Asked("/v1/stores/hidden/indexes"),
    "getIndex": Asked("/v1/stores/notes/indexes/plain"),
    "getIndex none": Asked("/v1/stores/notes/indexes/none"),
    "getIndex hidden": Asked("/v1/stores/hidden/indexes/plain"),
    "declareIndex": Asked("/v1/stores/notes/indexes/room", {"path": "/room"}),
    "declareIndex there": Asked("/v1/stores/notes/indexes/plain", {"path": ""}),
    "declareIndex hidden": Asked("/v1/stores/hidden/indexes/room", {"path": "/room"}),
    "declareIndex public": Asked("/v1/stores/public/indexes/room", {"path": "/room"}),
    "declareIndex system": Asked("/v1/stores/_accounts/indexes/room", {"path": "/room"}),
    "dropIndex": Asked("/v1/stores/notes/indexes/plain"),
    "dropIndex none": Asked("/v1/stores/notes/indexes/none"),
    "dropIndex hidden": Asked("/v1/stores/hidden/indexes/plain"),
    "dropIndex public": Asked("/v1/stores/public/indexes/none"),
    "listRecords found": Asked("/v1/stores/notes/records?index=plain&eq=1&count=1"),
    "listRecords found no index": Asked("/v1/stores/notes/records?index=none"),
    "listRecords found hidden": Asked("/v1/stores/hidden/records?index=plain"),
    "followReferences": Asked("/v1/stores/notes/records/a%2F1/references/plain"),
    "followReferences v/1": Asked("/v1/stores/notes/records/v%2F1/references/plain"),
    "followReferences hidden": Asked("/v1/stores/hidden/records/h%2F1/references/plain"),
    "findReferrers": Asked("/v1/stores/notes/records/a%2F1/referrers/plain"),
    "findReferrers hidden": Asked("/v1/stores/hidden/records/h%2F1/referrers/plain"),
}

_OF_ONESELF = {
    "getMe": Asked("/v1/me"),
    "makeTicket": Asked("/v1/tickets", {}),
    "login": Asked("/v1/login", {"user": "writer", "password": PASSWORD}),
    "logout": Asked("/v1/logout", {}),
    "changePassword": Asked("/v1/password", {"password": PASSWORD, "new_password": PASSWORD + "!"}),
    "setup": Asked("/v1/setup", {"code": "syncline_c_x", "user": "eve", "password": PASSWORD}),
    "beginProviderLogin": Asked("/v1/oidc/login"),
    "finishProviderLogin": Asked("/v1/oidc/callback?state=x&code=y"),
}

_OF_USERS = {
    "listUsers": Asked("/v1/users"),
    "getUser": Asked("/v1/users/other"),
    "getUser none": Asked("/v1/users/none"),
    "putUser": Asked("/v1/users/other", {"admin": True}),
    "putUser new": Asked("/v1/users/fresh", {"admin": True}),
    "deleteUser": Asked("/v1/users/other"),
    "listGroups": Asked("/v1/groups"),
    "putGroup": Asked("/v1/groups/fresh", {"members": ["other"]}),
    "deleteGroup": Asked("/v1/groups/staff"),
    "addMember": Asked("/v1/groups/staff/members/other"),
    "removeMember": Asked("/v1/groups/staff/members/stranger"),
    "readAudit": Asked("/v1/audit"),
    "listBackups": Asked("/v1/backups"),
    "makeBackup": Asked("/v1/backups", {}),
    "getBackup": Asked("/v1/backups/manual-20270115T080000Z.db"),
    "downloadBackup": Asked("/v1/backups/manual-20270115T080000Z.db/file"),
    "readAudit lines": _accepting("application/x-ndjson", "/v1/audit"),
}

_OF_TOKENS = {
    "listTokens": Asked("/v1/tokens"),
    "listTokens of another": Asked("/v1/tokens?user=stranger"),
    "makeToken": Asked("/v1/tokens", {"title": "t"}),
    "makeToken for another": Asked("/v1/tokens", {"title": "t", "user": "stranger"}),
    "revokeToken": Asked("/v1/tokens/{self}"),
    "revokeToken of another": Asked("/v1/tokens/{stranger}"),
    "revokeToken none": Asked("/v1/tokens/t_0"),
}

_OF_SHARING = {
    "listGrants": Asked("/v1/grants"),
    "listGrants notes": Asked("/v1/grants?store=notes"),
    "listGrants none": Asked("/v1/grants?store=none"),
    "addGrant": Asked("/v1/grants", _GRANT),
    "addGrant hidden": Asked("/v1/grants", {**_GRANT, "store": "hidden"}),
    "addGrant all": Asked("/v1/grants", {**_GRANT, "store": "*"}),
    "removeGrant": Asked("/v1/grants/{grant:reader}"),
    "removeGrant hidden": Asked("/v1/grants/{grant:stranger}"),
    "removeGrant none": Asked("/v1/grants/g_0"),
    "listInvitations": Asked("/v1/invitations"),
    "listInvitations notes": Asked("/v1/invitations?store=notes"),
    "addInvitation": Asked("/v1/invitations", _INVITATION),
    "addInvitation hidden": Asked("/v1/invitations", {**_INVITATION, "store": "hidden"}),
    "acceptInvitation": Asked("/v1/invitations/accept", {"code": "{code}"}),
    "acceptInvitation none": Asked("/v1/invitations/accept", {"code": "syncline_i_x"}),
    "acceptInvitation new": Asked("/v1/invitations/accept", {"code": "{code}", "user": "eve", "password": PASSWORD}),
    "removeInvitation": Asked("/v1/invitations/{invitation}"),
    "removeInvitation none": Asked("/v1/invitations/i_0"),
}

#: By the name of its row.
REQUESTS: dict[str, Asked] = {
    **_OF_THE_SERVER, **_OF_STORES, **_OF_RECORDS, **_OF_INDEXES,
    **_OF_ONESELF, **_OF_USERS, **_OF_TOKENS, **_OF_SHARING,
}  # fmt: skip
