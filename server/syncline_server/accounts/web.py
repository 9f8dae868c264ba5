"""What the server asks of others over HTTP: key sets, discovery documents and tokens, a few times an hour.

`BoundedTransport` is the only way out, also for Authlib. It asks over HTTPS or on this machine only, waits 5 s for the
whole answer, reads at most 256 KiB of it, and takes no compressed answers, because those grow after they were counted.
Redirects are not followed, since the clients above it do not, and proxies of the environment are not used. Every
request has a connection of its own: they are so rare that one that is kept would be closed before it is used again.
"""

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

import httpx2

from syncline_server.settings import is_loopback

__all__ = ["ANSWER_BYTES_MAX", "BoundedTransport", "Fetch", "FetchFailed", "check_url", "fetch"]

ANSWER_BYTES_MAX = 256 * 1024

_TIMEOUT_S = 5.0

#: Returns what is at a URL or a path. Raises FetchFailed.
Fetch = Callable[[str], Awaitable[bytes]]


class FetchFailed(Exception):
    """Something could not be had from another server or a file; the text is for the log."""


def check_url(url: str) -> None:
    """Check that a URL may be asked: HTTPS, or HTTP on this machine; with a host, without a user or a fragment.

    Raises:
        ValueError: it may not.
    """
    parts = urlsplit(url)
    if not parts.hostname or "@" in parts.netloc or parts.fragment:
        raise ValueError(f"{url} is not the URL of a server")
    if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(parts.hostname)):
        raise ValueError(f"{url} must begin with https:// (http:// is for this machine only)")


async def fetch(url: str, *, transport: httpx2.AsyncBaseTransport | None = None, bearer: str | None = None) -> bytes:
    """Return what is at a URL.

    Args:
        transport: what carries the request; a `BoundedTransport` if there is none.
        bearer: an access token to show.

    Raises:
        FetchFailed: there is no answer, or one that is not 200.
    """
    headers = {"Authorization": f"Bearer {bearer}"} if bearer else {}
    carrier = transport or BoundedTransport()
    try:
        async with httpx2.AsyncClient(transport=carrier, trust_env=False) as client:
            response = await client.get(url, headers=headers)
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        raise FetchFailed(f"{url}: {error or type(error).__name__}") from error
    if response.status_code != httpx2.codes.OK:
        raise FetchFailed(f"{url} was answered with HTTP {response.status_code}")
    return response.content


class BoundedTransport(httpx2.AsyncBaseTransport):
    """Args:
    inner: what carries the requests, for tests; else every request has a connection of its own.
    timeout_s: how long the whole answer may take.
    """

    def __init__(self, inner: httpx2.AsyncBaseTransport | None = None, *, timeout_s: float = _TIMEOUT_S) -> None:
        self._inner = inner
        self._timeout_s = timeout_s
        self._certificates: ssl.SSLContext | None = None

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request and return its whole answer."""
        try:
            check_url(str(request.url))
        except ValueError as error:
            raise httpx2.UnsupportedProtocol(str(error), request=request) from error
        request.headers["Accept-Encoding"] = "identity"
        try:
            async with asyncio.timeout(self._timeout_s):
                if self._inner is not None:
                    return await _exchange(self._inner, request)
                async with await self._connect(request.url.scheme) as connection:
                    return await _exchange(connection, request)
        except TimeoutError as error:
            raise httpx2.ReadTimeout(f"no answer within {self._timeout_s:g} s", request=request) from error

    async def _connect(self, scheme: str) -> httpx2.AsyncHTTPTransport:
        if scheme == "http":
            return httpx2.AsyncHTTPTransport(verify=False)
        if self._certificates is None:
            # Reading the certificates of the system takes tens of milliseconds.
            self._certificates = await asyncio.to_thread(httpx2.create_ssl_context)
        return httpx2.AsyncHTTPTransport(verify=self._certificates)


async def _exchange(carrier: httpx2.AsyncBaseTransport, request: httpx2.Request) -> httpx2.Response:
    response = await carrier.handle_async_request(request)
    assert isinstance(response.stream, httpx2.AsyncByteStream)
    try:
        if response.headers.get("Content-Encoding", "identity") != "identity":
            raise httpx2.RemoteProtocolError("the answer is compressed although that was not asked for")
        body = bytearray()
        async for piece in response.stream:
            body += piece
            if len(body) > ANSWER_BYTES_MAX:
                raise httpx2.RemoteProtocolError(f"the answer has more than {ANSWER_BYTES_MAX} bytes")
    finally:
        await response.aclose()
    headers = {"Content-Type": response.headers.get("Content-Type", "")}
    return httpx2.Response(response.status_code, headers=headers, content=bytes(body), request=request)
