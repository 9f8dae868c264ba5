"""Requests over HTTP: what needs no socket. The twin of `connection`.

Owns the HTTP client, made when it is first needed, and turns every failure into an error of this package: a problem
of the server into `RequestRefused`, a server that cannot be reached into `ConnectionFailed`.
"""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from email.utils import parsedate_to_datetime
from typing import TypeVar

import httpx2
import msgspec

from syncline_protocol.cursor import Cursor, Seq

from .address import Address
from .credentials import UNAUTHORIZED, Credentials
from .errors import ConnectionFailed, ConnectionForbidden, RequestRefused
from .record import Record, Records

__all__ = ["HttpApi", "StoreInfo"]

T = TypeVar("T")

_TIMEOUT_S = 30.0


class StoreInfo(msgspec.Struct, frozen=True):
    """A store as the server describes it.

    Attributes:
        name: its name.
        store_id: its identity; a store that is made anew under the same name has another.
        head: the position of its last change.
        seq: the seq of its last change.
        created: when it was created, in ms since 1970.
        count: how many records live in it.
        digest: the digest of these, as in CAUGHT_UP.
        lineage: the history that `head` belongs to.
    """

    name: str
    store_id: str
    head: Cursor
    seq: Seq
    created: int = 0
    count: int = 0
    digest: str = ""
    lineage: str = ""


class _StoreList(msgspec.Struct):
    stores: tuple[StoreInfo, ...]


class _Problem(msgspec.Struct):
    """What is used of a problem+json body."""

    title: str = ""
    detail: str = ""
    code: str = ""
    hint: str = ""


class HttpApi:
    """The HTTP side of a server.

    Args:
        credentials: what is shown with every request.
        transport: what carries the requests; for tests.
    """

    def __init__(
        self,
        address: Address,
        *,
        credentials: Credentials | None = None,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        self._address = address
        self._credentials = credentials or Credentials(address.url, None)
        self._transport = transport
        self._client: httpx2.AsyncClient | None = None

    async def __aenter__(self) -> "HttpApi":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close its connections."""
        if self._client is not None:
            await self._client.aclose()

    # --- requests ---

    async def list_stores(self) -> list[StoreInfo]:
        """Return every store."""
        body = await self._request("GET", self._address.path("stores"))
        return list(self._read(body, _StoreList).stores)

    async def create_store(self, name: str) -> tuple[StoreInfo, bool]:
        """Create a store unless it is there. Returns it, and whether it is new."""
        async with self._open("PUT", self._address.path("stores", name)) as response:
            return self._read(await response.aread(), StoreInfo), response.status_code == httpx2.codes.CREATED

    async def drop_store(self, name: str) -> StoreInfo:
        """Drop a store with all its records. Returns what it was."""
        return self._read(await self._request("DELETE", self._address.path("stores", name)), StoreInfo)

    async def store_info(self, name: str) -> StoreInfo:
        """Return a store."""
        return self._read(await self._request("GET", self._address.path("stores", name)), StoreInfo)

    async def get(self, store: str, key: str) -> Record | None:
        """Return a live record, or None."""
        try:
            body = await self._request("GET", self._address.path("stores", store, "records", key))
        except RequestRefused as error:
            if error.code == "record_unknown":
                return None
            raise
        return self._read(body, Record)

    def records(self, store: str) -> Records:
        """Walk over the live records of a store."""
        url = self._address.path("stores", store, "records")
        return Records(self._open("GET", url, {"Accept": "application/x-ndjson"}))

    async def server(self) -> dict[str, object]:
        """Return what the server says of itself."""
        return self._read(await self._request("GET", self._address.path("server")), dict[str, object])

    async def health(self, which: str) -> float | None:
        """Ask `/health/live` or `/health/ready`. Returns the server's clock in seconds since 1970, if it told.

        Raises:
            RequestRefused: it is not healthy.
        """
        async with self._open("GET", f"{self._address.url}/health/{which}") as response:
            return _seconds_of(response.headers.get("Date"))

    # --- plumbing ---

    async def _request(self, method: str, url: str) -> bytes:
        async with self._open(method, url) as response:
            return await response.aread()

    @asynccontextmanager
    async def _open(
        self, method: str, url: str, headers: dict[str, str] | None = None
    ) -> AsyncIterator[httpx2.Response]:
        try:
            async with AsyncExitStack() as sent:
                response = await self._let_in(sent, method, url, headers or {})
                if response.status_code >= httpx2.codes.BAD_REQUEST:
                    raise _problem_of(response.status_code, await response.aread(), f"{method} {url}")
                yield response
        except httpx2.TransportError as error:
            raise self._explain(error) from error

    async def _let_in(self, sent: AsyncExitStack, method: str, url: str, headers: dict[str, str]) -> httpx2.Response:
        """Send a request with a token, and once more if that is refused and there is another one."""
        token = await self._credentials.ask()
        response = await self._send(sent, method, url, headers, token)
        if response.status_code == UNAUTHORIZED:
            await response.aread()
            other = await self._credentials.renew(token)
            if other is not None:
                return await self._send(sent, method, url, headers, other)
        return response

    async def _send(
        self, sent: AsyncExitStack, method: str, url: str, headers: dict[str, str], token: str | None
    ) -> httpx2.Response:
        client = self._ready_client()
        shown = {"Authorization": f"Bearer {token}"} if token else {}
        response = await client.send(client.build_request(method, url, headers={**headers, **shown}), stream=True)
        sent.push_async_callback(response.aclose)
        return response

    def _ready_client(self) -> httpx2.AsyncClient:
        if self._client is None:
            try:
                self._client = httpx2.AsyncClient(
                    timeout=_TIMEOUT_S,
                    trust_env=not self._address.is_loopback,
                    transport=self._transport,
                    # Certificates take longer to load than most requests, and without TLS nobody looks at them.
                    verify=self._address.is_secure,
                )
            except (ImportError, ValueError) as error:
                # A proxy of the environment has an address that makes no sense, or takes a package that is not here.
                hint = "check the proxy variables of the environment"
                raise ConnectionForbidden(self._address.url, str(error), hint=hint) from error
        return self._client

    def _explain(self, error: httpx2.TransportError) -> ConnectionFailed:
        url = self._address.url
        if isinstance(error, httpx2.ConnectError):
            return ConnectionFailed(
                url, "it cannot be reached", hint="start the server with `syncline serve`, or check the URL"
            )
        if isinstance(error, httpx2.TimeoutException):
            return ConnectionFailed(url, "no answer in time", hint="check host, port and firewall")
        return ConnectionFailed(url, f"the connection broke: {error or type(error).__name__}")

    def _read(self, body: bytes, kind: type[T]) -> T:
        try:
            return msgspec.json.decode(body, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            reason = f"the answer is not a Syncline server's: {error}"
            raise ConnectionFailed(self._address.url, reason, hint="check the URL") from error


def _problem_of(status: int, body: bytes, request: str) -> RequestRefused:
    try:
        problem = msgspec.json.decode(body, type=_Problem)
    except (msgspec.DecodeError, UnicodeDecodeError):
        problem = _Problem(detail=f"{request} was answered with HTTP {status}", hint="is it a Syncline server?")
    return RequestRefused(status, problem.code, problem.detail or problem.title, hint=problem.hint)


def _seconds_of(date: str | None) -> float | None:
    try:
        return None if date is None else parsedate_to_datetime(date).timestamp()
    except ValueError:
        return None
