"""A whole application with accounts, and one person of every kind that may come to it.

`notes` belongs to `owner`; the others have what their name says in it, and its records are of several of them.
`hidden` belongs to a stranger whom nobody here has anything to do with; `public` is for everyone. Names of people are
the names of their accounts; those that end in `token` come with a token of somebody else that is limited.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import lru_cache
from typing import Any
from unittest import mock

import argon2
import httpx2
import msgspec
from starlette.applications import Starlette

from syncline_protocol.index import IndexSpec
from syncline_protocol.limits import DEFAULT_LIMITS
from syncline_protocol.messages import Hello, ServerMessage
from syncline_protocol.transaction import Transaction, make_op
from syncline_server import routes
from syncline_server.access.grant import GrantLimits, Role
from syncline_server.access.principal import SCOPES
from syncline_server.accounts.accounts import Accounts
from syncline_server.accounts.password import PasswordHasher
from syncline_server.app import create_app, hub_of, lifespan_of
from syncline_server.http.openapi import openapi_document
from syncline_server.hub import Hub
from syncline_server.routes import OPERATIONS
from syncline_server.settings import Settings
from tests.support.engine import Peer, settle
from tests.support.http import Answered, Document, Json, StreamReader

__all__ = ["GRANTED", "PASSWORD", "PEOPLE", "RECORDS", "Town", "town"]

PASSWORD = "correct horse battery"

#: Whom the matrix asks, in the order of its columns.
PEOPLE = (
    "nobody",
    "other",
    "reader",
    "writer",
    "addonly",
    "ownonly",
    "keyed",
    "viewed",
    "owner",
    "admin",
    "expired",
    "revoked",
    "readtoken",
    "boundtoken",
    "asidetoken",
    "withintoken",
)

#: What is granted in `notes`.
GRANTED: dict[str, tuple[Role, GrantLimits]] = {
    "reader": ("reader", GrantLimits()),
    "writer": ("writer", GrantLimits()),
    "addonly": ("writer", GrantLimits(add_only=True)),
    "ownonly": ("writer", GrantLimits(own_only=True)),
    "keyed": ("writer", GrantLimits(key_prefix="k/")),
    "viewed": ("writer", GrantLimits(read_prefix="v/")),
    "owner": ("owner", GrantLimits()),
}

#: The records of `notes`, each with who added it.
RECORDS = {"a/1": "owner", "k/1": "owner", "o/1": "ownonly", "v/1": "owner", "v/2": "viewed"}

_HOST = "127.0.0.1:7171"
_DOCUMENT = openapi_document(OPERATIONS, version="1")


@lru_cache
def _document() -> Document:
    return Document(_DOCUMENT)


class Town:
    """The application and its people.

    `tokens` are their credentials, `users` their accounts; `ids` name tokens, grants and invitations; `code` invites to
    `notes`.
    """

    def __init__(self, app: Starlette) -> None:
        self.app = app
        self.hub: Hub = hub_of(app)
        self.accounts: Accounts = app.state.office.accounts
        # The least that Argon2 takes.
        least = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
        self.hasher = PasswordHasher(least)
        object.__setattr__(self.accounts, "hasher", self.hasher)
        self.tokens: dict[str, str | None] = {"nobody": None}
        self.ids: dict[str, str] = {}
        self.users: dict[str, str] = {}
        self.code = ""
        transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
        self.client = httpx2.AsyncClient(transport=transport, base_url=f"http://{_HOST}")

    # --- how it comes to be ---

    async def settle_in(self) -> None:
        """Make the stores, the people and the records."""
        for store in ("notes", "hidden", "public"):
            await self.hub.create(store)
        for store in ("notes", "hidden"):
            await self.hub.builder.declare(store, IndexSpec("plain", ""))
        directory = self.accounts.directory
        await directory.add_user("admin", is_admin=True)
        for name in ("stranger", "other", *GRANTED):
            await directory.add_user(name)
        for name in ("admin", "stranger", "other", *GRANTED):
            await self.token(name, name)
        for name, (role, limits) in GRANTED.items():
            await self.grant(name, role, limits)
        await self.grant("stranger", "owner", store="hidden")
        await directory.put_group("staff", ["stranger"])
        invitation, self.code = await directory.add_invitation("notes", "writer", by="owner")
        self.ids["invitation"] = invitation.id
        await directory.add_grant("everyone", "public", "reader", by="admin")
        await self.token("readtoken", "owner", scopes={"read"})
        await self.token("boundtoken", "owner", stores=["elsewhere"])
        await self.token("asidetoken", "admin", scopes=SCOPES - {"admin"})
        await self.token("withintoken", "admin", stores=["notes"])
        await self.token("revoked", "writer")
        await directory.revoke_token(self.ids["revoked"])
        past_ms = self.hub.now_ms() - 2000
        with mock.patch.object(directory, "_now_ms", return_value=past_ms):
            await self.token("expired", "writer", expires_ms=past_ms + 1000)
        for key, by in RECORDS.items():
            await self.add(key, by=by)
        await self.add("h/1", by="stranger", store="hidden")

    async def token(self, name: str, user: str, **limits: Any) -> None:
        """Give somebody a token."""
        token, self.tokens[name] = await self.accounts.directory.add_token(user, name, **limits)
        self.ids[name], self.users[name] = token.id, user

    async def grant(
        self,
        name: str,
        role: Role = "reader",
        limits: GrantLimits = GrantLimits(),  # noqa: B008
        *,
        store: str = "notes",
        authors: bool = True,
    ) -> None:
        """Grant somebody the use of a store, in the place of what he had; `grant:NAME` is its id."""
        grant, _ = await self.accounts.directory.add_grant(
            f"user:{name}", store, role, by="owner", limits=limits, authors=authors
        )
        self.ids[f"grant:{name}"] = grant.id

    async def take_back(self, name: str) -> None:
        """Take back what somebody had in `notes`."""
        await self.accounts.directory.remove_grant(self.ids[f"grant:{name}"])

    async def add(self, key: str, value: bytes = b"1", *, by: str | None = None, store: str = "notes") -> None:
        """Add a record, whoever may."""
        await self._write(store, key, value, by)

    async def delete(self, key: str, *, by: str | None = None, store: str = "notes") -> None:
        """Delete a record, whoever may."""
        await self._write(store, key, None, by)

    async def _write(self, store: str, key: str, value: bytes | None, by: str | None) -> None:
        op = make_op(key, value, DEFAULT_LIMITS)
        outcome = await self.hub.write(Transaction(store, (op,), single=True, by=by))
        assert outcome.ops[0].status == "ok", outcome  # type: ignore[union-attr]

    # --- what they ask for ---

    async def ask(
        self,
        name: str,
        method: str,
        path: str,
        body: Json = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answered:
        """Send somebody's request; the answer is checked against the document."""
        content = None if body is None else body if isinstance(body, bytes) else msgspec.json.encode(body)
        response = await self.client.request(
            method, path, content=content, headers={**self.credentials(name), **(headers or {})}
        )
        _document().check(method, path.partition("?")[0], response)
        return Answered(response)

    async def get(self, name: str, path: str, **headers: str) -> Answered:
        """GET."""
        return await self.ask(name, "GET", path, headers=headers)

    def credentials(self, name: str) -> dict[str, str]:
        """Return the headers that somebody sends."""
        token = self.tokens[name]
        return {} if token is None else {"Authorization": f"Bearer {token}"}

    @asynccontextmanager
    async def stream(self, name: str, path: str, **headers: str) -> AsyncIterator[StreamReader]:
        """Open a stream of somebody's."""
        reader = StreamReader(self.app, path, {**self.credentials(name), **headers})
        try:
            await reader.started()
            yield reader
        finally:
            await reader.leave()

    async def connect(self, name: str) -> tuple[Peer, list[ServerMessage]]:
        """Connect somebody. Returns what HELLO was answered with."""
        peer = Peer(self.hub, greet=False)
        peer.send(Hello(token=self.tokens[name]))
        await settle()
        return peer, peer.take()


@asynccontextmanager
async def town() -> AsyncIterator[Town]:
    """Run the application on memory storage."""
    # The document of all routes takes longer than everything else here, and is the same for all.
    with mock.patch.object(routes, "openapi_document", return_value=_DOCUMENT):
        app = create_app(Settings(store="memory:", requests_per_s=100_000.0))
    async with lifespan_of(app):
        made = Town(app)
        await made.settle_in()
        yield made
        await made.client.aclose()
        await made.hasher.close()
