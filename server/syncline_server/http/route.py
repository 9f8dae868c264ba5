"""From an HTTP request to the handler of its operation, with everything that holds for all of them.

A path is matched as it came, segment by segment, before its percent-encoding is taken off, so that a key may have a
slash. Before a handler runs: the page's origin and the host are allowed, the server is not draining, each parameter
is one that the operation has. What is raised on the way becomes a problem in `exception_handlers`.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any
from urllib.parse import quote, unquote

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import Receive, Scope, Send

from syncline_protocol.errors import ProtocolError, RemoteProtocolError
from syncline_server.access.authority import Action
from syncline_server.access.gate import Visitor
from syncline_server.access.principal import ANONYMOUS, Principal
from syncline_server.access.rights import Rights
from syncline_server.accounts.error import AccountError
from syncline_server.hub import Hub
from syncline_server.origin import host_allowed, origin_allowed
from syncline_server.storage.base import StorageError
from syncline_server.visitor import visitor_of

from .call import Api, Call
from .operation import Operation, Parameter
from .problem import Refusal, problem_response, refusal_of

__all__ = ["exception_handlers_of", "route_of"]

#: Every route takes a ticket in the place of an `Authorization` header, which an `EventSource` cannot send.
_TICKET = Parameter("ticket", "a ticket from /v1/tickets")

_ALLOWED_HEADERS = "Authorization, Content-Type, Idempotency-Key, If-None-Match, Last-Event-ID"

#: How long a browser may remember what an allowed foreign origin may do.
_PREFLIGHT_AGE_S = 600


def route_of(api: Api, operations: Sequence[Operation]) -> Route:
    """Return the route of all operations on one path."""
    by_method: dict[str, Operation] = {operation.method: operation for operation in operations}
    if "GET" in by_method:
        by_method["HEAD"] = by_method["GET"]

    async def endpoint(request: Request) -> Response:
        response = await _carry_out(api, by_method[request.method], request)
        return _finished(api.hub, api.origins, request, response)

    return _RawRoute(operations[0].path, endpoint, sorted(by_method), api)


async def _carry_out(api: Api, operation: Operation, request: Request) -> Response:
    _check_origin(api, request)
    if api.hub.draining and not operation.always:
        raise Refusal("drain", "the server is shutting down", hint="come back in a few seconds")
    visitor = visitor_of(request)
    try:
        principal = await _who(api, operation, visitor)
    except RemoteProtocolError:
        api.check_rate(ANONYMOUS, visitor)
        raise
    api.check_rate(principal, visitor)
    call = Call(api, request, _query_of(operation, request), visitor, principal, operation.action)
    store = call.store if "store" in request.path_params else None
    call.authorize(operation.action, store)
    if store is None:
        return await operation.handler(call)
    rights = call.rights(store)
    response = await operation.handler(call)
    if operation.action is Action.READ and (rights.is_stale or call.has_expired):
        _authorize_again(call, operation, store, rights)
    return response


async def _who(api: Api, operation: Operation, visitor: Visitor) -> Principal:
    """Return who asks. Credentials that do not hold are refused, also where none are needed."""
    gate = api.hub.gate
    try:
        principal = gate.admit(visitor.token, visitor)
        if principal is None:
            assert visitor.token is not None
            principal = await gate.prove(visitor.token, visitor)
        return principal
    except RemoteProtocolError:
        if visitor.token is None or operation.is_for_anybody:
            return ANONYMOUS
        raise


def _authorize_again(call: Call, operation: Operation, store: str, rights: Rights) -> None:
    """Grants have changed while the request was carried out: what was read may be more than is to be shown now.

    Raises as `Authority.authorize`, or Refusal if he sees another part of the store than before.
    """
    call.authorize(operation.action, store)
    if call.rights(store).view != rights.view:
        raise Refusal("forbidden", "the grant was changed while this was carried out", hint="ask again")


def _check_origin(api: Api, request: Request) -> None:
    host, origin = request.headers.get("host"), request.headers.get("origin")
    server = request.scope.get("server")
    hint = "the setting `origins` lists further origins that may use this server"
    if not host_allowed(host, server[0] if server else None, api.origins):
        raise Refusal("origin_refused", "this server is not known by the name in the Host header", hint=hint)
    if not origin_allowed(origin, host, api.origins):
        raise Refusal("origin_refused", "a page of another origin may not use this server", hint=hint)


# --- parameters ---


def _query_of(operation: Operation, request: Request) -> dict[str, str | float | None]:
    known = {parameter.name: parameter for parameter in (*operation.parameters, _TICKET)}
    query: dict[str, str | float | None] = {parameter.name: parameter.default for parameter in operation.parameters}
    given = request.query_params.multi_items()
    for name, text in given:
        if name not in known:
            hint = f"it has {', '.join(known)}" if known else "it has none"
            raise Refusal("unknown_parameter", f"{operation.name} has no parameter {name[:40]!r}", hint=hint)
        query[name] = _value_of(known[name], text)
    if len(given) != len({name for name, _ in given}):
        raise Refusal("bad_message", "a parameter is given twice")
    return query


def _value_of(parameter: Parameter, text: str) -> str | float:
    if parameter.kind == "string":
        return text
    try:
        value = int(text) if parameter.kind == "integer" and len(text) < 20 else float(text)
        sound = text.isascii() and parameter.minimum <= value <= parameter.maximum
        sound = sound and (parameter.kind == "number" or isinstance(value, int))
    except ValueError:
        sound = False
    if not sound:
        kind = "a whole number" if parameter.kind == "integer" else "a number"
        raise Refusal("bad_message", f"{parameter.name} is {kind} between {parameter.minimum} and {parameter.maximum}")
    return value


# --- answers ---


def _finished(hub: Hub, origins: frozenset[str], request: Request, response: Response) -> Response:
    """Add what all answers have: no guessing of types, and for allowed foreign pages the right to read them."""
    hub.counts.http_requests[str(response.status_code)] += 1
    response.headers["X-Content-Type-Options"] = "nosniff"
    if origins:
        response.headers.add_vary_header("Origin")
        origin = request.headers.get("origin")
        if origin is not None and origin_allowed(origin, None, origins):
            response.headers["Access-Control-Allow-Origin"] = origin
            response.headers["Access-Control-Expose-Headers"] = "ETag, Location, Retry-After, Syncline-Cursor"
    return response


ExceptionHandler = Callable[[Request, Exception], Awaitable[Response]]


def exception_handlers_of(hub: Hub, origins: frozenset[str]) -> Mapping[Any, ExceptionHandler]:
    """Return what turns everything that is raised into an answer."""

    async def refuse(request: Request, error: Exception) -> Response:
        refusal = refusal_of(error)
        hub.counts.errors_sent[refusal.code] += 1
        return _finished(hub, origins, request, problem_response(refusal))

    async def let_go(request: Request, error: Exception) -> Response:
        # Nobody is there to read it.
        return Response(status_code=400)

    async def fail(request: Request, error: Exception) -> Response:
        hub.log.error("http_request_failed", method=request.method, route=_path_of(request))
        return await refuse(request, error)

    return {
        Refusal: refuse,
        ProtocolError: refuse,
        StorageError: refuse,
        AccountError: refuse,
        HTTPException: refuse,
        ClientDisconnect: let_go,
        Exception: fail,
    }


def _path_of(request: Request) -> str:
    route = request.scope.get("route")
    return route.path if isinstance(route, Route) else ""


# --- paths ---


class _RawRoute(Route):
    """A route that matches the path as it came."""

    def __init__(self, path: str, endpoint: Callable[[Request], Awaitable[Response]], methods: list[str], api: Api):
        super().__init__(path, endpoint, methods=methods)
        self._segments = path.split("/")
        self._allow = ", ".join(methods)
        self._api = api

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        if scope["type"] != "http":
            return Match.NONE, {}
        raw = _raw_path(scope).split("/")
        if len(raw) != len(self._segments):
            return Match.NONE, {}
        params: dict[str, Any] = dict(scope.get("path_params", {}))
        for wanted, came in zip(self._segments, raw, strict=True):
            if wanted.startswith("{"):
                params[wanted[1:-1]] = came
            elif wanted != unquote(came):
                return Match.NONE, {}
        return Match.FULL, {"endpoint": self.endpoint, "path_params": params}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert self.methods is not None
        if scope["method"] in self.methods:
            await self.app(scope, receive, send)
            return
        request = Request(scope)
        if scope["method"] == "OPTIONS" and "access-control-request-method" in request.headers:
            await self._preflight(request)(scope, receive, send)
            return
        raise Refusal("method_not_allowed", f"the route has {self._allow}", headers={"Allow": self._allow})

    def _preflight(self, request: Request) -> Response:
        """Tell a browser what an allowed foreign page may do."""
        _check_origin(self._api, request)
        headers = {
            "Access-Control-Allow-Methods": self._allow,
            "Access-Control-Allow-Headers": _ALLOWED_HEADERS,
            "Access-Control-Max-Age": str(_PREFLIGHT_AGE_S),
        }
        return _finished(self._api.hub, self._api.origins, request, Response(status_code=204, headers=headers))


def _raw_path(scope: Scope) -> str:
    """Return the path below where this application is mounted, still percent-encoded."""
    raw: bytes | None = scope.get("raw_path")
    path = raw.decode("latin-1").partition("?")[0] if raw else quote(scope["path"])
    root: str = scope.get("root_path", "")
    if not root:
        return path
    if path.startswith(root) and path[len(root) : len(root) + 1] in ("", "/"):
        return path[len(root) :]
    # The prefix came in another spelling; it ends at one of the slashes.
    for end, character in enumerate(path):
        if character == "/" and unquote(path[:end]) == root:
            return path[end:]
    return path
