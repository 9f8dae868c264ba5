"""What comes with a request or an upgrade before anybody has said a word: credentials, origin, address.

Credentials are taken from an `Authorization` header, from the console's cookie, or from a one-use ticket in the URL,
for browsers' `EventSource` and sockets, which can send no headers. Any other token in a URL is refused, also where none
is needed: URLs are kept by proxies, logs and histories (PROTOCOL 2.4.1). A cookie comes without the page's doing, so
it counts only for pages of this very origin, also if others are allowed.
"""

import re
from collections.abc import Mapping

from starlette.requests import HTTPConnection

from syncline_protocol.errors import RemoteProtocolError

from .access.gate import Visitor
from .origin import origin_allowed

__all__ = ["SESSION_COOKIE", "visitor_of"]

#: The cookie that the console has its session in.
SESSION_COOKIE = "syncline_session"

_TOKEN_PARAMETERS = frozenset({"token", "access_token", "auth", "authorization", "api_key", "apikey", "jwt", "bearer"})
_TICKET = re.compile(r"syncline_t_[A-Za-z0-9_-]{43}", re.ASCII)
_OURS = re.compile(r"syncline_[a-z]_", re.ASCII)
_SAFE_METHODS = frozenset({"GET", "HEAD"})


def visitor_of(connection: HTTPConnection) -> Visitor:
    """Return who knocks.

    Raises:
        RemoteProtocolError: `token_in_url`.
    """
    ticket = _ticket_in(connection.query_params)
    client = connection.client
    headers = connection.headers
    token = _bearer(headers.get("authorization")) or ticket or _cookie(connection)
    return Visitor(token, headers.get("origin"), "" if client is None else client.host)


def _ticket_in(query: Mapping[str, str]) -> str | None:
    ticket: str | None = None
    for name, value in query.items():
        if name == "ticket" and _TICKET.fullmatch(value):
            ticket = value
        elif name.lower() in _TOKEN_PARAMETERS or name == "ticket" or _OURS.match(value):
            raise RemoteProtocolError(
                "token_in_url",
                "credentials do not belong into a URL, where logs and histories keep them",
                hint="revoke this token; send one in HELLO or an Authorization header, or a ticket from /v1/tickets",
            )
    return ticket


def _bearer(header: str | None) -> str | None:
    if header is None:
        return None
    scheme, _, token = header.partition(" ")
    # One of another kind is a proxy's affair, which asks for a password of its own and passes it on.
    return token.strip() or None if scheme.lower() == "bearer" else None


def _cookie(connection: HTTPConnection) -> str | None:
    text = connection.cookies.get(SESSION_COOKIE)
    if text is None:
        return None
    headers, origin = connection.headers, connection.headers.get("origin")
    if origin is not None:
        # The page may have come over TLS to a proxy that nobody has named to us, but never without it to where TLS is.
        downgraded = connection.url.scheme in ("https", "wss") and origin.lower().startswith("http:")
        return text if origin_allowed(origin, headers.get("host")) and not downgraded else None
    # A page's own GET has no Origin; a browser that is new enough says where it came from.
    method = connection.scope.get("method", "")
    same = headers.get("sec-fetch-site", "same-origin") in ("same-origin", "none")
    return text if method in _SAFE_METHODS and same else None
