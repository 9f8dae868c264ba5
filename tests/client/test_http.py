"""Requests over HTTP, against a transport that answers what the test says."""

from collections.abc import AsyncIterator, Callable
from functools import partial

import httpx2
import pytest

from syncline import ConnectionFailed, Record, RequestRefused, Stores
from syncline.address import parse_address
from syncline.credentials import Credentials
from syncline.http import HttpApi

STORE = {"name": "notes", "store_id": "s1", "created": 5, "head": "i:3", "seq": 3, "count": 2, "digest": "0a"}


def api(answer: Callable[[httpx2.Request], httpx2.Response], url: str = "http://h") -> HttpApi:
    """Return the API over a transport that answers by a function."""
    address = parse_address(url)
    credentials = Credentials(address.url, "t1")
    return HttpApi(address, credentials=credentials, transport=httpx2.MockTransport(answer))


def problem(status: int, code: str) -> httpx2.Response:
    body = {
        "type": "about:blank",
        "title": "No",
        "status": status,
        "code": code,
        "detail": "it is so",
        "hint": "do this",
    }
    return httpx2.Response(status, json=body, headers={"Content-Type": "application/problem+json"})


async def test_stores_are_created_listed_looked_at_and_dropped_by_name() -> None:
    seen: list[tuple[str, str, str | None]] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        seen.append((request.method, request.url.raw_path.decode(), request.headers.get("Authorization")))
        if request.url.path.endswith("/stores"):
            return httpx2.Response(200, json={"stores": [STORE]})
        return httpx2.Response(201 if request.method == "PUT" else 200, json={**STORE, "later": "member"})

    async with api(answer, "http://h/sync") as http:
        stores = Stores(http)
        assert (await stores.create("notes")).store_id == "s1"
        assert (await http.create_store("notes"))[1] is True
        assert [store.name for store in await stores.list()] == ["notes"]
        assert (await stores.info("notes")).head == "i:3"
        assert (await stores.drop("notes")).count == 2
    assert [method for method, _, _ in seen] == ["PUT", "PUT", "GET", "GET", "DELETE"]
    assert {path for _, path, _ in seen} == {"/sync/v1/stores", "/sync/v1/stores/notes"}
    assert {token for _, _, token in seen} == {"Bearer t1"}


async def test_a_key_with_a_slash_stays_one_part_of_the_path_and_a_value_keeps_its_digits() -> None:
    def answer(request: httpx2.Request) -> httpx2.Response:
        assert request.url.raw_path == b"/v1/stores/notes/records/a%2Fb%3F%20%C3%BC"
        return httpx2.Response(200, content='{"key":"a/b? ü","value":{"n":1.50},"seq":1,"time":2}'.encode())

    async with api(answer) as http:
        record = await http.get("notes", "a/b? ü")
    assert record is not None
    assert (record.key, record.text, record.value) == ("a/b? ü", '{"n":1.50}', {"n": 1.5})


async def test_a_record_that_is_not_there_is_none_but_a_store_that_is_not_there_raises() -> None:
    async with api(lambda _: problem(404, "record_unknown")) as http:
        assert await http.get("notes", "k") is None
    async with api(lambda _: problem(404, "store_unknown")) as http:
        with pytest.raises(RequestRefused, match="it is so; do this") as raised:
            await http.get("notes", "k")
    assert (raised.value.status, raised.value.code) == (404, "store_unknown")


async def test_an_answer_of_something_else_is_told_from_one_of_the_server() -> None:
    async with api(lambda _: httpx2.Response(502, content=b"<html>")) as http:
        with pytest.raises(RequestRefused, match="HTTP 502; is it a Syncline server"):
            await http.list_stores()
    async with api(lambda _: httpx2.Response(200, content=b"<html>")) as http:
        with pytest.raises(ConnectionFailed, match="not a Syncline server's"):
            await http.list_stores()


async def test_a_server_that_cannot_be_reached_is_a_connection_that_failed() -> None:
    def fail(request: httpx2.Request) -> httpx2.Response:
        raise httpx2.ConnectError("no", request=request)

    async with api(fail) as http:
        with pytest.raises(ConnectionFailed, match="cannot be reached"):
            await http.list_stores()


class Pieces(httpx2.AsyncByteStream):
    """A body that comes in pieces, and may break."""

    def __init__(self, *pieces: bytes | Exception) -> None:
        self._pieces = pieces
        self.is_closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            if isinstance(piece, Exception):
                raise piece
            yield piece

    async def aclose(self) -> None:
        self.is_closed = True


LINES = [b'{"key":"a","value":"\xe2\x80\xa8\xc2\x85","seq":1,"time":1}\n', b'{"key":"b","value":2,"seq":2,"time":1}\n']


async def test_records_are_split_at_line_feeds_only_wherever_the_pieces_end() -> None:
    body = b"".join(LINES)
    for cut in range(len(body)):
        stream = Pieces(body[:cut], body[cut:])
        answer = httpx2.Response(200, headers={"Syncline-Cursor": "i:2"}, stream=stream)
        async with api(partial(_always, answer)) as http:
            records = http.records("notes")
            found: list[Record] = [record async for record in records]
            assert await records.cursor() == "i:2"
        assert [(record.key, record.value) for record in found] == [("a", "\u2028\x85"), ("b", 2)]
        assert stream.is_closed


def _always(answer: httpx2.Response, request: httpx2.Request) -> httpx2.Response:
    return answer


async def test_a_walk_that_is_left_early_is_closed() -> None:
    stream = Pieces(*LINES)
    async with api(lambda _: httpx2.Response(200, stream=stream)) as http:
        async with http.records("notes") as records:
            assert (await anext(records)).key == "a"
        assert stream.is_closed


async def test_a_walk_that_breaks_raises_and_never_looks_like_its_end() -> None:
    stream = Pieces(LINES[0], httpx2.RemoteProtocolError("cut off"))
    async with api(lambda _: httpx2.Response(200, stream=stream)) as http:
        records = http.records("notes")
        await anext(records)
        with pytest.raises(ConnectionFailed, match="the connection broke: cut off"):
            await anext(records)
    assert stream.is_closed
