"""Tokens over HTTP: everybody's own, and for administrators everybody's.

A token of somebody else and one that is not there are answered alike.
"""

from functools import partial

from starlette.responses import Response

from syncline_server.access.authority import Action
from syncline_server.access.principal import SCOPES
from syncline_server.accounts.entry import Token
from syncline_server.accounts.error import AccountError
from syncline_server.http.call import Call, json_response
from syncline_server.http.operation import JSON, Answer, Operation, Parameter, RequestBody
from syncline_server.http.problem import Refusal

from .acting import changes, is_admin, path_text, require_admin, require_full, require_login
from .bodies import NewTokenBody, TokenBody, TokenPost, TokensBody, token_body

__all__ = ["TOKENS"]


async def _list(call: Call) -> Response:
    user = _whose(call, call.text("user"))
    tokens = call.accounts.directory.registry.tokens_of(user)
    return json_response(TokensBody(tuple(token_body(token) for token in tokens)))


async def _add(call: Call) -> Response:
    body = await call.json_struct(TokenPost)
    user = _whose(call, body.user)
    _require_maker(call, user)
    expires_ms = _end_of(call, body.expires_ms)
    scopes = SCOPES if body.scopes is None else frozenset(body.scopes)
    bounds = {"scopes": ",".join(sorted(scopes))} | ({} if body.stores is None else {"stores": ",".join(body.stores)})
    change = changes(
        call, "token.add", allowed=lambda: _require_maker(call, user), user=user, title=body.title, **bounds
    )
    token, secret = await change.add_token(
        user,
        body.title,
        scopes=scopes,
        stores=body.stores,
        expires_ms=expires_ms,
    )
    return json_response(NewTokenBody(secret, token_body(token)), 201, {"Cache-Control": "no-store"})


def _require_maker(call: Call, user: str) -> None:
    _whose(call, user)
    if not is_admin(call.principal):
        require_full(call.principal)


def _whose(call: Call, user: str | None) -> str:
    """Return whose tokens are meant. Those of others are an administrator's affair."""
    if user is None or user == call.principal.name:
        return require_login(call.principal)
    require_admin(call.principal)
    return user


def _end_of(call: Call, expires_ms: int | None) -> int | None:
    """Return when a token ends. One that was made with a personal token does not outlive it; a login gives others."""
    maker = call.accounts.directory.registry.tokens.get(call.principal.token or "")
    if maker is None or maker.kind == "session" or maker.expires_ms is None:
        return expires_ms
    if expires_ms is not None and expires_ms > maker.expires_ms:
        raise Refusal("forbidden", "it would outlive the token that it is made with", hint="log in with the password")
    return maker.expires_ms if expires_ms is None else expires_ms


async def _revoke(call: Call) -> Response:
    require_login(call.principal)
    token_id = path_text(call, "token")
    token = call.accounts.directory.registry.tokens.get(token_id)
    if token is None:
        raise _unknown()
    _require_revocable(call, token)
    change = changes(call, "token.revoke", allowed=partial(_require_revocable, call, token), user=token.user)
    return json_response(token_body(await change.revoke_token(token_id)))


def _require_revocable(call: Call, token: Token) -> None:
    principal = call.principal
    if token.user != principal.name and not is_admin(principal):
        raise _unknown()
    if not is_admin(principal) and token.id != principal.token:
        require_full(principal)


def _unknown() -> AccountError:
    return AccountError("account_unknown", "there is no such token")


_ACCOUNT = ("unauthenticated", "forbidden", "account_unknown")
_STORED = ("storage_unavailable", "storage_full", "overloaded")

TOKENS: tuple[Operation, ...] = (
    Operation(
        name="listTokens",
        method="GET",
        path="/v1/tokens",
        handler=_list,
        summary="List one's tokens and sessions",
        action=Action.LOG_IN,
        parameters=(Parameter("user", "whose; another's are for administrators"),),
        answers=(Answer(200, "the tokens, without their texts", {JSON: (TokensBody,)}),),
        refusals=("unauthenticated", "forbidden"),
    ),
    Operation(
        name="makeToken",
        method="POST",
        path="/v1/tokens",
        handler=_add,
        summary="Make a personal token",
        action=Action.LOG_IN,
        body=RequestBody("what it is for, and its limits", TokenPost),
        answers=(Answer(201, "the token and its text", {JSON: (NewTokenBody,)}),),
        refusals=("bad_json", "bad_message", *_ACCOUNT, "account_invalid", *_STORED),
    ),
    Operation(
        name="revokeToken",
        method="DELETE",
        path="/v1/tokens/{token}",
        handler=_revoke,
        summary="End a token or session",
        action=Action.LOG_IN,
        answers=(Answer(200, "what it was", {JSON: (TokenBody,)}),),
        refusals=(*_ACCOUNT, *_STORED),
    ),
)
