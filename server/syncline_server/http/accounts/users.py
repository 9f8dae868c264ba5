"""Users over HTTP, for administrators."""

from functools import partial

import msgspec
from starlette.responses import Response

from syncline_server.access.authority import Action
from syncline_server.accounts.plans.users import UserChange, require_user
from syncline_server.http.call import Call, json_response
from syncline_server.http.operation import JSON, Answer, Operation, RequestBody

from .acting import changes, new_hash, path_text, require_admin, require_admin_still
from .bodies import UserBody, UserPut, UsersBody, user_body

__all__ = ["USERS"]


async def _list(call: Call) -> Response:
    require_admin(call.principal)
    users = call.accounts.directory.registry.users
    return json_response(UsersBody(tuple(user_body(users[name]) for name in sorted(users))))


async def _get(call: Call) -> Response:
    require_admin(call.principal)
    return json_response(user_body(require_user(call.accounts.directory.registry, path_text(call, "user"))))


async def _put(call: Call) -> Response:
    require_admin(call.principal)
    body, name = await call.json_struct(UserPut), path_text(call, "user")
    password_hash = await new_hash(call, body.password, name)
    if name not in call.accounts.directory.registry.users:
        return await _add(call, name, body, password_hash)
    fields = msgspec.structs.asdict(body)
    change = UserChange(
        msgspec.UNSET if password_hash is None else password_hash,
        body.admin,
        body.disabled,
        body.title,
        msgspec.UNSET if body.service is msgspec.UNSET else "service" if body.service else "user",
    )
    given = {field: value for field, value in fields.items() if value is not msgspec.UNSET}
    # Of a password and a title only that they were changed; what somebody may do is told in full.
    told = {field: str(value).lower() for field, value in given.items() if isinstance(value, bool)}
    keep = call.principal.token if call.principal.name == name else None
    told["fields"] = ",".join(given)
    noted = changes(call, "user.change", name, allowed=partial(require_admin_still, call), **told)
    user = await noted.change_user(name, change, keep_session=keep)
    if password_hash is not None:
        call.accounts.login_guard.forget(name)
    return json_response(user_body(user))


async def _add(call: Call, name: str, body: UserPut, password_hash: str | None) -> Response:
    is_admin, is_service, is_disabled = body.admin is True, body.service is True, body.disabled is True
    told = {name: "true" for name, is_so in (("service", is_service), ("disabled", is_disabled)) if is_so}
    allowed = partial(require_admin_still, call)
    user = await changes(call, "user.add", name, allowed=allowed, admin=str(is_admin).lower(), **told).add_user(
        name,
        kind="service" if is_service else "user",
        title=body.title if isinstance(body.title, str) else "",
        password_hash=password_hash,
        is_admin=is_admin,
        is_disabled=is_disabled,
    )
    return json_response(user_body(user), 201)


async def _delete(call: Call) -> Response:
    require_admin(call.principal)
    name = path_text(call, "user")
    user = await changes(call, "user.remove", name, allowed=partial(require_admin_still, call)).delete_user(name)
    call.accounts.login_guard.forget(name)
    return json_response(user_body(user))


_USER = {JSON: (UserBody,)}
_ADMIN = ("unauthenticated", "forbidden")
_STORED = ("storage_unavailable", "storage_full", "overloaded")

USERS: tuple[Operation, ...] = (
    Operation(
        name="listUsers",
        method="GET",
        path="/v1/users",
        handler=_list,
        summary="List the accounts",
        action=Action.ADMINISTER,
        answers=(Answer(200, "all accounts", {JSON: (UsersBody,)}),),
        refusals=_ADMIN,
    ),
    Operation(
        name="getUser",
        method="GET",
        path="/v1/users/{user}",
        handler=_get,
        summary="Look at an account",
        action=Action.ADMINISTER,
        answers=(Answer(200, "the account", _USER),),
        refusals=(*_ADMIN, "account_unknown"),
    ),
    Operation(
        name="putUser",
        method="PUT",
        path="/v1/users/{user}",
        handler=_put,
        summary="Make an account, or change what the body names",
        action=Action.ADMINISTER,
        description="A new password ends all sessions of the user, and so does disabling him.",
        body=RequestBody("what shall be", UserPut),
        answers=(Answer(201, "the account was made", _USER), Answer(200, "the account as it is now", _USER)),
        refusals=("bad_json", "bad_message", *_ADMIN, "account_invalid", "account_unknown", "name_taken", *_STORED),
    ),
    Operation(
        name="deleteUser",
        method="DELETE",
        path="/v1/users/{user}",
        handler=_delete,
        summary="Delete an account with its tokens, grants, memberships and invitations",
        action=Action.ADMINISTER,
        description="Its name is never used again, as it stands in logs and by records. The last administrator stays.",
        answers=(Answer(200, "what the account was", _USER),),
        refusals=(*_ADMIN, "account_unknown", *_STORED),
    ),
)
