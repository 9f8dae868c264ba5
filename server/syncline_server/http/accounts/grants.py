"""Grants over HTTP: who may use a store. Its owners say so, and administrators.

A grant that concerns others and one that is not there are answered alike.
"""

from functools import partial

from starlette.responses import Response

from syncline_server.access.authority import Action
from syncline_server.access.grant import Grant
from syncline_server.accounts.account_name import check_grantee, check_pattern
from syncline_server.accounts.error import AccountError
from syncline_server.http.call import Call, json_response
from syncline_server.http.operation import JSON, Answer, Operation, Parameter, RequestBody

from .acting import changes, may_share, path_text, require_full, require_login, require_share, shared_of, told_of
from .bodies import GrantBody, GrantPost, GrantsBody, grant_body

__all__ = ["GRANTS"]


async def _list(call: Call) -> Response:
    require_login(call.principal)
    store, to = call.text("store"), call.text("to")
    registry = call.accounts.directory.registry
    if store is not None:
        # Who may share a store sees all who have access to it, also by a prefix that is another's to take back.
        require_share(call, check_pattern(store))
        found = registry.grants_covering(store)
    elif to is not None:
        check_grantee(to)
        found = registry.grants_to(to)
    else:
        found = sorted(registry.grants.values(), key=lambda grant: (grant.created_ms, grant.id))
    wanted = [grant for grant in found if to is None or grant.to == to]
    if store is not None:
        return json_response(GrantsBody(tuple(map(grant_body, wanted))))
    shared = shared_of(call, {grant.store for grant in wanted})
    # His own, and those that he could take back.
    shown = [grant for grant in wanted if _is_his(call, grant) or grant.store in shared]
    return json_response(GrantsBody(tuple(map(grant_body, shown))))


def _is_his(call: Call, grant: Grant) -> bool:
    return call.principal.name is not None and grant.to == f"user:{call.principal.name}"


async def _add(call: Call) -> Response:
    body = await call.json_struct(GrantPost)
    require_share(call, check_pattern(body.store))
    allowed = partial(require_share, call, body.store)
    change = changes(call, "grant.add", allowed=allowed, to=body.to, **told_of(body))
    grant, is_new = await change.add_grant(
        body.to,
        body.store,
        body.role,
        by=call.principal.name,
        limits=body.limits,
        authors=body.authors,
        expires_ms=body.expires_ms,
    )
    return json_response(grant_body(grant), 201 if is_new else 200)


async def _remove(call: Call) -> Response:
    require_login(call.principal)
    grant = call.accounts.directory.registry.grants.get(path_text(call, "grant"))
    if grant is None:
        raise _unknown()
    _require_removable(call, grant)
    allowed = partial(_require_removable, call, grant)
    change = changes(call, "grant.remove", allowed=allowed, to=grant.to, store=grant.store, role=grant.role)
    return json_response(grant_body(await change.remove_grant(grant.id)))


def _require_removable(call: Call, grant: Grant) -> None:
    may = may_share(call, grant.store)
    if not may and not _is_his(call, grant):
        raise _unknown()
    if not may:
        require_full(call.principal)


def _unknown() -> AccountError:
    return AccountError("account_unknown", "there is no such grant")


_GRANT = {JSON: (GrantBody,)}
_STORED = ("storage_unavailable", "storage_full", "overloaded")

GRANTS: tuple[Operation, ...] = (
    Operation(
        name="listGrants",
        method="GET",
        path="/v1/grants",
        handler=_list,
        summary="List the grants that one may see: one's own, and those for stores that one may share",
        action=Action.LOG_IN,
        parameters=(
            Parameter("store", "only those that cover this store, or this prefix with `*` at its end"),
            Parameter("to", "only those to `user:NAME`, `group:NAME` or `everyone`"),
        ),
        answers=(Answer(200, "the grants", {JSON: (GrantsBody,)}),),
        refusals=("unauthenticated", "forbidden", "account_invalid"),
    ),
    Operation(
        name="addGrant",
        method="POST",
        path="/v1/grants",
        handler=_add,
        summary="Grant the use of a store",
        action=Action.LOG_IN,
        description="It takes the place of what the same grantee had for the same store or prefix.",
        body=RequestBody("to whom, where, as what, within which limits", GrantPost),
        answers=(Answer(201, "the grant", _GRANT), Answer(200, "the grant, in the place of another", _GRANT)),
        refusals=(
            "bad_json", "bad_message", "unauthenticated", "forbidden", "account_unknown", "account_invalid", *_STORED
        ),
    ),
    Operation(
        name="removeGrant",
        method="DELETE",
        path="/v1/grants/{grant}",
        handler=_remove,
        summary="Take a grant back, or give up one's own",
        action=Action.LOG_IN,
        answers=(Answer(200, "what it was", _GRANT),),
        refusals=("unauthenticated", "forbidden", "account_unknown", *_STORED),
    ),
)  # fmt: skip
