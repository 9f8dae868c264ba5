"""The routes of accounts without a socket, and people who send requests to them.

Every answer is checked against the OpenAPI document. A `Person` keeps a token or a cookie as a client does. Passwords
are hashed with the least that Argon2 takes.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import argon2
import httpx2
import msgspec
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette

from syncline_server.access.authority import Authority
from syncline_server.accounts.accounts import Accounts, SetupCode
from syncline_server.accounts.audit import AuditLog
from syncline_server.accounts.directory import Directory
from syncline_server.accounts.gate import AccountsGate
from syncline_server.accounts.login_guard import LoginGuard
from syncline_server.accounts.oidc import OidcLogin
from syncline_server.accounts.password import PasswordHasher
from syncline_server.accounts.secret import hash_secret, new_secret
from syncline_server.accounts.ticket import Tickets
from syncline_server.http.accounts import ACCOUNTS
from syncline_server.http.call import Api
from syncline_server.http.openapi import openapi_document
from syncline_server.http.operation import Operation
from syncline_server.http.route import exception_handlers_of, route_of
from syncline_server.hub import Hub
from syncline_server.settings import Settings
from tests.support.engine import TestClock, engine
from tests.support.http import Answered, Document, Json

from .office import Office

__all__ = ["PASSWORD", "Desk", "Person", "Reply", "desk"]

PASSWORD = "correct horse battery"
_HOST = "127.0.0.1:7171"


class Desk:
    """The server: its accounts, its clock, and its routes."""

    def __init__(self, hub: Hub, clock: TestClock, oidc: OidcLogin | None) -> None:
        self.hub = hub
        self.clock = clock
        office = Office(hub.storage)
        self.setup_code = new_secret("setup", office.mint)
        least = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
        self.accounts = Accounts(
            Directory(hub.storage, hub.write, now_ms=hub.now_ms, mint=office.mint),
            PasswordHasher(least),
            AuditLog(hub.storage, hub.write, hub.now_ms),
            Tickets(hub.now_ms, office.mint),
            LoginGuard(),
            oidc,
            SetupCode(hash_secret(self.setup_code)),
        )
        self.document = Document(openapi_document(ACCOUNTS, version="1"))
        self.app = self._app()
        hub.gate = AccountsGate(self.accounts.directory, self.accounts.tickets, hub.log, now_ms=hub.now_ms)
        hub.authority = Authority(self.accounts.directory.grants_for)
        self.accounts.directory.listeners.append(hub.authority.forget)

    def _app(self) -> Starlette:
        api = Api(
            self.hub,
            CollectorRegistry(),
            "syncline/1",
            Settings(store="memory:"),
            frozenset(),
            b"{}",
            b"{}",
            accounts=self.accounts,
        )
        by_path: dict[str, list[Operation]] = {}
        for operation in ACCOUNTS:
            by_path.setdefault(operation.path, []).append(operation)
        return Starlette(
            routes=[route_of(api, operations) for operations in by_path.values()],
            exception_handlers=exception_handlers_of(self.hub, frozenset()),
        )

    # --- people ---

    def person(self, token: str | None = None, *, address: str = "127.0.0.1", scheme: str = "http") -> "Person":
        """Return somebody who comes with this token, or without one."""
        return Person(self, token, address, scheme)

    async def admin(self) -> "Person":
        """Make the first administrator, `root`, and return him."""
        person = self.person()
        body = {"code": self.setup_code, "user": "root", "password": PASSWORD}
        person.token = (await person.post("setup", body)).ok(201)["token"]
        return person

    async def user(self, name: str) -> "Person":
        """Make an account with the password of all, and return its user."""
        hashed = await self.accounts.hasher.hash(PASSWORD)
        await self.accounts.directory.add_user(name, password_hash=hashed)
        return self.person((await self.accounts.directory.login(name, hashed, "", None))[1])

    async def audit(self) -> list[tuple[str, str | None, str | None, str]]:
        """Return action, actor, subject and outcome of each entry of the audit log."""
        entries = [msgspec.json.decode(text) for text in await self.accounts.audit.entries()]
        return [(it["action"], it["actor"], it["subject"], it["outcome"]) for it in entries]


class Reply(Answered):
    """An answer that a test says more about."""

    def ok(self, status: int = 200) -> Json:
        """Fail unless this is the status; return the body."""
        assert self.status == status, self.content
        return self.json


class Person:
    """Who sends requests. Cookies are kept as a browser keeps them."""

    def __init__(self, desk: Desk, token: str | None, address: str, scheme: str) -> None:
        self.desk = desk
        self.token = token
        transport = httpx2.ASGITransport(app=desk.app, raise_app_exceptions=False, client=(address, 50_000))
        self.client = httpx2.AsyncClient(transport=transport, base_url=f"{scheme}://{_HOST}")

    async def ask(self, method: str, path: str, body: Json = None, **headers: str) -> Reply:
        """Send a request and return its answer, checked against the document."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if self.token is not None:
            named["Authorization"] = f"Bearer {self.token}"
        content = None if body is None else body if isinstance(body, bytes) else msgspec.json.encode(body)
        response = await self.client.request(method, f"/v1/{path}", content=content, headers=named)
        self.desk.document.check(method, f"/v1/{path}".partition("?")[0], response)
        return Reply(response)

    async def get(self, path: str, **headers: str) -> Reply:
        """GET."""
        return await self.ask("GET", path, **headers)

    async def post(self, path: str, body: Json = None, **headers: str) -> Reply:
        """POST an object, an empty one by default."""
        return await self.ask("POST", path, {} if body is None else body, **headers)

    async def put(self, path: str, body: Json = None) -> Reply:
        """PUT."""
        return await self.ask("PUT", path, body)

    async def delete(self, path: str) -> Reply:
        """DELETE."""
        return await self.ask("DELETE", path)


@asynccontextmanager
async def desk(oidc: OidcLogin | None = None) -> AsyncIterator[Desk]:
    """Run the routes on memory storage."""
    clock = TestClock()
    async with engine(clock=clock, stores=()) as hub:
        made = Desk(hub, clock, oidc)
        await made.accounts.directory.open()
        await made.accounts.audit.open()
        try:
            yield made
        finally:
            await made.accounts.audit.close()
            await made.accounts.hasher.close()
