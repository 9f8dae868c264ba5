"""The HTTP side of an application without a socket, checked against its own documentation.

`HttpApp` runs an application with its lifespan and sends it requests. Each answer is compared with the OpenAPI
document: the status, the media type, the schema with nothing besides, and for a refusal that its code is one that
the operation says it has. `StreamReader` reads an answer that does not end, piece by piece.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Self
from urllib.parse import quote, urlsplit

import httpx2
import jsonschema_rs
import msgspec
from starlette.applications import Starlette
from starlette.types import ASGIApp

from syncline_server.app import create_app, hub_of, lifespan_of
from syncline_server.hub import Hub
from syncline_server.settings import Settings
from syncline_server.storage.base import Storage

__all__ = ["Answered", "HttpApp", "StreamReader", "http_app", "record_path", "until"]

Json = Any
_HOST = "127.0.0.1:7171"


async def until(condition: Callable[[], bool]) -> None:
    """Return when the condition holds; fail if it does not within some seconds."""
    for _ in range(5000):
        if condition():
            return
        await asyncio.sleep(0.001)
    raise AssertionError("it never came to pass")


def record_path(store: str, key: str) -> str:
    """Return the path of a record."""
    return f"/v1/stores/{store}/records/{quote(key, safe='')}"


class Document:
    """An OpenAPI document that answers are held against."""

    def __init__(self, document: dict[str, Json]) -> None:
        self.document = document
        closed = {name: _closed(schema) for name, schema in document["components"]["schemas"].items()}
        self._components = {"schemas": closed}
        self._paths = {
            re.compile("^" + re.sub(r"\{\w+\}", "[^/]*", path) + "$"): item for path, item in document["paths"].items()
        }

    def check(self, method: str, path: str, response: httpx2.Response) -> None:
        """Fail unless the document says that this request can be answered so."""
        item = next((item for pattern, item in self._paths.items() if pattern.match(path)), None)
        operation = "get" if method == "HEAD" else method.lower()
        if path == "/" or path.startswith("/console/"):
            return
        if item is None or operation not in item:
            assert response.status_code in (204, 403, 404, 405), (method, path, response.status_code)
            return
        where = f"{method} {path} -> {response.status_code}"
        documented = item[operation]["responses"].get(str(response.status_code))
        assert documented is not None, f"{where} is not documented: {response.text}"
        media_type = response.headers.get("content-type", "").partition(";")[0]
        if not media_type:
            assert "content" not in documented or response.status_code == 304, where
            return
        assert media_type in documented["content"], f"{where} has the media type {media_type}"
        for header in documented.get("headers", {}):
            assert header in response.headers or media_type != "application/x-ndjson", f"{where} lacks {header}"
        content = documented["content"][media_type]
        if method == "HEAD":
            assert not response.content, where
        elif media_type in ("application/json", "application/problem+json"):
            self.validate(content["schema"], response.content)
        elif media_type == "application/x-ndjson":
            for line in response.content.splitlines():
                self.validate(content["x-itemSchema"], line)

    def validate(self, schema: dict[str, Json], text: bytes) -> None:
        """Fail unless the text is JSON of this schema, with no member besides."""
        whole = {**schema, "components": self._components}
        jsonschema_rs.validator_for(whole).validate(msgspec.json.decode(text))


def _closed(schema: dict[str, Json]) -> dict[str, Json]:
    """Return a schema that allows no member that it does not name."""
    return {**schema, "additionalProperties": False} if schema.get("type") == "object" else schema


class Answered:
    """An answer: status, headers, JSON body."""

    def __init__(self, response: httpx2.Response) -> None:
        self.status = response.status_code
        self.headers = response.headers
        self.content = response.content

    @property
    def json(self) -> Json:
        """The body."""
        return msgspec.json.decode(self.content)

    @property
    def lines(self) -> list[Json]:
        """The lines of an NDJSON body."""
        return [msgspec.json.decode(line) for line in self.content.splitlines()]

    def refused(self, status: int, code: str) -> Json:
        """Fail unless this is the refusal; return the problem."""
        assert (self.status, self.json.get("code")) == (status, code), self.content
        assert self.headers["content-type"] == "application/problem+json"
        assert self.json["status"] == status
        assert "Traceback" not in self.content.decode()
        return self.json


class HttpApp:
    """An application that runs.

    Args:
        app: what gets the requests; it may have the application mounted in it.
        inner: the application itself.
        prefix: where it is mounted.
    """

    def __init__(self, app: ASGIApp, inner: Starlette, prefix: str = "") -> None:
        self.app = app
        self.hub: Hub = hub_of(inner)
        self.prefix = prefix
        self.transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
        self.client = httpx2.AsyncClient(transport=self.transport, base_url=f"http://{_HOST}{prefix}")
        self.document: Document | None = None

    async def load_document(self) -> Self:
        """Read the OpenAPI document, against which everything from now on is checked."""
        response = await self.client.get("/v1/openapi.json")
        self.document = Document(response.json())
        return self

    async def ask(
        self, method: str, path: str, body: bytes | str | None = None, headers: Mapping[str, str] | None = None
    ) -> Answered:
        """Send a request and return its answer, checked."""
        response = await self.client.request(method, path, content=body, headers=dict(headers or {}))
        assert self.document is not None
        self.document.check(method, path.partition("?")[0], response)
        assert response.headers["x-content-type-options"] == "nosniff"
        return Answered(response)

    async def get(self, path: str, **headers: str) -> Answered:
        """GET."""
        return await self.ask("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})

    async def put(self, key: str, value: bytes | str = b"1", store: str = "notes") -> Answered:
        """Add a record."""
        return await self.ask("PUT", record_path(store, key), value)

    async def write(self, *ops: Json, store: str = "notes", **members: Json) -> Answered:
        """Send a WRITE."""
        body = msgspec.json.encode({"ops": ops, **members})
        return await self.ask("POST", f"/v1/stores/{store}/writes", body)

    @asynccontextmanager
    async def stream(self, path: str, *, full: bool = False, **headers: str) -> AsyncIterator["StreamReader"]:
        """Open a stream, to a client that takes nothing yet if `full`; leaving the block is its going away."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        reader = StreamReader(self.app, self.prefix + path, named)
        reader.set_full(full)
        try:
            await reader.started()
            yield reader
        finally:
            await reader.leave()


class StreamReader:
    """A client that reads an answer piece by piece, as fast as the test wants."""

    def __init__(self, app: ASGIApp, path: str, headers: Mapping[str, str], *, method: str = "GET") -> None:
        url = urlsplit(path)
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": url.path,
            "raw_path": url.path.encode(),
            "root_path": "",
            "query_string": url.query.encode(),
            "headers": [(b"host", _HOST.encode())]
            + [(name.lower().encode(), value.encode()) for name, value in headers.items()],
            "server": ("127.0.0.1", 7171),
            "client": ("127.0.0.1", 50000),
            "extensions": {"syncline.abort": self._abort},
        }
        self.status = 0
        self.headers: dict[str, str] = {}
        self.ended = False
        self.aborted = False
        self._room = asyncio.Event()
        self._room.set()
        self._gone = asyncio.Event()
        self._news = asyncio.Event()
        self._text = b""
        self._task = asyncio.get_running_loop().create_task(self._run(app, scope))

    async def _run(self, app: ASGIApp, scope: dict[str, Any]) -> None:
        await app(scope, self._receive, self._send)

    def _abort(self) -> None:
        self.aborted = True
        self._gone.set()
        self._news.set()

    async def _receive(self) -> dict[str, Any]:
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Mapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {name.decode(): value.decode() for name, value in message["headers"]}
        else:
            self._text += message.get("body", b"")
            self.ended = not message.get("more_body", False)
        self._news.set()
        if message["type"] == "http.response.body":
            await self._room.wait()

    def set_full(self, full: bool) -> None:
        """Take nothing more, or take again."""
        if full:
            self._room.clear()
        else:
            self._room.set()

    async def started(self) -> None:
        """Wait for the head of the answer."""
        while not self.status:
            await self._more()

    async def _more(self) -> None:
        waiter = asyncio.ensure_future(self._news.wait())
        await asyncio.wait([waiter, self._task], return_when=asyncio.FIRST_COMPLETED, timeout=5)
        if self._task.done() and not waiter.done():
            waiter.cancel()
            self._task.result()
            raise EOFError(self._text)
        assert waiter.done(), f"nothing came; unread: {self._text!r}"
        self._news.clear()

    async def until(self, end: bytes) -> bytes:
        """Return what came, up to and with `end`."""
        while end not in self._text:
            assert not self.ended, self._text
            await self._more()
        text, separator, self._text = self._text.partition(end)
        return text + separator

    async def line(self) -> Json:
        """Return the next line of NDJSON."""
        return msgspec.json.decode(await self.until(b"\n"))

    async def event(self) -> dict[str, Json]:
        """Return the next event: its fields, data decoded. Comments and `retry` are left out."""
        while True:
            fields: dict[str, Json] = {}
            for line in (await self.until(b"\n\n")).decode().strip("\n").split("\n"):
                name, _, value = line.partition(": ")
                fields[name] = msgspec.json.decode(value) if name == "data" else value
            if "data" in fields:
                return fields

    async def rest(self) -> bytes:
        """Return everything until the answer has ended."""
        while not self.ended and not self.aborted:
            await self._more()
        return self._text

    async def leave(self) -> None:
        """Close the connection, and wait until the application has noticed."""
        self._gone.set()
        self._room.set()
        await asyncio.wait_for(asyncio.gather(self._task, return_exceptions=True), 5)


@asynccontextmanager
async def http_app(
    *, stores: tuple[str, ...] = ("notes",), storage: Storage | None = None, settings: Settings | None = None
) -> AsyncIterator[HttpApp]:
    """Run an application on memory storage."""
    inner = create_app(settings or Settings(store="memory:", auth="none"), storage=storage)
    async with lifespan_of(inner):
        app = await HttpApp(inner, inner).load_document()
        for store in stores:
            assert (await app.ask("PUT", f"/v1/stores/{store}")).status == 201
        yield app
        await app.client.aclose()
