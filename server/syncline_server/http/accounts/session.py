"""Sessions as answers carry them: as a token, or as a cookie of the console.

The cookie is HttpOnly, so that no script reads it, and SameSite=Strict, so that no other site's page sends it; the
Origin of a request is checked all the same. It is Secure whenever the request came over TLS.
"""

from starlette.responses import Response

from syncline_server.accounts.entry import Token
from syncline_server.accounts.plans.users import Proof
from syncline_server.http.call import Call, json_response
from syncline_server.visitor import SESSION_COOKIE

from .acting import noted
from .bodies import LoginBody

__all__ = ["begin_session", "end_cookie", "session_answer", "set_cookie"]

#: Of what a browser says it is; enough to tell one's devices apart.
_TITLE_CHARS = 100


async def begin_session(call: Call, user: str, proof: Proof, **detail: str) -> tuple[Token, str]:
    """Begin a session of a user who has just proved who he is. Returns the token and its text."""
    directory = call.accounts.directory
    title = "".join(c for c in call.request.headers.get("user-agent", "") if c.isprintable())[:_TITLE_CHARS]
    expires_ms = call.hub.now_ms() + call.accounts.session_ms
    begun: tuple[Token, str] = await directory.noting(noted(call, "login.ok", user, actor=user, **detail)).login(
        user, proof, title, expires_ms
    )
    return begun


def session_answer(call: Call, token: Token, secret: str, *, cookie: bool, status: int = 200) -> Response:
    """Return the answer that brings a session."""
    response = json_response(
        LoginBody(token.user, token.expires_ms, None if cookie else secret), status, {"Cache-Control": "no-store"}
    )
    if cookie:
        set_cookie(call, response, secret)
    return response


def set_cookie(call: Call, response: Response, secret: str) -> None:
    """Let the browser keep a session."""
    response.set_cookie(
        SESSION_COOKIE,
        secret,
        max_age=call.accounts.session_ms // 1000,
        path=call.request.scope.get("root_path") or "/",
        secure=call.request.url.scheme == "https",
        httponly=True,
        samesite="strict",
    )


def end_cookie(call: Call, response: Response) -> None:
    """Let the browser forget its session."""
    response.delete_cookie(
        SESSION_COOKIE,
        path=call.request.scope.get("root_path") or "/",
        secure=call.request.url.scheme == "https",
        httponly=True,
        samesite="strict",
    )
