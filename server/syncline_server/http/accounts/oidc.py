"""Login through a provider (OpenID Connect): the two redirects, and the account that belongs to an identity.

Who comes for the first time gets an account, whose name is made from what the provider calls him; it has no grants. The
account is found by issuer and subject alone, as a name or an address may go to somebody else one day. Who is refused is
sent to the console, which says so, as he sits before a browser; why is in the audit log.
"""

from hashlib import sha256

from starlette.responses import RedirectResponse, Response

from syncline_server.access.authority import Action
from syncline_server.accounts.entry import User
from syncline_server.accounts.error import AccountError
from syncline_server.accounts.oidc import LoginNotBegun, OidcIdentity, OidcLogin, OidcRefused, ProviderUnavailable
from syncline_server.http.call import Call
from syncline_server.http.operation import Answer, Operation, Parameter
from syncline_server.http.problem import Refusal, too_often
from syncline_server.limits.admission import network_of

from .acting import noted, record
from .session import begin_session, set_cookie

__all__ = ["OIDC", "name_for"]

_BINDING_COOKIE = "syncline_oidc"

#: A login at the provider takes minutes at most, with a second factor.
_BINDING_S = 600

_CALLBACK = "/v1/oidc/callback"

#: Where the console says that a login was refused.
_REFUSED_PATH = "/#login-refused"

#: What is left of a name in the form of ours has at most so many characters, so that a mark fits behind it.
_STEM_CHARS_MAX = 48


def _provider_of(call: Call) -> OidcLogin:
    oidc: OidcLogin | None = call.accounts.oidc
    if oidc is None:
        raise Refusal("not_found", "this server has no login through a provider")
    return oidc


async def _begin(call: Call) -> Response:
    oidc = _provider_of(call)
    wait_s = call.accounts.provider_rate.take(network_of(call.visitor.address), 1, call.hub.now())
    if wait_s:
        # There is room for so many who are on their way, and the oldest make place.
        call.hub.counts.refused["login"] += 1
        raise too_often(wait_s, "too many logins through the provider were begun from this address")
    root: str = call.request.scope.get("root_path", "")
    url = call.request.url
    try:
        begun = await oidc.begin(f"{url.scheme}://{url.netloc}{root}{_CALLBACK}", call.text("next") or "/")
    except ProviderUnavailable as error:
        raise Refusal("overloaded", str(error), hint="try again in a moment") from error
    except OidcRefused as error:
        raise Refusal("bad_message", str(error)) from error
    response = RedirectResponse(begun.url, 302, {"Cache-Control": "no-store"})
    # The provider's page leads back here, so the cookie has to come along from another site.
    response.set_cookie(
        _BINDING_COOKIE,
        begun.browser_binding,
        max_age=_BINDING_S,
        path=f"{root}{_CALLBACK}",
        secure=url.scheme == "https",
        httponly=True,
        samesite="lax",
    )
    return response


async def _finish(call: Call) -> Response:
    oidc = _provider_of(call)
    root: str = call.request.scope.get("root_path", "")
    try:
        identity = await oidc.finish(
            call.text("state") or "",
            call.text("code") or "",
            call.request.cookies.get(_BINDING_COOKIE, ""),
            call.text("error"),
        )
        user = await _user_of(call, identity)
        proof = (identity.issuer, identity.subject)
        _, secret = await begin_session(call, user.name, proof, issuer=identity.issuer)
    except ProviderUnavailable as error:
        raise Refusal("overloaded", str(error), hint="try again in a moment") from error
    except (OidcRefused, AccountError) as error:
        if not isinstance(error, LoginNotBegun):
            # Else anybody could fill the log, which nobody ever empties, by asking for this URL.
            await record(call, "login.failed", None, actor=None, outcome="refused", reason=str(error))
        return _way_on(root, _REFUSED_PATH)
    response = _way_on(root, identity.next_path)
    set_cookie(call, response, secret)
    return response


def _way_on(root: str, path: str) -> Response:
    """Return what leads the browser on, when the login is over one way or the other."""
    response = RedirectResponse(root + path, 302, {"Cache-Control": "no-store"})
    response.delete_cookie(_BINDING_COOKIE, path=f"{root}{_CALLBACK}")
    return response


async def _user_of(call: Call, identity: OidcIdentity) -> User:
    """Return the account of an identity, which is made if there is none."""
    directory = call.accounts.directory
    user: User | None = directory.registry.user_by_oidc(identity.issuer, identity.subject)
    if user is not None:
        return user
    title = "".join(c for c in identity.name or "" if c.isprintable())[:128]
    for name in name_for(identity):
        if name in directory.registry.users:
            continue
        note = noted(call, "user.add", name, actor=name, issuer=identity.issuer)
        try:
            made: User = await directory.noting(note).add_user(
                name, title=title, oidc=(identity.issuer, identity.subject)
            )
        except AccountError as error:
            if error.code != "name_taken":
                raise
            # Somebody had the name once; the next one has a mark that is his alone.
            continue
        return made
    raise AccountError("name_taken", "no name is left for this identity")


def name_for(identity: OidcIdentity) -> tuple[str, ...]:
    """Return the names that the account of an identity may get: as he is called there, else with a mark of his own."""
    source = identity.username or (identity.email or "").partition("@")[0] or "user"
    kept = "".join(c if c.isascii() and (c.isalnum() or c in "._@+-") else "-" for c in source.lower())
    stem = kept.lstrip("._@+-")[:_STEM_CHARS_MAX].rstrip("._@+-") or "user"
    mark = sha256(f"{identity.issuer}\n{identity.subject}".encode()).hexdigest()[:12]
    return stem, f"{stem}-{mark}"


_MORE = "what some providers send besides; it has no meaning here"
_STORED = ("storage_unavailable", "storage_full", "overloaded")

OIDC: tuple[Operation, ...] = (
    Operation(
        name="beginProviderLogin",
        method="GET",
        path="/v1/oidc/login",
        handler=_begin,
        summary="Go to the provider and log in there",
        action=Action.ANYTHING,
        parameters=(Parameter("next", "the path on this server to go to in the end", default="/"),),
        answers=(Answer(302, "to the provider", headers={"Location": "the provider's page"}),),
        refusals=("not_found", "overloaded"),
    ),
    Operation(
        name="finishProviderLogin",
        method="GET",
        path=_CALLBACK,
        handler=_finish,
        summary="Come back from the provider",
        action=Action.ANYTHING,
        parameters=(
            Parameter("state", "names the login"),
            Parameter("code", "what the provider gives its tokens for"),
            Parameter("error", "why the provider refuses"),
            Parameter("error_description", _MORE),
            Parameter("error_uri", _MORE),
            Parameter("iss", _MORE),
            Parameter("session_state", _MORE),
            Parameter("scope", _MORE),
            Parameter("authuser", _MORE),
            Parameter("hd", _MORE),
            Parameter("prompt", _MORE),
        ),
        description=f"Who is refused is sent to `{_REFUSED_PATH}`, without a session.",
        answers=(Answer(302, "to where the login began; the session is in a cookie", headers={"Location": "a path"}),),
        refusals=("not_found", *_STORED),
    ),
)
