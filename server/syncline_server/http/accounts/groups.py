"""Groups over HTTP, for administrators."""

from functools import partial

from starlette.responses import Response

from syncline_server.access.authority import Action
from syncline_server.http.call import Call, json_response
from syncline_server.http.operation import JSON, Answer, Operation, RequestBody

from .acting import changes, path_text, require_admin, require_admin_still
from .bodies import GroupBody, GroupPut, GroupsBody, group_body

__all__ = ["GROUPS"]


async def _list(call: Call) -> Response:
    require_admin(call.principal)
    groups = call.accounts.directory.registry.groups
    return json_response(GroupsBody(tuple(group_body(groups[name]) for name in sorted(groups))))


async def _put(call: Call) -> Response:
    require_admin(call.principal)
    body, name = await call.json_struct(GroupPut), path_text(call, "group")
    members = body.members if isinstance(body.members, tuple) else None
    action = "group.change" if name in call.accounts.directory.registry.groups else "group.add"
    change = changes(call, action, name, allowed=partial(require_admin_still, call), members=_shown(members))
    group, is_new = await change.put_group(name, members)
    return json_response(group_body(group), 201 if is_new else 200)


def _shown(members: tuple[str, ...] | None) -> str:
    return "as they were" if members is None else ",".join(members)


async def _delete(call: Call) -> Response:
    require_admin(call.principal)
    name = path_text(call, "group")
    change = changes(call, "group.remove", name, allowed=partial(require_admin_still, call))
    return json_response(group_body(await change.delete_group(name)))


async def _add_member(call: Call) -> Response:
    require_admin(call.principal)
    name, user = path_text(call, "group"), path_text(call, "user")
    change = changes(call, "group.change", name, allowed=partial(require_admin_still, call), added=user)
    return json_response(group_body(await change.add_member(name, user)))


async def _remove_member(call: Call) -> Response:
    require_admin(call.principal)
    name, user = path_text(call, "group"), path_text(call, "user")
    change = changes(call, "group.change", name, allowed=partial(require_admin_still, call), removed=user)
    return json_response(group_body(await change.remove_member(name, user)))


_GROUP = {JSON: (GroupBody,)}
_ADMIN = ("unauthenticated", "forbidden")
_STORED = ("storage_unavailable", "storage_full", "overloaded")

GROUPS: tuple[Operation, ...] = (
    Operation(
        name="listGroups",
        method="GET",
        path="/v1/groups",
        handler=_list,
        summary="List the groups",
        action=Action.ADMINISTER,
        answers=(Answer(200, "all groups", {JSON: (GroupsBody,)}),),
        refusals=_ADMIN,
    ),
    Operation(
        name="putGroup",
        method="PUT",
        path="/v1/groups/{group}",
        handler=_put,
        summary="Make a group, or replace its members",
        action=Action.ADMINISTER,
        body=RequestBody("the members; without them they stay", GroupPut),
        answers=(Answer(201, "the group was made", _GROUP), Answer(200, "the group as it is now", _GROUP)),
        refusals=("bad_json", "bad_message", *_ADMIN, "account_invalid", "account_unknown", "name_taken", *_STORED),
    ),
    Operation(
        name="deleteGroup",
        method="DELETE",
        path="/v1/groups/{group}",
        handler=_delete,
        summary="Delete a group and what is granted to it",
        action=Action.ADMINISTER,
        answers=(Answer(200, "what the group was", _GROUP),),
        refusals=(*_ADMIN, "account_unknown", *_STORED),
    ),
    Operation(
        name="addMember",
        method="PUT",
        path="/v1/groups/{group}/members/{user}",
        handler=_add_member,
        summary="Take a user into a group",
        action=Action.ADMINISTER,
        answers=(Answer(200, "the group as it is now", _GROUP),),
        refusals=(*_ADMIN, "account_invalid", "account_unknown", *_STORED, "too_large"),
    ),
    Operation(
        name="removeMember",
        method="DELETE",
        path="/v1/groups/{group}/members/{user}",
        handler=_remove_member,
        summary="Take a user out of a group",
        action=Action.ADMINISTER,
        answers=(Answer(200, "the group as it is now", _GROUP),),
        refusals=(*_ADMIN, "account_unknown", *_STORED),
    ),
)
