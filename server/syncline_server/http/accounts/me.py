"""Who one is, and tickets for sockets of browsers."""

from starlette.responses import Response

from syncline_server.access.authority import Action
from syncline_server.http.call import Call, json_response
from syncline_server.http.operation import JSON, Answer, Operation, RequestBody

from .acting import require_login
from .bodies import Empty, MeBody, TicketBody, me_body

__all__ = ["ME"]

_NO_STORE = {"Cache-Control": "no-store"}


async def _me(call: Call) -> Response:
    accounts = call.api.accounts
    body = me_body(
        call.principal,
        auth="none" if accounts is None else "accounts",
        oidc=accounts is not None and accounts.oidc is not None,
        setup=accounts is not None and not accounts.directory.registry.has_admin,
    )
    return json_response(body, headers=_NO_STORE)


async def _ticket(call: Call) -> Response:
    await call.json_struct(Empty)
    require_login(call.principal)
    text, expires_ms = call.accounts.tickets.issue(call.principal, call.request.headers.get("origin"))
    return json_response(TicketBody(text, expires_ms), 201, _NO_STORE)


ME: tuple[Operation, ...] = (
    Operation(
        name="getMe",
        method="GET",
        path="/v1/me",
        handler=_me,
        summary="Who the server takes one for, and how one logs in",
        action=Action.ANYTHING,
        answers=(Answer(200, "who one is", {JSON: (MeBody,)}),),
    ),
    Operation(
        name="makeTicket",
        method="POST",
        path="/v1/tickets",
        handler=_ticket,
        summary="Make a ticket: credentials for one use within 30 s, for a page that opens a WebSocket",
        action=Action.LOG_IN,
        description="It is bound to its user and to the Origin of the request.",
        body=RequestBody("an empty object", Empty),
        answers=(Answer(201, "the ticket", {JSON: (TicketBody,)}),),
        refusals=("bad_json", "bad_message", "unauthenticated", "rate_limited", "overloaded"),
    ),
)
