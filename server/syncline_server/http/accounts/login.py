"""Logging in and out, changing one's password, and making the first administrator.

Whoever tries a name that does not exist, that has no password or that is disabled waits as long and is told the same as
with a wrong password. Attempts are bounded by address and account (`LoginGuard`) before anything is looked at.
"""

from functools import partial

from starlette.responses import Response

from syncline_server.access.authority import Action
from syncline_server.accounts.error import AccountError
from syncline_server.accounts.password import HashingOverloaded
from syncline_server.http.call import Call, json_response
from syncline_server.http.operation import JSON, Answer, Operation, RequestBody
from syncline_server.http.problem import Refusal, too_often

from .acting import address_of, judged, new_hash, noted, record, require_full
from .bodies import Empty, LoginBody, LoginPost, PasswordPost, SetupPost
from .session import begin_session, end_cookie, session_answer

__all__ = ["LOGIN"]

#: A name is at most so long; what is longer is none and need not be remembered.
_NAME_CHARS_MAX = 64


async def _login(call: Call) -> Response:
    body = await call.json_struct(LoginPost)
    password_hash = await _verified(call, body.user, body.password)
    token, secret = await begin_session(call, body.user, password_hash)
    await _renew_hash(call, body.user, password_hash, body.password)
    return session_answer(call, token, secret, cookie=body.cookie)


async def _verified(call: Call, name: str, password: str) -> str:
    """Return the hash of the password of a user, which is the right one. Raises Refusal."""
    accounts, address = call.accounts, address_of(call)
    wait_s = accounts.login_guard.attempt(address, name[:_NAME_CHARS_MAX], call.hub.now())
    if wait_s > 0:
        call.hub.counts.refused["login"] += 1
        raise too_often(wait_s, "too many attempts to log in")
    user = accounts.directory.registry.active_user(name)
    password_hash: str | None = None if user is None else user.password_hash
    try:
        is_right = await accounts.hasher.verify(password_hash, password)
    except HashingOverloaded as error:
        raise Refusal("overloaded", str(error), hint="try again in a moment") from error
    if not is_right or password_hash is None:
        await record(call, "login.failed", name, actor=None, outcome="refused")
        raise Refusal("login_failed", "the user and the password do not belong together")
    accounts.login_guard.succeeded(address, name)
    return password_hash


async def _renew_hash(call: Call, name: str, password_hash: str, password: str) -> None:
    """Keep the password at the costs of now; only here it is known. If that cannot be done, the next login will."""
    accounts = call.accounts
    if accounts.hasher.needs_rehash(password_hash):
        try:
            await accounts.directory.rehash(name, password_hash, await accounts.hasher.hash(password))
        except (HashingOverloaded, AccountError):
            return


async def _logout(call: Call) -> Response:
    await call.json_struct(Empty)
    accounts, principal = call.accounts, call.principal
    token = accounts.directory.registry.tokens.get(principal.token or "")
    if token is not None and token.kind == "personal":
        raise Refusal("forbidden", "this is a personal token, not a session", hint="DELETE /v1/tokens/{token} ends it")
    if token is not None:
        await accounts.directory.noting(noted(call, "logout", token.id)).revoke_token(token.id)
    response = json_response(b"{}", headers={"Cache-Control": "no-store"})
    end_cookie(call, response)
    return response


async def _password(call: Call) -> Response:
    body = await call.json_struct(PasswordPost)
    name = require_full(call.principal)
    old_hash = await _verified(call, name, body.password)
    hashed = await new_hash(call, body.new_password, name)
    assert hashed is not None
    accounts = call.accounts
    token = accounts.directory.registry.tokens.get(call.principal.token or "")
    session = token if token is not None and token.kind == "session" else None
    change = accounts.directory.noting(noted(call, "password.change", name))
    await change.change_password(name, old_hash, hashed, keep_session=None if session is None else session.id)
    accounts.login_guard.forget(name)
    if session is not None:
        return json_response(LoginBody(name, session.expires_ms, None), headers={"Cache-Control": "no-store"})
    return session_answer(call, *await begin_session(call, name, hashed), cookie=False)


async def _setup(call: Call) -> Response:
    body = await call.json_struct(SetupPost)
    accounts = call.accounts
    _require_code(call, body.code)
    hashed = await new_hash(call, body.password, body.user)
    assert hashed is not None
    # Of two who come with the code at once, the second one finds it spent.
    note = judged(
        partial(_require_code, call, body.code),
        noted(call, "setup.done", body.user, actor=body.user, **accounts.setup.told),
    )
    change = accounts.directory.noting(note)
    if accounts.setup.is_rescue:
        await change.add_user(body.user, password_hash=hashed, is_admin=True)
    else:
        await change.add_first_admin(body.user, hashed)
    accounts.setup.spend()
    token, secret = await begin_session(call, body.user, hashed)
    return session_answer(call, token, secret, cookie=body.cookie, status=201)


def _require_code(call: Call, code: str) -> None:
    if not call.accounts.is_setup_code(code):
        raise Refusal(
            "forbidden",
            "this is not the code of this start, or there is an administrator already",
            hint="the server prints the code when it starts without an administrator",
        )


_SESSION = {JSON: (LoginBody,)}
_BODY = ("bad_json", "bad_message")
_STORED = ("storage_unavailable", "storage_full", "overloaded")

LOGIN: tuple[Operation, ...] = (
    Operation(
        name="login",
        method="POST",
        path="/v1/login",
        handler=_login,
        summary="Log in with a password",
        action=Action.ANYTHING,
        body=RequestBody("name and password", LoginPost),
        answers=(Answer(200, "the session", _SESSION),),
        refusals=(*_BODY, "login_failed", "rate_limited", *_STORED),
    ),
    Operation(
        name="logout",
        method="POST",
        path="/v1/logout",
        handler=_logout,
        summary="End the session that the request came with",
        action=Action.ANYTHING,
        body=RequestBody("an empty object", Empty),
        answers=(Answer(200, "there is no session any more", {JSON: (Empty,)}),),
        refusals=(*_BODY, "forbidden", "account_unknown", *_STORED),
    ),
    Operation(
        name="changePassword",
        method="POST",
        path="/v1/password",
        handler=_password,
        summary="Change one's password; all other sessions end",
        action=Action.LOG_IN,
        body=RequestBody("the old and the new password", PasswordPost),
        answers=(Answer(200, "the session: the one that it was changed in, or a new one", _SESSION),),
        refusals=(*_BODY, "unauthenticated", "forbidden", "login_failed", "account_invalid", "rate_limited", *_STORED),
    ),
    Operation(
        name="setup",
        method="POST",
        path="/v1/setup",
        handler=_setup,
        summary="Make the first administrator, with the code that the server has printed",
        action=Action.ANYTHING,
        body=RequestBody("the code, and the administrator", SetupPost),
        answers=(Answer(201, "the session of the administrator", _SESSION),),
        refusals=(*_BODY, "forbidden", "account_invalid", "name_taken", "login_failed", *_STORED),
    ),
)
