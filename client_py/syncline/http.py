"""Requests over HTTP: what needs no socket. The twin of `connection`.

Owns the HTTP client, made when it is first needed, and turns every failure into an error of this package: a problem
of the server into `RequestRefused`, a server that cannot be reached into `ConnectionFailed`.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from importlib.metadata import version
from typing import TypeVar
from urllib.parse import urlencode

import httpx2
import msgspec

from syncline_protocol.cursor import Cursor, Seq

from .address import Address
from .credentials import UNAUTHORIZED, Credentials
from .errors import ConnectionFailed, ConnectionForbidden, Forbidden, LoginFailed, RateLimited, RequestRefused
from .lines import NDJSON, lines_of
from .past import Diff, Position, position_text
from .record import Record, Records
from .upkeep import Floors, Sizes

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
        role: what we are there: `reader`, `writer` or `owner`; None where nobody has to log in.
        description: what its owner says of it.
        indexes: the names of its indexes.
        floors: how far clean-up has come.
        sizes: how large it is; None if we see a part of it only.
        owners: who owns it, as grants name them; None if we may not know.
    """

    name: str
    store_id: str
    head: Cursor
    seq: Seq
    created: int = 0
    count: int = 0
    digest: str = ""
    lineage: str = ""
    role: str | None = None
    description: str = ""
    indexes: tuple[str, ...] = ()
    floors: Floors = Floors()
    sizes: Sizes | None = None
    owners: tuple[str, ...] | None = None


class _StoreList(msgspec.Struct):
    stores: tuple[StoreInfo, ...]


class _Problem(msgspec.Struct):
    """What is used of a problem+json body."""

    title: str = ""
    detail: str = ""
    code: str = ""
    hint: str = ""
    after_ms: int | None = None


class HttpApi:
    """The HTTP side of a server.

    Args:
        credentials: what is shown with every request.
        user_agent: what the server's logs and lists of sessions call this client.
        transport: what carries the requests; for tests.
    """

    def __init__(
        self,
        address: Address,
        *,
        credentials: Credentials | None = None,
        user_agent: str = "syncline-py",
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        self._address = address
        self._credentials = credentials or Credentials(address.url, None)
        self._user_agent = f"{user_agent}/{version('syncline')}"
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

    @property
    def url(self) -> str:
        """Where the server is."""
        return self._address.url

    # --- requests ---

    async def request(
        self,
        method: str,
        *parts: str,
        kind: type[T],
        body: object = None,
        query: Mapping[str, str | None] | None = None,
        as_nobody: bool = False,
    ) -> T:
        """Send a request and return the answer.

        Args:
            parts: those of the path below `/v1`.
            kind: what the answer is.
            body: what to send, as JSON.
            query: parameters; those that are None are left out.
            as_nobody: show no token, as somebody does who is about to log in.
        """
        url = self._address.path(*parts)
        given = {name: value for name, value in (query or {}).items() if value is not None}
        if given:
            url = f"{url}?{urlencode(given)}"
        content = None if body is None else msgspec.json.encode(body)
        async with self._open(method, url, content=content, as_nobody=as_nobody) as response:
            return self._read(await response.aread(), kind)

    @asynccontextmanager
    async def lines(self, *parts: str) -> AsyncIterator[AsyncIterator[bytes]]:
        """Open an answer that is NDJSON and may be long; what is entered is an iterator over its lines."""
        async with self._open("GET", self._address.path(*parts), {"Accept": NDJSON}) as response:
            if not response.headers.get("Content-Type", "").startswith(NDJSON):
                raise ConnectionFailed(self._address.url, "the answer is not NDJSON", hint="check the URL")
            yield lines_of(response)

    @asynccontextmanager
    async def pieces(self, *parts: str, first: int = 0) -> AsyncIterator[tuple[int, int, AsyncIterator[bytes]]]:
        """Open an answer that is a file. What is entered: the byte at which it begins, the whole size, the pieces.

        Args:
            first: the byte to begin at, if the server can.
        """
        headers = {"Accept-Encoding": "identity", **({"Range": f"bytes={first}-"} if first else {})}
        async with self._open("GET", self._address.path(*parts), headers) as response:
            begin = first if response.status_code == httpx2.codes.PARTIAL_CONTENT else 0
            yield begin, begin + int(response.headers.get("Content-Length", "0")), response.aiter_raw()

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

    async def get(self, store: str, key: str, at: Position | None = None) -> Record | None:
        """Return a record that lives, or lived at a position; or None."""
        try:
            body = await self._request("GET", self._url("stores", store, "records", key, at=at))
        except RequestRefused as error:
            if error.code == "record_unknown":
                return None
            raise
        return self._read(body, Record)

    def records(self, store: str, at: Position | None = None) -> Records:
        """Walk over the records of a store that live, or lived at a position."""
        return Records(self._open("GET", self._url("stores", store, "records", at=at), {"Accept": NDJSON}))

    def diff(self, store: str, since: Position, to: Position | None = None) -> Diff:
        """Walk over what changed between two positions."""
        url = self._url("stores", store, "diff", **{"from": since, "to": to})
        return Diff(self._open("GET", url, {"Accept": NDJSON}))

    def _url(self, *parts: str, **positions: Position | None) -> str:
        given = {name: position_text(at) for name, at in positions.items() if at is not None}
        url = self._address.path(*parts)
        return f"{url}?{urlencode(given)}" if given else url

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
        self,
        method: str,
        url: str,
        headers: dict[str, str] | None = None,
        *,
        content: bytes | None = None,
        as_nobody: bool = False,
    ) -> AsyncIterator[httpx2.Response]:
        headers = dict(headers or {})
        if content is not None:
            headers["Content-Type"] = "application/json"
        request = _Request(method, url, headers, content)
        try:
            async with AsyncExitStack() as sent:
                response = await (self._send(sent, request, None) if as_nobody else self._let_in(sent, request))
                if response.status_code >= httpx2.codes.BAD_REQUEST:
                    await response.aread()
                    raise _problem_of(response, f"{method} {url.partition('?')[0]}")
                yield response
        except httpx2.TransportError as error:
            raise self._explain(error) from error

    async def _let_in(self, sent: AsyncExitStack, request: "_Request") -> httpx2.Response:
        """Send a request with a token, and once more if that is refused and there is another one."""
        token = await self._credentials.ask()
        response = await self._send(sent, request, token)
        if response.status_code == UNAUTHORIZED:
            await response.aread()
            other = await self._credentials.renew(token)
            if other is not None:
                return await self._send(sent, request, other)
        return response

    async def _send(self, sent: AsyncExitStack, request: "_Request", token: str | None) -> httpx2.Response:
        client = self._ready_client()
        shown = {"Authorization": f"Bearer {token}"} if token else {}
        built = client.build_request(
            request.method, request.url, headers={**request.headers, **shown}, content=request.content
        )
        response = await client.send(built, stream=True)
        sent.push_async_callback(response.aclose)
        return response

    def _ready_client(self) -> httpx2.AsyncClient:
        if self._client is None:
            try:
                self._client = httpx2.AsyncClient(
                    timeout=_TIMEOUT_S,
                    trust_env=not self._address.is_loopback,
                    transport=self._transport,
                    headers={"User-Agent": self._user_agent},
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


@dataclass(frozen=True, slots=True)
class _Request:
    """A request that may be sent twice, with another token."""

    method: str
    url: str
    headers: dict[str, str]
    content: bytes | None


def _problem_of(response: httpx2.Response, request: str) -> RequestRefused:
    """Return the error that says what a problem document says; the response has been read."""
    status = response.status_code
    try:
        problem = msgspec.json.decode(response.content, type=_Problem)
    except (msgspec.DecodeError, UnicodeDecodeError):
        problem = _Problem(detail=f"{request} was answered with HTTP {status}", hint="is it a Syncline server?")
    message = problem.detail or problem.title
    if problem.code == "rate_limited":
        after_s = _wait_of(problem, response.headers.get("Retry-After"))
        return RateLimited(status, problem.code, message, hint=problem.hint, after_s=after_s)
    kind = {"login_failed": LoginFailed, "forbidden": Forbidden}.get(problem.code, RequestRefused)
    return kind(status, problem.code, message, hint=problem.hint)


def _wait_of(problem: _Problem, retry_after: str | None) -> float | None:
    if problem.after_ms is not None:
        return problem.after_ms / 1000
    return float(retry_after) if retry_after is not None and retry_after.isdecimal() else None


def _seconds_of(date: str | None) -> float | None:
    try:
        return None if date is None else parsedate_to_datetime(date).timestamp()
    except ValueError:
        return None
