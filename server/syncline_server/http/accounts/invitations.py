"""Invitations over HTTP: a link that whoever gets it may use, with an account or to make one."""

from functools import partial

from starlette.responses import Response

from syncline_server.access.authority import Action
from syncline_server.access.grant import Grant
from syncline_server.accounts.account_name import check_pattern
from syncline_server.accounts.entry import Invitation
from syncline_server.accounts.error import AccountError
from syncline_server.http.call import Call, json_response
from syncline_server.http.operation import JSON, Answer, Operation, Parameter, RequestBody
from syncline_server.http.problem import Refusal, too_often

from .acting import (
    address_of,
    changes,
    may_share,
    new_hash,
    noted,
    path_text,
    require_full,
    require_login,
    require_share,
    shared_of,
    told_of,
)
from .bodies import (
    AcceptBody,
    AcceptedBody,
    InvitationBody,
    InvitationPost,
    InvitationsBody,
    LoginBody,
    NewInvitationBody,
    grant_body,
    invitation_body,
)
from .session import begin_session, set_cookie

__all__ = ["INVITATIONS"]

_NO_STORE = {"Cache-Control": "no-store"}


async def _list(call: Call) -> Response:
    require_login(call.principal)
    store = call.text("store")
    if store is not None:
        require_share(call, check_pattern(store))
    known = call.accounts.directory.registry.invitations.values()
    wanted = [it for it in known if store is None or it.store == store]
    shared = shared_of(call, {it.store for it in wanted})
    shown = [it for it in wanted if it.store in shared]
    ordered = sorted(shown, key=lambda it: (it.created_ms, it.id))
    return json_response(InvitationsBody(tuple(map(invitation_body, ordered))))


async def _add(call: Call) -> Response:
    body = await call.json_struct(InvitationPost)
    require_share(call, check_pattern(body.store))
    allowed = partial(require_share, call, body.store)
    change = changes(call, "invitation.add", allowed=allowed, **told_of(body))
    invitation, code = await change.add_invitation(
        body.store,
        body.role,
        by=call.principal.name,
        limits=body.limits,
        authors=body.authors,
        expires_ms=body.expires_ms,
        uses_max=body.uses_max,
    )
    answer = NewInvitationBody(code, f"/#invite={code}", invitation_body(invitation))
    return json_response(answer, 201, _NO_STORE)


async def _remove(call: Call) -> Response:
    require_login(call.principal)
    invitation = call.accounts.directory.registry.invitations.get(path_text(call, "invitation"))
    if invitation is None:
        raise _unknown()
    _require_removable(call, invitation)
    allowed = partial(_require_removable, call, invitation)
    change = changes(call, "invitation.remove", allowed=allowed, store=invitation.store)
    return json_response(invitation_body(await change.remove_invitation(invitation.id)))


def _require_removable(call: Call, invitation: Invitation) -> None:
    if not may_share(call, invitation.store):
        raise _unknown()


def _unknown() -> AccountError:
    return AccountError("account_unknown", "there is no such invitation")


async def _accept(call: Call) -> Response:
    body = await call.json_struct(AcceptBody)
    # Before anything that costs time: who comes with no code gets no work done.
    invitation = call.accounts.directory.invitation_of(body.code)
    detail = {"store": invitation.store, "role": invitation.role}
    if body.user is not None and body.password is not None:
        return await _accept_as_new(call, body, body.user, body.password, invitation.id, detail)
    if body.user is not None or body.password is not None:
        raise Refusal("bad_message", "user and password come together")
    name = require_full(call.principal)
    change = changes(call, "invitation.accept", invitation.id, allowed=lambda: require_full(call.principal), **detail)
    grant = await change.accept_invitation(body.code, name)
    return json_response(AcceptedBody(grant_body(grant), None))


async def _accept_as_new(
    call: Call, body: AcceptBody, user: str, password: str, invitation_id: str, detail: dict[str, str]
) -> Response:
    # A hash is work, and there is one queue of it for all logins.
    address, guard = address_of(call), call.accounts.login_guard
    wait_s = guard.attempt(address, invitation_id, call.hub.now())
    if wait_s > 0:
        call.hub.counts.refused["login"] += 1
        raise too_often(wait_s, "too many attempts to make an account")
    hashed = await new_hash(call, password, user)
    assert hashed is not None
    note = noted(call, "invitation.accept", invitation_id, actor=user, new_user=user, **detail)
    accepted: Grant
    _, accepted = await call.accounts.directory.noting(note).accept_as_new_user(body.code, user, hashed)
    guard.succeeded(address, invitation_id)
    token, secret = await begin_session(call, user, hashed)
    login = LoginBody(user, token.expires_ms, None if body.cookie else secret)
    response = json_response(AcceptedBody(grant_body(accepted), login), headers=_NO_STORE)
    if body.cookie:
        set_cookie(call, response, secret)
    return response


_STORED = ("storage_unavailable", "storage_full", "overloaded")

INVITATIONS: tuple[Operation, ...] = (
    Operation(
        name="listInvitations",
        method="GET",
        path="/v1/invitations",
        handler=_list,
        summary="List the invitations to stores that one may share",
        action=Action.LOG_IN,
        parameters=(Parameter("store", "only those to this store, or this prefix with `*` at its end"),),
        answers=(Answer(200, "the invitations, without their codes", {JSON: (InvitationsBody,)}),),
        refusals=("unauthenticated", "forbidden", "account_invalid"),
    ),
    Operation(
        name="addInvitation",
        method="POST",
        path="/v1/invitations",
        handler=_add,
        summary="Make an invitation",
        action=Action.LOG_IN,
        description="`path` is what a browser opens; the code is behind `#`, so that no server or proxy gets it.",
        body=RequestBody("to what, as what, within which limits", InvitationPost),
        answers=(Answer(201, "the invitation and its code", {JSON: (NewInvitationBody,)}),),
        refusals=("bad_json", "bad_message", "unauthenticated", "forbidden", "account_invalid", *_STORED),
    ),
    # Before those of an id, which this path would be taken for.
    Operation(
        name="acceptInvitation",
        method="POST",
        path="/v1/invitations/accept",
        handler=_accept,
        summary="Accept an invitation, as who one is or with a new account",
        action=Action.ANYTHING,
        description="Whatever is wrong with a code, the answer is the same.",
        body=RequestBody("the code; user and password of the account that shall be made", AcceptBody),
        answers=(Answer(200, "what was granted", {JSON: (AcceptedBody,)}),),
        refusals=(
            "bad_json", "bad_message", "unauthenticated", "forbidden", "invitation_invalid", "account_invalid",
            "account_unknown", "name_taken", "login_failed", *_STORED,
        ),
    ),
    Operation(
        name="removeInvitation",
        method="DELETE",
        path="/v1/invitations/{invitation}",
        handler=_remove,
        summary="Take an invitation back; what was granted by it stays",
        action=Action.LOG_IN,
        answers=(Answer(200, "what it was", {JSON: (InvitationBody,)}),),
        refusals=("unauthenticated", "forbidden", "account_unknown", *_STORED),
    ),
)  # fmt: skip
