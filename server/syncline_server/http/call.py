"""One request on its way through a handler: path, parameters and body, checked and bounded.

`Api` is what all handlers share. A `Call` gives a handler the pieces of its request in their types; whatever is wrong
with one of them is raised as the refusal that the client gets.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import unquote_to_bytes

import msgspec
from prometheus_client import CollectorRegistry
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from syncline_protocol.errors import KeyInvalid, RemoteProtocolError
from syncline_protocol.limits import DEFAULT_LIMITS, Limits
from syncline_protocol.values import check_key, check_store_name
from syncline_server.access.authority import Action
from syncline_server.access.concern import Concern
from syncline_server.access.gate import Visitor, unauthenticated
from syncline_server.access.principal import ANONYMOUS, Principal
from syncline_server.access.rights import Rights
from syncline_server.access.view import View
from syncline_server.accounts.accounts import Accounts
from syncline_server.backups import Backups
from syncline_server.hub import Hub
from syncline_server.limits.admission import network_of
from syncline_server.limits.throttle import Throttle
from syncline_server.settings import Settings
from syncline_server.storage.base import StoreUnknown, Unsupported

from .problem import Refusal, too_often

__all__ = ["Api", "Call", "json_response"]

S = TypeVar("S", bound=msgspec.Struct)

#: A body has to be there this long after its head; the largest one then needs 35 kB/s.
_BODY_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Api:
    """What all handlers share."""

    hub: Hub
    registry: CollectorRegistry
    server: str
    settings: Settings
    origins: frozenset[str]
    openapi: bytes
    asyncapi: bytes
    accounts: Accounts | None = None
    backups: Backups | None = None
    rate: Throttle[str] | None = None
    limits: Limits = DEFAULT_LIMITS

    def check_rate(self, principal: Principal, visitor: Visitor) -> None:
        """Take note of a request. Raises Refusal: there were too many of this user, or of this address."""
        if self.rate is not None:
            whose = f"address {network_of(visitor.address)}" if principal.name is None else f"user {principal.name}"
            wait_s = self.rate.take(whose, 1, self.hub.now())
            if wait_s:
                self.hub.counts.refused["rate"] += 1
                raise too_often(wait_s, "too many requests in a short time")


class Call:
    """One request.

    Args:
        api: what all requests share.
        request: the request as Starlette has it; its path parameters are still percent-encoded.
        query: the parameters that the operation has, each with its value or default.
        visitor: where it comes from, and what it brings along.
        principal: who asks.
        action: what he was allowed.
    """

    def __init__(
        self,
        api: Api,
        request: Request,
        query: Mapping[str, str | float | None],
        visitor: Visitor,
        principal: Principal,
        action: Action,
    ) -> None:
        self.api = api
        self.hub = api.hub
        self.request = request
        self.visitor = visitor
        self._principal = principal
        self._action = action
        self._query = query

    # --- who ---

    @property
    def principal(self) -> Principal:
        """Who asks, as he is now: a request that waits may outlive his token or his place in a group.

        Raises RemoteProtocolError: his credentials do not hold any more.
        """
        # Whoever asks without credentials may ask; what he gets is what is granted to everyone, if anything is.
        principal = self._principal if self._principal is ANONYMOUS else self.hub.gate.current(self._principal)
        if principal is None:
            raise unauthenticated()
        return principal

    @property
    def has_expired(self) -> bool:
        """Whether the credentials have come to their end since the request was let in."""
        ends_ms = self._principal.expires_ms
        return ends_ms is not None and ends_ms <= self.hub.now_ms()

    def authorize(self, action: Action, store: str | None = None) -> None:
        """Ask whether something may be done. Raises RemoteProtocolError or StoreUnknown, as `Authority.authorize`."""
        self.hub.authority.authorize(self.principal, action, store)

    def rights(self, store: str) -> Rights:
        """Return what may be done in a store now."""
        return self.hub.authority.rights(self.principal, store)

    def view(self, store: str) -> View:
        """Return what is seen of a store. Raises StoreUnknown if that is nothing any more."""
        view = self.rights(store).view
        if view is None:
            raise StoreUnknown(store)
        return view

    def still_allowed(self, view: View | None = None) -> Callable[[], bool]:
        """Return what tells, at any time later, whether the request may still be answered.

        Args:
            view: what the answer shows of the store of the path; it may not be answered once another one is due.
        """
        gate, authority, action, was = self.hub.gate, self.hub.authority, self._action, self._principal
        store = self.store if "store" in self.request.path_params else None

        def still_allowed() -> bool:
            principal = ANONYMOUS if was is ANONYMOUS else gate.current(was)
            if principal is None:
                return False
            try:
                authority.authorize(principal, action, store)
            except (RemoteProtocolError, StoreUnknown):
                return False
            return store is None or view is None or authority.rights(principal, store).view == view

        return still_allowed

    def concerned(self) -> Callable[[Concern], bool]:
        """Return what tells whether a change of rights may be about this request, so that not all are judged anew.

        It has to be asked about every change: those of who he is are about him, and it goes on with who he is then.
        """
        gate, was = self.hub.gate, self._principal
        store = self.store if "store" in self.request.path_params else None
        now = gate.current(was) or was

        def concerned(concern: Concern) -> bool:
            nonlocal now
            if not concern.is_about(now):
                return False
            identity = concern.changes_identity(now)
            now = gate.current(was) or now
            return identity or (store is not None and concern.is_in(store))

        return concerned

    @property
    def accounts(self) -> Accounts:
        """The accounts of this server. Raises Refusal if nobody has to log in here."""
        if self.api.accounts is None:
            raise Refusal("not_found", "this server has no accounts", hint="start it with --auth accounts")
        return self.api.accounts

    @property
    def backups(self) -> Backups:
        """The backups of this server. Raises Unsupported if it makes none."""
        if self.api.backups is None:
            raise Unsupported("this server makes no backups", hint="copy its storage by the means that it has")
        return self.api.backups

    # --- where to ---

    @property
    def store(self) -> str:
        """The store of the path. Raises RemoteProtocolError: its name breaks the rules."""
        return check_store_name(unquote_to_bytes(self.request.path_params["store"]).decode(errors="replace"))

    @property
    def key(self) -> str:
        """The key of the path. Raises KeyInvalid."""
        return self.checked_key(unquote_to_bytes(self.request.path_params["key"]))

    def checked_key(self, text: bytes) -> str:
        """Return a key that came outside of JSON. Raises KeyInvalid."""
        try:
            return check_key(text.decode(), self.api.limits)
        except UnicodeDecodeError as error:
            raise KeyInvalid("key_invalid", "the key is not UTF-8") from error

    # --- how ---

    def text(self, name: str) -> str | None:
        """Return a text parameter."""
        value = self._query[name]
        assert value is None or isinstance(value, str)
        return value

    def number(self, name: str) -> float:
        """Return a numeric parameter."""
        value = self._query[name]
        assert isinstance(value, (int, float))
        return value

    def given(self, name: str) -> bool:
        """Return whether the request names this parameter."""
        return name in self.request.query_params

    def header(self, name: str) -> bytes | None:
        """Return a header as it came, or None."""
        wanted = name.lower().encode()
        return next((bytes(value) for key, value in self.request.scope["headers"] if key == wanted), None)

    def accepts(self, *media_types: str) -> str:
        """Return which of these the client asks for by its exact name first, or the first of them."""
        for part in self.request.headers.get("accept", "").split(","):
            media_type = part.partition(";")[0].strip().lower()
            if media_type in media_types:
                return media_type
        return media_types[0]

    def has_etag(self, etag: str) -> bool:
        """Return whether the client says that it has what this ETag names (RFC 9110, 13.1.2)."""
        known = self.request.headers.get("if-none-match", "")
        return known.strip() == "*" or etag in [item.strip().removeprefix("W/") for item in known.split(",")]

    # --- what ---

    async def json_body(self) -> bytes:
        """Return the body of a request that carries JSON, still unparsed.

        Raises:
            Refusal: it has another media type, is too large, or does not come in time.
        """
        media_type, _, parameters = self.request.headers.get("content-type", "application/json").partition(";")
        charset = parameters.strip().lower().removeprefix("charset=").strip('"')
        if media_type.strip().lower() != "application/json" or charset not in ("", "utf-8"):
            raise Refusal("media_type_unsupported", "the body is JSON in UTF-8", hint="send application/json")
        if self.request.headers.get("content-encoding", "identity").lower() != "identity":
            raise Refusal("media_type_unsupported", "the body may not be compressed")
        try:
            async with asyncio.timeout(_BODY_TIMEOUT_S):
                return await self._read_body(self.api.limits.frame_bytes_max)
        except TimeoutError as error:
            raise Refusal(
                "body_timeout",
                f"the body was not there after {_BODY_TIMEOUT_S:g} s",
                headers={"Connection": "close"},
            ) from error

    async def _read_body(self, bytes_max: int) -> bytes:
        too_large = Refusal("too_large", f"the body is larger than {bytes_max} bytes")
        length = self.request.headers.get("content-length", "")
        if length.isdecimal() and int(length[:20]) > bytes_max:
            raise too_large
        pieces: list[bytes] = []
        size = 0
        while True:
            message = await self.request.receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            piece = message.get("body", b"")
            size += len(piece)
            if size > bytes_max:
                raise too_large
            pieces.append(piece)
            if not message.get("more_body", False):
                return b"".join(pieces)

    async def json_struct(self, kind: type[S]) -> S:
        """Return the body as an object of this kind. Raises Refusal."""
        body = await self.json_body()
        try:
            return msgspec.json.decode(body, type=kind)
        except msgspec.ValidationError as error:
            text = str(error)
            code = "unknown_parameter" if "unknown field" in text else "bad_message"
            raise Refusal(code, text[:200]) from error
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Refusal("bad_json", f"the body is not JSON in UTF-8: {error}") from error
        except RecursionError as error:
            raise Refusal("bad_json", "the body is nested too deep") from error


def json_response(
    body: msgspec.Struct | bytes, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """Return an answer of JSON. It is never taken from a cache without asking."""
    content = body if isinstance(body, bytes) else msgspec.json.encode(body)
    return Response(content, status, {"Cache-Control": "no-cache", **(headers or {})}, "application/json")
