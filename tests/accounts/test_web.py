"""Asking other servers: real sockets on this machine, and answers that are too big, too slow or not what was asked."""

import asyncio
import gzip
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import httpx2
import pytest

from syncline_server.accounts.jwt import JwtSettings, JwtVerifier
from syncline_server.accounts.web import ANSWER_BYTES_MAX, BoundedTransport, FetchFailed, check_url, fetch
from tests.accounts.issuer import AUDIENCE, ISSUER, Clock, Issuer, ec_key


class Site:
    """A server that answers every request with the same bytes, and remembers the requests."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}/jwks"
        self.requests: list[str] = []


@asynccontextmanager
async def site(answer: bytes | None) -> AsyncIterator[Site]:
    """Serve an answer; None never answers."""

    writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        here.requests.append((await reader.readuntil(b"\r\n\r\n")).decode())
        if answer is None:
            await reader.read()
        else:
            writer.write(answer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    here = Site(server.sockets[0].getsockname()[1])
    async with server:
        yield here
        for writer in writers:
            writer.transport.abort()
            with suppress(OSError):
                await writer.wait_closed()


def ok(body: bytes, *headers: str) -> bytes:
    """Return a whole answer."""
    lines = ["HTTP/1.1 200 OK", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


async def test_a_verifier_gets_its_keys_from_a_real_server() -> None:
    issuer = Issuer(ec_key())
    async with site(ok(issuer.jwks(), "Content-Type: application/json")) as here:
        verifier = JwtVerifier(JwtSettings(ISSUER, AUDIENCE, ("ES256",), here.url), now=Clock())
        assert (await verifier.verify(issuer.sign())).subject == "alice"
        assert (await verifier.verify(issuer.sign({"sub": "bob"}))).subject == "bob"
        await verifier.close()
        assert len(here.requests) == 1
        assert here.requests[0].startswith("GET /jwks HTTP/1.1\r\n")
        assert "accept-encoding: identity\r\n" in here.requests[0].lower()
        assert "authorization" not in here.requests[0].lower()


async def test_an_access_token_is_shown_when_there_is_one() -> None:
    async with site(ok(b"{}")) as here:
        assert await fetch(here.url, bearer="abc") == b"{}"
        assert "authorization: bearer abc\r\n" in here.requests[0].lower()


async def test_the_largest_answer_is_taken_and_a_larger_one_is_not() -> None:
    async with site(ok(b"x" * ANSWER_BYTES_MAX)) as here:
        assert len(await fetch(here.url)) == ANSWER_BYTES_MAX
    async with site(ok(b"x" * (ANSWER_BYTES_MAX + 1))) as here:
        with pytest.raises(FetchFailed, match="more than 262144 bytes"):
            await fetch(here.url)


async def test_an_answer_without_an_end_is_cut() -> None:
    endless = b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * (4 * ANSWER_BYTES_MAX)
    async with site(endless) as here:
        with pytest.raises(FetchFailed, match="more than"):
            await fetch(here.url)


async def test_a_compressed_answer_is_refused_before_it_grows() -> None:
    async with site(ok(gzip.compress(b"x" * 50_000_000, 1), "Content-Encoding: gzip")) as here:
        with pytest.raises(FetchFailed, match="compressed"):
            await fetch(here.url)


async def test_a_redirect_is_not_followed() -> None:
    async with site(ok(b"{}")) as target:
        moved = f"HTTP/1.1 302 Found\r\nLocation: {target.url}\r\nContent-Length: 0\r\n\r\n"
        async with site(moved.encode()) as here:
            with pytest.raises(FetchFailed, match="HTTP 302"):
                await fetch(here.url)
        assert not target.requests


async def test_a_server_that_says_nothing_is_given_up() -> None:
    async with site(None) as here:
        with pytest.raises(FetchFailed, match=r"no answer within 0\.05 s"):
            await fetch(here.url, transport=BoundedTransport(timeout_s=0.05))


@pytest.mark.parametrize("answer", [b"", b"garbage\r\n\r\n", b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n"])
async def test_an_answer_that_is_no_success_is_a_failure(answer: bytes) -> None:
    async with site(answer) as here:
        with pytest.raises(FetchFailed):
            await fetch(here.url)


async def test_a_server_that_is_not_there_is_a_failure() -> None:
    async with site(b"") as here:
        url = here.url
    with pytest.raises(FetchFailed, match=r"127\.0\.0\.1"):
        await fetch(url)


@pytest.mark.parametrize(
    "url", ["http://issuer.example/", "ftp://127.0.0.1/", "https:///x", "https://u@h/", "https://h/#f"]
)
async def test_the_way_out_is_https_or_this_machine(url: str) -> None:
    async def reached(request: httpx2.Request) -> httpx2.Response:
        raise AssertionError(request.url)

    with pytest.raises(ValueError, match=r"URL|https"):
        check_url(url)
    with pytest.raises(FetchFailed):
        await fetch(url, transport=BoundedTransport(httpx2.MockTransport(reached)))


@pytest.mark.parametrize(
    "url", ["https://issuer.example/a?b", "http://127.0.0.1:1/", "http://[::1]/", "http://localhost/"]
)
def test_https_and_this_machine_may_be_asked(url: str) -> None:
    check_url(url)
